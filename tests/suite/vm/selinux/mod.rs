//! A kernel with SELinux: the label that kubelet wants of a volume (`seLinuxMount`) is on each of its files, to the comma, and no other can be had beside it.

use harness::ceph::Cluster;
use harness::network::Network;
use harness::rbd::{self, RbdVolume};
use harness::rows::{holds, refused};
use harness::vm::{GuestDaemon, Vm};
use harness::{bench, mount_as};
use std::process::Command;
use std::sync::Arc;
use tonic::Code;
use windlass_csi::v1::volume_capability::access_mode::Mode;

const POLICY: &str = include_str!("policy.cil");

/// The policy as the kernel reads it.
fn compiled() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("policy.cil"), POLICY).unwrap();
    let output = Command::new("secilc").arg("-o").arg(file("policy")).arg("-f").arg(file("contexts")).arg(file("policy.cil")).output();
    let output = output.expect("secilc: run `make setup-vm`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(file("policy")).unwrap()
}

#[test]
fn vm_rbd_a_label_is_on_every_file_of_the_volume_and_no_other_beside_it() {
    bench::require().unwrap();
    let network = Network::new().unwrap();
    let cluster = Cluster::start(&network, 1).unwrap();
    let vm = Arc::new(Vm::start_with(&network, "labels", "security=selinux selinux=1 enforcing=0").unwrap());
    vm.put("/run/policy", 0o600, &compiled());
    // In one write, as the kernel wants it.
    vm.shell("mount -t selinuxfs selinuxfs /sys/fs/selinux; dd if=/run/policy of=/sys/fs/selinux/load bs=1M conv=notrunc 2>/dev/null");
    assert_eq!(vm.shell("cat /proc/1/attr/current").trim_end_matches(['\n', '\0']), "system_u:system_r:kernel_t:s0");

    let mut daemon = GuestDaemon::prepared(&vm, "labels");
    let driver = rbd::serve(&daemon, &cluster);
    let node = rbd::node_id(&driver).unwrap();
    let labelled = |categories: &str| {
        let flag = format!("context=\"system_u:object_r:container_file_t:s0:{categories}\"");
        mount_as("ext4", Mode::SingleNodeMultiWriter, &["noatime", &flag])
    };
    let mut volume = RbdVolume::create(&driver, &cluster, "labelled", mount_as("ext4", Mode::SingleNodeMultiWriter, &[]), 32).unwrap();
    volume.volume.capability = labelled("c1,c2");
    volume.attach(&driver, &node).unwrap();
    let with = |capability| {
        let mut other = volume.clone();
        other.volume.capability = capability;
        other
    };
    volume.stage(&driver).unwrap();
    volume.publish(&driver, 0).unwrap();
    let target = volume.volume.target(0);
    vm.shell(&format!("echo bytes >{target}/file; mkdir {target}/folder"));
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    for path in [target.clone(), format!("{target}/file"), format!("{target}/folder"), volume.volume.staging.clone()] {
        holds("NodeStageVolume/selinux", vm.run(&["/usr/bin/stat", "-c", "%C", &path]).trim() == label);
    }

    // A second mount with another label, of the same volume on the same node: at the stage, at its target, and at a target of its own.
    let other = with(labelled("c1,c3"));
    refused("NodeStageVolume/ALREADY_EXISTS", other.stage(&driver), Code::AlreadyExists, "staged");
    refused("NodePublishVolume/ALREADY_EXISTS", other.publish(&driver, 0), Code::AlreadyExists, "published");
    refused("NodePublishVolume/FAILED_PRECONDITION", other.publish(&driver, 1), Code::FailedPrecondition, label);
    holds("NodeStageVolume/selinux", vm.run(&["/usr/bin/stat", "-c", "%C", &format!("{target}/file")]).trim() == label);
    volume.publish(&driver, 1).unwrap();
    // Nor where the journal was lost, and the kernel alone knows the label.
    daemon.kill();
    vm.shell("rm -r /run/labels/journal");
    daemon.start_again();
    daemon.wait_ready(rbd::RBD_DRIVER);
    refused("NodePublishVolume/FAILED_PRECONDITION", other.publish(&driver, 2), Code::FailedPrecondition, label);
    refused("NodeStageVolume/ALREADY_EXISTS", other.stage(&driver), Code::AlreadyExists, label);
    let plain = with(mount_as("ext4", Mode::SingleNodeMultiWriter, &[]));
    refused("NodeStageVolume/ALREADY_EXISTS", plain.stage(&driver), Code::AlreadyExists, label);
    volume.stage(&driver).unwrap();
    for n in 0..2 {
        volume.volume.unpublish(&driver, n).unwrap();
    }
    volume.volume.unstage(&driver).unwrap();

    // A label that the policy does not have is the kernel's to refuse; nothing is mounted without it.
    let unknown = with(labelled("c1,c9"));
    refused("NodeStageVolume/FAILED_PRECONDITION", unknown.stage(&driver), Code::FailedPrecondition, "context");
    assert_eq!(vm.shell(&format!("grep -c ' {} ' /proc/self/mountinfo || true", volume.volume.staging)).trim(), "0");
    // And the other has its turn once the first is gone.
    other.stage(&driver).unwrap();
    let staged = vm.run(&["/usr/bin/stat", "-c", "%C", &format!("{}/file", volume.volume.staging)]);
    holds("NodeStageVolume/selinux", staged.trim() == "system_u:object_r:container_file_t:s0:c1,c3");
    other.volume.unstage(&driver).unwrap();
    volume.detach(&driver, &node).unwrap();
    volume.delete(&driver).unwrap();
}
