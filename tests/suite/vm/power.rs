//! A machine whose power is cut, and that is switched on again.

use harness::network::Network;
use harness::vm::{GuestDaemon, Vm};
use harness::{DRIVER, Volume, mount_as};
use std::sync::Arc;
use windlass_csi::v1::volume_capability::access_mode::Mode;

#[test]
fn vm_a_volume_and_its_daemon_outlive_a_power_cut() {
    let vm = Arc::new(Vm::start(&Network::new().unwrap(), "cut").unwrap());
    let mut daemon = GuestDaemon::start(&vm, "power");
    let volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64).unwrap();
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    let file = format!("{}/file", volume.target(0));
    vm.shell(&format!("echo bytes >{file}; sync; echo here >/run/memory"));
    let first_boot = vm.shell("cat /proc/sys/kernel/random/boot_id");

    vm.reboot().unwrap();
    assert_ne!(vm.shell("cat /proc/sys/kernel/random/boot_id"), first_boot);
    assert_eq!(vm.shell("ls /run/memory 2>/dev/null || echo gone").trim(), "gone");
    assert_eq!(vm.shell("losetup -a"), "");

    daemon.start_again();
    daemon.wait_ready(DRIVER);
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    assert_eq!(vm.shell(&format!("cat {file}")).trim(), "bytes");
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    volume.delete(&daemon).unwrap();
}

#[test]
fn vm_two_machines_meet_on_their_bridge() {
    let (node1, node2) = (&harness::bench::bench().node1, harness::bench::node2());
    assert_ne!(node1.address(), node2.address());
    node1.run(&["/bin/busybox", "ping", "-c", "1", "-w", "10", &node2.address().to_string()]);
    assert_eq!((node1.shell("hostname").trim(), node2.shell("hostname").trim()), ("node1", "node2"));
}
