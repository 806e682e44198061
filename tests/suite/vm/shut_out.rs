//! A node whose client the cluster has shut out: what is mapped through it is lost and said to be, and new volumes are mapped all the same.

use harness::bench::{Bench, bench};
use harness::mount_as;
use harness::rbd::{self, RbdVolume};
use harness::vm::GuestDaemon;
use serde_json::json;
use tonic::Code;
use windlass_csi::v1::volume_capability::access_mode::Mode;

#[test]
fn vm_rbd_a_client_that_was_shut_out_holds_up_no_new_volume() {
    let Bench { cluster, node1: vm } = bench();
    let daemon = GuestDaemon::prepared(vm, "shut-out");
    let driver = rbd::serve(&daemon, cluster);
    let node = rbd::node_id(&driver).unwrap();
    let mut volumes = ["lost", "new"].map(|name| {
        let capability = mount_as("ext4", Mode::SingleNodeWriter, &[]);
        RbdVolume::create(&driver, cluster, &format!("shut-out-{name}"), capability, 32).unwrap()
    });
    for volume in &mut volumes {
        volume.attach(&driver, &node).unwrap();
    }
    let [lost, new] = volumes;
    lost.stage(&driver).unwrap();
    lost.publish(&driver, 0).unwrap();
    vm.shell(&format!("echo kept >{}/file; sync", lost.volume.target(0)));
    let client = vm.shell("cat /sys/bus/rbd/devices/*/client_addr").trim().to_owned();
    cluster.command(&json!({"prefix": "osd blocklist", "blocklistop": "add", "addr": client})).unwrap();

    // Images share a client; the new one gets another, and the log names what has happened.
    new.stage(&driver).unwrap();
    new.publish(&driver, 0).unwrap();
    vm.shell(&format!("echo new >{}/file; sync; cat {}/file", new.volume.target(0), new.volume.target(0)));
    let clients = vm.shell("cat /sys/bus/rbd/devices/*/client_addr");
    assert!(clients.lines().count() == 2 && clients.lines().any(|other| other != client), "{clients}");
    assert!(daemon.log().contains("has shut this node's client out"), "{}", daemon.log());
    let written = vm.shell(&format!("dd if=/dev/zero of={}/late bs=64k count=1 conv=fsync 2>/dev/null && echo written || echo refused", lost.volume.target(0)));
    assert_eq!(written.trim(), "refused");

    // That what it had in memory is lost is said once, and holds up nothing.
    lost.volume.unpublish(&driver, 0).unwrap();
    if let Err(said) = lost.volume.unstage(&driver) {
        assert!(said.code() == Code::Unavailable && said.message().contains("last data"), "{said}");
        lost.volume.unstage(&driver).unwrap();
    }
    lost.stage(&driver).unwrap();
    lost.publish(&driver, 0).unwrap();
    assert_eq!(vm.shell(&format!("cat {}/file", lost.volume.target(0))).trim(), "kept");
    cluster.command(&json!({"prefix": "osd blocklist", "blocklistop": "rm", "addr": client})).unwrap();
    for volume in [&lost, &new] {
        volume.volume.unpublish(&driver, 0).unwrap();
        volume.volume.unstage(&driver).unwrap();
        volume.detach(&driver, &node).unwrap();
        volume.delete(&driver).unwrap();
    }
    assert_eq!(vm.shell("ls /sys/bus/rbd/devices; grep windlass: /proc/keys || true"), "");
}

#[test]
fn vm_rbd_whoever_has_a_device_open_is_named_and_not_disturbed() {
    let Bench { cluster, node1: vm } = bench();
    let daemon = GuestDaemon::prepared(vm, "held");
    let driver = rbd::serve(&daemon, cluster);
    let node = rbd::node_id(&driver).unwrap();
    let mut volume = RbdVolume::create(&driver, cluster, "held", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    volume.attach(&driver, &node).unwrap();
    volume.stage(&driver).unwrap();
    let device = daemon.devices()[0]["device"].as_str().unwrap().to_owned();
    let holder = vm.start_program(&["/bin/busybox", "sh", "-c", &format!("exec 3</dev/{device}; exec /bin/busybox sleep 1000")], &[], "/run/held.log");
    harness::eventually("it has the device open", || vm.shell(&format!("ls -l /proc/{holder}/fd")).contains(&device).then_some(()));
    let refused = volume.volume.unstage(&driver).unwrap_err();
    assert!(refused.code() == Code::Unavailable && refused.message().contains(&format!("pid {holder} ")), "{refused}");
    assert_eq!(vm.ended(holder), None, "it was not killed");
    assert_eq!(daemon.devices()[0]["state"], "ours");
    vm.signal(holder, nix::sys::signal::Signal::SIGKILL);
    harness::eventually("the unstage", || volume.volume.unstage(&driver).ok());
    assert_eq!(vm.shell("ls /sys/bus/rbd/devices; grep windlass: /proc/keys || true"), "");
    volume.detach(&driver, &node).unwrap();
    volume.delete(&driver).unwrap();
}
