//! What is left on the kernel beneath a test's folder, and how a failed test's leavings are taken away.

use nix::mount::{MntFlags, umount2};
use std::path::Path;
use std::process::Command;

/// What every path beneath the folder begins with, also where the folder is spelled with a slash at its end.
fn beneath(folder: &Path) -> String {
    format!("{}/", folder.display().to_string().trim_end_matches('/'))
}

/// Mount points beneath the folder, newest last.
pub fn mounts_beneath(folder: &Path) -> Vec<String> {
    let prefix = beneath(folder);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(&prefix)).map(str::to_owned).collect()
}

/// Loop devices whose file is beneath the folder, by the kernel's names. Read from sysfs: a hung device does not hang this.
pub fn devices_beneath(folder: &Path) -> Vec<String> {
    let prefix = beneath(folder);
    let mut devices: Vec<String> = (std::fs::read_dir("/sys/block").into_iter().flatten().flatten())
        .filter(|entry| std::fs::read_to_string(entry.path().join("loop/backing_file")).is_ok_and(|file| file.starts_with(&prefix)))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    devices.sort();
    devices
}

/// Takes away what a test left mounted and attached beneath its folder.
pub fn clean(folder: &Path) {
    // Twice: below a device there may be a file system that a test mounted.
    for _ in 0..2 {
        for point in mounts_beneath(folder).iter().rev() {
            let _ = umount2(point.as_str(), MntFlags::UMOUNT_NOFOLLOW);
        }
        for device in devices_beneath(folder) {
            let _ = Command::new("losetup").args(["-d", &format!("/dev/{device}")]).status();
        }
    }
    // The folder itself goes with its TempDir. Should a mount be left after all, deleting through it must fail, not succeed.
    assert!(mounts_beneath(folder).is_empty() || std::thread::panicking(), "mounts are left beneath {}", folder.display());
    if !mounts_beneath(folder).is_empty() {
        eprintln!("mounts are left beneath {}; it is not deleted", folder.display());
        std::process::abort();
    }
}
