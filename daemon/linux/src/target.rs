//! Makes and removes the file or folder that a mount is placed on: empty ones alone, never anything with content (law 7).

use crate::roots::{Parent, PlaceError, Sight};
use crate::sys;
use crate::words;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::step::TargetKind;

/// A target that cannot be made or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("{path} exists and is not {}", wanted(*kind))]
    OtherKind { path: String, kind: TargetKind },
    #[error("{path} exists and is not empty; what is in it would be hidden, so nothing is mounted over it: empty it, or name another path")]
    Full { path: String },
    #[error("cannot make {path}")]
    Make {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not empty, so it is not ours to remove; what is in it is left untouched")]
    NotEmpty { path: String },
    #[error("cannot remove {path}")]
    Remove {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("something was mounted at {path} meanwhile")]
    Overtaken { path: String },
    #[error(transparent)]
    Place(#[from] PlaceError),
}

fn wanted(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Folder => "a folder",
        TargetKind::File => "an empty file",
        TargetKind::Either => "a folder or an empty file",
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        let reason = match error {
            TargetError::Place(error) => return error.into(),
            TargetError::OtherKind { .. } | TargetError::Full { .. } => Reason::BadPath,
            TargetError::NotEmpty { .. } => Reason::LeftBehind,
            TargetError::Overtaken { .. } => Reason::ForeignMount,
            TargetError::Make { ref source, .. } | TargetError::Remove { ref source, .. } => words::reason(source),
        };
        words::failure(reason, &error)
    }
}

/// Makes the target where nothing is; an empty one of the right kind that is there already will do.
pub(crate) fn make(parent: &Parent, kind: TargetKind) -> Result<OwnedFd, TargetError> {
    let path = || parent.path.clone();
    let made = match kind {
        TargetKind::Folder => sys::make_folder(parent.folder(), parent.name(), 0o750),
        TargetKind::File => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
            sys::openat2(parent.folder(), parent.name(), flags, 0o640, libc::RESOLVE_BENEATH).map(drop)
        }
        // Nobody makes one of an unknown kind; what is there must be of a known one.
        TargetKind::Either => return Err(TargetError::OtherKind { path: path(), kind }),
    };
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(TargetError::Make { path: path(), source: error }),
        _ => {}
    }
    match parent.look()? {
        Sight::Plain(target) => match fitness(&target, kind).map_err(|source| TargetError::Make { path: path(), source })? {
            Fitness::Fit => Ok(target),
            Fitness::Full => Err(TargetError::Full { path: path() }),
            Fitness::OtherKind => Err(TargetError::OtherKind { path: path(), kind }),
        },
        Sight::Mounted(..) => Err(TargetError::Overtaken { path: path() }),
        Sight::Nothing => Err(PlaceError::Restless { path: path() }.into()),
    }
}

/// Whether a mount may be placed on what is there.
enum Fitness {
    Fit,
    Full,
    OtherKind,
}

fn fitness(target: &OwnedFd, kind: TargetKind) -> io::Result<Fitness> {
    let seen = sys::stat(target.as_fd())?;
    let is_empty = match kind {
        TargetKind::Folder if seen.is(libc::S_IFDIR) => is_empty(target)?,
        TargetKind::File if seen.is(libc::S_IFREG) => seen.size == 0,
        _ => return Ok(Fitness::OtherKind),
    };
    Ok(if is_empty { Fitness::Fit } else { Fitness::Full })
}

/// Is there nothing in the folder?
pub(crate) fn is_empty(folder: &OwnedFd) -> io::Result<bool> {
    Ok(std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?.next().transpose()?.is_none())
}

/// Removes what a step made. False: it was not there.
pub(crate) fn remove(parent: &Parent, kind: TargetKind) -> Result<bool, TargetError> {
    let path = || parent.path.clone();
    let Sight::Plain(target) = parent.look()? else { return Ok(false) };
    let seen = sys::stat(target.as_fd()).map_err(|source| TargetError::Remove { path: path(), source })?;
    drop(target);
    let flags = match kind {
        TargetKind::Folder | TargetKind::Either if seen.is(libc::S_IFDIR) => libc::AT_REMOVEDIR,
        TargetKind::File | TargetKind::Either if seen.is(libc::S_IFREG) && seen.size == 0 => 0,
        TargetKind::File | TargetKind::Either if seen.is(libc::S_IFREG) => return Err(TargetError::NotEmpty { path: path() }),
        _ => return Err(TargetError::OtherKind { path: path(), kind }),
    };
    match sys::unlink(parent.folder(), parent.name(), flags) {
        Ok(()) => Ok(true),
        Err(source) => match source.raw_os_error() {
            Some(libc::ENOENT) => Ok(false),
            Some(libc::ENOTEMPTY | libc::EEXIST) => Err(TargetError::NotEmpty { path: path() }),
            Some(libc::ENOTDIR) => Err(TargetError::OtherKind { path: path(), kind }),
            Some(libc::EBUSY) => Err(TargetError::Overtaken { path: path() }),
            _ => Err(TargetError::Remove { path: path(), source }),
        },
    }
}
