//! Processes as /proc shows them, and the one way of stopping a daemon's plugins for a while.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The processes that any thread of this one started and has not reaped.
pub fn children(of: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// A process's arguments, the name first.
pub fn arguments(pid: i32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The children of a daemon that have this role.
pub fn roles(daemon: i32, role: &str) -> Vec<i32> {
    children(daemon).into_iter().filter(|pid| arguments(*pid).get(1).is_some_and(|found| found == role)).collect()
}

/// A field of `/proc/PID/status`, such as `CapEff`.
pub fn status_field(pid: i32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":"));
    line.unwrap_or_default().trim().to_owned()
}

/// Is it there, and no zombie?
pub fn is_alive(pid: i32) -> bool {
    status_field(pid, "State").chars().next().is_some_and(|state| state != 'Z' && state != 'X')
}

/// CAP_SYS_RESOURCE of the tests, and so of the daemon that they start: without it no mounted ext4 can be grown.
pub fn may_resize_ext4() -> bool {
    u64::from_str_radix(&status_field(std::process::id() as i32, "CapEff"), 16).expect("a number") & (1 << 24) != 0
}

/// The processes of a daemon's plugins, stopped: they have what they are asked, and answer nothing until this is dropped.
pub struct Stopped(Vec<i32>);

impl Stopped {
    /// All that there are; none would show nothing.
    #[track_caller]
    pub fn plugins(daemon: i32) -> Self {
        let stopped = Self(roles(daemon, "plugin-host"));
        assert!(!stopped.0.is_empty(), "no plugin has a process");
        stopped.signal(Signal::SIGSTOP);
        stopped
    }

    fn signal(&self, signal: Signal) {
        for pid in &self.0 {
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}
