//! The bench itself, in the shortest way: a mapped image that is formatted and written, and a whole local volume over the daemon's socket in the guest.

use harness::bench::bench;
use harness::vm::GuestDaemon;
use harness::{Volume, mount_as};
use windlass_csi::v1::volume_capability::access_mode::Mode;

#[test]
fn vm_an_image_is_mapped_formatted_written_and_unmapped() {
    let bench = bench();
    let (cluster, vm) = (&bench.cluster, &bench.node1);
    cluster.rbd(&["create", "rbd/smoke", "--size", "64M"]);
    let options = format!("{} name=admin,secret={} rbd smoke -", cluster.monitor_v1(), cluster.admin_key());
    vm.shell(&format!("echo '{options}' >/sys/bus/rbd/add_single_major"));
    assert_eq!(vm.shell("cat /sys/bus/rbd/devices/0/name").trim(), "smoke");
    let before = cluster.osd_ops().unwrap();
    vm.run(&["mkfs.ext4", "-q", "/dev/rbd0"]);
    vm.shell("mkdir -p /run/smoke; mount -t ext4 /dev/rbd0 /run/smoke; echo bytes >/run/smoke/file; umount /run/smoke");
    assert!(cluster.osd_ops().unwrap() > before, "nothing reached the cluster");
    vm.shell("mount -t ext4 -o ro /dev/rbd0 /run/smoke; grep bytes /run/smoke/file; umount /run/smoke; rmdir /run/smoke");
    vm.shell("echo 0 >/sys/bus/rbd/remove_single_major");
    assert_eq!(vm.shell("ls /sys/bus/rbd/devices"), "");
    cluster.rbd(&["rm", "--no-progress", "rbd/smoke"]);
}

#[test]
fn vm_a_local_volume_lives_on_a_daemon_in_the_guest() {
    let vm = &bench().node1;
    let mut daemon = GuestDaemon::start(vm, "local");
    assert!(daemon.probe().unwrap());
    let volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64).unwrap();
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    vm.shell(&format!("echo bytes >{}/file", volume.target(0)));
    daemon.kill();
    daemon.start_again();
    daemon.wait_ready(harness::DRIVER);
    vm.run(&["grep", "bytes", &format!("{}/file", volume.target(0))]);
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    volume.delete(&daemon).unwrap();
    assert_eq!(vm.shell("losetup -a"), "");
    daemon.stop();
}
