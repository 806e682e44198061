//! The whole life of a volume in a Ceph cluster: made, claimed for a node, mapped, formatted, written, grown while it is written, taken down, deleted.

use harness::bench::{Bench, bench};
use harness::rbd::{self, RbdVolume};
use harness::vm::GuestDaemon;
use harness::{Endpoint, block, mount_as};
use tonic::Code;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// A daemon with both roles on the first machine, and its driver.
fn serve(name: &str) -> (GuestDaemon, Endpoint, String) {
    let Bench { cluster, node1, .. } = bench();
    let daemon = GuestDaemon::prepared(node1, name);
    let driver = rbd::serve(&daemon, cluster);
    let node = rbd::node_id(&driver).unwrap();
    assert_eq!(node, format!("node1/{}", node1.address()));
    (daemon, driver, node)
}

/// Nothing of the test's is left in the kernel and in the pool.
fn nothing_is_left() {
    let Bench { cluster, node1, .. } = bench();
    assert_eq!(node1.shell("ls /sys/bus/rbd/devices"), "");
    assert_eq!(node1.shell("grep windlass: /proc/keys || true"), "");
    assert_eq!(cluster.rbd(&["ls", "rbd"]).trim(), "");
    harness::eventually("the trash is emptied", || (cluster.rbd(&["trash", "ls", "rbd"]).trim().is_empty()).then_some(()));
}

#[test]
fn vm_rbd_a_file_system_lives_from_create_to_delete() {
    let Bench { cluster, node1: vm, .. } = bench();
    let (mut daemon, driver, node) = serve("life");
    for (kind, mib) in [("ext4", 64), ("xfs", 320)] {
        let mut volume = RbdVolume::create(&driver, cluster, &format!("life-{kind}"), mount_as(kind, Mode::SingleNodeWriter, &[]), mib).unwrap();
        let target = volume.volume.target(0);

        // Without the controller's word nothing is mapped.
        assert_eq!(volume.stage(&driver).unwrap_err().code(), Code::FailedPrecondition);
        volume.attach(&driver, &node).unwrap();
        assert!(volume.publish_context.contains_key("windlass.io/never-written"), "{:?}", volume.publish_context);
        volume.stage(&driver).unwrap();
        volume.stage(&driver).unwrap();
        volume.publish(&driver, 0).unwrap();
        vm.shell(&format!("dd if=/dev/urandom of={target}/data bs=1M count=8 2>/dev/null; cd {target}; sha256sum data >sum; sync"));

        // A successor finds everything as it is.
        daemon.kill();
        daemon.start_again();
        daemon.wait_ready(rbd::RBD_DRIVER);
        volume.stage(&driver).unwrap();
        volume.publish(&driver, 0).unwrap();

        // Grows while it is used; ext4 too.
        assert_eq!(volume.expand(&driver, mib * 2).unwrap(), (mib * 2) << 20);
        assert_eq!(volume.grow(&driver, 0).unwrap(), (mib * 2) << 20);
        let blocks: i64 = vm.shell(&format!("stat -f -c %b {target}")).trim().parse().unwrap();
        let size: i64 = vm.shell(&format!("stat -f -c %S {target}")).trim().parse().unwrap();
        assert!(blocks * size > (mib << 20) * 3 / 2, "{blocks} blocks of {size} bytes");

        // While the node has it, it is not deleted.
        assert_eq!(volume.delete(&driver).unwrap_err().code(), Code::FailedPrecondition);

        volume.volume.unpublish(&driver, 0).unwrap();
        volume.volume.unstage(&driver).unwrap();
        volume.volume.unstage(&driver).unwrap();
        volume.detach(&driver, &node).unwrap();
        volume.detach(&driver, &node).unwrap();

        // Once more, as after the pod moved back: not formatted again, and all there.
        volume.attach(&driver, &node).unwrap();
        assert!(!volume.publish_context.contains_key("windlass.io/never-written"));
        volume.stage(&driver).unwrap();
        volume.publish(&driver, 0).unwrap();
        vm.shell(&format!("cd {target} && sha256sum -c sum"));
        volume.volume.unpublish(&driver, 0).unwrap();
        volume.volume.unstage(&driver).unwrap();
        volume.detach(&driver, &node).unwrap();
        volume.delete(&driver).unwrap();
        volume.delete(&driver).unwrap();
    }
    nothing_is_left();
}

#[test]
fn vm_rbd_a_raw_volume_and_a_read_only_one() {
    let Bench { cluster, node1: vm, .. } = bench();
    let (_daemon, driver, node) = serve("raw");
    let mut volume = RbdVolume::create(&driver, cluster, "raw", block(Mode::SingleNodeWriter), 32).unwrap();
    let target = volume.volume.target(0);
    volume.attach(&driver, &node).unwrap();
    assert!(!volume.publish_context.contains_key("windlass.io/never-written"));
    volume.stage(&driver).unwrap();
    volume.publish(&driver, 0).unwrap();
    vm.shell(&format!(
        "dd if=/dev/urandom of={target} bs=1M count=4 oflag=direct 2>/dev/null; dd if={target} bs=1M count=4 iflag=direct 2>/dev/null | sha256sum >/run/raw.sum"
    ));
    volume.volume.unpublish(&driver, 0).unwrap();
    volume.volume.unstage(&driver).unwrap();
    volume.detach(&driver, &node).unwrap();

    // Read-only is read-only: the device itself refuses.
    volume.volume.capability = block(Mode::SingleNodeReaderOnly);
    volume.attach(&driver, &node).unwrap();
    volume.stage(&driver).unwrap();
    volume.publish(&driver, 0).unwrap();
    assert_eq!(vm.shell(&format!("dd if=/dev/zero of={target} bs=4k count=1 oflag=direct 2>/dev/null && echo written || echo refused")).trim(), "refused");
    vm.shell(&format!("dd if={target} bs=1M count=4 iflag=direct 2>/dev/null | sha256sum | cmp - /run/raw.sum"));
    volume.volume.unpublish(&driver, 0).unwrap();
    volume.volume.unstage(&driver).unwrap();
    volume.detach(&driver, &node).unwrap();
    volume.delete(&driver).unwrap();
    nothing_is_left();
}
