//! What must not get a volume stuck or lose its data when people act behind the daemon's back.

use harness::{Daemon, Volume, eventually, mount_as};
use nix::mount::{MntFlags, umount2};
use std::process::Command;
use tonic::Code;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn unmount(path: &str) {
    umount2(path, MntFlags::UMOUNT_NOFOLLOW).unwrap();
}

fn gone(daemon: &Daemon, volume: &Volume) {
    volume.unstage(daemon).unwrap();
    volume.delete(daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_an_unstage_without_a_journal_leaves_what_is_in_the_volume_alone() {
    let mut daemon = Daemon::start();
    let volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    volume.stage(&daemon).unwrap();
    // The name that a raw volume's node has in its staging folder.
    std::fs::write(format!("{}/device", volume.staging), b"").unwrap();
    daemon.kill();
    for entry in std::fs::read_dir(daemon.path("run/journal")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    daemon.start_again();
    daemon.wait_ready();
    volume.unstage(&daemon).unwrap();
    volume.stage(&daemon).unwrap();
    assert!(std::path::Path::new(&format!("{}/device", volume.staging)).exists(), "a user's file was deleted");
    gone(&daemon, &volume);
}

#[test]
fn loop_a_target_that_was_unmounted_by_hand_does_not_hold_the_volume() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeMultiWriter, &[]), 32).unwrap();
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    unmount(&volume.target(0));
    volume.publish(&daemon, 0).unwrap();
    volume.unpublish(&daemon, 0).unwrap();
    volume.publish(&daemon, 1).unwrap();
    unmount(&volume.target(1));
    std::fs::remove_dir(volume.target(1)).unwrap();
    gone(&daemon, &volume);
}

#[test]
fn loop_a_staging_mount_that_went_by_hand_is_mended_under_its_pods() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeMultiWriter, &[]), 32).unwrap();
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    std::fs::write(format!("{}/kept", volume.target(0)), b"kept").unwrap();
    unmount(&volume.staging);
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 1).unwrap();
    for n in [0, 1] {
        assert_eq!(std::fs::read(format!("{}/kept", volume.target(n))).unwrap(), b"kept");
        volume.unpublish(&daemon, n).unwrap();
    }
    gone(&daemon, &volume);
}

#[test]
fn loop_a_target_with_files_in_it_is_refused_and_holds_up_nothing() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    volume.stage(&daemon).unwrap();
    std::fs::create_dir(volume.target(0)).unwrap();
    std::fs::write(format!("{}/theirs", volume.target(0)), b"theirs").unwrap();
    let refused = volume.publish(&daemon, 0).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
    assert!(refused.message().contains("not empty"), "{}", refused.message());
    volume.publish(&daemon, 1).unwrap();
    volume.unpublish(&daemon, 1).unwrap();
    assert_eq!(std::fs::read(format!("{}/theirs", volume.target(0))).unwrap(), b"theirs");
    gone(&daemon, &volume);
}

#[test]
fn loop_a_staging_folder_with_files_in_it_is_refused() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    let theirs = format!("{}/theirs", volume.staging);
    std::fs::write(&theirs, b"theirs").unwrap();
    let refused = volume.stage(&daemon).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
    assert!(refused.message().contains("not empty"), "{}", refused.message());
    assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs");
    daemon.assert_nothing_left();
    std::fs::remove_file(&theirs).unwrap();
    volume.stage(&daemon).unwrap();
    gone(&daemon, &volume);
}

#[test]
fn loop_a_staging_path_is_no_target() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    volume.stage(&daemon).unwrap();
    let mut request = volume.unpublish_request(0);
    request.target_path.clone_from(&volume.staging);
    assert_eq!(daemon.node_unpublish_volume(request).unwrap_err().code(), Code::InvalidArgument);
    volume.publish(&daemon, 0).unwrap();
    volume.unpublish(&daemon, 0).unwrap();
    gone(&daemon, &volume);
}

#[test]
fn loop_other_roots_or_another_instance_are_refused_while_volumes_are_staged() {
    let mut daemon = Daemon::start();
    let volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    volume.stage(&daemon).unwrap();
    daemon.stop();
    for (from, to, words) in [("instance = \"", "instance = \"other-", "instance"), ("/kubelet\"]", "\"]", "node.roots")] {
        let file = daemon.path("windlass.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        let output = Command::new(harness::binary()).args(["serve", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{said}");
        std::fs::write(&file, text).unwrap();
    }
    daemon.start_again();
    daemon.wait_ready();
    eventually("the volume to be served as before", || volume.stage(&daemon).ok());
    gone(&daemon, &volume);
}

#[test]
fn loop_a_writable_volume_grows_through_a_read_only_target() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "v", mount_as("xfs", Mode::SingleNodeMultiWriter, &[]), 320).unwrap();
    volume.stage(&daemon).unwrap();
    let mut request = volume.publish_request(0);
    request.readonly = true;
    daemon.node_publish_volume(request).unwrap();
    let range = Some(windlass_csi::v1::CapacityRange { required_bytes: 400 << 20, limit_bytes: 0 });
    let grow = windlass_csi::v1::ControllerExpandVolumeRequest { volume_id: volume.id(), capacity_range: range, ..Default::default() };
    daemon.controller_expand_volume(grow).unwrap();
    let grow = windlass_csi::v1::NodeExpandVolumeRequest { volume_id: volume.id(), volume_path: volume.target(0), capacity_range: range, ..Default::default() };
    assert_eq!(daemon.node_expand_volume(grow).unwrap().capacity_bytes, 400 << 20);
    volume.unpublish(&daemon, 0).unwrap();
    gone(&daemon, &volume);
}
