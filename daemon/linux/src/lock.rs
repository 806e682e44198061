//! The lock of one volume on this node: a file that is locked for as long as anybody works on the volume, an orphaned mkfs included.

use crate::roots;
use crate::sys;
use crate::words;
use std::ffi::CString;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::paths::HostPath;

/// There is no lock with a time limit, so it is asked for again and again: soon at first, since the worker of the call before may be about
/// to let go of it, then less often.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const PAUSE: Duration = Duration::from_millis(5);

/// A lock that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("an earlier worker{holder} still works on the volume, or waits for its device")]
    Held { holder: String },
    #[error("cannot lock {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let reason = match &error {
            LockError::Held { .. } => Reason::WorkerLost,
            LockError::Lock { source, .. } => words::reason(source),
        };
        words::failure(reason, &error)
    }
}

/// A lock that is held. Dropping it lets go, but for programs that we started and that live on: they hold it too.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    folder: OwnedFd,
    name: CString,
}

impl Lock {
    pub(crate) fn take(folder: &HostPath, volume: VolumeKey, patience: Duration) -> Result<Self, LockError> {
        let path = PathBuf::from(folder.as_str()).join(volume.to_string());
        let failed = |source| LockError::Lock { path: path.clone(), source };
        let above = roots::open_folder(folder).map_err(failed)?;
        let name = CString::new(volume.to_string()).map_err(|error| failed(error.into()))?;
        let deadline = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW;
            let mut file = File::from(sys::openat2(above.as_fd(), &name, flags, 0o600, libc::RESOLVE_BENEATH).map_err(failed)?);
            match file.try_lock() {
                // The file may have been unlinked between our opening and our locking it: then somebody else has locked, or will
                // lock, another file of that name.
                Ok(()) if is_at(&file, &path).map_err(failed)? => {
                    let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
                    noted.map_err(failed)?;
                    return Ok(Self { file, path, folder: above, name });
                }
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Held { holder: holder(&mut file) }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Lets go; with `Fate::Forget` the file goes too.
    pub(crate) fn release(self, fate: Fate) {
        if fate == Fate::Keep {
            return;
        }
        // Whoever waits for the lock sees that its file is no longer the one at the path, and takes a new one.
        if let Err(error) = sys::unlink(self.folder.as_fd(), &self.name, 0) {
            tracing::debug!(path = %self.path.display(), %error, "a lock file stays");
        }
    }
}

/// What becomes of a lock's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The volume is still here.
    Keep,
    /// Nothing of the volume is left.
    Forget,
}

fn is_at(file: &File, path: &PathBuf) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(16).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!(" (pid {pid})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_plan::ids::{DriverName, VolumeId};

    fn place() -> (tempfile::TempDir, HostPath, VolumeKey) {
        let folder = tempfile::tempdir().unwrap();
        let path = HostPath::parse(folder.path().to_str().unwrap()).unwrap();
        (folder, path, VolumeKey::derive("lock", &DriverName::parse("d").unwrap(), &VolumeId::parse("v").unwrap()))
    }

    #[test]
    fn a_second_lock_names_the_holder_and_the_next_one_succeeds() {
        let (_folder, path, key) = place();
        let first = Lock::take(&path, key, Duration::ZERO).unwrap();
        let refused = Lock::take(&path, key, Duration::from_millis(20)).unwrap_err();
        assert_eq!(refused.to_string(), format!("an earlier worker (pid {}) still works on the volume, or waits for its device", std::process::id()));
        assert_eq!(Failure::from(refused).reason, Reason::WorkerLost);
        first.release(Fate::Keep);
        Lock::take(&path, key, Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn a_forgotten_lock_leaves_no_file_and_never_two_holders() {
        let (folder, path, key) = place();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = Lock::take(&path, key, Duration::from_secs(60)).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        lock.release(Fate::Forget);
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
