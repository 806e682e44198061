//! A worker killed at each call to the kernel by which it changes something: UNAVAILABLE, and the next call, or its opposite,
//! converges.

use super::{Content, Next, Publish, Stage, Unpublish, Unstage, Verb, converge, file_system, prepare, raw, take_down};
use harness::{Daemon, eventually};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use tonic::Code;
use windlass_csi::v1::VolumeCapability;

/// What a worker changes the world with, or asks a device with.
const CALLS: [&str; 12] = ["ioctl", "openat2", "mkdirat", "move_mount", "mount_setattr", "umount2", "unlinkat", "flock", "clone3", "wait4", "waitid", "poll"];

/// Waits for the N-th of one call in a worker, and kills it there.
struct Ambush(Child);

impl Ambush {
    fn lay(daemon: &Daemon, call: &str, nth: u32) -> Self {
        // An earlier call's worker may be on its way back.
        let workers = eventually("a worker that waits", || {
            let status = daemon.status();
            let pids: Vec<String> = status["workers_idle"].as_array()?.iter().map(ToString::to_string).collect();
            (!pids.is_empty()).then_some(pids)
        });
        let mut command = Command::new("strace");
        command.args(["-qq", "-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=SIGKILL:when={nth}"), "-o", "/dev/null"]);
        for pid in &workers {
            command.args(["-p", pid]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child = child.expect("strace is missing; apt-get install strace");
        eventually("strace at every worker", || {
            let tracer = child.id().to_string();
            workers.iter().all(|pid| tracer_of(pid).is_none_or(|found| found == tracer)).then_some(())
        });
        Self(child)
    }
}

impl Drop for Ambush {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
        if std::thread::panicking()
            && let Some(errors) = self.0.stderr.take()
        {
            BufReader::new(errors).lines().map_while(Result::ok).for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Who traces it; `None`: it is gone.
fn tracer_of(pid: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("TracerPid:\t").map(str::to_owned))
}

fn sweep(verb: Verb, capability: &VolumeCapability, needed: &[&str]) {
    let content = if verb == Stage { Content::Nothing } else { Content::Data };
    let daemon = Daemon::start();
    let mut deaths = Vec::new();
    for call in CALLS {
        let mut nth = 0;
        loop {
            nth += 1;
            let next = if nth % 2 == 0 { Next::Opposite } else { Next::Same };
            let what = format!("{verb:?}, worker killed at {call} {nth}, then {next:?}");
            let volume = prepare(&daemon, &format!("{call}-{nth}").replace('_', "-"), capability, verb, content);
            let ambush = Ambush::lay(&daemon, call, nth);
            let answer = verb.call(&daemon, &volume);
            drop(ambush);
            if let Err(status) = &answer {
                assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
            }
            let last = if next == Next::Same { verb } else { verb.opposite() };
            converge(&what, &daemon, || last.call(&daemon, &volume));
            take_down(&daemon, &volume, last, content, &what);
            if answer.is_ok() {
                break;
            }
            deaths.push(call);
        }
    }
    println!("{verb:?}: workers killed at {} calls", deaths.len());
    for call in needed {
        assert!(deaths.contains(call), "{verb:?}: no worker was killed at {call}, only at {deaths:?}");
    }
}

#[test]
fn loop_a_worker_killed_while_it_stages_loses_nothing() {
    sweep(Stage, &file_system(), &["ioctl", "openat2", "move_mount"]);
    sweep(Stage, &raw(), &["ioctl", "openat2", "move_mount"]);
}

#[test]
fn loop_a_worker_killed_while_it_publishes_loses_nothing() {
    sweep(Publish, &file_system(), &["mkdirat", "move_mount"]);
    sweep(Publish, &raw(), &["openat2", "move_mount"]);
}

#[test]
fn loop_a_worker_killed_while_it_unpublishes_loses_nothing() {
    sweep(Unpublish, &file_system(), &["umount2", "unlinkat"]);
    sweep(Unpublish, &raw(), &["umount2", "unlinkat"]);
}

#[test]
fn loop_a_worker_killed_while_it_unstages_loses_nothing() {
    sweep(Unstage, &file_system(), &["umount2", "ioctl"]);
    sweep(Unstage, &raw(), &["umount2", "unlinkat", "ioctl"]);
}
