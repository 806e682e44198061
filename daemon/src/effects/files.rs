//! The interface `files`: sparse files in one folder, made whole or not at all, durable when the answer goes out.
//!
//! A file is made without a name (O_TMPFILE), sized, given its properties as an extended attribute, flushed, and only then linked under
//! its name, which fails if the name is taken. A loss of power leaves the whole file or none.
//!
//! Whoever only looks at a file does not open it: a file that is being copied is kept from everybody else until then.

mod alone;
mod copy;

use super::refuse;
use alone::Copied;
use copy::Turns;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, stat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use windlass_plan::effect::{EffectAnswer, EffectError, FileFacts, FilesVerb};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::request::Context;
use xattr::FileExt;

/// Where a file's properties are kept, as JSON.
const PROPERTIES: &str = "user.windlass.properties";
/// The largest properties, in bytes of keys and values: an ext4 inode's block holds 4 KiB of attributes in all.
const LARGEST_PROPERTIES: usize = 3 << 10;

/// The most files of one listing, and the most bytes of names and properties after which it stops: whoever lists goes on from there.
const LISTED: u32 = 1000;
const LISTED_BYTES: usize = 1 << 20;

/// How long a file may still be open after its volume was taken down: the kernel lets go of a loop device's file a moment after the
/// device has vanished, in the process that had the device open last.
const LETTING_GO: Duration = Duration::from_millis(250);

/// A granted folder, opened once.
pub(super) struct Folder {
    path: PathBuf,
    fd: OwnedFd,
    identity: (u64, u64),
    copied: Copied,
    turns: Turns,
}

/// Why a folder that was opened is not to be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stale {
    /// A disk was mounted over it, or it was moved away: what is made in it now would be hidden from everybody else.
    #[error("the granted folder was replaced, or a disk was mounted over it; ask again")]
    Replaced,
    /// It cannot be said.
    #[error("the granted folder cannot be looked at: {0}")]
    Unknown(Errno),
}

impl Folder {
    /// Opens the folder. It must exist: a folder of volumes that is not there is more likely not mounted than not made.
    pub(super) fn open(path: &str) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(Path::new(path), flags, Mode::empty())?;
        Ok(Self { path: path.into(), identity: identity(&fstat(&fd)?), fd, copied: Copied::default(), turns: Turns::default() })
    }

    /// Is what was opened still what the path leads to?
    pub(super) fn is_current(&self) -> Result<(), Stale> {
        match stat(&self.path) {
            Ok(found) if identity(&found) == self.identity => Ok(()),
            Ok(_) | Err(Errno::ENOENT) => Err(Stale::Replaced),
            Err(errno) => Err(Stale::Unknown(errno)),
        }
    }

    /// Does what was asked.
    pub(super) fn perform(&self, verb: FilesVerb) -> Result<EffectAnswer, EffectError> {
        match verb {
            FilesVerb::Create { name, size, properties } => self.create(&name, size, &properties),
            FilesVerb::Copy { name, to, size, properties } => self.copy(&name, &to, size, &properties),
            FilesVerb::Stat { name } => self.stat(&name).map(EffectAnswer::File),
            FilesVerb::Grow { name, size } => self.grow(&name, size).map(EffectAnswer::Grown),
            FilesVerb::Delete { name } => self.delete(&name),
            FilesVerb::List { after, limit } => self.list(&after, limit).map(EffectAnswer::Files),
            FilesVerb::Room => self.room(),
        }
    }

    fn create(&self, name: &str, size: u64, properties: &Context) -> Result<EffectAnswer, EffectError> {
        refuse_large(properties)?;
        if let Some(found) = self.found(name)? {
            return Ok(found);
        }
        self.refuse_more_than_there_is(size)?;
        let file = self.unnamed()?;
        file.set_len(size).map_err(|error| failed("size a file", error))?;
        self.name(&file, name, properties)
    }

    /// The file that exists, durable: who named it may have died before its name was.
    fn found(&self, name: &str) -> Result<Option<EffectAnswer>, EffectError> {
        let Some(file) = self.stat(name)? else { return Ok(None) };
        self.flush()?;
        Ok(Some(EffectAnswer::Created { file, is_new: false }))
    }

    /// An empty file that goes with its descriptor, until it has a name.
    fn unnamed(&self) -> Result<File, EffectError> {
        let temporary = nix::fcntl::openat(&self.fd, ".", OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o600));
        Ok(temporary.map_err(|errno| failed("make a file", errno.into()))?.into())
    }

    /// Gives a file that is whole its properties and its name.
    fn name(&self, file: &File, name: &str, properties: &Context) -> Result<EffectAnswer, EffectError> {
        let size = file.metadata().map_err(|error| failed("look at a file", error))?.len();
        let text = serde_json::to_vec(properties).map_err(|error| failed("note a file's properties", error.into()))?;
        file.set_xattr(PROPERTIES, &text).map_err(|error| failed("note a file's properties (the file system must have user attributes)", error))?;
        file.sync_all().map_err(|error| failed("flush a file", error))?;
        match linkat(nix::fcntl::AT_FDCWD, proc_path(file).as_str(), &self.fd, name, AtFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                // Another call was first: what it made is the answer.
                return self.found(name)?.ok_or_else(came_and_went);
            }
            Err(errno) => return Err(failed("name a file", errno.into())),
        }
        self.flush()?;
        Ok(EffectAnswer::Created { file: FileFacts { name: name.to_owned(), size, properties: properties.clone() }, is_new: true })
    }

    fn stat(&self, name: &str) -> Result<Option<FileFacts>, EffectError> {
        let Some((file, seen)) = self.look(name)? else { return Ok(None) };
        // By its descriptor: the name may be another file's by now. A descriptor that opens nothing has no attributes of its own to read.
        let text = xattr::get_deref(proc_path(&file), PROPERTIES).map_err(|error| failed("read a file's properties", error))?;
        Ok(Some(facts(name, seen.st_size as u64, text)))
    }

    /// Looks at a plain file without opening it.
    fn look(&self, name: &str) -> Result<Option<(OwnedFd, FileStat)>, EffectError> {
        let file = match openat2(&self.fd, name, how(OFlag::O_PATH)) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(failed("look at a file", errno.into())),
        };
        let seen = fstat(&file).map_err(|errno| failed("look at a file", errno.into()))?;
        refuse_other_kinds(&seen)?;
        Ok(Some((file, seen)))
    }

    fn grow(&self, name: &str, size: u64) -> Result<FileFacts, EffectError> {
        let Some(file) = self.open_file(name, OFlag::O_RDWR)? else {
            return Err(refuse(RefusalKind::NotFound, "there is no such file".to_owned()));
        };
        let now = file.metadata().map_err(|error| failed("look at a file", error))?.len();
        if now < size {
            self.refuse_more_than_there_is(size - now)?;
            file.set_len(size).map_err(|error| failed("grow a file", error))?;
            file.sync_all().map_err(|error| failed("flush a file", error))?;
        }
        let size = file.metadata().map_err(|error| failed("look at a file", error))?.len();
        let text = file.get_xattr(PROPERTIES).map_err(|error| failed("read a file's properties", error))?;
        Ok(facts(name, size, text))
    }

    fn delete(&self, name: &str) -> Result<EffectAnswer, EffectError> {
        if let Some(file) = self.open_file(name, OFlag::O_RDWR)? {
            // A write lease is only given while nobody else has the file open, a loop device included: whoever uses the volume on this
            // node keeps it from being deleted. Ours goes with the descriptor.
            match is_in_use(&file) {
                Ok(false) => {}
                Ok(true) => return Err(refuse(RefusalKind::Precondition, "the volume's file is in use on this node".to_owned())),
                // A file system without leases (NFS): the daemon's own look at this node's devices has to do.
                Err(error) if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => {}
                Err(error) => return Err(failed("see whether a file is in use", error)),
            }
            // The name, right before it goes: while we looked, another file may have taken it.
            let ours = fstat(&file).map_err(|errno| failed("look at a file", errno.into()))?;
            match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(found) if identity(&found) == identity(&ours) => {}
                Ok(_) => return Err(refuse(RefusalKind::Unavailable, "another file has taken the name meanwhile; ask again".to_owned())),
                Err(Errno::ENOENT) => return Ok(EffectAnswer::Deleted),
                Err(errno) => return Err(failed("look at a file", errno.into())),
            }
            match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed("delete a file", errno.into())),
            }
            self.flush()?;
        }
        Ok(EffectAnswer::Deleted)
    }

    fn list(&self, after: &str, limit: u32) -> Result<Vec<FileFacts>, EffectError> {
        let own = nix::fcntl::openat(&self.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| failed("list the folder", errno.into()))?;
        let mut folder = nix::dir::Dir::from_fd(own).map_err(|errno| failed("list the folder", errno.into()))?;
        let mut names: Vec<String> = (folder.iter().flatten())
            .filter_map(|entry| Some(entry.file_name().to_str().ok()?.to_owned()))
            .filter(|name| name.as_str() > after && windlass_plan::effect::is_file_name(name))
            .collect();
        names.sort_unstable();
        let limit = limit.min(LISTED) as usize;
        let (mut files, mut bytes) = (Vec::new(), 0);
        for name in names {
            if files.len() >= limit {
                break;
            }
            // One that was deleted meanwhile, or is no plain file, is not there.
            let Ok(Some(file)) = self.stat(&name) else { continue };
            bytes += name.len() + file.properties.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            if bytes > LISTED_BYTES && !files.is_empty() {
                break;
            }
            files.push(file);
        }
        Ok(files)
    }

    /// Files are sparse, and what others were promised is not subtracted; but what could not even hold this one alone is refused.
    fn refuse_more_than_there_is(&self, wanted: u64) -> Result<(), EffectError> {
        let (available, _) = self.free()?;
        if wanted > available {
            return Err(refuse(RefusalKind::Exhausted, format!("{wanted} bytes are wanted, and the folder's file system has {available} left")));
        }
        Ok(())
    }

    fn room(&self) -> Result<EffectAnswer, EffectError> {
        let (available, total) = self.free()?;
        Ok(EffectAnswer::Room { available, total })
    }

    /// Bytes available and in all.
    fn free(&self) -> Result<(u64, u64), EffectError> {
        let stat = nix::sys::statvfs::fstatvfs(self.fd.as_fd()).map_err(|errno| failed("look for room", errno.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        Ok((bytes(stat.blocks_available()), bytes(stat.blocks())))
    }

    /// Opens a plain file in the folder: no link, no other file system, nothing but what we made.
    fn open_file(&self, name: &str, access: OFlag) -> Result<Option<File>, EffectError> {
        let file = match openat2(&self.fd, name, how(access | OFlag::O_NONBLOCK)) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::EWOULDBLOCK) => {
                return Err(refuse(RefusalKind::Unavailable, "the file is being copied or deleted at this moment; ask again".to_owned()));
            }
            Err(errno) => return Err(failed("open a file", errno.into())),
        };
        refuse_other_kinds(&fstat(&file).map_err(|errno| failed("look at a file", errno.into()))?)?;
        Ok(Some(file.into()))
    }

    fn flush(&self) -> Result<(), EffectError> {
        nix::unistd::fsync(&self.fd).map_err(|errno| failed("flush the folder", errno.into()))
    }
}

fn identity(found: &FileStat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

/// Beneath the folder, through no link and into no other file system.
fn how(access: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV)
}

fn proc_path(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn refuse_large(properties: &Context) -> Result<(), EffectError> {
    if properties.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > LARGEST_PROPERTIES {
        return Err(refuse(RefusalKind::Invalid, format!("a file's properties are larger than {LARGEST_PROPERTIES} bytes")));
    }
    Ok(())
}

fn refuse_other_kinds(seen: &FileStat) -> Result<(), EffectError> {
    if SFlag::from_bits_truncate(seen.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG {
        return Ok(());
    }
    Err(refuse(RefusalKind::Precondition, "there is something of that name that is no plain file".to_owned()))
}

fn facts(name: &str, size: u64, properties: Option<Vec<u8>>) -> FileFacts {
    let properties = properties.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    FileFacts { name: name.to_owned(), size, properties }
}

/// A name that is used for nothing, because of what happened between two looks.
fn came_and_went() -> EffectError {
    refuse(RefusalKind::Unavailable, "a file of that name came and went; ask again".to_owned())
}

fn failed(deed: &str, error: io::Error) -> EffectError {
    let kind = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => RefusalKind::Exhausted,
        Some(Errno::EFBIG) => RefusalKind::OutOfRange,
        _ => RefusalKind::Unavailable,
    };
    refuse(kind, format!("could not {deed}: {error}"))
}

/// Has somebody the file open who does not let go of it?
fn is_in_use(file: &File) -> io::Result<bool> {
    let until = Instant::now() + LETTING_GO;
    while windlass_linux::is_open_elsewhere(file)? {
        if Instant::now() >= until {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        // On a disk: tmpfs has no user attributes on older kernels.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let folder = Folder::open(dir.path().to_str().unwrap()).unwrap();
        (dir, folder)
    }
    fn create(folder: &Folder, name: &str, size: u64) -> Result<EffectAnswer, EffectError> {
        folder.perform(FilesVerb::Create { name: name.into(), size, properties: [("name".to_owned(), name.to_owned())].into() })
    }

    #[test]
    fn a_file_is_made_once_and_found_again() {
        let (dir, folder) = folder();
        let Ok(EffectAnswer::Created { file, is_new: true }) = create(&folder, "a", 1 << 20) else { panic!() };
        assert_eq!(create(&folder, "a", 7).unwrap(), EffectAnswer::Created { file: file.clone(), is_new: false });
        assert_eq!(file.properties["name"], "a");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(std::fs::metadata(dir.path().join("a")).unwrap().blocks(), 0, "sparse");
        assert_eq!(folder.perform(FilesVerb::Grow { name: "a".into(), size: 1 }).unwrap(), EffectAnswer::Grown(file));
        assert_eq!(folder.perform(FilesVerb::Grow { name: "b".into(), size: 1 }).unwrap_err().kind, RefusalKind::NotFound);
        assert_eq!(folder.perform(FilesVerb::Delete { name: "a".into() }).unwrap(), EffectAnswer::Deleted);
        assert_eq!(folder.perform(FilesVerb::Delete { name: "a".into() }).unwrap(), EffectAnswer::Deleted);
        assert_eq!(folder.perform(FilesVerb::Stat { name: "a".into() }).unwrap(), EffectAnswer::File(None));
    }

    #[test]
    fn a_file_that_somebody_has_open_is_not_deleted() {
        let (dir, folder) = folder();
        create(&folder, "a", 4096).unwrap();
        let open = File::open(dir.path().join("a")).unwrap();
        assert_eq!(folder.perform(FilesVerb::Delete { name: "a".into() }).unwrap_err().kind, RefusalKind::Precondition);
        // Who lets go of it a moment later does not keep it.
        let lets_go = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(open);
        });
        assert!(folder.perform(FilesVerb::Delete { name: "a".into() }).is_ok());
        lets_go.join().unwrap();
    }

    #[test]
    fn whoever_opens_a_file_while_it_is_deleted_kills_nobody() {
        use std::os::unix::fs::OpenOptionsExt;
        let (dir, folder) = folder();
        create(&folder, "a", 4096).unwrap();
        let file = folder.open_file("a", OFlag::O_RDWR).unwrap().unwrap();
        assert!(!windlass_linux::is_open_elsewhere(&file).unwrap());
        let refused = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(dir.path().join("a")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn listing_goes_on_after_a_name_and_sees_plain_files_alone() {
        let (dir, folder) = folder();
        for name in ["c", "a", "b"] {
            create(&folder, name, 4096).unwrap();
        }
        std::os::unix::fs::symlink("/etc/shadow", dir.path().join("aa")).unwrap();
        std::fs::create_dir(dir.path().join("ab")).unwrap();
        let list = |after: &str, limit| match folder.perform(FilesVerb::List { after: after.into(), limit }) {
            Ok(EffectAnswer::Files(files)) => files.into_iter().map(|file| file.name).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(list("", 2), ["a", "b"]);
        assert_eq!(list("b", 2), ["c"]);
        assert!(folder.perform(FilesVerb::Stat { name: "aa".into() }).is_err());
        assert!(folder.perform(FilesVerb::Delete { name: "aa".into() }).is_err());
    }

    #[test]
    fn a_listing_stops_where_an_answer_would_grow_too_large() {
        let (_dir, folder) = folder();
        let properties: Context = [("k".to_owned(), "v".repeat(3000))].into();
        for n in 0..400 {
            folder.perform(FilesVerb::Create { name: format!("f{n:03}"), size: 1, properties: properties.clone() }).unwrap();
        }
        let (mut after, mut names, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let Ok(EffectAnswer::Files(files)) = folder.perform(FilesVerb::List { after: after.clone(), limit: u32::MAX }) else { panic!() };
            let Some(last) = files.last() else { break };
            assert!(files.len() * 3000 <= LISTED_BYTES, "{} files", files.len());
            after.clone_from(&last.name);
            pages += 1;
            names.extend(files.into_iter().map(|file| file.name));
        }
        assert_eq!(names, (0..400).map(|n| format!("f{n:03}")).collect::<Vec<_>>());
        assert!(pages > 1);
    }

    #[test]
    fn more_than_there_is_is_promised_to_nobody() {
        let (_dir, folder) = folder();
        let Ok(EffectAnswer::Room { available, .. }) = folder.perform(FilesVerb::Room) else { panic!() };
        let too_much = available * 2;
        assert_eq!(create(&folder, "a", too_much).unwrap_err().kind, RefusalKind::Exhausted);
        assert_eq!(folder.perform(FilesVerb::Stat { name: "a".into() }).unwrap(), EffectAnswer::File(None));
        create(&folder, "a", 4096).unwrap();
        assert_eq!(folder.perform(FilesVerb::Grow { name: "a".into(), size: too_much }).unwrap_err().kind, RefusalKind::Exhausted);
    }

    #[test]
    fn properties_are_bounded() {
        let (_dir, folder) = folder();
        let properties: Context = [("k".to_owned(), "v".repeat(4000))].into();
        assert_eq!(folder.perform(FilesVerb::Create { name: "a".into(), size: 1, properties }).unwrap_err().kind, RefusalKind::Invalid);
    }
}
