//! NodeStage and NodeUnstage: what a second stage gets, mount flags and SELinux labels, and what read-only means.

use super::{but, filesystem_size, is_mounted, mount_options, row};
use harness::{Daemon, Volume, block, mount, mount_as};
use std::io::Write;
use windlass_csi::v1::volume_capability::access_mode::Mode;

#[test]
fn loop_a_second_stage_is_the_same_or_refused() {
    second_stage(&Daemon::start());
}

/// What a second stage gets.
pub(super) fn second_stage(daemon: &Daemon) {
    let volume = Volume::create(daemon, "again", mount(Mode::SingleNodeWriter), 16).unwrap();
    volume.stage(daemon).unwrap();
    let others = [
        block(Mode::SingleNodeWriter),
        mount_as("xfs", Mode::SingleNodeWriter, &[]),
        mount_as("", Mode::SingleNodeWriter, &["noexec"]),
        mount(Mode::SingleNodeReaderOnly),
        mount(Mode::SingleNodeMultiWriter),
    ];
    for capability in others {
        row("NodeStageVolume/ALREADY_EXISTS").refuses(but(volume.clone(), |v| v.capability = capability).stage(daemon), "staged");
    }
    let elsewhere = but(volume.clone(), |v| v.staging = daemon.text("kubelet/elsewhere"));
    std::fs::create_dir(&elsewhere.staging).unwrap();
    row("NodeStageVolume/ALREADY_EXISTS").refuses(elsewhere.stage(daemon), "staged");
    assert!(!is_mounted(&elsewhere.staging));
    // Secrets and kubelet's keys of a pod are no part of what is compared.
    let secrets = but(volume.stage_request(), |m| m.secrets = [("key".to_owned(), "other".to_owned())].into());
    row("NodeStageVolume/idempotent").answers(daemon.node_stage_volume(secrets));
    row("NodeUnstageVolume/elsewhere").answers(elsewhere.unstage(daemon));
    assert!(is_mounted(&volume.staging), "it is staged where it was");
    volume.unstage(daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_volume_is_not_staged_as_what_it_is_not() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "exceeds", mount_as("ext4", Mode::SingleNodeWriter, &[]), 320).unwrap();
    volume.stage(&daemon).unwrap();
    volume.unstage(&daemon).unwrap();
    let as_xfs = but(volume.clone(), |v| v.capability = mount_as("xfs", Mode::SingleNodeWriter, &[]));
    row("NodeStageVolume/FAILED_PRECONDITION").refuses(as_xfs.stage(&daemon), "ext4");
    let not_ours = but(volume.stage_request(), |m| {
        m.volume_context.insert("windlass.io/source".to_owned(), "file volumes/another".to_owned());
    });
    row("NodeStageVolume/FAILED_PRECONDITION").refuses(daemon.node_stage_volume(not_ours), "windlass.io/source");
    let of_nobody = but(volume.stage_request(), |m| m.volume_context.clear());
    row("NodeStageVolume/FAILED_PRECONDITION").refuses(daemon.node_stage_volume(of_nobody), "windlass.io/source");
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    row("NodeUnstageVolume/published").holds(volume.unstage(&daemon).is_err() && is_mounted(&volume.target(0)), "a published volume stays");
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

fn check_flags(daemon: &Daemon, name: &str, filesystem: &str, mib: i64) {
    let flags = ["noatime,nosuid", "nodev", "noexec", "sync", "rw", "defaults", "_netdev"];
    let volume = Volume::create(daemon, name, mount_as(filesystem, Mode::SingleNodeWriter, &flags), mib).unwrap();
    volume.stage(daemon).unwrap();
    volume.publish(daemon, 0).unwrap();
    for path in [&volume.staging, &volume.target(0)] {
        let (mount, superblock) = mount_options(path).unwrap();
        let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
        for flag in ["noatime", "nosuid", "nodev", "noexec", "rw"] {
            row("NodeStageVolume/mount-flags").holds(has(&mount, flag), &format!("{flag} at {path}: {mount}"));
        }
        row("NodeStageVolume/mount-flags").holds(has(&superblock, "sync"), &superblock);
        assert_eq!(has(&superblock, "nouuid"), filesystem == "xfs", "{superblock}");
    }
    volume.unpublish(daemon, 0).unwrap();
    volume.unstage(daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_mount_flags_are_seen_in_mountinfo_for_ext4() {
    flags(&Daemon::start());
}

/// What becomes of mount flags.
pub(super) fn flags(daemon: &Daemon) {
    check_flags(daemon, "flags-ext4", "ext4", 16);
}

#[test]
fn loop_mount_flags_are_seen_in_mountinfo_for_xfs() {
    check_flags(&Daemon::start(), "flags-xfs", "xfs", 300);
}

/// Where the kernel has SELinux the label is on the mount; where it has not, the wish is refused and not ignored.
#[test]
fn loop_an_selinux_label_is_honoured_or_refused() {
    let daemon = Daemon::start();
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let flag = format!("context=\"{label}\"");
    let volume = Volume::create(&daemon, "selinux", mount_as("", Mode::SingleNodeWriter, &[&flag]), 16).unwrap();
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        row("NodeStageVolume/selinux").answers(volume.stage(&daemon));
        let (_, superblock) = mount_options(&volume.staging).unwrap();
        row("NodeStageVolume/selinux").holds(superblock.contains("context=") && superblock.contains("c1,c2"), &superblock);
        volume.unstage(&daemon).unwrap();
    } else {
        row("NodeStageVolume/FAILED_PRECONDITION").refuses(volume.stage(&daemon), "context");
        row("NodeStageVolume/selinux").holds(!is_mounted(&volume.staging), "it is not mounted without the label");
    }
    // Nor is it published without the label where it was staged without one.
    let plain = Volume { capability: mount(Mode::SingleNodeWriter), ..volume.clone() };
    plain.stage(&daemon).unwrap();
    row("NodePublishVolume/FAILED_PRECONDITION").refuses(volume.publish(&daemon, 0), label);
    row("NodeStageVolume/selinux").holds(!is_mounted(&volume.target(0)), "it is not published without the label");
    plain.publish(&daemon, 0).unwrap();
    plain.unpublish(&daemon, 0).unwrap();
    plain.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

fn check_read_only(name: &str, writing: windlass_csi::v1::VolumeCapability, reading: windlass_csi::v1::VolumeCapability, mib: i64) {
    let daemon = Daemon::start();
    let row = row("NodeStageVolume/read-only");
    let mut volume = Volume::create(&daemon, name, writing, mib).unwrap();
    let is_raw = matches!(volume.capability.access_type, Some(windlass_csi::v1::volume_capability::AccessType::Block(_)));
    let file = daemon.path("volumes").join(volume.id());
    let data = |v: &Volume| if is_raw { v.target(0) } else { format!("{}/data", v.target(0)) };
    let write =
        |path: &str| std::fs::File::options().write(true).create(!is_raw).open(path).and_then(|mut f| f.write_all(&[7; 4096]).and_then(|()| f.sync_all()));
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    write(&data(&volume)).unwrap();
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();

    let before = std::fs::read(&file).unwrap();
    volume.capability = reading;
    row.answers(volume.stage(&daemon));
    row.answers(volume.publish(&daemon, 0));
    assert_eq!(std::fs::read(data(&volume)).unwrap()[..4096], [7; 4096]);
    row.holds(write(&data(&volume)).is_err(), "writing fails");
    if !is_raw {
        for path in [&volume.staging, &volume.target(0)] {
            row.holds(mount_options(path).unwrap().0.split(',').any(|option| option == "ro"), "mounted ro");
        }
        assert!(filesystem_size(&volume.target(0)) > 0);
    }
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    row.holds(std::fs::read(&file).unwrap() == before, "not a byte of the file is changed");
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_read_only_ext4_volume_is_not_written_to() {
    check_read_only("ro-ext4", mount(Mode::SingleNodeWriter), mount(Mode::SingleNodeReaderOnly), 16);
}

#[test]
fn loop_a_read_only_xfs_volume_is_not_written_to() {
    let xfs = |mode| mount_as("xfs", mode, &[]);
    check_read_only("ro-xfs", xfs(Mode::SingleNodeWriter), xfs(Mode::SingleNodeReaderOnly), 300);
}

#[test]
fn loop_a_volume_with_the_flag_ro_is_not_written_to() {
    check_read_only("ro-flag", mount(Mode::SingleNodeWriter), mount_as("", Mode::SingleNodeWriter, &["ro"]), 16);
}

#[test]
fn loop_a_read_only_raw_volume_is_not_written_to() {
    check_read_only("ro-raw", block(Mode::SingleNodeWriter), block(Mode::SingleNodeReaderOnly), 16);
}
