//! `files.copy`: a file with what another holds at one moment.
//!
//! Where the file system shares blocks between files, the kernel makes it one moment, whoever writes meanwhile. Elsewhere the bytes are
//! copied while nobody has the file open; who opens it meanwhile is given it within one stretch, and the copy is thrown away.

use super::alone::{DISTURBED, not_there};
use super::{Folder, Stale, came_and_went, failed, refuse_large};
use crate::effects::refuse;
use nix::fcntl::OFlag;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use windlass_linux::CopyError;
use windlass_plan::effect::{EffectAnswer, EffectError};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::request::Context;

/// Copies of bytes that are made at once in a folder. Each holds a place of its driver's plugin for as long as the disk takes, of which there
/// are four unless the operator says otherwise: two are left for those who make, delete and stage volumes meanwhile.
const AT_ONCE: usize = 2;

/// How long one waits for its turn, before the caller is told to ask again.
const TURN: Duration = Duration::from_secs(1);

/// The copies of bytes that are being made.
#[derive(Default)]
pub(super) struct Turns {
    taken: Mutex<usize>,
    given_back: Condvar,
}

struct Turn<'a>(&'a Turns);

impl Turns {
    fn take(&self) -> Result<Turn<'_>, EffectError> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |taken: &mut usize| *taken >= AT_ONCE;
        let (mut taken, waited) = self.given_back.wait_timeout_while(taken, TURN, is_full).unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(refuse(RefusalKind::Unavailable, format!("{AT_ONCE} volumes of the folder are being copied already; ask again")));
        }
        *taken += 1;
        Ok(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.given_back.notify_one();
    }
}

impl Folder {
    /// Makes the copy, or finds it. A death at any moment leaves nothing: until it is whole it has no name.
    pub(super) fn copy(&self, name: &str, to: &str, size: u64, properties: &Context) -> Result<EffectAnswer, EffectError> {
        refuse_large(properties)?;
        if let Some(found) = self.found(to)? {
            return Ok(found);
        }
        let (_, seen) = self.look(name)?.ok_or_else(not_there)?;
        let more = size.saturating_sub(seen.st_size as u64);
        let copy = self.unnamed()?;
        if !(self.can_share(&copy)? && self.share(name, &copy, more)?) {
            self.copy_bytes(name, &copy, more)?;
        }
        let has = copy.metadata().map_err(|error| failed("look at a copy", error))?.len();
        // What follows fills up with zeros: whoever copied has to have copied all.
        if has < seen.st_size as u64 {
            return Err(refuse(RefusalKind::Unavailable, "the copy came out shorter than the volume, and was thrown away; ask again".to_owned()));
        }
        if has < size {
            copy.set_len(size).map_err(|error| failed("size a copy", error))?;
        }
        // It may have taken long.
        self.is_current().map_err(|stale: Stale| refuse(RefusalKind::Unavailable, stale.to_string()))?;
        self.name(&copy, to, properties)
    }

    /// Does the file system share blocks between files? Found out with two that are empty: the source is not opened for it, which would
    /// disturb whoever copies it.
    fn can_share(&self, copy: &File) -> Result<bool, EffectError> {
        let other = self.unnamed()?;
        windlass_linux::share_content(&other, copy).map_err(|error| failed("see whether files can share blocks", error))
    }

    fn share(&self, name: &str, copy: &File, more: u64) -> Result<bool, EffectError> {
        self.refuse_more_than_there_is(more)?;
        let source = self.open_file(name, OFlag::O_RDONLY)?.ok_or_else(came_and_went)?;
        windlass_linux::share_content(&source, copy).map_err(|error| failed("copy a file by sharing its blocks", error))
    }

    fn copy_bytes(&self, name: &str, copy: &File, more: u64) -> Result<(), EffectError> {
        let _turn = self.turns.take()?;
        let source = self.alone(name)?;
        let allocated = source.file().metadata().map_err(|error| failed("look at a file", error))?.blocks().saturating_mul(512);
        self.refuse_more_than_there_is(allocated.saturating_add(more))?;
        match windlass_linux::copy_data(source.file(), copy, || source.is_still()) {
            Ok(()) => {}
            Err(CopyError::Failed(error)) => return Err(failed("copy a file", error)),
            Err(CopyError::Stopped) => {
                return Err(refuse(RefusalKind::Unavailable, DISTURBED.to_owned()));
            }
            Err(CopyError::Shrunk) => return Err(refuse(RefusalKind::Unavailable, "the file became shorter while it was copied; ask again".to_owned())),
        }
        let has = source.file().metadata().map_err(|error| failed("look at a file", error))?.len();
        copy.set_len(has).map_err(|error| failed("size a copy", error))
        // With the last copy the lease goes, before anything is flushed: the copy is what it is.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
    use std::io::{Read, Write};
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    use std::path::Path;
    use std::time::Instant;
    use windlass_plan::effect::FilesVerb;

    const MIB: usize = 1 << 20;

    /// A folder whose file system shares no blocks, which is what these tests are about: ext4, or memory.
    fn folder() -> (tempfile::TempDir, Folder) {
        for place in [env!("CARGO_MANIFEST_DIR"), "/dev/shm"] {
            let dir = tempfile::tempdir_in(place).unwrap();
            let folder = Folder::open(dir.path().to_str().unwrap()).unwrap();
            if !folder.can_share(&folder.unnamed().unwrap()).unwrap() {
                return (dir, folder);
            }
            assert_ne!(fstatfs(&folder.fd).unwrap().filesystem_type(), TMPFS_MAGIC, "memory shares no blocks");
        }
        panic!("no folder whose file system shares no blocks");
    }

    fn copy(folder: &Folder, name: &str, to: &str, size: usize) -> Result<EffectAnswer, EffectError> {
        folder.perform(FilesVerb::Copy { name: name.into(), to: to.into(), size: size as u64, properties: [("of".to_owned(), name.to_owned())].into() })
    }

    /// A file of 16 MiB with data at its beginning, in the middle and at its end.
    fn holey(at: &Path) -> Vec<u8> {
        let file = File::create_new(at).unwrap();
        file.set_len(16 * MIB as u64).unwrap();
        for offset in [0, 9 * MIB, 16 * MIB - 4096] {
            file.write_all_at(&[offset as u8 | 1; 4096], offset as u64).unwrap();
        }
        file.sync_all().unwrap();
        std::fs::read(at).unwrap()
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_copy_is_made_once_with_its_holes_and_is_independent() {
        let (dir, folder) = folder();
        let whole = holey(&dir.path().join("a"));
        let Ok(EffectAnswer::Created { file, is_new: true }) = copy(&folder, "a", "b", 20 * MIB) else { panic!() };
        assert_eq!((file.size, file.properties["of"].as_str()), (20 * MIB as u64, "a"));
        let blocks = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().blocks();
        assert!(blocks("b") <= blocks("a"), "{} and {}", blocks("b"), blocks("a"));
        let made = std::fs::read(dir.path().join("b")).unwrap();
        assert!(made[..whole.len()] == whole && made[whole.len()..].iter().all(|byte| *byte == 0));
        // Smaller than its source it cannot be; nothing there is nothing to copy.
        let Ok(EffectAnswer::Created { file: small, .. }) = copy(&folder, "a", "small", 1) else { panic!() };
        assert_eq!(small.size, 16 * MIB as u64);
        assert_eq!(copy(&folder, "none", "c", 1).unwrap_err().kind, RefusalKind::NotFound);
        // Again, also when the source is gone.
        folder.perform(FilesVerb::Delete { name: "a".into() }).unwrap();
        assert_eq!(copy(&folder, "a", "b", 1).unwrap(), EffectAnswer::Created { file, is_new: false });
        assert_eq!(names(&dir), ["b", "small"]);
    }

    #[test]
    fn a_file_that_is_in_use_is_not_copied_and_the_refusal_names_the_ways_out() {
        let (dir, folder) = folder();
        holey(&dir.path().join("a"));
        let open = File::open(dir.path().join("a")).unwrap();
        let refused = copy(&folder, "a", "b", 1).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Precondition);
        assert!(refused.message.contains("unstage") && refused.message.contains("xfs") && refused.message.contains("btrfs"), "{refused}");
        assert_eq!(names(&dir), ["a"]);
        drop(open);
        copy(&folder, "a", "b", 1).unwrap();
    }

    #[test]
    fn who_opens_a_file_while_it_is_copied_gets_it_and_the_copy_is_thrown_away() {
        let (dir, folder) = folder();
        let path = dir.path().join("a");
        let mut file = File::create_new(&path).unwrap();
        for n in 0..256_u32 {
            file.write_all(&vec![n as u8 | 1; MIB]).unwrap();
        }
        file.sync_all().unwrap();
        drop(file);
        let refused = std::thread::scope(|scope| {
            let copying = scope.spawn(|| copy(&folder, "a", "b", 1));
            // Without waiting, until the lease is in the way.
            let knock = || File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
            while !copying.is_finished() && knock().map(drop).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let began = Instant::now();
            let mut byte = [0];
            File::open(&path).unwrap().read_exact(&mut byte).unwrap();
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
            copying.join().unwrap()
        });
        let refused = refused.unwrap_err();
        assert!(refused.kind == RefusalKind::Unavailable && refused.message.contains("thrown away"), "{refused}");
        assert_eq!(names(&dir), ["a"]);
        copy(&folder, "a", "b", 1).unwrap();
        assert!(std::fs::read(&path).unwrap() == std::fs::read(dir.path().join("b")).unwrap());
    }

    #[test]
    fn who_only_looks_disturbs_no_copy_and_sees_the_file() {
        let (dir, folder) = folder();
        holey(&dir.path().join("a"));
        let alone = folder.alone("a").unwrap();
        assert!(matches!(folder.perform(FilesVerb::Stat { name: "a".into() }), Ok(EffectAnswer::File(Some(_)))));
        let Ok(EffectAnswer::Files(files)) = folder.perform(FilesVerb::List { after: String::new(), limit: 9 }) else { panic!() };
        assert_eq!(files.len(), 1);
        // A second copy of the same file shares the lease of the first.
        copy(&folder, "a", "b", 1).unwrap();
        assert!(alone.is_still().unwrap());
        // Whoever wants to delete it has to ask again, and the copy is thrown away.
        assert_eq!(folder.perform(FilesVerb::Delete { name: "a".into() }).unwrap_err().kind, RefusalKind::Unavailable);
        assert!(!alone.is_still().unwrap());
        // And so has whoever wants another copy: what is in the way is a copy that ends.
        assert_eq!(copy(&folder, "a", "c", 1).unwrap_err().kind, RefusalKind::Unavailable);
        drop(alone);
        folder.perform(FilesVerb::Delete { name: "a".into() }).unwrap();
    }

    #[test]
    fn sixteen_copies_of_one_file_at_once_are_all_whole() {
        let (dir, folder) = folder();
        let whole = holey(&dir.path().join("a"));
        // Who has no turn in time asks again.
        let insist = |to: &str| loop {
            match copy(&folder, "a", to, 1) {
                Err(refused) if refused.kind == RefusalKind::Unavailable && refused.message.contains("ask again") => {}
                made => return made,
            }
        };
        std::thread::scope(|scope| {
            let copies: Vec<_> = (0..16).map(|n| (n, scope.spawn(move || insist(&format!("b{n}"))))).collect();
            for (n, made) in copies {
                assert!(matches!(made.join().unwrap(), Ok(EffectAnswer::Created { is_new: true, .. })));
                assert!(std::fs::read(dir.path().join(format!("b{n}"))).unwrap() == whole);
            }
        });
    }

    #[test]
    fn no_more_than_two_copies_of_bytes_are_made_at_once() {
        let (dir, folder) = folder();
        holey(&dir.path().join("a"));
        let turns = [folder.turns.take().unwrap(), folder.turns.take().unwrap()];
        let refused = copy(&folder, "a", "b", 1).unwrap_err();
        assert!(refused.kind == RefusalKind::Unavailable && refused.message.contains("ask again"), "{refused}");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| copy(&folder, "a", "b", 1));
            drop(turns);
            waits.join().unwrap().unwrap();
        });
        assert_eq!(names(&dir), ["a", "b"]);
    }

    #[test]
    fn a_copy_that_cannot_be_as_large_as_it_is_to_be_leaves_nothing() {
        let (dir, folder) = folder();
        holey(&dir.path().join("a"));
        assert_eq!(copy(&folder, "a", "b", 1 << 60).unwrap_err().kind, RefusalKind::Exhausted);
        let properties: Context = [("k".to_owned(), "v".repeat(4000))].into();
        let large = FilesVerb::Copy { name: "a".into(), to: "b".into(), size: 1, properties };
        assert_eq!(folder.perform(large).unwrap_err().kind, RefusalKind::Invalid);
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("l")).unwrap();
        for name in ["d", "l"] {
            assert!(copy(&folder, name, "b", 1).is_err() && copy(&folder, "a", name, 1).is_err(), "{name}");
        }
        assert_eq!(names(&dir), ["a", "d", "l"]);
    }
}
