//! NodeStage and NodeUnstage, with what comes before them: who the node is, and what is on a volume.

use super::{MIB, Node, nobodys, range};
use harness::bench::{Bench, bench};
use harness::rows::{answered, at_once, holds, refused, ten_times};
use harness::{block, mount, mount_as};
use tonic::Code;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodeStageVolumeRequest};

#[test]
fn vm_rbd_staging_keeps_to_its_rows() {
    let node = Node::serve("stages");
    let info = ten_times("NodeGetInfo/idempotent", || node.driver.node_get_info(NodeGetInfoRequest {}));
    holds("NodeGetInfo/limits", (1..=256).contains(&info.node_id.len()) && info.max_volumes_per_node >= 0);
    ten_times("NodeGetCapabilities/idempotent", || node.driver.node_get_capabilities(NodeGetCapabilitiesRequest {}));

    let volume = node.given("stages", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64);
    let (unknown, staging) = (nobodys(&volume), volume.volume.staging.clone());
    refused("NodeStageVolume/NOT_FOUND", unknown.stage(&node.driver), Code::NotFound, "volume");
    refused("*/INVALID_ARGUMENT", node.stage(&unknown, |m| m.staging_target_path.clear()), Code::InvalidArgument, "staging_target_path");
    for path in ["relative", "/outside", "/etc/../etc"] {
        holds("*/order", node.stage(&unknown, |m| m.staging_target_path = path.to_owned()).unwrap_err().code() == Code::NotFound);
        refused("*/paths", node.stage(&volume, |m| m.staging_target_path = path.to_owned()), Code::InvalidArgument, "staging_target_path");
    }
    node.vm.shell(&format!("ln -s /etc {staging}-link"));
    refused("*/paths", node.stage(&volume, |m| m.staging_target_path = format!("{staging}-link/deep")), Code::InvalidArgument, "");
    answered("NodeUnstageVolume/unknown", unknown.volume.unstage(&node.driver));
    let bare = node.stage(&volume, |m| m.publish_context.clear());
    refused("NodeStageVolume/FAILED_PRECONDITION", bare, Code::FailedPrecondition, "ControllerPublishVolume");
    let another = |m: &mut NodeStageVolumeRequest| drop(m.volume_context.insert("windlass.io/source".into(), "rbd:bench/rbd//another".into()));
    refused("NodeStageVolume/FAILED_PRECONDITION", node.stage(&volume, another), Code::FailedPrecondition, "windlass.io/source");
    assert_eq!(node.vm.shell("ls /sys/bus/rbd/devices"), "", "what is refused maps nothing");

    ten_times("NodeStageVolume/idempotent", || volume.stage(&node.driver));
    assert_eq!(node.vm.shell("ls /sys/bus/rbd/devices").lines().count(), 1);
    let others = [
        block(Mode::SingleNodeWriter),
        mount_as("xfs", Mode::SingleNodeWriter, &[]),
        mount_as("", Mode::SingleNodeWriter, &["noexec"]),
        mount(Mode::SingleNodeReaderOnly),
    ];
    for other in others {
        refused("NodeStageVolume/ALREADY_EXISTS", node.stage(&volume, |m| m.volume_capability = Some(other)), Code::AlreadyExists, "staged");
    }
    let elsewhere = super::but(volume.clone(), |v| v.volume.staging.push_str("-elsewhere"));
    node.driver.make_folders(&[&elsewhere.volume.staging]).unwrap();
    refused("NodeStageVolume/ALREADY_EXISTS", elsewhere.stage(&node.driver), Code::AlreadyExists, "staged");
    answered("NodeUnstageVolume/elsewhere", elsewhere.volume.unstage(&node.driver));
    holds("NodeUnstageVolume/elsewhere", node.is_mounted(&staging));

    // Another volume at the path is not touched.
    let second = node.given("stages-2", mount(Mode::SingleNodeWriter), 32);
    let at_first = super::but(second.volume.clone(), |v| v.staging.clone_from(&staging));
    assert!(super::but(second.clone(), |v| v.volume.staging.clone_from(&staging)).stage(&node.driver).is_err());
    answered("NodeUnstageVolume/elsewhere", at_first.unstage(&node.driver));
    holds("NodeUnstageVolume/foreign", node.is_mounted(&staging));
    second.detach(&node.driver, &node.id).unwrap();
    second.delete(&node.driver).unwrap();

    volume.publish(&node.driver, 0).unwrap();
    refused("NodeUnstageVolume/published", volume.volume.unstage(&node.driver), Code::FailedPrecondition, "published");
    holds("NodeUnstageVolume/published", node.is_mounted(&volume.volume.target(0)) && node.is_mounted(&staging));
    volume.volume.unpublish(&node.driver, 0).unwrap();
    ten_times("NodeUnstageVolume/idempotent", || volume.volume.unstage(&node.driver));

    // Held as ext4, it is not staged as something else, and grows when it is staged.
    let as_xfs = node.stage(&volume, |m| m.volume_capability = Some(mount_as("xfs", Mode::SingleNodeWriter, &[])));
    refused("NodeStageVolume/FAILED_PRECONDITION", as_xfs, Code::FailedPrecondition, "ext4");
    volume.expand(&node.driver, 128).unwrap();
    answered("NodeStageVolume/grows", volume.stage(&node.driver));
    holds("NodeStageVolume/grows", node.size(&staging) > 100 * MIB);
    volume.volume.unstage(&node.driver).unwrap();

    // Sixty-four at once, and opposite ones.
    at_once("NodeStageVolume/concurrent", || volume.stage(&node.driver));
    assert_eq!(node.vm.shell("ls /sys/bus/rbd/devices").lines().count(), 1);
    at_once("NodePublishVolume/concurrent", || volume.publish(&node.driver, 0));
    assert_eq!(node.mounts().len(), 2);
    at_once("NodeUnpublishVolume/concurrent", || volume.volume.unpublish(&node.driver, 0));
    at_once("NodeUnstageVolume/concurrent", || volume.volume.unstage(&node.driver));
    assert_eq!(node.vm.shell("ls /sys/bus/rbd/devices"), "");

    // A path that is long, and secrets that nobody is told.
    let long = super::but(volume.clone(), |v| v.volume.staging = format!("{staging}/{}", ["d".repeat(200).as_str(); 10].join("/")));
    node.driver.make_folders(&[&long.volume.staging]).unwrap();
    answered("NodeStageVolume/limits", long.stage(&node.driver));
    holds("NodeStageVolume/limits", node.is_mounted(&long.volume.staging));
    answered("NodePublishVolume/limits", long.publish(&node.driver, 0));
    long.volume.unpublish(&node.driver, 0).unwrap();
    long.volume.unstage(&node.driver).unwrap();
    volume.detach(&node.driver, &node.id).unwrap();
    volume.delete(&node.driver).unwrap();
    let folders = node.driver.folder().display().to_string();
    let key = bench().cluster.admin_key();
    let files = node.vm.shell(&format!("grep -rl '{key}' {folders}/state {folders}/run /proc/keys 2>/dev/null || true"));
    let is_kept = !node.daemon.log().contains(key) && !node.daemon.status().to_string().contains(key) && files.trim().is_empty();
    for row in ["NodeStageVolume/secrets", "NodePublishVolume/secrets", "NodeExpandVolume/secrets"] {
        holds(row, is_kept);
    }
}

#[test]
fn vm_rbd_flags_contents_and_readers_keep_to_their_rows() {
    let (node, Bench { cluster, .. }) = (Node::serve("flags"), bench());
    let flags = ["noatime,nosuid", "nodev", "noexec", "sync", "_netdev"];
    let flagged = node.up("flags", mount_as("ext4", Mode::SingleNodeWriter, &flags), 32);
    for path in [&flagged.volume.staging, &flagged.volume.target(0)] {
        let (mount, superblock) = node.options(path);
        let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
        holds("NodeStageVolume/mount-flags", ["noatime", "nosuid", "nodev", "noexec", "rw"].iter().all(|flag| has(&mount, flag)) && has(&superblock, "sync"));
    }
    node.end(&flagged);

    // What holds something is not formatted, to the byte, and neither is what nobody proves to be blank.
    let written = node.given("written", mount(Mode::SingleNodeWriter), 32);
    written.detach(&node.driver, &node.id).unwrap();
    let image = format!("rbd/{}", written.image());
    cluster.rbd(&["bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", &image]);
    let bytes = || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image");
        cluster.rbd(&["export", "--no-progress", &image, file.to_str().unwrap()]);
        std::fs::read(file).unwrap()
    };
    let before = bytes();
    let mut written = written;
    written.attach(&node.driver, &node.id).unwrap();
    for _ in 0..2 {
        refused("NodeStageVolume/FAILED_PRECONDITION", written.stage(&node.driver), Code::FailedPrecondition, "neither formatted nor mounted");
    }
    holds("NodeStageVolume/contents", bytes() == before);
    assert_eq!(node.vm.shell("ls /sys/bus/rbd/devices"), "");
    written.detach(&node.driver, &node.id).unwrap();
    written.delete(&node.driver).unwrap();

    // A reader writes nothing, to the byte.
    let mut read = node.up("read", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32);
    let (image, data) = (format!("rbd/{}", read.image()), format!("{}/data", read.volume.target(0)));
    node.vm.shell(&format!("echo data >{data}; sync"));
    node.down(&read);
    let bytes = || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image");
        cluster.rbd(&["export", "--no-progress", &image, file.to_str().unwrap()]);
        std::fs::read(file).unwrap()
    };
    let before = bytes();
    read.volume.capability = mount_as("ext4", Mode::SingleNodeReaderOnly, &[]);
    read.attach(&node.driver, &node.id).unwrap();
    answered("NodeStageVolume/read-only", read.stage(&node.driver));
    answered("NodeStageVolume/read-only", read.publish(&node.driver, 0));
    assert_eq!(node.vm.shell(&format!("cat {data}")).trim(), "data");
    let is_refused = node.vm.shell(&format!("touch {data}-2 2>/dev/null && echo written || echo refused")).trim() == "refused";
    holds("NodeStageVolume/read-only", is_refused && node.options(&read.volume.staging).0.split(',').any(|option| option == "ro"));
    read.expand(&node.driver, 64).unwrap();
    let path = read.volume.target(0);
    refused("NodeExpandVolume/FAILED_PRECONDITION", node.grow(&read, &path, range(64 * MIB, 0)), Code::FailedPrecondition, "read-only");
    node.down(&read);
    holds("NodeStageVolume/read-only", bytes()[..before.len()] == before);
    read.delete(&node.driver).unwrap();
}
