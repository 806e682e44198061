//! A native intruder: puts up the walls of a plugin process, or of the effects process, and tries one system call.
//!
//! Unsafe code beside `sys.rs`, because no safe interface offers what must not work; it is built for tests alone.

#![allow(unsafe_code)]

use libc::{c_long, syscall};
use std::io::Write;
use std::process::ExitCode;
use windlass_plan::paths::HostPath;

/// Says on standard output how the call went: `ok`, or the error's number. `effects:FOLDER:NAME` tries it as the effects process.
pub(crate) fn run(uid: Option<u32>, attempt: &str) -> ExitCode {
    let mut words = attempt.rsplitn(2, ':');
    let name = words.next().unwrap_or_default();
    let walls = match words.next().and_then(|role| role.strip_prefix("effects:")) {
        Some(folder) => windlass_sandbox::walls::confine_to_folder(&HostPath::parse(folder).expect("a folder")),
        None => windlass_sandbox::walls::confine_probe(uid),
    };
    if let Err(error) = walls {
        eprintln!("{error}: {:?}", std::error::Error::source(&error));
        return ExitCode::from(3);
    }
    let folder = attempt.split(':').nth(1).unwrap_or("/");
    let said = match attempt_call(name, folder) {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(0).to_string(),
        _ => "ok".to_owned(),
    };
    let _ = std::io::stdout().write_all(said.as_bytes());
    ExitCode::SUCCESS
}

fn attempt_call(name: &str, folder: &str) -> c_long {
    let path = c"/etc/passwd".as_ptr();
    let root = c"/".as_ptr();
    let empty = [std::ptr::null::<libc::c_char>()];
    let at = libc::AT_FDCWD;
    let mut words = [0_u64; 32];
    let space = words.as_mut_ptr();
    let inside = std::ffi::CString::new(format!("{folder}/made")).expect("a path");
    let parent = unsafe { libc::getppid() };
    // SAFETY: every pointer is valid for what its call may read or write, and no call that succeeds outlives the process.
    unsafe {
        match name {
            "openat" => syscall(libc::SYS_openat, at, path, libc::O_RDONLY),
            "openat-proc" => syscall(libc::SYS_openat, at, c"/proc/self/mem".as_ptr(), libc::O_RDWR),
            "openat-create" => syscall(libc::SYS_openat, at, inside.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600),
            "openat2" => syscall(libc::SYS_openat2, at, path, space, 24),
            "execve" => syscall(libc::SYS_execve, c"/bin/true".as_ptr(), empty.as_ptr(), empty.as_ptr()),
            "clone" => syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0),
            "clone-newuser" => syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0),
            "clone3" => syscall(libc::SYS_clone3, space, 64),
            "socket" => syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0),
            "socketpair" => syscall(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, space),
            "connect" => syscall(libc::SYS_connect, 3, space, 16),
            "sendmsg" => syscall(libc::SYS_sendmsg, 1, space, 0),
            "ptrace" => syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0),
            "process_vm_readv" => syscall(libc::SYS_process_vm_readv, parent, space, 1, space, 1, 0),
            "kill" => syscall(libc::SYS_kill, parent, 0),
            "tgkill" => syscall(libc::SYS_tgkill, parent, parent, 0),
            "pidfd_open" => syscall(libc::SYS_pidfd_open, parent, 0),
            "mount" => syscall(libc::SYS_mount, c"none".as_ptr(), c"/mnt".as_ptr(), c"tmpfs".as_ptr(), 0, 0),
            "umount2" => syscall(libc::SYS_umount2, c"/proc".as_ptr(), libc::MNT_DETACH),
            "open_tree" => syscall(libc::SYS_open_tree, at, root, 1),
            "fsopen" => syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0),
            "chroot" => syscall(libc::SYS_chroot, root),
            "unshare" => syscall(libc::SYS_unshare, libc::CLONE_NEWUSER),
            "setns" => syscall(libc::SYS_setns, 3, 0),
            "bpf" => syscall(libc::SYS_bpf, 0, space, 72),
            "perf_event_open" => syscall(libc::SYS_perf_event_open, space, 0, -1, -1, 0),
            "userfaultfd" => syscall(libc::SYS_userfaultfd, 1),
            "keyctl" => syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0),
            "add_key" => syscall(libc::SYS_add_key, c"user".as_ptr(), c"x".as_ptr(), c"y".as_ptr(), 1, -3),
            "io_uring_setup" => syscall(libc::SYS_io_uring_setup, 1, space),
            "init_module" => syscall(libc::SYS_init_module, space, 8, c"".as_ptr()),
            "finit_module" => syscall(libc::SYS_finit_module, 0, c"".as_ptr(), 0),
            "setuid" => syscall(libc::SYS_setuid, 0),
            "capset" => syscall(libc::SYS_capset, space, space),
            "reboot" => syscall(libc::SYS_reboot, 0, 0, 0, 0),
            "open_by_handle_at" => syscall(libc::SYS_open_by_handle_at, at, space, 0),
            "mknodat" => syscall(libc::SYS_mknodat, at, inside.as_ptr(), libc::S_IFBLK | 0o600, 0x700),
            "unlinkat" => syscall(libc::SYS_unlinkat, at, path, 0),
            "ioctl" => syscall(libc::SYS_ioctl, 1, libc::TIOCSTI, space),
            "memfd_create" => syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0),
            "prctl" => syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0),
            "prlimit" => syscall(libc::SYS_prlimit64, parent, libc::RLIMIT_NOFILE, 0, space),
            "seccomp" => syscall(libc::SYS_seccomp, 0, 0, 0),
            "pipe2" => syscall(libc::SYS_pipe2, space, 0),
            "shmget" => syscall(libc::SYS_shmget, 0, 4096, 0o1600),
            "getdents64" => syscall(libc::SYS_getdents64, 1, space, 256),
            "mmap-exec" => syscall(libc::SYS_mmap, 0, 4096, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
            "mprotect-exec" => {
                let page = syscall(libc::SYS_mmap, 0, 4096, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
                syscall(libc::SYS_mprotect, page, 4096, libc::PROT_READ | libc::PROT_EXEC)
            }
            "mmap" => syscall(libc::SYS_mmap, 0, 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
            other => panic!("no attempt {other}"),
        }
    }
}
