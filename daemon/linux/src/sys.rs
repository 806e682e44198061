//! Every raw system call of the crate, one function each; nothing else in the crate is unsafe.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// A device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Number {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// What `statx` tells of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) links: u32,
    pub(crate) inode: u64,
    /// The device that the file lies on.
    pub(crate) device: Number,
    /// The device that the file is, if it is one.
    pub(crate) is_device: Number,
    pub(crate) born_ns: u64,
}

impl Stat {
    pub(crate) fn is(&self, kind: libc::mode_t) -> bool {
        self.mode & libc::S_IFMT == kind
    }
}

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LoopInfo {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) rdevice: u64,
    pub(crate) offset: u64,
    pub(crate) size_limit: u64,
    pub(crate) number: u32,
    pub(crate) encrypt_type: u32,
    pub(crate) encrypt_key_size: u32,
    pub(crate) flags: u32,
    pub(crate) file_name: [u8; 64],
    pub(crate) crypt_name: [u8; 64],
    pub(crate) encrypt_key: [u8; 32],
    pub(crate) init: [u64; 2],
}

impl LoopInfo {
    pub(crate) const EMPTY: LoopInfo = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

pub(crate) const LO_FLAGS_READ_ONLY: u32 = 1;
pub(crate) const LO_FLAGS_AUTOCLEAR: u32 = 4;
pub(crate) const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct xfs_fsop_geom_v1` of libxfs: what every XFS since 2.6 answers.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct XfsGeometry {
    pub(crate) block_size: u32,
    realtime_extent: u32,
    pub(crate) group_blocks: u32,
    group_count: u32,
    log_blocks: u32,
    sector_size: u32,
    inode_size: u32,
    pub(crate) inode_percent: u32,
    pub(crate) data_blocks: u64,
    realtime: [u64; 2],
    log_start: u64,
    uuid: [u8; 16],
    stripe: [u32; 2],
    version: i32,
    flags: u32,
    sectors: [u32; 2],
    folder_block_size: u32,
}

/// `struct xfs_growfs_data` of libxfs.
#[repr(C)]
struct XfsGrow {
    blocks: u64,
    inode_percent: u32,
}

/// Room in a file system, in its own blocks.
pub(crate) struct Room {
    pub(crate) block_size: u64,
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) free_inodes: u64,
}

/// The number of an ioctl, as asm-generic/ioctl.h makes it.
const fn request(direction: u64, group: u8, number: u64, size: usize) -> u64 {
    (direction << 30) | ((size as u64) << 16) | ((group as u64) << 8) | number
}
const WRITE: u64 = 1;
const READ: u64 = 2;
const LOOP_CLR_FD: u64 = 0x4C01;
const LOOP_SET_STATUS64: u64 = 0x4C04;
const LOOP_GET_STATUS64: u64 = 0x4C05;
const LOOP_SET_CAPACITY: u64 = 0x4C07;
const LOOP_CONFIGURE: u64 = 0x4C0A;
const LOOP_CTL_ADD: u64 = 0x4C80;
const LOOP_CTL_GET_FREE: u64 = 0x4C82;
const BLKROSET: u64 = 0x125D;
const BLKROGET: u64 = 0x125E;
const BLKGETSIZE64: u64 = request(READ, 0x12, 114, size_of::<usize>());
const BLKGETDISKSEQ: u64 = request(READ, 0x12, 128, 8);
const FICLONE: u64 = request(WRITE, 0x94, 9, 4);
const EXT4_IOC_RESIZE_FS: u64 = request(WRITE, b'f', 16, 8);
const XFS_IOC_FSGEOMETRY_V1: u64 = request(READ, b'X', 100, size_of::<XfsGeometry>());
const XFS_IOC_FSGROWFSDATA: u64 = request(WRITE, b'X', 110, size_of::<XfsGrow>());

fn checked(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    let fd = checked(answer)? as RawFd;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn openat2(folder: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: `open_how` is plain numbers, for which zero is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = mode.into();
    how.resolve = resolve;
    // A rename or mount elsewhere may make the kernel give up on RESOLVE_BENEATH with EAGAIN: it asks to be asked again.
    let mut tries = 0;
    loop {
        // SAFETY: path and how outlive the call, and the size is that of `how`.
        let opened = owned(unsafe { libc::syscall(libc::SYS_openat2, folder.as_raw_fd(), path.as_ptr(), &raw const how, size_of_val(&how)) });
        match opened {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries < 100 => tries += 1,
            answer => return answer,
        }
    }
}

pub(crate) fn stat(file: BorrowedFd<'_>) -> io::Result<Stat> {
    // SAFETY: `statx` is plain numbers, for which zero is a value.
    let mut seen: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the empty path is a constant, and `seen` is as large as the kernel writes.
    let answer = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW, libc::STATX_BASIC_STATS | libc::STATX_BTIME, &raw mut seen)
    };
    checked(answer.into())?;
    let is_born = seen.stx_mask & libc::STATX_BTIME != 0;
    Ok(Stat {
        mode: seen.stx_mode.into(),
        size: seen.stx_size,
        links: seen.stx_nlink,
        inode: seen.stx_ino,
        device: Number { major: seen.stx_dev_major, minor: seen.stx_dev_minor },
        is_device: Number { major: seen.stx_rdev_major, minor: seen.stx_rdev_minor },
        born_ns: if is_born { (seen.stx_btime.tv_sec as u64).wrapping_mul(1_000_000_000) + u64::from(seen.stx_btime.tv_nsec) } else { 0 },
    })
}

pub(crate) fn make_folder(parent: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: the name outlives the call.
    checked(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), mode) }.into()).map(drop)
}

/// `unlink`, or with `AT_REMOVEDIR` `rmdir`.
pub(crate) fn unlink(parent: BorrowedFd<'_>, name: &CStr, flags: i32) -> io::Result<()> {
    // SAFETY: the name outlives the call.
    checked(unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), flags) }.into()).map(drop)
}

pub(crate) fn unmount(path: &CStr) -> io::Result<()> {
    // SAFETY: the path outlives the call.
    checked(unsafe { libc::umount2(path.as_ptr(), libc::UMOUNT_NOFOLLOW) }.into()).map(drop)
}

/// A copy of the one mount that `file` is on, attached nowhere, with `file` as its root.
pub(crate) fn clone_mount(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    // SAFETY: the empty path is a constant.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, file.as_raw_fd(), c"".as_ptr(), flags) })
}

pub(crate) fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    // SAFETY: the empty paths are constants.
    checked(unsafe { libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), empty, target.as_raw_fd(), empty, flags) }).map(drop)
}

pub(crate) fn set_mount_flags(mount: BorrowedFd<'_>, set: u64, clear: u64) -> io::Result<()> {
    let flags = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: path and flags outlive the call, and the size is that of `flags`.
    let answer = unsafe { libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, &raw const flags, size_of_val(&flags)) };
    checked(answer).map(drop)
}

pub(crate) fn fs_open(kind: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })
}

/// Sets `key` to `value`, or sets the flag `key` where there is no value.
pub(crate) fn fs_set(context: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> io::Result<()> {
    let (command, value) = match value {
        Some(value) => (libc::FSCONFIG_SET_STRING, value.as_ptr()),
        None => (libc::FSCONFIG_SET_FLAG, std::ptr::null()),
    };
    // SAFETY: key and value outlive the call; a flag has no value.
    checked(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key.as_ptr(), value, 0) }).map(drop)
}

pub(crate) fn fs_create(context: BorrowedFd<'_>) -> io::Result<()> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the command takes no pointers.
    checked(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), libc::FSCONFIG_CMD_CREATE, none, none, 0) }).map(drop)
}

pub(crate) fn fs_mount(context: BorrowedFd<'_>, flags: u64) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, flags as u32) })
}

/// The first byte at or after `from` that the file system below knows to be data; `None` where there is none up to the end.
pub(crate) fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    // SAFETY: no pointers.
    match checked(unsafe { libc::lseek64(file.as_raw_fd(), from as i64, libc::SEEK_DATA) }) {
        Ok(offset) => Ok(Some(offset as u64)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first byte at or after `from` that is in no data: a hole, or the end of the file.
pub(crate) fn next_hole(file: &File, from: u64) -> io::Result<u64> {
    // SAFETY: no pointers.
    checked(unsafe { libc::lseek64(file.as_raw_fd(), from as i64, libc::SEEK_HOLE) }).map(|offset| offset as u64)
}

/// Copies at most `length` bytes at `at` of one file to the same place of another, in the kernel; how many.
pub(crate) fn copy_range(from: &File, to: &File, at: u64, length: usize) -> io::Result<u64> {
    let (mut read_at, mut write_at) = (at as i64, at as i64);
    // SAFETY: the offsets outlive the call.
    let copied = unsafe { libc::copy_file_range(from.as_raw_fd(), &raw mut read_at, to.as_raw_fd(), &raw mut write_at, length, 0) };
    checked(copied as libc::c_long).map(|copied| copied as u64)
}

/// Has an empty file share all blocks of another, which may be written meanwhile: what it holds then is what the other held at one moment.
pub(crate) fn share_blocks(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: the argument is a number, and no pointer.
    unsafe { ioctl(to, FICLONE, std::ptr::without_provenance_mut::<u8>(from.as_raw_fd() as usize)) }.map(drop)
}

pub(crate) fn room(file: BorrowedFd<'_>) -> io::Result<Room> {
    // SAFETY: `statfs` is plain numbers, for which zero is a value.
    let mut seen: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `seen` is as large as the kernel writes.
    checked(unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut seen) }.into())?;
    Ok(Room {
        block_size: if seen.f_frsize > 0 { seen.f_frsize as u64 } else { seen.f_bsize as u64 },
        blocks: seen.f_blocks,
        free: seen.f_bfree,
        available: seen.f_bavail,
        inodes: seen.f_files,
        free_inodes: seen.f_ffree,
    })
}

/// # Safety
/// `argument` must be what the kernel expects for `number`: a value, or a pointer to memory that it may use.
unsafe fn ioctl<T>(file: impl AsFd, number: u64, argument: *mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise.
    checked(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), number as _, argument) }.into())
}

const NOTHING: *mut u8 = std::ptr::null_mut();

/// The number of a loop device that nobody uses at this moment.
pub(crate) fn loop_free(control: &File) -> io::Result<u32> {
    // SAFETY: takes no argument.
    unsafe { ioctl(control, LOOP_CTL_GET_FREE, NOTHING) }.map(|number| number as u32)
}

/// Makes a loop device with the next number, and says which.
pub(crate) fn loop_add(control: &File) -> io::Result<u32> {
    // SAFETY: takes a number, which is -1 for "the next", and no pointer.
    unsafe { ioctl(control, LOOP_CTL_ADD, std::ptr::without_provenance_mut::<u8>(usize::MAX)) }.map(|number| number as u32)
}

pub(crate) fn loop_configure(node: &File, backing: &File, block_size: u32, info: LoopInfo) -> io::Result<()> {
    let mut config = LoopConfig { fd: backing.as_raw_fd() as u32, block_size, info, reserved: [0; 8] };
    // SAFETY: `config` has the kernel's layout and outlives the call.
    unsafe { ioctl(node, LOOP_CONFIGURE, &raw mut config) }.map(drop)
}

pub(crate) fn loop_status(node: &File) -> io::Result<LoopInfo> {
    let mut info = LoopInfo::EMPTY;
    // SAFETY: `info` has the kernel's layout.
    unsafe { ioctl(node, LOOP_GET_STATUS64, &raw mut info) }.map(|_| info)
}

pub(crate) fn loop_set_status(node: &File, mut info: LoopInfo) -> io::Result<()> {
    // SAFETY: `info` has the kernel's layout.
    unsafe { ioctl(node, LOOP_SET_STATUS64, &raw mut info) }.map(drop)
}

pub(crate) fn loop_clear(node: &File) -> io::Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl(node, LOOP_CLR_FD, NOTHING) }.map(drop)
}

pub(crate) fn loop_refresh(node: &File) -> io::Result<()> {
    // SAFETY: takes no argument.
    unsafe { ioctl(node, LOOP_SET_CAPACITY, NOTHING) }.map(drop)
}

pub(crate) fn device_size(node: &File) -> io::Result<u64> {
    let mut size = 0u64;
    // SAFETY: the kernel writes one u64.
    unsafe { ioctl(node, BLKGETSIZE64, &raw mut size) }.map(|_| size)
}

pub(crate) fn disk_sequence(node: &File) -> io::Result<u64> {
    let mut sequence = 0u64;
    // SAFETY: the kernel writes one u64.
    unsafe { ioctl(node, BLKGETDISKSEQ, &raw mut sequence) }.map(|_| sequence)
}

pub(crate) fn is_device_read_only(node: &File) -> io::Result<bool> {
    let mut flag: libc::c_int = 0;
    // SAFETY: the kernel writes one int.
    unsafe { ioctl(node, BLKROGET, &raw mut flag) }.map(|_| flag != 0)
}

pub(crate) fn set_device_writable(node: &File) -> io::Result<()> {
    let mut flag: libc::c_int = 0;
    // SAFETY: the kernel reads one int.
    unsafe { ioctl(node, BLKROSET, &raw mut flag) }.map(drop)
}

pub(crate) fn ext4_resize(folder: &File, mut blocks: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one u64.
    unsafe { ioctl(folder, EXT4_IOC_RESIZE_FS, &raw mut blocks) }.map(drop)
}

pub(crate) fn xfs_geometry(folder: &File) -> io::Result<XfsGeometry> {
    let mut geometry = XfsGeometry::default();
    // SAFETY: `geometry` has the kernel's layout, and its size is in the request's number.
    unsafe { ioctl(folder, XFS_IOC_FSGEOMETRY_V1, &raw mut geometry) }.map(|_| geometry)
}

pub(crate) fn xfs_grow(folder: &File, blocks: u64, inode_percent: u32) -> io::Result<()> {
    let mut wish = XfsGrow { blocks, inode_percent };
    // SAFETY: `wish` has the kernel's layout, and its size is in the request's number.
    unsafe { ioctl(folder, XFS_IOC_FSGROWFSDATA, &raw mut wish) }.map(drop)
}

/// Lets the command hold on to `kept` (a lock) for as long as it lives, also when the process that started it has died.
///
/// It is not made to die with us: an mkfs that is killed half-way leaves what nobody can tell from data, one that comes to its end
/// leaves a whole file system. Whoever wants the volume meanwhile waits for the lock.
pub(crate) fn keep_open_in(command: &mut Command, kept: BorrowedFd<'_>) {
    let kept = kept.as_raw_fd();
    let prepare = move || {
        // SAFETY: plain numbers; clears FD_CLOEXEC, the only flag of a descriptor.
        checked(unsafe { libc::fcntl(kept, libc::F_SETFD, 0) }.into()).map(drop)
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
    unsafe { command.pre_exec(prepare) };
}

/// Has the command move itself through `entrance`, a `cgroup.procs` open for writing, before it becomes the program. Where the kernel
/// refuses, the program runs all the same.
pub(crate) fn move_into(command: &mut Command, entrance: BorrowedFd<'_>) {
    let entrance = entrance.as_raw_fd();
    let prepare = move || {
        // SAFETY: the text is one byte long and lives for ever.
        unsafe { libc::write(entrance, c"0".as_ptr().cast(), 1) };
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
    unsafe { command.pre_exec(prepare) };
}

pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Waits until one of the descriptors can be read or was hung up on; which, in order. None after `patience`.
pub(crate) fn wait_readable<const N: usize>(files: [BorrowedFd<'_>; N], patience: Duration) -> io::Result<[bool; N]> {
    let mut waits = files.map(|file| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let millis = libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the array and its length belong together.
    match checked(unsafe { libc::poll(waits.as_mut_ptr(), N as libc::nfds_t, millis) }.into()) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(waits.map(|wait| wait.revents != 0)),
    }
}

/// SIGKILL to every process of the group.
pub(crate) fn kill_group(leader: u32) -> io::Result<()> {
    // SAFETY: plain numbers.
    checked(unsafe { libc::kill(-(leader as libc::pid_t), libc::SIGKILL) }.into()).map(drop)
}

/// A key that the kernel knows as long as this lives, for this process alone.
pub(crate) struct KernelKey {
    serial: libc::c_long,
}

impl KernelKey {
    /// Gives a key of this type to the kernel, under a description by which an interface of the kernel finds it (`add_key(2)`).
    pub(crate) fn add(kind: &CStr, description: &CStr, value: &[u8]) -> io::Result<Self> {
        let ring = libc::KEY_SPEC_PROCESS_KEYRING;
        // SAFETY: strings and value outlive the call, and the length is that of the value.
        let serial = unsafe { libc::syscall(libc::SYS_add_key, kind.as_ptr(), description.as_ptr(), value.as_ptr(), value.len(), ring) };
        checked(serial).map(|serial| Self { serial })
    }
}

impl Drop for KernelKey {
    fn drop(&mut self) {
        // SAFETY: plain numbers. It can fail only where the key is gone already; with the process it goes in any case.
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_UNLINK, self.serial, libc::KEY_SPEC_PROCESS_KEYRING) };
    }
}

/// The version of landlock's interface, if the kernel has it.
pub(crate) fn landlock_version() -> io::Result<u32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag no rules are read.
    checked(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, NOTHING, 0usize, VERSION) }).map(|version| version as u32)
}

/// Ends the process now, without what libraries have registered for its end: Ceph's would be taken apart under threads that still use them,
/// and one that waits there for ever would keep a dead daemon's watches and locks alive.
pub fn end_process(code: u8) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code.into()) }
}

/// Takes over the socket that the process was started with as this descriptor, and keeps programs from inheriting it.
///
/// To be called once, before anything else is opened: from then on the number belongs to the socket that is returned.
pub fn inherited_socket(number: i32) -> io::Result<std::os::unix::net::UnixStream> {
    // SAFETY: plain numbers; fails where there is no such descriptor.
    checked(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, and the process that started us gave it to us alone.
    let socket = std::os::unix::net::UnixStream::from(unsafe { OwnedFd::from_raw_fd(number) });
    // Whatever else could be inherited under this number is no socket, and is refused here.
    socket.peer_addr().map(|_| socket)
}

/// From the kernel's `fcntl.h`: by which signal an owner of a file is told.
const F_SETSIG: libc::c_int = 10;

/// Has anybody else the file open, a loop device included? Asks for a write lease, which is given to the only opener alone; while this
/// descriptor lives, somebody who opens the file waits until it is closed. `file` must be open for writing by its owner.
pub fn is_open_elsewhere(file: &File) -> io::Result<bool> {
    // Whoever waits for the lease has us told by a signal. The one that is usual for it would kill the process; this one is ignored.
    // SAFETY: plain numbers.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) }.into())?;
    // SAFETY: plain numbers.
    match checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) }.into()) {
        Ok(_) => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Is the lease that [`is_open_elsewhere`] took still whole? It is not once somebody has tried to open the file.
pub fn is_still_alone(file: &File) -> io::Result<bool> {
    // SAFETY: plain numbers.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) }.into()).map(|held| held == libc::c_long::from(libc::F_WRLCK))
}
