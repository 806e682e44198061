//! A file that decides what runs: looked at before it is opened, opened once, and read into memory.

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be opened: missing, or a link to nothing.
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
    #[error("{path} is {size} bytes long; {largest} are allowed")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The largest that is read.
        largest: u64,
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

/// Reads a regular file of at most `largest` bytes that belongs to root or to the daemon's user and that nobody else can write.
///
/// How many names it has does not matter: a hard link has the owner and the mode of the file itself, and some systems keep every file by them.
pub(crate) fn read(path: &Path, largest: u64) -> Result<Vec<u8>, ReadError> {
    let owned = || path.to_owned();
    let no_open = |source| ReadError::Open { path: owned(), source };
    let no_read = |source| ReadError::Read { path: owned(), source };
    // A Kubernetes volume shows its files as links through `..data`, which it swaps: such a link is resolved once, here. What it
    // leads to is held to the same rules as a plain file.
    let real = std::fs::canonicalize(path).map_err(no_open)?;
    // Named and not opened yet: opening a FIFO may hang, and opening a device may do something (a watchdog begins to count).
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let named: File = open(&real, flags, Mode::empty()).map_err(|error| no_open(error.into()))?.into();
    let meta = named.metadata().map_err(no_read)?;
    if !meta.is_file() {
        return Err(ReadError::Kind { path: owned() });
    }
    if (meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw()) || meta.mode() & 0o022 != 0 {
        return Err(ReadError::Owner { path: owned(), owner: meta.uid(), mode: meta.mode() & 0o7777 });
    }
    let too_large = |size| ReadError::Size { path: owned(), size, largest };
    if meta.len() > largest {
        return Err(too_large(meta.len()));
    }
    // The very file that was looked at, whatever has its name by now.
    let file = File::open(format!("/proc/self/fd/{}", named.as_raw_fd())).map_err(no_open)?;
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes).map_err(no_read)?;
    if bytes.len() as u64 > largest {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}
