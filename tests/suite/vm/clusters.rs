//! Two clusters, one node, and images of the same name by users of the same name: what is written to one never shows in the other.

use harness::ceph::Cluster;
use harness::network::Network;
use harness::rbd::{self, RbdVolume, secrets};
use harness::vm::{GuestDaemon, Vm};
use harness::{Endpoint, Volume, mount_as};
use std::sync::Arc;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// The clusters' names in the grants.
const NAMES: [&str; 2] = ["one", "two"];

/// A volume of this name in one of the clusters.
fn volume(driver: &Endpoint, which: &str, cluster: &Cluster) -> RbdVolume {
    let (capability, secrets) = (mount_as("ext4", Mode::SingleNodeWriter, &[]), secrets("admin", cluster.admin_key()));
    let mut request = RbdVolume::create_request("same", &capability, 32, "rbd", &secrets);
    request.parameters.insert("clusterID".into(), which.into());
    let made = driver.create_volume(request).unwrap().volume.unwrap();
    RbdVolume { volume: Volume::at(driver, which, made, capability).unwrap(), secrets, publish_context: Default::default() }
}

/// Stages them in turn, every third time beside the other, and each time finds what was last written to it, and nothing of the other.
pub(super) fn alternate(rounds: usize) {
    let network = Network::new().unwrap();
    let clusters = [Cluster::start(&network, 1).unwrap(), Cluster::start(&network, 1).unwrap()];
    let vm = Arc::new(Vm::start(&network, "between").unwrap());
    let daemon = GuestDaemon::prepared(&vm, "between");
    daemon.lend_code("rbd");
    let grants: String =
        NAMES.iter().zip(&clusters).map(|(name, cluster)| format!("[grants.rbd.{name}]\nmonitors = [\"{}\"]\n", cluster.monitor_v1())).collect();
    daemon.write_driver(rbd::RBD_DRIVER, &format!("component = \"embedded:rbd\"\n{grants}"));
    daemon.wait_ready(rbd::RBD_DRIVER);
    let driver = daemon.driver(rbd::RBD_DRIVER);
    let node = rbd::node_id(&driver).unwrap();
    let mut volumes: Vec<RbdVolume> = NAMES.iter().zip(&clusters).map(|(name, cluster)| volume(&driver, name, cluster)).collect();
    assert_eq!(volumes[0].image(), volumes[1].image());
    assert_ne!(volumes[0].volume.id(), volumes[1].volume.id());
    assert_ne!(clusters[0].fsid(), clusters[1].fsid());
    for volume in &mut volumes {
        volume.attach(&driver, &node).unwrap();
    }

    // A proof of one cluster opens nothing in the other.
    let crossed = RbdVolume { publish_context: volumes[1].publish_context.clone(), ..volumes[0].clone() };
    let refused = crossed.stage(&driver).unwrap_err();
    assert!(matches!(refused.code(), tonic::Code::FailedPrecondition | tonic::Code::InvalidArgument | tonic::Code::Unavailable), "{refused}");
    assert_eq!(vm.shell("ls /sys/bus/rbd/devices 2>/dev/null || true"), "");

    let mut last = ["nothing".to_owned(), "nothing".to_owned()];
    let mut is_staged = [false; 2];
    let take_down = |volume: &RbdVolume| {
        volume.volume.unpublish(&driver, 0).unwrap();
        volume.volume.unstage(&driver).unwrap();
    };
    for round in 0..rounds {
        let here = round % 2;
        let volume = &volumes[here];
        if std::mem::replace(&mut is_staged[here], true) {
            take_down(volume);
        }
        volume.stage(&driver).unwrap();
        volume.publish(&driver, 0).unwrap();
        // The mapping below the mount is the right cluster's, by the kernel's own word.
        let now = format!("of-{}-{round}", NAMES[here]);
        let said = vm.shell(&format!(
            "cd {}; cat word 2>/dev/null || echo nothing; echo {now} >word; sync word; \
             id=$(sed -n 's|^/dev/rbd\\([0-9]*\\) {} .*|\\1|p' /proc/mounts); cat /sys/bus/rbd/devices/$id/cluster_fsid",
            volume.volume.target(0),
            volume.volume.target(0)
        ));
        assert_eq!(said.lines().collect::<Vec<_>>(), [last[here].as_str(), clusters[here].fsid()], "round {round}");
        last[here] = now;
        if round % 3 != 0 {
            take_down(volume);
            is_staged[here] = false;
        }
    }
    for here in 0..2 {
        if is_staged[here] {
            take_down(&volumes[here]);
        }
        // In the clusters themselves: the words of one are nowhere in the other's image.
        let exported = clusters[here].rbd(&["export", "--no-progress", &format!("rbd/{}", volumes[here].image()), "-"]);
        assert!(exported.contains(&last[here]) && !exported.contains(&format!("of-{}-", NAMES[1 - here])), "the image of cluster {}", NAMES[here]);
        volumes[here].detach(&driver, &node).unwrap();
        volumes[here].delete(&driver).unwrap();
        assert_eq!(clusters[here].rbd(&["ls", "rbd"]).trim(), "");
    }
    assert_eq!(vm.shell("ls /sys/bus/rbd/devices; grep windlass: /proc/keys || true"), "");
}

#[test]
fn vm_rbd_images_of_one_name_in_two_clusters_are_never_mixed_up() {
    alternate(24);
}
