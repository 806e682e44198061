//! NodeGetVolumeStats: what the kernel says, and of nothing that is not there.

use super::row;
use harness::{Daemon, Volume, block, mount};
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::volume_usage::Unit;
use windlass_csi::v1::{NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, VolumeUsage};

fn ask(daemon: &Daemon, volume: &Volume, path: &str) -> Result<NodeGetVolumeStatsResponse, tonic::Status> {
    let request = NodeGetVolumeStatsRequest { volume_id: volume.id(), volume_path: path.to_owned(), staging_target_path: volume.staging.clone() };
    daemon.node_get_volume_stats(request)
}

fn of(answer: &NodeGetVolumeStatsResponse, unit: Unit) -> Option<&VolumeUsage> {
    answer.usage.iter().find(|usage| usage.unit() == unit)
}

#[test]
fn loop_a_file_system_tells_bytes_and_inodes() {
    usage(&Daemon::start());
}

/// How full a file system is.
pub(super) fn usage(daemon: &Daemon) {
    let volume = Volume::create(daemon, "stats", mount(Mode::SingleNodeWriter), 64).unwrap();
    volume.stage(daemon).unwrap();
    volume.publish(daemon, 0).unwrap();
    let stats = row("NodeGetVolumeStats/usage");
    let before = stats.answers(ask(daemon, &volume, &volume.target(0)));
    let (bytes, inodes) = (of(&before, Unit::Bytes).unwrap(), of(&before, Unit::Inodes).unwrap());
    stats.holds(bytes.total > 40 << 20 && bytes.total <= 64 << 20 && bytes.available <= bytes.total - bytes.used, "bytes add up");
    stats.holds(inodes.total > 0 && inodes.used + inodes.available == inodes.total, "inodes add up");
    let file = std::fs::File::create(format!("{}/data", volume.target(0))).unwrap();
    std::io::Write::write_all(&mut &file, &vec![1; 8 << 20]).unwrap();
    file.sync_all().unwrap();
    drop(file);
    for path in [volume.target(0), volume.staging.clone()] {
        let after = stats.answers(ask(daemon, &volume, &path));
        stats.holds(of(&after, Unit::Bytes).unwrap().used >= bytes.used + (8 << 20), "what was written is counted");
        stats.holds(of(&after, Unit::Inodes).unwrap().used == inodes.used + 1, "and its inode");
    }
    let absent = row("NodeGetVolumeStats/NOT_FOUND/2");
    std::fs::create_dir(volume.target(1)).unwrap();
    absent.refuses(ask(daemon, &volume, &volume.target(1)), "volume_path");
    absent.refuses(ask(daemon, &volume, &volume.target(2)), "volume_path");
    volume.unpublish(daemon, 0).unwrap();
    absent.refuses(ask(daemon, &volume, &volume.target(0)), "volume_path");
    volume.unstage(daemon).unwrap();
    row("NodeGetVolumeStats/NOT_FOUND").refuses(ask(daemon, &volume, &volume.target(0)), "volume");
    daemon.assert_nothing_left();
}

#[test]
fn loop_another_volume_at_the_path_is_not_this_one() {
    let daemon = Daemon::start();
    let [one, other] = ["one", "other"].map(|name| Volume::create(&daemon, name, mount(Mode::SingleNodeWriter), 16).unwrap());
    for volume in [&one, &other] {
        volume.stage(&daemon).unwrap();
        volume.publish(&daemon, 0).unwrap();
    }
    for elsewhere in [other.target(0).as_str(), "some/path", "/nowhere/path"] {
        row("NodeGetVolumeStats/NOT_FOUND/2").refuses(ask(&daemon, &one, elsewhere), "volume_path");
    }
    for volume in [&one, &other] {
        volume.unpublish(&daemon, 0).unwrap();
        volume.unstage(&daemon).unwrap();
    }
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_raw_device_tells_its_size() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "stats-raw", block(Mode::SingleNodeWriter), 16).unwrap();
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    let answer = row("NodeGetVolumeStats/usage").answers(ask(&daemon, &volume, &volume.target(0)));
    assert_eq!(of(&answer, Unit::Bytes).unwrap().total, 16 << 20);
    assert!(of(&answer, Unit::Inodes).is_none());
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}
