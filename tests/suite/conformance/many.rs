//! The same call ten times, and sixty-four times at once: done once, answered every time.

use super::row;
use harness::rows::{at_once, ten_times};
use harness::{Daemon, Volume, block, devices_beneath, mount, mount_as, mounts_beneath};
use std::sync::Barrier;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{
    CapacityRange, ControllerExpandVolumeRequest, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, ValidateVolumeCapabilitiesRequest, VolumeCapability,
};

fn check(name: &str, capability: VolumeCapability, mib: i64) {
    let daemon = Daemon::start();
    let request = Volume::create_request(name, &capability, mib);
    ten_times("CreateVolume/idempotent", || daemon.create_volume(request.clone()));
    let volume = Volume::create(&daemon, name, capability, mib).unwrap();
    ten_times("ValidateVolumeCapabilities/idempotent", || {
        let volume_capabilities = vec![volume.capability.clone()];
        daemon.validate_volume_capabilities(ValidateVolumeCapabilitiesRequest { volume_id: volume.id(), volume_capabilities, ..Default::default() })
    });
    let range = Some(CapacityRange { required_bytes: mib << 20, limit_bytes: mib << 20 });
    ten_times("ControllerExpandVolume/idempotent", || {
        daemon.controller_expand_volume(ControllerExpandVolumeRequest { volume_id: volume.id(), capacity_range: range, ..Default::default() })
    });
    ten_times("NodeStageVolume/idempotent", || volume.stage(&daemon));
    ten_times("NodePublishVolume/idempotent", || volume.publish(&daemon, 0));
    assert_eq!(devices_beneath(&daemon.path("volumes")).len(), 1);
    assert_eq!(mounts_beneath(&daemon.path("kubelet")).len(), 2);
    for path in [volume.target(0), volume.staging.clone()] {
        ten_times("NodeGetVolumeStats/idempotent", || {
            daemon.node_get_volume_stats(NodeGetVolumeStatsRequest { volume_id: volume.id(), volume_path: path.clone(), ..Default::default() })
        });
        ten_times("NodeExpandVolume/idempotent", || {
            let request = NodeExpandVolumeRequest { volume_id: volume.id(), volume_path: path.clone(), capacity_range: range, ..Default::default() };
            daemon.node_expand_volume(request)
        });
    }
    ten_times("NodeUnpublishVolume/idempotent", || volume.unpublish(&daemon, 0));
    assert!(!std::path::Path::new(&volume.target(0)).exists());
    ten_times("NodeUnstageVolume/idempotent", || volume.unstage(&daemon));
    ten_times("DeleteVolume/idempotent", || volume.delete(&daemon));
    daemon.assert_nothing_left();
}

#[test]
fn loop_ten_of_each_call_are_as_good_as_one_for_ext4() {
    check("ten-ext4", mount(Mode::SingleNodeWriter), 16);
}

#[test]
fn loop_ten_of_each_call_are_as_good_as_one_for_xfs() {
    check("ten-xfs", mount_as("xfs", Mode::SingleNodeWriter, &[]), 300);
}

#[test]
fn loop_ten_of_each_call_are_as_good_as_one_for_a_raw_device() {
    check("ten-raw", block(Mode::SingleNodeWriter), 16);
}

#[test]
fn loop_sixty_four_identical_calls_at_once_all_succeed_and_do_it_once() {
    let daemon = Daemon::start();
    for capability in [mount(Mode::SingleNodeWriter), block(Mode::SingleNodeWriter)] {
        let request = Volume::create_request("crowd", &capability, 16);
        let made = at_once("CreateVolume/concurrent", || daemon.create_volume(request.clone()));
        assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 1);
        let volume = Volume::create(&daemon, "crowd", capability, 16).unwrap();
        assert_eq!(made.volume.as_ref(), Some(&volume.volume));
        at_once("NodeStageVolume/concurrent", || volume.stage(&daemon));
        at_once("NodePublishVolume/concurrent", || volume.publish(&daemon, 0));
        assert_eq!(devices_beneath(&daemon.path("volumes")).len(), 1);
        assert_eq!(mounts_beneath(&daemon.path("kubelet")).len(), 2);
        at_once("NodeUnpublishVolume/concurrent", || volume.unpublish(&daemon, 0));
        at_once("NodeUnstageVolume/concurrent", || volume.unstage(&daemon));
        at_once("DeleteVolume/concurrent", || volume.delete(&daemon));
        daemon.assert_nothing_left();
    }
}

#[test]
fn loop_opposite_calls_at_once_end_in_one_of_the_two_states() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "opposite", mount(Mode::SingleNodeWriter), 16).unwrap();
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let (barrier, volume, daemon) = (&barrier, &volume, &daemon);
            scope.spawn(move || {
                barrier.wait();
                let answer = if n % 2 == 0 { volume.stage(daemon) } else { volume.unstage(daemon) };
                row("NodeUnstageVolume/concurrent").answers(answer);
            });
        }
    });
    assert!(devices_beneath(&daemon.path("volumes")).len() <= 1);
    volume.stage(&daemon).unwrap();
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}
