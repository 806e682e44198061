//! A file system of one file that stops answering when it is told to: a disk that hangs, and heals.

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use nix::fcntl::FallocateFlags;
use nix::unistd::Whence;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// Nothing but the end of the hang ends a process in D state: whatever a test does, the disk heals after this.
const WATCHDOG: Duration = Duration::from_secs(60);

const THE_FILE: INodeNo = INodeNo(2);

/// What does not answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Hang {
    /// Writing.
    Writes,
    /// Reading, writing and flushing.
    Data,
    /// Reading, writing and flushing, beginning with the n-th flush.
    AtFlush(u32),
    /// Every question about the file, its size and its name included.
    Everything,
}

type Reply = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    hang: Option<Hang>,
    flushes_until_hang: Option<u32>,
    held: Vec<Reply>,
    was_watchdog: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    healed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn heal(&self) {
        let held = {
            let mut state = self.lock();
            (state.hang, state.flushes_until_hang) = (None, None);
            std::mem::take(&mut state.held)
        };
        self.healed.notify_all();
        held.into_iter().for_each(|reply| reply());
    }
}

/// A folder with one file, over a folder that has it on disk.
pub(super) struct Disk {
    shared: Arc<Shared>,
    folder: PathBuf,
    session: Option<fuser::BackgroundSession>,
}

impl Disk {
    /// Mounts over `folder`; the file `name` in it answers as it did.
    pub(super) fn over(folder: &Path, name: &str) -> Self {
        let shared = Arc::<Shared>::default();
        let file = Arc::new(File::options().read(true).write(true).open(folder.join(name)).expect("the file"));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("hang".to_owned()), MountOption::RW];
        config.acl = SessionACL::All;
        let session = fuser::spawn_mount(OneFile { shared: shared.clone(), name: name.to_owned(), file }, folder, &config);
        Self { shared, folder: folder.to_owned(), session: Some(session.expect("FUSE mounts")) }
    }

    /// From now on it does not answer, until it is healed.
    pub(super) fn hang(&self, hang: Hang) {
        {
            let mut state = self.shared.lock();
            match hang {
                Hang::AtFlush(n) => state.flushes_until_hang = Some(n),
                hang => state.hang = Some(hang),
            }
        }
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            let state = shared.lock();
            let (mut state, waited) =
                shared.healed.wait_timeout_while(state, WATCHDOG, |state| state.hang.is_some() || state.flushes_until_hang.is_some()).expect("no panic");
            state.was_watchdog |= waited.timed_out();
            drop(state);
            shared.heal();
        });
    }

    /// How many questions wait for an answer.
    pub(super) fn held(&self) -> usize {
        self.shared.lock().held.len()
    }

    /// Answers everything that was held, and everything from now on.
    pub(super) fn heal(&self) {
        assert!(!self.shared.lock().was_watchdog, "the disk was healed by the watchdog: the test took too long to be worth anything");
        self.shared.heal();
    }

    /// Unmounts it, which fails while anything has it open.
    pub(super) fn close(mut self) {
        harness::eventually("the disk's unmount", || nix::mount::umount2(&self.folder, nix::mount::MntFlags::UMOUNT_NOFOLLOW).ok());
        if let Some(session) = self.session.take() {
            session.join().expect("the session ends");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.heal();
        // It goes on answering until the harness has unmounted it: dropped, it would unmount itself, and what hangs on it stays.
        std::mem::forget(self.session.take());
    }
}

struct OneFile {
    shared: Arc<Shared>,
    name: String,
    file: Arc<File>,
}

impl OneFile {
    fn written(&self, reply: impl FnOnce() + Send + 'static) {
        self.answer(|_| true, reply);
    }

    fn data(&self, reply: impl FnOnce() + Send + 'static) {
        self.answer(|hang| hang != Hang::Writes, reply);
    }

    fn other(&self, reply: impl FnOnce() + Send + 'static) {
        self.answer(|hang| hang == Hang::Everything, reply);
    }

    fn answer(&self, is_held_by: impl FnOnce(Hang) -> bool, reply: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        if state.hang.is_some_and(is_held_by) {
            state.held.push(Box::new(reply));
        } else {
            drop(state);
            reply();
        }
    }
}

fn attributes(file: &File) -> Result<FileAttr, Errno> {
    let meta = file.metadata()?;
    let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0).unsigned_abs());
    Ok(FileAttr {
        ino: THE_FILE,
        size: meta.size(),
        blocks: meta.blocks(),
        atime: time(meta.atime()),
        mtime: time(meta.mtime()),
        ctime: time(meta.ctime()),
        crtime: time(0),
        kind: FileType::RegularFile,
        perm: 0o600,
        nlink: 1,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn folder() -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo::ROOT,
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::Directory,
        perm: 0o700,
        nlink: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Nothing is remembered by the kernel: each question comes to us.
const NOT_KEPT: Duration = Duration::ZERO;

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let is_there = parent == INodeNo::ROOT && name == OsStr::new(&self.name);
        let file = self.file.clone();
        self.other(move || match attributes(&file) {
            Ok(found) if is_there => reply.entry(&NOT_KEPT, &found, Generation(0)),
            Ok(_) => reply.error(Errno::ENOENT),
            Err(error) => reply.error(error),
        });
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if inode == INodeNo::ROOT {
            return reply.attr(&NOT_KEPT, &folder());
        }
        let file = self.file.clone();
        self.other(move || match attributes(&file) {
            Ok(found) => reply.attr(&NOT_KEPT, &found),
            Err(error) => reply.error(error),
        });
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if size.is_some() {
            return reply.error(Errno::EPERM);
        }
        self.getattr(request, inode, handle, reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.other(move || reply.opened(FileHandle(1), FopenFlags::empty()));
    }

    fn read(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, size: u32, _: OpenFlags, _: Option<LockOwner>, reply: ReplyData) {
        let file = self.file.clone();
        self.data(move || {
            let mut bytes = vec![0; size as usize];
            match file.read_at(&mut bytes, offset) {
                Ok(read) => reply.data(&bytes[..read]),
                Err(error) => reply.error(error.into()),
            }
        });
    }

    fn write(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, data: &[u8], _: WriteFlags, _: OpenFlags, _: Option<LockOwner>, reply: ReplyWrite) {
        let (file, data) = (self.file.clone(), data.to_owned());
        self.written(move || match file.write_all_at(&data, offset) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error.into()),
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.other(move || reply.ok());
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        {
            let mut state = self.shared.lock();
            state.flushes_until_hang = state.flushes_until_hang.map(|left| left.saturating_sub(1));
            if state.flushes_until_hang == Some(0) {
                (state.hang, state.flushes_until_hang) = (Some(Hang::Data), None);
            }
        }
        let file = self.file.clone();
        self.data(move || match file.sync_all() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        });
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, length: u64, mode: i32, reply: ReplyEmpty) {
        let file = self.file.clone();
        self.data(move || match nix::fcntl::fallocate(&*file, FallocateFlags::from_bits_truncate(mode), offset as i64, length as i64) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(Errno::from_i32(error as i32)),
        });
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let file = self.file.clone();
        // SEEK_DATA and SEEK_HOLE; the kernel answers the others itself.
        let whence = if whence == 3 { Whence::SeekData } else { Whence::SeekHole };
        self.other(move || match nix::unistd::lseek(&*file, offset, whence) {
            Ok(found) => reply.offset(found),
            Err(error) => reply.error(Errno::from_i32(error as i32)),
        });
    }
}
