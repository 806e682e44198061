//! Do the walls stand? Looked at from outside in /proc, and from inside by a native intruder.

use crate::stage::{Plugin, code, uid};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use windlass_plan::plugin::{PluginAnswer, PluginCall};
use windlass_wire::plugin::Limits;

const LOCAL: &str = "plugins/local";

#[test]
fn plugin_process_in_proc_is_nobody_with_nothing() {
    let mut plugin = Plugin::of(LOCAL);
    assert_eq!(plugin.call(PluginCall::Probe), Ok(PluginAnswer::Ready(true)));
    let pid = plugin.child.id();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(plugin.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(plugin.status("NoNewPrivs"), "1");
    assert_eq!(plugin.status("Seccomp"), "2");
    assert!(plugin.missing_walls.is_empty(), "{:?}", plugin.missing_walls);
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "every thread: {status}");
    }
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    assert_eq!(plugin.status("CapBnd"), "0000000000000000");
    assert_eq!(plugin.status("Groups"), "");
    for ids in [plugin.status("Uid"), plugin.status("Gid")] {
        let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert!(ids.iter().all(|id| *id >= 64_000 && *id == ids[0]), "{ids:?}");
    }
    let network = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    assert_eq!(network.lines().skip(2).map(|line| line.trim().split(':').next().unwrap()).collect::<Vec<_>>(), ["lo"], "{network}");
    for space in ["net", "ipc", "uts"] {
        let of = |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/{space}")).unwrap().ino();
        assert_ne!(of(&pid.to_string()), of("self"), "{space}");
    }
    let files: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|file| std::fs::read_link(file.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(files.iter().all(|file| !file.contains(".code") && !file.contains(".wasm")), "the code is mapped and closed: {files:?}");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for limit in ["Max core file size", "Max file size", "Max processes", "Max locked memory"] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        assert_eq!(line[limit.len()..].split_whitespace().next(), Some("0"), "{line}");
    }
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(maps.lines().all(|line| !line.contains("wx")), "nothing is writable and executable: {maps}");
    // Only root can look at it: it is not dumpable.
    assert_eq!(std::fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0);
}

#[test]
fn plugin_process_without_root_has_the_same_walls_or_names_those_that_are_missing() {
    let role = if nix::unistd::geteuid().is_root() { "plugin-host-of-nobody" } else { "plugin-host" };
    let mut plugin = Plugin::start_as(role, None, &code(LOCAL).0, Limits::default(), &[]).unwrap();
    assert_eq!(plugin.call(PluginCall::Probe), Ok(PluginAnswer::Ready(true)));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(plugin.status(set), "0000000000000000", "{set}");
    }
    assert_eq!((plugin.status("NoNewPrivs"), plugin.status("Seccomp")), ("1".to_owned(), "2".to_owned()));
    let of = |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/net")).map(|space| space.ino());
    let is_apart = of(&plugin.child.id().to_string()).ok() != of("self").ok();
    assert_ne!(is_apart, plugin.missing_walls.iter().any(|wall| wall.contains("namespaces")), "{:?}", plugin.missing_walls);
}

/// How one attempt of the intruder went: `killed`, `ok`, or an error's number.
fn attempt(what: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sandbox-roles"))
        .args(["probe", &uid().map_or("-".to_owned(), |uid| uid.to_string()), what])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    match output.status.signal() {
        Some(libc::SIGSYS) => "killed".to_owned(),
        _ if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        _ => panic!("{what}: {output:?}"),
    }
}

const DEADLY: [&str; 27] = [
    "execve",
    "socket",
    "socketpair",
    "connect",
    "ptrace",
    "process_vm_readv",
    "kill",
    "pidfd_open",
    "mount",
    "umount2",
    "open_tree",
    "fsopen",
    "chroot",
    "unshare",
    "setns",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "add_key",
    "io_uring_setup",
    "init_module",
    "finit_module",
    "setuid",
    "capset",
    "reboot",
    "open_by_handle_at",
];

const DENIED: [&str; 20] = [
    "openat",
    "openat-proc",
    "openat2",
    "clone",
    "clone-newuser",
    "clone3",
    "sendmsg",
    "tgkill",
    "mknodat",
    "unlinkat",
    "ioctl",
    "memfd_create",
    "prctl",
    "prlimit",
    "seccomp",
    "pipe2",
    "shmget",
    "getdents64",
    "mmap-exec",
    "mprotect-exec",
];

#[test]
fn plugin_walls_hold_against_a_native_intruder() {
    assert_eq!(attempt("mmap"), "ok", "the intruder itself works");
    for call in DEADLY {
        assert_eq!(attempt(call), "killed", "{call}");
    }
    for call in DENIED {
        assert_eq!(attempt(call), libc::EPERM.to_string(), "{call}");
    }
}

#[test]
fn plugin_effects_process_has_its_folders_and_no_privilege() {
    let folder = tempfile::tempdir().unwrap();
    let as_effects = |call: &str| attempt(&format!("effects:{}:{call}", folder.path().display()));
    assert_eq!(as_effects("openat-create"), "ok");
    assert_eq!(as_effects("openat"), libc::EACCES.to_string(), "what was not granted");
    for call in [
        "mount",
        "ptrace",
        "bpf",
        "keyctl",
        "io_uring_setup",
        "init_module",
        "unshare",
        "setns",
        "execve",
        "clone-newuser",
        "chroot",
        "mknodat",
        "perf_event_open",
        "open_by_handle_at",
    ] {
        assert_eq!(as_effects(call), libc::EPERM.to_string(), "{call}");
    }
}
