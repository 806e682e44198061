//! ControllerPublishVolume and ControllerUnpublishVolume row by row, at the socket of the driver for Ceph RBD.

use harness::bench::{Bench, bench};
use harness::rbd::{self, RbdVolume};
use harness::rows::{answered, holds, refused};
use harness::vm::GuestDaemon;
use harness::{Endpoint, mount};
use std::collections::BTreeMap;
use tonic::{Code, Status};
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn unpublish(driver: &Endpoint, volume: &str, node: &str, secrets: &BTreeMap<String, String>) -> Result<(), Status> {
    let request = v1::ControllerUnpublishVolumeRequest { volume_id: volume.to_owned(), node_id: node.to_owned(), secrets: secrets.clone() };
    driver.controller_unpublish_volume(request).map(drop)
}

#[test]
fn vm_rbd_publishing_keeps_to_its_rows() {
    let Bench { cluster, node1, .. } = bench();
    let daemon = GuestDaemon::prepared(node1, "rows");
    let driver = rbd::serve(&daemon, cluster);
    let node = rbd::node_id(&driver).unwrap();
    let mut volume = RbdVolume::create(&driver, cluster, "rows", mount(Mode::SingleNodeWriter), 32).unwrap();
    let publish = |change: &dyn Fn(&mut v1::ControllerPublishVolumeRequest)| {
        let mut request = volume.attach_request(&node);
        change(&mut request);
        driver.controller_publish_volume(request)
    };

    let invalid = |field: &str, change: &dyn Fn(&mut v1::ControllerPublishVolumeRequest)| {
        refused("ControllerPublishVolume/INVALID_ARGUMENT", publish(change), Code::InvalidArgument, field);
    };
    invalid("volume_id", &|request| request.volume_id.clear());
    invalid("node_id", &|request| request.node_id.clear());
    invalid("volume_capability", &|request| request.volume_capability = None);
    invalid("node_id", &|request| request.node_id = "n".repeat(257));
    let id = volume.volume.id();
    let (place, _) = id.split_at(id.len() - 36);
    for gone in ["nothing".to_owned(), format!("{place}00000000-0000-4000-8000-000000000000")] {
        refused("ControllerPublishVolume/NOT_FOUND", publish(&|request| request.volume_id = gone.clone()), Code::NotFound, "");
        answered("ControllerUnpublishVolume/unknown", unpublish(&driver, &gone, &node, &volume.secrets));
    }
    refused("ControllerPublishVolume/NOT_FOUND/2", publish(&|request| request.node_id = "somebody".into()), Code::NotFound, "somebody");
    refused("ControllerUnpublishVolume/NOT_FOUND/2", unpublish(&driver, &volume.volume.id(), "somebody", &volume.secrets), Code::NotFound, "somebody");
    refused("*/UNAUTHENTICATED", publish(&|request| drop(request.secrets.insert("userID".into(), "nobody".into()))), Code::Unauthenticated, "ceph auth get");
    let told = publish(&|request| drop(request.secrets.insert("userID".into(), "nobody".into()))).unwrap_err();
    assert!(!told.message().contains("nobody"), "what came as a secret is not repeated: {told}");

    // A user who may look and not write.
    let reader = cluster.create_user("reader", &[("mon", "allow r"), ("osd", "allow r")]).unwrap();
    let as_reader = |request: &mut v1::ControllerPublishVolumeRequest| request.secrets = rbd::secrets("reader", &reader);
    refused("*/PERMISSION_DENIED", publish(&as_reader), Code::PermissionDenied, "");

    let first = publish(&|_| {}).unwrap().publish_context;
    let again = publish(&|_| {}).unwrap().publish_context;
    holds("ControllerPublishVolume/idempotent", first["windlass.io/image"] == again["windlass.io/image"]);
    assert_ne!(first["windlass.io/never-written"], again["windlass.io/never-written"], "a proof is another with each claim");
    let as_reading = |request: &mut v1::ControllerPublishVolumeRequest| request.volume_capability = Some(mount(Mode::SingleNodeReaderOnly));
    refused("ControllerPublishVolume/ALREADY_EXISTS", publish(&as_reading), Code::AlreadyExists, "node1");
    let elsewhere = |request: &mut v1::ControllerPublishVolumeRequest| request.node_id = "node9/10.87.0.9".into();
    refused("ControllerPublishVolume/FAILED_PRECONDITION", publish(&elsewhere), Code::FailedPrecondition, "node1");

    // From a node that does not have it, from the one that has it, and again; then from all.
    for node in std::iter::once("node9/10.87.0.9").chain(std::iter::repeat_n(node.as_str(), 10)) {
        answered("ControllerUnpublishVolume/idempotent", unpublish(&driver, &volume.volume.id(), node, &volume.secrets));
    }
    publish(&elsewhere).unwrap();
    answered("ControllerUnpublishVolume/all-nodes", unpublish(&driver, &volume.volume.id(), "", &volume.secrets));
    volume.attach(&driver, &node).unwrap();

    // Sixty-four at once are one.
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..64).map(|_| scope.spawn(|| driver.controller_publish_volume(volume.attach_request(&node)))).collect();
        let answers: Vec<_> = calls.into_iter().map(|call| answered("ControllerPublishVolume/concurrent", call.join().expect("no panic"))).collect();
        assert!(answers.iter().all(|answer| answer.publish_context["windlass.io/image"] == first["windlass.io/image"]));
    });
    // Nothing shows the key.
    let key = cluster.admin_key();
    holds("ControllerPublishVolume/secrets", !daemon.log().contains(key));
    assert!(!daemon.status().to_string().contains(key));
    let files = node1.shell(&format!("grep -rl '{key}' /run/rows /var/lib/windlass/rows 2>/dev/null || true"));
    assert_eq!(files.trim(), "");
    volume.detach(&driver, &node).unwrap();
    volume.delete(&driver).unwrap();
}
