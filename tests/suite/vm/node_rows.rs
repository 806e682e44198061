//! The node's calls for images of a Ceph cluster, row by row, at the socket, on a kernel with the RBD client: what a second call gets, what comes first,
//! what is never touched, and what holds for many at once.

mod staging;

use harness::bench::{Bench, bench};
use harness::rbd::{self, RbdVolume};
use harness::rows::{answered, holds, refused, ten_times};
use harness::vm::{GuestDaemon, Vm};
use harness::{Endpoint, block, mount, mount_as};
use std::sync::Arc;
use tonic::{Code, Status};
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::volume_capability::{AccessMode, AccessType};
use windlass_csi::v1::volume_usage::Unit;
use windlass_csi::v1::{
    CapacityRange, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodeStageVolumeRequest,
    VolumeCapability,
};

const MIB: i64 = 1 << 20;

/// A daemon with both roles on the first machine, and its driver.
struct Node {
    daemon: GuestDaemon,
    driver: Endpoint,
    id: String,
    vm: Arc<Vm>,
}

fn but<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

impl Node {
    fn serve(name: &str) -> Self {
        let Bench { cluster, node1, .. } = bench();
        let daemon = GuestDaemon::prepared(node1, name);
        let driver = rbd::serve(&daemon, cluster);
        let id = rbd::node_id(&driver).unwrap();
        Self { daemon, driver, id, vm: node1.clone() }
    }

    /// A volume that was given to the node.
    fn given(&self, name: &str, capability: VolumeCapability, mib: i64) -> RbdVolume {
        let mut volume = RbdVolume::create(&self.driver, &bench().cluster, name, capability, mib).unwrap();
        volume.attach(&self.driver, &self.id).unwrap();
        volume
    }

    /// The same, staged and published.
    fn up(&self, name: &str, capability: VolumeCapability, mib: i64) -> RbdVolume {
        let volume = self.given(name, capability, mib);
        volume.stage(&self.driver).unwrap();
        volume.publish(&self.driver, 0).unwrap();
        volume
    }

    fn down(&self, volume: &RbdVolume) {
        volume.volume.unpublish(&self.driver, 0).unwrap();
        volume.volume.unstage(&self.driver).unwrap();
        volume.detach(&self.driver, &self.id).unwrap();
    }

    /// Takes it down and away; nothing is left in the kernel.
    fn end(&self, volume: &RbdVolume) {
        self.down(volume);
        volume.delete(&self.driver).unwrap();
        assert_eq!(self.vm.shell("ls /sys/bus/rbd/devices"), "");
        assert_eq!(self.mounts(), Vec::<Vec<String>>::new());
    }

    fn stage(&self, volume: &RbdVolume, change: impl FnOnce(&mut NodeStageVolumeRequest)) -> Result<(), Status> {
        self.driver.node_stage_volume(but(volume.stage_request(), change)).map(drop)
    }

    fn publish(&self, volume: &RbdVolume, n: usize, change: impl FnOnce(&mut NodePublishVolumeRequest)) -> Result<(), Status> {
        self.driver.node_publish_volume(but(volume.publish_request(n), change)).map(drop)
    }

    /// The fields of each line of mountinfo beneath the daemon's folder.
    fn mounts(&self) -> Vec<Vec<String>> {
        let lines = self.vm.shell("cat /proc/self/mountinfo");
        let folder = format!(" {}/kubelet/", self.driver.folder().display());
        lines.lines().filter(|line| line.contains(&folder)).map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    fn is_mounted(&self, path: &str) -> bool {
        self.mounts().iter().any(|fields| fields[4] == path)
    }

    /// The options of a mount, and those of its file system.
    fn options(&self, path: &str) -> (String, String) {
        let mounts = self.mounts();
        let fields = mounts.iter().find(|fields| fields[4] == path).unwrap_or_else(|| panic!("{path} is not mounted"));
        (fields[5].clone(), fields.last().unwrap().clone())
    }

    fn size(&self, path: &str) -> i64 {
        let text = self.vm.shell(&format!("stat -f -c '%b %S' {path}"));
        text.split_whitespace().map(|number| number.parse::<i64>().unwrap()).product()
    }

    fn exists(&self, path: &str) -> bool {
        self.vm.shell(&format!("if [ -e {path} ]; then echo yes; fi")).trim() == "yes"
    }

    fn stats(&self, volume: &RbdVolume, path: &str) -> Result<NodeGetVolumeStatsResponse, Status> {
        self.driver.node_get_volume_stats(NodeGetVolumeStatsRequest { volume_id: volume.volume.id(), volume_path: path.to_owned(), ..Default::default() })
    }

    fn grow(&self, volume: &RbdVolume, path: &str, capacity_range: Option<CapacityRange>) -> Result<i64, Status> {
        let request = NodeExpandVolumeRequest { volume_id: volume.volume.id(), volume_path: path.to_owned(), capacity_range, ..Default::default() };
        self.driver.node_expand_volume(request).map(|answer| answer.capacity_bytes)
    }
}

fn nobodys(volume: &RbdVolume) -> RbdVolume {
    but(volume.clone(), |v| v.volume.volume.volume_id = "nothing".to_owned())
}

fn range(required_bytes: i64, limit_bytes: i64) -> Option<CapacityRange> {
    Some(CapacityRange { required_bytes, limit_bytes })
}

#[test]
fn vm_rbd_publishing_on_the_node_keeps_to_its_rows() {
    let node = Node::serve("publishes");
    let volume = node.given("publishes", mount(Mode::SingleNodeWriter), 32);
    let (unknown, target) = (nobodys(&volume), volume.volume.target(0));
    refused("NodePublishVolume/NOT_FOUND", unknown.publish(&node.driver, 0), Code::NotFound, "volume");
    refused("*/INVALID_ARGUMENT", node.publish(&unknown, 0, |m| m.target_path.clear()), Code::InvalidArgument, "target_path");
    holds("*/order", node.publish(&unknown, 0, |m| m.target_path = "relative".into()).unwrap_err().code() == Code::NotFound);
    answered("NodeUnpublishVolume/unknown", unknown.volume.unpublish(&node.driver, 0));
    let first = "NodePublishVolume/FAILED_PRECONDITION/2";
    refused(first, volume.publish(&node.driver, 0), Code::FailedPrecondition, "staged");
    refused(first, node.publish(&volume, 0, |m| m.staging_target_path.clear()), Code::FailedPrecondition, "staging_target_path");
    volume.stage(&node.driver).unwrap();
    refused(first, node.publish(&volume, 0, |m| m.staging_target_path = volume.volume.pods.clone()), Code::FailedPrecondition, "staged");
    for path in ["relative", "/outside", "/etc/../etc"] {
        refused("*/paths", node.publish(&volume, 0, |m| m.target_path = path.to_owned()), Code::InvalidArgument, "target_path");
    }

    ten_times("NodePublishVolume/idempotent", || volume.publish(&node.driver, 0));
    answered("NodePublishVolume/idempotent", node.publish(&volume, 0, |m| m.secrets = rbd::secrets("another", "AQ==")));
    assert_eq!(node.mounts().len(), 2);
    let context = |m: &mut NodePublishVolumeRequest| drop(m.volume_context.insert("another".into(), "1".into()));
    let published = |m: &mut NodePublishVolumeRequest| drop(m.publish_context.insert("another".into(), "1".into()));
    let reading = |m: &mut NodePublishVolumeRequest| m.readonly = true;
    let flags = |m: &mut NodePublishVolumeRequest| match m.volume_capability.as_mut().and_then(|c| c.access_type.as_mut()) {
        Some(AccessType::Mount(wish)) => wish.mount_flags.push("noexec".to_owned()),
        _ => unreachable!("it is a mount"),
    };
    let changes: [&dyn Fn(&mut NodePublishVolumeRequest); 4] = [&context, &published, &reading, &flags];
    for change in changes {
        refused("NodePublishVolume/ALREADY_EXISTS", node.publish(&volume, 0, change), Code::AlreadyExists, "published");
        refused("NodePublishVolume/FAILED_PRECONDITION", node.publish(&volume, 1, change), Code::FailedPrecondition, "one target");
    }
    refused("NodePublishVolume/FAILED_PRECONDITION", volume.publish(&node.driver, 1), Code::FailedPrecondition, "one target");
    assert!(!node.exists(&volume.volume.target(1)), "nothing is left of it");

    // Nothing of somebody else's is covered or taken away, and no data.
    let covered = volume.volume.target(2);
    node.vm.shell(&format!("mkdir {covered} && mount -t tmpfs -o size=64k tmpfs {covered} && echo data >{covered}/data"));
    holds("NodePublishVolume/foreign", volume.publish(&node.driver, 2).is_err());
    let _refused_or_nothing = volume.volume.unpublish(&node.driver, 2);
    holds("NodeUnpublishVolume/foreign", node.vm.shell(&format!("cat {covered}/data")).trim() == "data");
    node.vm.shell(&format!("umount {covered}; echo data >{covered}/data"));
    let _refused_or_nothing = volume.volume.unpublish(&node.driver, 2);
    holds("NodeUnpublishVolume/foreign", node.vm.shell(&format!("cat {covered}/data; rm {covered}/data")).trim() == "data");
    answered("NodeUnpublishVolume/target", volume.volume.unpublish(&node.driver, 2));
    holds("NodeUnpublishVolume/target", !node.exists(&covered));

    ten_times("NodeUnpublishVolume/idempotent", || volume.volume.unpublish(&node.driver, 0));
    holds("NodeUnpublishVolume/idempotent", !node.exists(&target) && node.is_mounted(&volume.volume.staging));
    // A read-only target of what is staged for writing.
    node.publish(&volume, 0, reading).unwrap();
    holds("NodePublishVolume/read-only", node.vm.shell(&format!("touch {target}/x 2>/dev/null && echo written || echo refused")).trim() == "refused");
    node.end(&volume);

    let many = node.up("many", mount(Mode::SingleNodeMultiWriter), 32);
    answered("NodePublishVolume/second-target", many.publish(&node.driver, 1));
    answered("NodePublishVolume/second-target", node.publish(&many, 2, reading));
    holds("NodePublishVolume/second-target", node.mounts().len() == 4);
    for n in 1..3 {
        many.volume.unpublish(&node.driver, n).unwrap();
    }
    node.end(&many);

    // Raw: a read-only target of a device that takes writes would lie.
    let raw = node.given("raw", block(Mode::SingleNodeWriter), 32);
    raw.stage(&node.driver).unwrap();
    let mode =
        |m: &mut NodePublishVolumeRequest| m.volume_capability.as_mut().unwrap().access_mode = Some(AccessMode { mode: Mode::SingleNodeReaderOnly.into() });
    for change in [&reading as &dyn Fn(&mut NodePublishVolumeRequest), &mode] {
        refused("NodePublishVolume/FAILED_PRECONDITION", node.publish(&raw, 0, change), Code::FailedPrecondition, "read-only");
    }
    ten_times("NodePublishVolume/idempotent", || raw.publish(&node.driver, 0));
    refused("NodePublishVolume/ALREADY_EXISTS", node.publish(&raw, 0, context), Code::AlreadyExists, "published");
    node.end(&raw);
}

#[test]
fn vm_rbd_stats_and_growth_keep_to_their_rows() {
    let node = Node::serve("stats");
    let volume = node.up("stats", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64);
    let (staging, target) = (volume.volume.staging.clone(), volume.volume.target(0));
    let of = |answer: &NodeGetVolumeStatsResponse, unit: Unit| {
        answer.usage.iter().find(|usage| usage.unit() == unit).map(|usage| (usage.total, usage.used, usage.available))
    };
    let before = ten_times("NodeGetVolumeStats/idempotent", || node.stats(&volume, &target));
    let ((total, used, available), inodes) = (of(&before, Unit::Bytes).unwrap(), of(&before, Unit::Inodes).unwrap());
    holds("NodeGetVolumeStats/usage", total > 40 * MIB && total <= 64 * MIB && available <= total - used && inodes.1 + inodes.2 == inodes.0);
    node.vm.shell(&format!("dd if=/dev/urandom of={target}/data bs=1M count=8 2>/dev/null; sync"));
    for path in [&staging, &target] {
        let after = answered("NodeGetVolumeStats/usage", node.stats(&volume, path));
        holds("NodeGetVolumeStats/usage", of(&after, Unit::Bytes).unwrap().1 >= used + 8 * MIB && of(&after, Unit::Inodes).unwrap().1 == inodes.1 + 1);
    }
    let unknown = nobodys(&volume);
    refused("NodeGetVolumeStats/NOT_FOUND", node.stats(&unknown, &target), Code::NotFound, "volume");
    refused("NodeExpandVolume/NOT_FOUND", node.grow(&unknown, &target, None), Code::NotFound, "volume");
    refused("*/INVALID_ARGUMENT", node.stats(&unknown, ""), Code::InvalidArgument, "volume_path");
    for path in [volume.volume.target(1).as_str(), "relative", "/nowhere"] {
        refused("NodeGetVolumeStats/NOT_FOUND/2", node.stats(&volume, path), Code::NotFound, "volume_path");
    }
    refused("NodeExpandVolume/NOT_FOUND", node.grow(&volume, &volume.volume.target(1), None), Code::NotFound, "volume_path");

    volume.expand(&node.driver, 128).unwrap();
    answered("NodeExpandVolume/grows", node.grow(&volume, &target, range(128 * MIB, 0)));
    holds("NodeExpandVolume/grows", node.size(&target) > 100 * MIB);
    for path in [&staging, &target] {
        assert_eq!(ten_times("NodeExpandVolume/idempotent", || node.grow(&volume, path, range(128 * MIB, 0))), 128 * MIB);
        assert_eq!(answered("NodeExpandVolume/idempotent", node.grow(&volume, path, None)), 128 * MIB);
    }
    refused("NodeExpandVolume/OUT_OF_RANGE", node.grow(&volume, &target, range(129 * MIB, 0)), Code::OutOfRange, "capacity_range");
    refused("NodeExpandVolume/OUT_OF_RANGE", node.grow(&volume, &target, range(0, 127 * MIB)), Code::OutOfRange, "capacity_range");
    node.end(&volume);

    let raw = node.up("stats-raw", block(Mode::SingleNodeWriter), 32);
    let answer = answered("NodeGetVolumeStats/usage", node.stats(&raw, &raw.volume.target(0)));
    holds("NodeGetVolumeStats/usage", of(&answer, Unit::Bytes).unwrap().0 == 32 * MIB && of(&answer, Unit::Inodes).is_none());
    raw.expand(&node.driver, 64).unwrap();
    assert_eq!(answered("NodeExpandVolume/grows", node.grow(&raw, &raw.volume.target(0), range(64 * MIB, 0))), 64 * MIB);
    let answer = node.stats(&raw, &raw.volume.target(0)).unwrap();
    holds("NodeExpandVolume/grows", of(&answer, Unit::Bytes).unwrap().0 == 64 * MIB);
    node.end(&raw);
}
