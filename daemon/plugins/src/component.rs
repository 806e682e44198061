//! A component's bytes: opened once, looked at, read into memory and digested. What is compiled later is exactly these bytes.

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest component that is read, in bytes. Interpreters for JavaScript or Python are 12 to 18 MB.
pub const LARGEST: u64 = 64 << 20;

/// Where a driver's component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that the operator named.
    File(PathBuf),
    /// The one that is part of the binary.
    Embedded(&'static [u8]),
}

/// A component in memory.
#[derive(Clone)]
pub struct Component {
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// Their SHA-256, in hexadecimal.
    pub digest: String,
}

/// Why a component was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be opened: missing, or a symlink at the last component.
    #[error("{path} cannot be opened ({source}); it must be a regular file, or a link to one")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a regular file.
    #[error("{path} is not a regular file")]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else could have written it.
    #[error("{path} belongs to user {owner} or is writable by others (mode {mode:o}); it must belong to the daemon's user and be writable by nobody else")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Too large.
    #[error("{path} is {size} bytes long; {LARGEST} are allowed")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// It could not be read.
    #[error("{path} cannot be read ({source})")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Source {
    /// Reads the component.
    pub fn read(&self) -> Result<Component, ReadError> {
        match self {
            Source::Embedded(bytes) => Ok(digest((*bytes).into())),
            Source::File(path) => read_file(path),
        }
    }
}

fn digest(bytes: Arc<[u8]>) -> Component {
    let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Component { bytes, digest }
}

fn read_file(path: &Path) -> Result<Component, ReadError> {
    let owned = || path.to_owned();
    // A Kubernetes volume shows its files as links through `..data`, which it swaps: such a link is resolved once, here. What it
    // leads to is held to the same rules as a plain file. O_NONBLOCK: a FIFO must not hang us.
    let real = std::fs::canonicalize(path).map_err(|source| ReadError::Open { path: owned(), source })?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut file: File = open(&real, flags, Mode::empty()).map_err(|source| ReadError::Open { path: owned(), source: source.into() })?.into();
    let meta = file.metadata().map_err(|source| ReadError::Read { path: owned(), source })?;
    if !meta.is_file() {
        return Err(ReadError::Kind { path: owned() });
    }
    if (meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw()) || meta.mode() & 0o022 != 0 {
        return Err(ReadError::Owner { path: owned(), owner: meta.uid(), mode: meta.mode() & 0o7777 });
    }
    let mut bytes = Vec::new();
    (&mut file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(|source| ReadError::Read { path: owned(), source })?;
    if bytes.len() as u64 > LARGEST {
        return Err(ReadError::Size { path: owned(), size: meta.len() });
    }
    Ok(digest(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_plain_file_that_nobody_else_can_write_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("good"), b"x").unwrap();
        std::fs::set_permissions(at("good"), PermissionsExt::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(at("good"), at("link")).unwrap();
        std::fs::write(at("loose"), b"x").unwrap();
        std::fs::set_permissions(at("loose"), PermissionsExt::from_mode(0o666)).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRUSR).unwrap();
        File::create(at("huge")).unwrap().set_len(LARGEST + 1).unwrap();
        let read = |name: &str| Source::File(at(name)).read();
        assert_eq!(read("good").unwrap().digest, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881");
        assert!(read("link").is_ok());
        assert!(matches!(read("loose"), Err(ReadError::Owner { .. })));
        assert!(matches!(read("fifo"), Err(ReadError::Kind { .. })));
        assert!(matches!(read("huge"), Err(ReadError::Size { .. })));
        assert!(matches!(read("missing"), Err(ReadError::Open { .. })));
        assert!(matches!(Source::File(folder.path().to_owned()).read(), Err(ReadError::Kind { .. })));
    }
}
