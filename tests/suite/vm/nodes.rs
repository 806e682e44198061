//! Two nodes and one volume: only one of them writes, and one that is lost is shut out before another is let in.

use harness::bench::{Bench, bench, node2};
use harness::rbd::{self, RbdVolume};
use harness::vm::{GuestDaemon, Vm};
use harness::{Endpoint, mount_as};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Code;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn serve(vm: &Arc<Vm>, name: &str) -> (GuestDaemon, Endpoint, String) {
    let daemon = GuestDaemon::prepared(vm, name);
    let driver = rbd::serve(&daemon, &bench().cluster);
    let node = rbd::node_id(&driver).unwrap();
    (daemon, driver, node)
}

#[test]
fn vm_rbd_a_second_node_is_refused_until_the_first_lets_go() {
    let Bench { cluster, node1: vm1, .. } = bench();
    let vm2 = node2();
    let ((_one, first, node_1), (_two, second, node_2)) = (serve(vm1, "pair"), serve(vm2, "pair"));
    let mut volume = RbdVolume::create(&first, cluster, "moves", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64).unwrap();
    second.make_folders(&[&volume.volume.staging, &volume.volume.pods]).unwrap();
    volume.attach(&first, &node_1).unwrap();
    volume.stage(&first).unwrap();
    volume.publish(&first, 0).unwrap();
    let file = format!("{}/file", volume.volume.target(0));
    vm1.shell(&format!("echo from-one >{file}"));

    let begun = Instant::now();
    let refused = volume.clone().attach(&first, &node_2).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("node1") && begun.elapsed() < Duration::from_secs(5), "{refused} after {:?}", begun.elapsed());
    // What the first was given does not open it for the second: there the claim is looked for by name.
    assert_eq!(volume.expand(&first, 96).unwrap(), 96 << 20, "an expansion meanwhile succeeds");
    cluster.rbd(&["snap", "create", "--no-progress", &format!("rbd/{}@meanwhile", volume.image())]);
    cluster.rbd(&["snap", "rm", "--no-progress", &format!("rbd/{}@meanwhile", volume.image())]);

    volume.volume.unpublish(&first, 0).unwrap();
    volume.volume.unstage(&first).unwrap();
    volume.detach(&first, &node_1).unwrap();
    volume.attach(&first, &node_2).unwrap();
    volume.stage(&second).unwrap();
    volume.publish(&second, 0).unwrap();
    assert_eq!(vm2.shell(&format!("cat {file}")).trim(), "from-one");
    volume.volume.unpublish(&second, 0).unwrap();
    volume.volume.unstage(&second).unwrap();
    volume.detach(&first, &node_2).unwrap();
    volume.delete(&first).unwrap();
}

#[test]
fn vm_rbd_a_lost_node_is_shut_out_before_another_writes() {
    let Bench { cluster, .. } = bench();
    let vm1 = Arc::new(Vm::start(cluster.network(), "lost").unwrap());
    let vm2 = node2();
    let ((_one, first, node_1), (_two, second, node_2)) = (serve(&vm1, "lost"), serve(vm2, "finder"));
    let mut volume = RbdVolume::create(&second, cluster, "fenced", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64).unwrap();
    for (place, of) in [(&first, "lost"), (&second, "finder")] {
        let own = |path: &str| path.replace("/finder/", &format!("/{of}/"));
        place.make_folders(&[&own(&volume.volume.staging), &own(&volume.volume.pods)]).unwrap();
    }
    let mut there = volume.clone();
    there.volume.staging = there.volume.staging.replace("/finder/", "/lost/");
    there.volume.pods = there.volume.pods.replace("/finder/", "/lost/");

    there.attach(&second, &node_1).unwrap();
    there.stage(&first).unwrap();
    there.publish(&first, 0).unwrap();
    vm1.shell(&format!("echo kept >{}/kept; sync", there.volume.target(0)));
    vm1.freeze();

    // The orchestrator gives the node up.
    volume.detach(&second, &node_1).unwrap();
    volume.attach(&second, &node_2).unwrap();
    volume.stage(&second).unwrap();
    volume.publish(&second, 0).unwrap();
    let sum = vm2.shell(&format!("cd {}; cat kept; dd if=/dev/urandom of=new bs=1M count=4 2>/dev/null; sync; sha256sum new", volume.volume.target(0)));
    assert!(sum.starts_with("kept\n"), "{sum}");

    // It comes back and knows nothing of it: what it writes goes nowhere.
    vm1.thaw();
    let written =
        vm1.shell(&format!("dd if=/dev/zero of={}/late bs=1M count=4 conv=fsync 2>/dev/null && echo written || echo refused", there.volume.target(0)));
    assert_eq!(written.trim(), "refused");
    let after = vm2.shell(&format!("echo 3 >/proc/sys/vm/drop_caches; cd {}; cat kept; sha256sum new; ls late 2>/dev/null || true", volume.volume.target(0)));
    assert_eq!(after, sum);

    volume.volume.unpublish(&second, 0).unwrap();
    volume.volume.unstage(&second).unwrap();
    volume.detach(&second, &node_2).unwrap();
    volume.delete(&second).unwrap();
    // The lost node can still be cleared up. That what it had in memory is lost is said once, and holds up nothing.
    there.volume.unpublish(&first, 0).unwrap();
    if let Err(lost) = there.volume.unstage(&first) {
        assert!(lost.code() == Code::Unavailable && lost.message().contains("last data"), "{lost}");
        there.volume.unstage(&first).unwrap();
    }
    assert_eq!(vm1.shell("ls /sys/bus/rbd/devices"), "");
}
