//! A control group for each program that we run, beneath our own: whatever the program has started is found there and killed with it,
//! whichever process group or session it has moved to (law 14).
//!
//! Only the second version of cgroups is used, and no controller of it: a group with controllers may have no processes of its own beside
//! its children, and ours has us. Where there is none to write to, programs run without, and the process group alone is killed.
//!
//! Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (`cgroup.procs`, `cgroup.events`, `cgroup.kill` since 5.14).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What the names of our groups begin with; the pid of the worker and a number follow.
const PREFIX: &str = "windlass-program-";

/// How long killed processes may take to leave. Those that wait for a device do not.
const LEAVING: Duration = Duration::from_secs(3);

/// The group that this process is in, where groups can be made beneath it.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    own: Option<PathBuf>,
}

impl Cgroups {
    /// Looks where this process is, and takes away groups that nobody is left in: their worker died before their program.
    pub(crate) fn find() -> Self {
        let read = |path| fs::read(path).unwrap_or_default();
        let own = own(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        if let Some(own) = &own {
            take_away_empty(own);
        }
        Self { own }
    }

    /// A group for one program. None where there can be none; the program is worth more than its group.
    pub(crate) fn make(&self) -> Option<Cgroup> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = self.own.as_ref()?.join(name);
        let made = fs::create_dir(&path).and_then(|()| OpenOptions::new().write(true).open(path.join("cgroup.procs")));
        match made {
            Ok(entrance) => Some(Cgroup { path, entrance }),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "no cgroup for a program");
                let _not_made = fs::remove_dir(&path);
                None
            }
        }
    }

    /// Whether a group can be made: makes one and takes it away.
    pub(crate) fn can_be_made(&self) -> bool {
        self.make().is_some()
    }
}

/// A program's own group. Dropped: everything in it is killed, and it is taken away.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    entrance: File,
}

impl Cgroup {
    /// Its `cgroup.procs`: who writes `0` to it is in.
    pub(crate) fn entrance(&self) -> &File {
        &self.entrance
    }

    /// SIGKILL to all that are in it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + LEAVING;
        // The last process is gone from a group a moment after its end was seen.
        let mut pause = Duration::from_micros(100);
        while let Err(error) = fs::remove_dir(&self.path) {
            if error.raw_os_error() != Some(libc::EBUSY) || Instant::now() > end {
                tracing::warn!(path = %self.path.display(), %error, "a program's cgroup stays for now");
                return;
            }
            let _killed = self.kill();
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Groups of ours that are empty; the kernel refuses to remove the others.
fn take_away_empty(own: &Path) {
    let entries = fs::read_dir(own).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())) {
        // One of a living worker may just have been made and still be empty; it belongs to that worker as long as it lives.
        if !maker_lives(&entry.file_name()) {
            let _populated = fs::remove_dir(entry.path());
        }
    }
}

fn maker_lives(name: &OsStr) -> bool {
    let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split('-').next());
    pid.is_some_and(|pid| Path::new("/proc").join(pid).exists())
}

/// Where the group of this process is, by the texts of /proc/self/cgroup and /proc/self/mountinfo.
fn own(cgroup: &[u8], mountinfo: &[u8]) -> Option<PathBuf> {
    let path = cgroup.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    let path = Path::new(OsStr::from_bytes(path));
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let line = str::from_utf8(line).ok()?;
        let (mount, file_system) = line.split_once(" - ")?;
        if !file_system.starts_with("cgroup2 ") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        // A mount that shows another part of the hierarchy does not show us.
        let beneath = path.strip_prefix(root).ok()?;
        let is_plain = beneath.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        is_plain.then(|| Path::new(place).join(beneath))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[track_caller]
    fn assert_own(cgroup: &str, mountinfo: &str, expected: Option<&str>) {
        let found = own(cgroup.as_bytes(), mountinfo.as_bytes());
        // As text: paths that differ in a slash at the end are equal.
        assert_eq!(found.as_ref().map(|path| path.to_str().unwrap().trim_end_matches('/')), expected);
    }

    #[test]
    fn our_group_is_found_whatever_part_of_the_hierarchy_is_mounted() {
        assert_own("4:memory:/x\n0::/system.slice/windlass.service\n", UNIFIED, Some("/sys/fs/cgroup/unified/system.slice/windlass.service"));
        assert_own("0::/\n", UNIFIED, Some("/sys/fs/cgroup/unified"));
        // A container that has the host's namespace of cgroups, and its own part of them.
        let part = "41 31 0:38 /kubepods/pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_own("0::/kubepods/pod1/daemon\n", part, Some("/sys/fs/cgroup/daemon"));
        assert_own("0::/kubepods/pod2\n", part, None);
        assert_own("0::/../pod2\n", UNIFIED, None);
        assert_own("4:memory:/x\n", UNIFIED, None);
        assert_own("0::/\n", "", None);
    }
}
