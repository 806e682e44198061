//! A volume that holds something else is never formatted: the call is refused, and not a byte is changed.

use super::row;
use harness::{Daemon, Volume, mount_as};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn mkfs(program: &str, arguments: &[&str], file: &Path) {
    let output = Command::new(program).args(arguments).arg(file).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Writes something into a fresh volume's file before it is staged for the first time.
fn check(name: &str, filesystem: &str, says: &str, write: impl FnOnce(&Path)) {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, name, mount_as(filesystem, Mode::SingleNodeWriter, &[]), 320).unwrap();
    let file = daemon.path("volumes").join(volume.id());
    write(&file);
    let before = std::fs::read(&file).unwrap();
    for _ in 0..2 {
        row("NodeStageVolume/FAILED_PRECONDITION").refuses(volume.stage(&daemon), says);
    }
    row("NodeStageVolume/contents").holds(std::fs::read(&file).unwrap() == before, "not a byte is changed");
    daemon.assert_nothing_left();
}

fn bytes(at: u64, bytes: &'static [u8]) -> impl FnOnce(&Path) {
    move |file| std::fs::File::options().write(true).open(file).unwrap().write_all_at(bytes, at).unwrap()
}

#[test]
fn loop_an_ext4_file_system_is_not_formatted_to_xfs() {
    check("holds-ext4", "xfs", "ext4", |file| mkfs("mkfs.ext4", &["-q", "-F"], file));
}

#[test]
fn loop_an_xfs_file_system_is_not_formatted_to_ext4() {
    check("holds-xfs", "ext4", "xfs", |file| mkfs("mkfs.xfs", &["-q", "-f"], file));
}

#[test]
fn loop_an_ext2_file_system_is_not_taken_for_ext4() {
    check("holds-ext2", "ext4", "ext2", |file| mkfs("mkfs.ext2", &["-q", "-F"], file));
}

#[test]
fn loop_a_luks_container_is_not_formatted() {
    check("holds-luks", "ext4", "LUKS", bytes(0, b"LUKS\xba\xbe\x00\x02"));
}

#[test]
fn loop_a_single_byte_in_the_middle_is_not_formatted_over() {
    check("holds-byte", "ext4", "", bytes(100 << 20, b"\x01"));
}

#[test]
fn loop_garbage_at_the_start_and_at_the_end_is_not_formatted_over() {
    check("holds-start", "xfs", "", bytes(0, b"something that nobody knows"));
    check("holds-end", "ext4", "", bytes((320 << 20) - 1, b"!"));
}

#[test]
fn loop_a_file_system_of_the_right_kind_is_used_as_it_is() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "right", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64).unwrap();
    let folder = daemon.path("state/content");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("kept"), b"kept").unwrap();
    mkfs("mkfs.ext4", &["-q", "-F", "-d", &folder.display().to_string()], &daemon.path("volumes").join(volume.id()));
    row("NodeStageVolume/contents").answers(volume.stage(&daemon));
    assert_eq!(std::fs::read(format!("{}/kept", volume.staging)).unwrap(), b"kept");
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_blank_volume_that_was_formatted_before_is_not_formatted_again() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "wiped", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
    volume.stage(&daemon).unwrap();
    volume.unstage(&daemon).unwrap();
    let file = std::fs::File::options().write(true).open(daemon.path("volumes").join(volume.id())).unwrap();
    file.set_len(0).unwrap();
    file.set_len(16 << 20).unwrap();
    drop(file);
    row("NodeStageVolume/FAILED_PRECONDITION").refuses(volume.stage(&daemon), "allow-format");
    daemon.assert_nothing_left();
}

/// A file system as a crash leaves it: copied while it was in use. Whoever may only read must not replay its journal.
fn check_dirty(name: &str, filesystem: &str, mib: i64) {
    let daemon = Daemon::start();
    let mut volume = Volume::create(&daemon, name, mount_as(filesystem, Mode::SingleNodeWriter, &[]), mib).unwrap();
    let file = daemon.path("volumes").join(volume.id());
    volume.stage(&daemon).unwrap();
    for n in 0..20 {
        let mut data = std::fs::File::create(format!("{}/{n}", volume.staging)).unwrap();
        data.write_all(b"data").and_then(|()| data.sync_all()).unwrap();
    }
    let crashed = std::fs::read(&file).unwrap();
    volume.unstage(&daemon).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().write_all_at(&crashed, 0).unwrap();

    volume.capability = mount_as(filesystem, Mode::SingleNodeReaderOnly, &[]);
    row("NodeStageVolume/FAILED_PRECONDITION").refuses(volume.stage(&daemon), "read-only");
    row("NodeStageVolume/read-only").holds(std::fs::read(&file).unwrap() == crashed, "not a byte is changed");
    volume.capability = mount_as(filesystem, Mode::SingleNodeWriter, &[]);
    volume.stage(&daemon).unwrap();
    assert_eq!(std::fs::read(format!("{}/19", volume.staging)).unwrap(), b"data", "replayed where writing is allowed");
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_dirty_ext4_volume_is_not_replayed_for_readers() {
    check_dirty("dirty-ext4", "ext4", 32);
}

#[test]
fn loop_a_dirty_xfs_volume_is_not_replayed_for_readers() {
    check_dirty("dirty-xfs", "xfs", 300);
}
