//! What this process may do and what this kernel has: for `windlass check`, and to say in time what will not work.

use crate::sys;

/// Capabilities and kernel features that decide what works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// CAP_SYS_ADMIN: without it nothing is attached or mounted.
    pub sys_admin: bool,
    /// CAP_SYS_RESOURCE: without it a mounted ext4 file system cannot be grown.
    pub sys_resource: bool,
    /// CAP_DAC_OVERRIDE: files and folders of any owner.
    pub dac_override: bool,
    /// CAP_KILL: programs that are out of time.
    pub kill: bool,
    /// The version of landlock's interface; `None` where the kernel has none or it is off.
    pub landlock: Option<u32>,
    /// Loop devices can be made: `/dev/loop-control` is there.
    pub has_loop: bool,
    /// The kernel counts the contents of device names (since Linux 5.15).
    pub has_diskseq: bool,
    /// File systems that we mount and the kernel knows now; one that is a module may come when it is asked for.
    pub filesystems: Vec<&'static str>,
}

/// Looks at the process and the kernel as they are now.
pub fn privileges() -> Privileges {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = effective(&status);
    let has = |capability: u32| capabilities & (1 << capability) != 0;
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_known = |name: &&str| known.lines().any(|line| line.split_whitespace().last() == Some(name));
    Privileges {
        sys_admin: has(21),
        sys_resource: has(24),
        dac_override: has(1),
        kill: has(5),
        landlock: sys::landlock_version().ok(),
        has_loop: std::fs::metadata("/dev/loop-control").is_ok(),
        has_diskseq: crate::loops::all_names().is_ok_and(|names| names.iter().any(|name| std::fs::metadata(format!("/sys/block/{name}/diskseq")).is_ok())),
        filesystems: windlass_plan::capability::FilesystemKind::ALL.iter().map(|kind| kind.name()).filter(is_known).collect(),
    }
}

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000001200000\n"), 1 << 21 | 1 << 24);
        assert_eq!(effective("Name:\tx\n"), 0);
    }
}
