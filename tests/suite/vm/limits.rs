//! Parameters that change while a volume lives, on the node: limits of I/O hold for the pods, from the stage on that comes after the change.

use harness::bench::{Bench, bench};
use harness::mount;
use harness::rbd::{self, RbdVolume};
use harness::vm::GuestDaemon;
use std::time::{Duration, Instant};
use tonic::Code;
use windlass_csi::v1::volume_capability::access_mode::Mode;

const PODS: &str = "/sys/fs/cgroup/kubepods.slice";

#[test]
fn vm_rbd_limits_hold_for_the_pods_and_go_with_the_device() {
    let Bench { cluster, node1: vm, .. } = bench();
    // As kubelet leaves it.
    vm.shell(&format!("echo +io >/sys/fs/cgroup/cgroup.subtree_control && mkdir {PODS}"));
    let mut daemon = GuestDaemon::prepared(vm, "limits");
    let driver = rbd::serve(&daemon, cluster);
    let node = rbd::node_id(&driver).unwrap();
    let mut volume = RbdVolume::create(&driver, cluster, "limited", mount(Mode::SingleNodeWriter), 64).unwrap();
    volume.modify(&driver, &[("writeBytesPerSecond", "2Mi"), ("readIops", "500"), ("queueDepth", "16")]).unwrap();
    let limits = || vm.shell(&format!("cat {PODS}/io.max")).trim().to_owned();
    let up = |volume: &mut RbdVolume| {
        volume.attach(&driver, &node).unwrap();
        volume.stage(&driver).unwrap();
        volume.publish(&driver, 0).unwrap();
    };
    let down = |volume: &RbdVolume| {
        volume.volume.unpublish(&driver, 0).unwrap();
        volume.volume.unstage(&driver).unwrap();
        volume.detach(&driver, &node).unwrap();
    };
    up(&mut volume);
    assert!(limits().ends_with("rbps=max wbps=2097152 riops=500 wiops=max") && limits().lines().count() == 1, "{}", limits());
    assert_eq!(vm.shell("cat /sys/bus/rbd/devices/0/config_info").matches("queue_depth=16").count(), 1);

    // A pod writes 8 MiB in about four seconds, and whoever is no pod as fast as it goes.
    let target = volume.volume.target(0);
    let write = |enter: &str| {
        let began = Instant::now();
        vm.shell(&format!("{enter} dd if=/dev/zero of={target}/data bs=1M count=8 oflag=direct 2>/dev/null"));
        began.elapsed()
    };
    let free = write("");
    let limited = write(&format!("echo $$ >{PODS}/cgroup.procs;"));
    println!("8 MiB in {limited:.1?} by a pod, {free:.1?} by others");
    assert!(limited >= Duration::from_millis(3200) && free < limited / 2, "{limited:?} and {free:?}");

    // What changes now is taken up by the next stage; the same volume, staged again as it is, stays as it is.
    let before = limits();
    volume.modify(&driver, &[("writeBytesPerSecond", "0"), ("readIops", "70")]).unwrap();
    volume.stage(&driver).unwrap();
    assert_eq!(limits(), before);
    down(&volume);
    assert_eq!(limits(), "", "a limit goes with its device");
    up(&mut volume);
    assert!(limits().ends_with("rbps=max wbps=max riops=70 wiops=max"), "{}", limits());
    down(&volume);
    volume.modify(&driver, &[("readIops", "0")]).unwrap();
    up(&mut volume);
    assert_eq!(limits(), "");
    down(&volume);

    // A node that cannot limit says so, and leaves nothing.
    volume.modify(&driver, &[("writeIops", "70")]).unwrap();
    daemon.kill();
    vm.shell(&format!("rmdir {PODS}"));
    daemon.start_again();
    daemon.wait_ready(rbd::RBD_DRIVER);
    volume.attach(&driver, &node).unwrap();
    let refused = volume.stage(&driver).unwrap_err();
    assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("node.limited_groups"), "{refused}");
    assert_eq!(vm.shell("ls /sys/bus/rbd/devices"), "");
    volume.detach(&driver, &node).unwrap();
    volume.delete(&driver).unwrap();
}
