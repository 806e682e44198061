//! That a file is below one loop device alone: the turn to bind it, and a look for others that show it, which asks no device anything.

use crate::loops;
use crate::mountinfo::Table;
use crate::roots;
use crate::sys;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// There is no lock with a time limit, so it is asked for again and again.
const PAUSE: Duration = Duration::from_millis(5);

/// The turn to bind a file: held from before the look for others until the device was bound and looked at. It is a `flock` on the file
/// itself, so that no other name of the volume, way to the folder or daemon comes between; it ends with the worker that holds it.
pub(crate) struct Turn {
    file: File,
}

impl Turn {
    /// Takes the turn within `patience`; `None`: somebody else has it. `file` must be opened for this alone: a descriptor that the loop
    /// device is given keeps its locks for as long as the device is bound.
    pub(crate) fn take(file: File, patience: Duration) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { file })),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Not by the close alone: a program that is being started elsewhere in this process has a copy of the descriptor for a moment.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the turn to bind a file ends with its descriptor");
        }
    }
}

/// A file that is looked for below loop devices.
///
/// The path in sysfs is a name, of which a file has several where its folder is mounted twice; what it leads to has an identity. To
/// follow a path may take for ever where its file system hangs. So those alone are followed that may lead to the file: which have a
/// mount of its file system on the way, and its own name at the end, or are themselves a mount (of a single file, under any name).
pub(crate) struct Sought {
    seen: sys::Stat,
    path: Vec<u8>,
    /// Where the file's own file system is mounted. `None`: not known.
    points: Option<HashSet<String>>,
}

impl Sought {
    pub(crate) fn new(file: &File, path: Vec<u8>) -> io::Result<Self> {
        let table = Table::read()?;
        let home = table.with_id(roots::mount_id(file.as_fd())?).map(|line| line.number);
        let points_of = |home| table.lines().filter(|line| line.number == home).map(|line| line.point.clone()).collect();
        Ok(Self { seen: sys::stat(file.as_fd())?, path, points: home.map(points_of) })
    }

    /// Is the file below the loop device called so? The same path counts as the same file: followed from here it leads there, and what
    /// it meant where the device was bound (another mount namespace, a folder that is covered by now) only the device could say.
    pub(crate) fn is_below(&self, name: &str) -> bool {
        let Some(path) = loops::backing_of(name) else { return false };
        path == self.path || self.may_be(&path) && identity(&path) == Some((self.seen.device, self.seen.inode))
    }

    fn may_be(&self, path: &[u8]) -> bool {
        let text = String::from_utf8_lossy(path);
        let is_point = |way: &Path| way.to_str().is_some_and(|way| self.points.as_ref().is_none_or(|points| points.contains(way)));
        let has_its_name = name_of(path) == name_of(&self.path);
        let way = Path::new(&*text);
        if has_its_name { way.ancestors().any(is_point) } else { self.points.is_some() && is_point(way) }
    }
}

fn name_of(path: &[u8]) -> Option<&[u8]> {
    path.rsplit(|byte| *byte == b'/').next()
}

/// What the path leads to, without opening its content.
fn identity(path: &[u8]) -> Option<(sys::Number, u64)> {
    let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(OsStr::from_bytes(path)).ok()?;
    sys::stat(found.as_fd()).ok().map(|seen| (seen.device, seen.inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_may_lead_to_the_file_are_followed() {
        let file = tempfile::tempfile().unwrap();
        let seen = sys::stat(file.as_fd()).unwrap();
        let points = Some(["/", "/pool", "/mnt/one"].map(str::to_owned).into());
        let mut sought = Sought { seen, path: b"/pool/volume".to_vec(), points };
        for (path, is_followed) in [
            ("/pool/volume", true),
            ("/alias/volume", true),
            ("/pool/other", false),
            ("/pool/volume (deleted)", false),
            ("/mnt/one", true),
            ("/mnt/two", false),
        ] {
            assert_eq!(sought.may_be(path.as_bytes()), is_followed, "{path}");
        }
        sought.points = Some(["/pool"].map(str::to_owned).into());
        assert!(!sought.may_be(b"/elsewhere/volume"), "a way that never touches the file system");
        sought.points = None;
        assert!(sought.may_be(b"/elsewhere/volume") && !sought.may_be(b"/elsewhere/other"));
    }

    #[test]
    fn a_turn_is_one_for_all_descriptors_of_a_file_and_ends_when_it_is_dropped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(file.path()).unwrap();
        let turn = Turn::take(open(), Duration::ZERO).unwrap().unwrap();
        let _copy = turn.file.try_clone().unwrap();
        assert!(Turn::take(open(), Duration::from_millis(20)).unwrap().is_none());
        drop(turn);
        assert!(Turn::take(open(), Duration::ZERO).unwrap().is_some());
    }
}
