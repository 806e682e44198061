//! Growing, at the controller and on the node: what really grows, what cannot, and what a stage grows by itself.

use super::{filesystem_size, is_mounted, row};
use harness::{Daemon, Setup, Volume, block, mount, mount_as};
use tonic::Status;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{CapacityRange, ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, NodeExpandVolumeRequest};

const MIB: i64 = 1 << 20;

fn range(required_bytes: i64, limit_bytes: i64) -> Option<CapacityRange> {
    Some(CapacityRange { required_bytes, limit_bytes })
}

fn expand(daemon: &Daemon, volume: &Volume, required: i64, limit: i64) -> Result<ControllerExpandVolumeResponse, Status> {
    let request = ControllerExpandVolumeRequest { volume_id: volume.id(), capacity_range: range(required, limit), ..Default::default() };
    daemon.controller_expand_volume(request)
}

fn node_expand(daemon: &Daemon, volume: &Volume, path: &str, capacity_range: Option<CapacityRange>) -> Result<i64, Status> {
    let request = NodeExpandVolumeRequest { volume_id: volume.id(), volume_path: path.to_owned(), capacity_range, ..Default::default() };
    daemon.node_expand_volume(request).map(|answer| answer.capacity_bytes)
}

fn up(daemon: &Daemon, name: &str, capability: windlass_csi::v1::VolumeCapability, mib: i64) -> Volume {
    let volume = Volume::create(daemon, name, capability, mib).unwrap();
    volume.stage(daemon).unwrap();
    volume.publish(daemon, 0).unwrap();
    volume
}

fn down(daemon: &Daemon, volume: &Volume) {
    volume.unpublish(daemon, 0).unwrap();
    volume.unstage(daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_an_xfs_volume_grows_while_it_is_used() {
    let daemon = Daemon::start();
    let volume = up(&daemon, "grow-xfs", mount_as("xfs", Mode::SingleNodeWriter, &[]), 320);
    let path = volume.target(0);
    std::fs::write(format!("{path}/data"), b"data").unwrap();
    let before = filesystem_size(&path);
    for _ in 0..2 {
        let answer = row("ControllerExpandVolume/idempotent").answers(expand(&daemon, &volume, 640 * MIB, 640 * MIB));
        assert_eq!((answer.capacity_bytes, answer.node_expansion_required), (640 * MIB, true));
    }
    for _ in 0..2 {
        assert_eq!(row("NodeExpandVolume/grows").answers(node_expand(&daemon, &volume, &path, range(640 * MIB, 0))), 640 * MIB);
    }
    row("NodeExpandVolume/grows").holds(filesystem_size(&path) > before + (300 << 20), "the file system has grown");
    assert_eq!(std::fs::read(format!("{path}/data")).unwrap(), b"data");
    row("NodeExpandVolume/OUT_OF_RANGE").refuses(node_expand(&daemon, &volume, &path, range(641 * MIB, 0)), "capacity_range");
    row("NodeExpandVolume/OUT_OF_RANGE").refuses(node_expand(&daemon, &volume, &path, range(0, 639 * MIB)), "capacity_range");
    assert_eq!(row("NodeExpandVolume/idempotent").answers(node_expand(&daemon, &volume, &volume.staging, None)), 640 * MIB);
    assert_eq!(row("NodeExpandVolume/idempotent").answers(node_expand(&daemon, &volume, &path, range(1, 0))), 640 * MIB);
    row("NodeExpandVolume/NOT_FOUND").refuses(node_expand(&daemon, &volume, &volume.target(1), None), "volume_path");
    down(&daemon, &volume);
}

#[test]
fn loop_a_raw_volume_grows_while_it_is_used() {
    let daemon = Daemon::start();
    let volume = up(&daemon, "grow-raw", block(Mode::SingleNodeWriter), 16);
    let path = volume.target(0);
    std::fs::write(&path, b"data").unwrap();
    expand(&daemon, &volume, 48 * MIB, 0).unwrap();
    for path in [&path, &volume.staging] {
        assert_eq!(row("NodeExpandVolume/grows").answers(node_expand(&daemon, &volume, path, range(48 * MIB, 0))), 48 * MIB);
    }
    let mut device = std::fs::File::open(&path).unwrap();
    assert_eq!(std::io::Seek::seek(&mut device, std::io::SeekFrom::End(0)).unwrap(), 48 << 20);
    drop(device);
    down(&daemon, &volume);
}

#[test]
fn loop_an_ext4_volume_grows_where_the_daemon_may_and_says_what_is_missing_where_not() {
    let daemon = Daemon::start();
    let volume = up(&daemon, "grow-ext4", mount(Mode::SingleNodeWriter), 16);
    let path = volume.target(0);
    expand(&daemon, &volume, 64 * MIB, 0).unwrap();
    let answer = node_expand(&daemon, &volume, &path, range(64 * MIB, 0));
    if harness::process::may_resize_ext4() {
        assert_eq!(row("NodeExpandVolume/grows").answers(answer), 64 * MIB);
    } else {
        row("NodeExpandVolume/FAILED_PRECONDITION").refuses(answer, "CAP_SYS_RESOURCE");
        assert!(is_mounted(&path), "it is still there");
    }
    down(&daemon, &volume);
}

#[test]
fn loop_a_read_only_volume_cannot_grow_on_the_node() {
    let daemon = Daemon::start();
    let mut volume = up(&daemon, "grow-ro", mount_as("xfs", Mode::SingleNodeWriter, &[]), 320);
    down(&daemon, &volume);
    volume.capability = mount_as("xfs", Mode::SingleNodeReaderOnly, &[]);
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    expand(&daemon, &volume, 640 * MIB, 0).unwrap();
    row("NodeExpandVolume/FAILED_PRECONDITION").refuses(node_expand(&daemon, &volume, &volume.target(0), range(640 * MIB, 0)), "read-only");
    down(&daemon, &volume);
}

#[test]
fn loop_a_stage_grows_an_xfs_file_system_that_is_smaller_than_its_device() {
    let daemon = Daemon::start();
    let volume = up(&daemon, "stage-grows", mount_as("xfs", Mode::SingleNodeWriter, &[]), 320);
    let before = filesystem_size(&volume.staging);
    down(&daemon, &volume);
    expand(&daemon, &volume, 640 * MIB, 0).unwrap();
    volume.stage(&daemon).unwrap();
    row("NodeStageVolume/grows").holds(filesystem_size(&volume.staging) > before + (300 << 20), "the file system fills its device");
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_stage_grows_an_ext4_file_system_where_the_daemon_may_and_says_what_is_missing_where_not() {
    let daemon = Daemon::start();
    let volume = up(&daemon, "stage-grows-ext4", mount(Mode::SingleNodeWriter), 16);
    down(&daemon, &volume);
    expand(&daemon, &volume, 64 * MIB, 0).unwrap();
    let answer = volume.stage(&daemon);
    if harness::process::may_resize_ext4() {
        row("NodeStageVolume/grows").answers(answer);
        row("NodeStageVolume/grows").holds(filesystem_size(&volume.staging) > 48 << 20, "the file system fills its device");
        volume.unstage(&daemon).unwrap();
    } else {
        row("NodeStageVolume/FAILED_PRECONDITION").refuses(answer, "CAP_SYS_RESOURCE");
    }
    daemon.assert_nothing_left();
}

#[test]
fn plugin_sizes_that_cannot_be_had_are_out_of_range_at_the_controller() {
    let daemon = Daemon::with(Setup { driver: "[config]\nmax_bytes = \"1073741824\"".to_owned(), ..Setup::default() });
    let volume = Volume::create(&daemon, "range", mount(Mode::SingleNodeWriter), 64).unwrap();
    for (required, limit) in [((1 << 30) + 1, 0), (i64::MAX, 0), (128 * MIB, 64 * MIB), (0, 32 * MIB), (1, 32 * MIB)] {
        row("ControllerExpandVolume/OUT_OF_RANGE").refuses(expand(&daemon, &volume, required, limit), "");
    }
    let file = daemon.path("volumes").join(volume.id());
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 64 << 20, "nothing was changed");
    let exact = row("ControllerExpandVolume/capacity").answers(expand(&daemon, &volume, 100 * MIB, 100 * MIB));
    row("ControllerExpandVolume/capacity").holds(exact.capacity_bytes == 100 * MIB, "exactly what was asked for");
    let smaller = row("ControllerExpandVolume/idempotent").answers(expand(&daemon, &volume, 10 * MIB, 0));
    assert_eq!(smaller.capacity_bytes, 100 * MIB, "a volume never shrinks");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 100 << 20);
}
