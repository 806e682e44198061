//! Enters places: beneath a root that was opened once, without symlinks, by descriptor (law 9).

use crate::mountinfo::{Line, Table};
use crate::sys;
use crate::words;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::paths::{HostPath, Place, Roots};

/// How often a place may change under our eyes.
const LOOKS: u32 = 5;

/// The folders beneath which this process may mount, each opened once. Symlinks are followed in a root's own path and nowhere else.
#[derive(Debug)]
pub struct OpenRoots {
    roots: Vec<(OwnedFd, HostPath)>,
}

/// A place that cannot be entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("the worker has no root number {0}")]
    NoSuchRoot(usize),
    #[error("{0:?} is not a plain path beneath a root")]
    NotPlain(String),
    #[error("{path}: its parent folder does not exist")]
    ParentMissing { path: String },
    #[error("{path}: a symlink, or a way that leaves the root, is on it; it is not followed")]
    Symlink { path: String },
    #[error("{path}: something on the way is not a folder")]
    NotFolder { path: String },
    #[error("{path}: a name on it is longer than the file system takes")]
    NameTooLong { path: String },
    #[error("cannot enter {path}")]
    Enter {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read what is mounted")]
    Mounts {
        #[source]
        source: io::Error,
    },
    #[error("{path}: mounted and unmounted while we looked; ask again")]
    Restless { path: String },
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        let reason = match &error {
            PlaceError::NoSuchRoot(_)
            | PlaceError::NotPlain(_)
            | PlaceError::ParentMissing { .. }
            | PlaceError::Symlink { .. }
            | PlaceError::NotFolder { .. }
            | PlaceError::NameTooLong { .. } => Reason::BadPath,
            PlaceError::Enter { source, .. } | PlaceError::Mounts { source } => words::reason(source),
            PlaceError::Restless { .. } => Reason::Io,
        };
        words::failure(reason, &error)
    }
}

impl OpenRoots {
    /// Opens each root. All of them must exist and be folders.
    pub fn open(roots: &Roots) -> Result<Self, Failure> {
        let open = |root: &windlass_plan::paths::Root| {
            let folder = open_folder(&root.spelled).map_err(|source| PlaceError::Enter { path: root.spelled.to_string(), source })?;
            Ok((folder, root.real.clone()))
        };
        Ok(Self { roots: roots.iter().map(open).collect::<Result<_, PlaceError>>()? })
    }

    /// Enters the folder above a place.
    pub(crate) fn parent(&self, place: &Place) -> Result<Parent, PlaceError> {
        let (root, real) = self.roots.get(place.root).ok_or(PlaceError::NoSuchRoot(place.root))?;
        if place.below.split('/').any(|part| matches!(part, "" | "." | "..")) || place.below.contains('\0') {
            return Err(PlaceError::NotPlain(place.below.chars().filter(|c| !c.is_control()).take(200).collect()));
        }
        let path = format!("{}/{}", real.as_str().trim_end_matches('/'), place.below);
        let (above, name) = place.split();
        let above = if above.is_empty() { "." } else { above };
        let folder = match enter(root.as_fd(), &text(above), libc::O_PATH | libc::O_DIRECTORY) {
            Ok(folder) => folder,
            Err(error) => return Err(classify(path, error)),
        };
        Ok(Parent { folder, name: text(name), path })
    }
}

/// Opens a folder by its path as the operator spelled it, symlinks followed.
pub(crate) fn open_folder(path: &HostPath) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path.as_str())?;
    Ok(file.into())
}

/// Opens what is at `path` beneath `folder`; mounts may be crossed, symlinks may not.
fn enter(folder: BorrowedFd<'_>, path: &CString, flags: i32) -> io::Result<OwnedFd> {
    sys::openat2(folder, path, flags, 0, libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS)
}

fn classify(path: String, error: io::Error) -> PlaceError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => PlaceError::ParentMissing { path },
        Some(libc::ELOOP | libc::EXDEV) => PlaceError::Symlink { path },
        Some(libc::ENOTDIR) => PlaceError::NotFolder { path },
        Some(libc::ENAMETOOLONG) => PlaceError::NameTooLong { path },
        _ => PlaceError::Enter { path, source: error },
    }
}

/// For names that were checked to hold no NUL; one that does is cut there and then not found.
fn text(name: &str) -> CString {
    CString::new(name.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// The folder above a place, entered, and the place's name in it.
pub(crate) struct Parent {
    folder: OwnedFd,
    name: CString,
    /// The whole path, for words and for `holders`.
    pub(crate) path: String,
}

/// What is at a place.
pub(crate) enum Sight {
    /// Nothing.
    Nothing,
    /// A file or folder of the parent's own file system tree, not a mount.
    Plain(OwnedFd),
    /// A mount; the uppermost, where several lie on each other.
    Mounted(OwnedFd, Line, Table),
}

/// Where a mount lies.
pub(crate) enum Placed {
    /// On the folder's own tree, as it should.
    Here(Line),
    /// On another mount, which was quicker.
    Upon(Line),
}

impl Parent {
    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    pub(crate) fn name(&self) -> &CString {
        &self.name
    }

    /// A way to the place by the parent's descriptor, for calls that take paths alone.
    pub(crate) fn by_descriptor(&self) -> CString {
        let mut path = format!("/proc/self/fd/{}/", self.folder.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name.as_bytes());
        CString::new(path).unwrap_or_default()
    }

    /// Looks. Nothing that is mounted there is asked anything, so that a dead file system does not keep us.
    pub(crate) fn look(&self) -> Result<Sight, PlaceError> {
        for _ in 0..LOOKS {
            if let Some(sight) = self.glance()? {
                return Ok(sight);
            }
        }
        Err(PlaceError::Restless { path: self.path.clone() })
    }

    /// `None`: what was mounted there went away while we looked.
    fn glance(&self) -> Result<Option<Sight>, PlaceError> {
        let there = match enter(self.folder.as_fd(), &self.name, libc::O_PATH) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Sight::Nothing)),
            Err(error) => return Err(classify(self.path.clone(), error)),
        };
        let mount_id = |file: BorrowedFd<'_>| mount_id(file).map_err(|source| PlaceError::Mounts { source });
        let id = mount_id(there.as_fd())?;
        if id == mount_id(self.folder.as_fd())? {
            return Ok(Some(Sight::Plain(there)));
        }
        let table = Table::read().map_err(|source| PlaceError::Mounts { source })?;
        Ok(table.with_id(id).cloned().map(|line| Sight::Mounted(there, line, table)))
    }

    /// Looks where a mount that was just placed here has come to lie: two that are placed at one moment lie on each other.
    pub(crate) fn find(&self, mount: BorrowedFd<'_>) -> Result<Placed, PlaceError> {
        let mounts = |source| PlaceError::Mounts { source };
        let table = Table::read().map_err(mounts)?;
        let gone = || PlaceError::Restless { path: self.path.clone() };
        let line = table.with_id(mount_id(mount).map_err(mounts)?).ok_or_else(gone)?;
        if line.parent == mount_id(self.folder.as_fd()).map_err(mounts)? {
            return Ok(Placed::Here(line.clone()));
        }
        Ok(Placed::Upon(table.with_id(line.parent).cloned().ok_or_else(gone)?))
    }

    /// Opens for reading what is mounted at the place.
    pub(crate) fn open(&self, flags: i32) -> io::Result<std::fs::File> {
        enter(self.folder.as_fd(), &self.name, flags).map(Into::into)
    }
}

/// The id of the mount that a descriptor is on: told by the kernel's own bookkeeping, without a question to the file system.
pub(crate) fn mount_id(file: BorrowedFd<'_>) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "fdinfo has no mnt_id"))
}

/// The path that the kernel knows an open file by.
pub(crate) fn path_of(file: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map(|path| path.as_os_str().as_bytes().to_vec())
}
