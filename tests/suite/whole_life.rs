//! A volume's whole life, as a file system and as a raw device.

use harness::{Daemon, Volume, block, mount_as};
use std::os::unix::fs::FileTypeExt;
use windlass_csi::v1::VolumeCapability;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn check(name: &str, capability: VolumeCapability, mib: i64) {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, name, capability, mib).unwrap();
    for _ in 0..2 {
        volume.stage(&daemon).unwrap();
    }
    for _ in 0..2 {
        volume.publish(&daemon, 0).unwrap();
    }
    let target = std::path::PathBuf::from(volume.target(0));
    if std::fs::metadata(&target).unwrap().file_type().is_block_device() {
        std::fs::write(&target, b"raw bytes").unwrap();
    } else {
        std::fs::write(target.join("file"), b"bytes").unwrap();
    }
    assert_eq!(volume.delete(&daemon).unwrap_err().code(), tonic::Code::FailedPrecondition);
    assert_eq!(volume.unstage(&daemon).unwrap_err().code(), tonic::Code::FailedPrecondition, "still published");
    for _ in 0..2 {
        volume.unpublish(&daemon, 0).unwrap();
    }
    assert!(!target.exists());
    for _ in 0..2 {
        volume.unstage(&daemon).unwrap();
    }
    for _ in 0..2 {
        volume.delete(&daemon).unwrap();
    }
    daemon.assert_nothing_left();
    assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 0);
}

#[test]
fn loop_an_ext4_volume_lives_and_leaves_nothing() {
    check("ext4", mount_as("ext4", Mode::SingleNodeWriter, &["noatime"]), 64);
}

#[test]
fn loop_an_xfs_volume_lives_and_leaves_nothing() {
    check("xfs", mount_as("xfs", Mode::SingleNodeWriter, &[]), 320);
}

#[test]
fn loop_a_raw_volume_lives_and_leaves_nothing() {
    check("raw", block(Mode::SingleNodeWriter), 16);
}
