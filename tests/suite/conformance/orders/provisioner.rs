//! external-provisioner: volumes made with the keys that it adds and without those that it strips, its retries, its idea of room, and what it deletes again.

use super::{but, row};
use harness::orders::{self, Heard, access_mode, component, keys};
use harness::{Caller, DRIVER, Daemon, block, eventually, mount_as, process};
use std::collections::BTreeMap;
use std::time::Duration;
use windlass_csi::v1;
use windlass_csi::v1::controller_service_capability::rpc::Type as Rpc;
use windlass_csi::v1::plugin_capability::service::Type as Service;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::volume_capability::{AccessMode, AccessType, MountVolume};

const UID: &str = "0d2f4c7e-3b52-4d1c-9b8a-5f6e7d8c9b0a";

/// What --extra-create-metadata adds.
fn metadata(claim: &str) -> BTreeMap<String, String> {
    let volume = format!("pvc-{UID}");
    keys(&[("csi.storage.k8s.io/pvc/name", claim), ("csi.storage.k8s.io/pvc/namespace", "default"), ("csi.storage.k8s.io/pv/name", &volume)])
}

/// A storage class as the operator wrote it: all of this is stripped before CreateVolume.
fn class() -> BTreeMap<String, String> {
    keys(&[
        ("csi.storage.k8s.io/fstype", "xfs"),
        ("csi.storage.k8s.io/provisioner-secret-name", "csi"),
        ("csi.storage.k8s.io/provisioner-secret-namespace", "storage"),
        ("csi.storage.k8s.io/node-stage-secret-name", "csi"),
        ("csi.storage.k8s.io/node-stage-secret-namespace", "storage"),
    ])
}

/// With the places of one node, where the driver says that places matter.
fn request(heard: &Heard, mode: &str, parameters: BTreeMap<String, String>) -> v1::CreateVolumeRequest {
    let place = heard.node.as_ref().and_then(|node| node.accessible_topology.clone());
    let places: Vec<_> = place.into_iter().collect();
    let matters = heard.services.contains(&Service::VolumeAccessibilityConstraints);
    assert!(!matters || !places.is_empty(), "the provisioner makes no volume: no topology key found for the node");
    v1::CreateVolumeRequest {
        name: format!("pvc-{UID}"),
        capacity_range: Some(v1::CapacityRange { required_bytes: 320 << 20, limit_bytes: 0 }),
        volume_capabilities: vec![mount_as("xfs", access_mode(mode, heard.controller.contains(&Rpc::SingleNodeMultiWriter)), &[])],
        parameters,
        accessibility_requirements: matters.then(|| v1::TopologyRequirement { requisite: places.clone(), preferred: places }),
        ..Default::default()
    }
}

fn delete(provisioner: &Caller, volume: &str) {
    provisioner.delete_volume(v1::DeleteVolumeRequest { volume_id: volume.to_owned(), ..Default::default() }).unwrap();
}

#[test]
fn plugin_the_provisioner_makes_a_volume_with_its_keys_and_finds_it_again_without_them() {
    let daemon = Daemon::start();
    let (provisioner, heard) = component("external-provisioner --node-deployment").start(&daemon);
    row("NodeGetInfo/topology").holds(heard.node.as_ref().is_some_and(|node| node.accessible_topology.is_some()), "a node is somewhere");
    for mode in ["ReadWriteOnce", "ReadWriteOncePod"] {
        let first = request(&heard, mode, metadata("data-db-0"));
        let made = row("CreateVolume/orchestrator").answers(provisioner.create_volume(first.clone())).volume.unwrap();
        // It deletes at once what is smaller than the claim.
        row("CreateVolume/orchestrator").holds(made.capacity_bytes >= 320 << 20, "what is answered is no smaller than the claim");
        // Restarted without --extra-create-metadata, or asked for by a claim of another name with the same uid.
        for parameters in [metadata("data-db-0"), metadata("renamed"), BTreeMap::new()] {
            let again = row("CreateVolume/orchestrator").answers(provisioner.create_volume(but(first.clone(), |m| m.parameters = parameters)));
            row("CreateVolume/orchestrator").holds(again.volume.as_ref() == Some(&made), "the keys are no part of the wish");
        }
        assert!(made.accessible_topology.is_empty(), "a volume that any node may have is bound to none");
        delete(&provisioner, &made.volume_id);
        delete(&provisioner, &made.volume_id);
    }
    // A raw one; the class's file system is for those that are mounted.
    let raw = but(request(&heard, "ReadWriteOnce", metadata("raw")), |m| m.volume_capabilities = vec![block(Mode::SingleNodeMultiWriter)]);
    delete(&provisioner, &provisioner.create_volume(raw).unwrap().volume.unwrap().volume_id);
    assert_eq!(provisioner.connections(), 1, "it would have exited");
}

#[test]
fn plugin_a_copy_says_what_it_was_made_from_or_the_provisioner_deletes_it() {
    let daemon = Daemon::start();
    let (provisioner, heard) = component("external-provisioner --node-deployment").start(&daemon);
    assert!(heard.controller.is_superset(&[Rpc::CreateDeleteSnapshot, Rpc::CloneVolume].into()), "{heard:?}");
    let source = provisioner.create_volume(request(&heard, "ReadWriteOnce", metadata("source"))).unwrap().volume.unwrap();
    let copied = Some(harness::rbd::from_volume(&source.volume_id));
    let asked = but(request(&heard, "ReadWriteOnce", metadata("copy")), |m| {
        m.name = "pvc-copy".to_owned();
        m.volume_content_source = copied.clone();
    });
    let copy = row("CreateVolume/orchestrator").answers(provisioner.create_volume(asked)).volume.unwrap();
    row("CreateVolume/orchestrator").holds(copy.content_source == copied, "the source is repeated");
    delete(&provisioner, &copy.volume_id);
    delete(&provisioner, &source.volume_id);
}

#[test]
fn plugin_room_is_asked_for_with_the_class_as_it_was_written() {
    let daemon = Daemon::start();
    let (provisioner, heard) = component("external-provisioner --node-deployment").start(&daemon);
    assert!(heard.controller.contains(&Rpc::GetCapacity));
    let here = heard.node.and_then(|node| node.accessible_topology);
    let unknown = v1::VolumeCapability { access_mode: Some(AccessMode::default()), access_type: Some(AccessType::Mount(MountVolume::default())) };
    // None is what it says of the use today; until 2024 it was a mount of no mode.
    let room = [vec![], vec![unknown]].map(|volume_capabilities| {
        let asked = v1::GetCapacityRequest { volume_capabilities, parameters: class(), accessible_topology: here.clone() };
        row("GetCapacity/class").answers(provisioner.get_capacity(asked))
    });
    row("GetCapacity/class").holds(room.iter().all(|room| room.available_capacity > 0), "there is room");
    // A file system of the class's kind cannot be as small as what is of no use in particular.
    row("GetCapacity/class").holds(room[0].minimum_volume_size == room[1].minimum_volume_size, "and the same is meant");
    let mounted = vec![mount_as("", Mode::SingleNodeMultiWriter, &[])];
    let of_a_mount = provisioner.get_capacity(v1::GetCapacityRequest { volume_capabilities: mounted, parameters: class(), ..Default::default() }).unwrap();
    assert_ne!(of_a_mount.minimum_volume_size, room[0].minimum_volume_size);
}

/// The call's deadline is over while the plugin has it: not a final code, so the provisioner asks again, with the same connection, until there is an answer.
#[test]
fn plugin_the_provisioner_asks_again_and_one_volume_is_made() {
    let daemon = Daemon::start();
    let provisioner = component("external-provisioner");
    let (caller, mut heard) = provisioner.start(&daemon);
    heard.node = Some(daemon.node_get_info(v1::NodeGetInfoRequest {}).unwrap());
    let asked = request(&heard, "ReadWriteOnce", metadata("slow"));
    let stopped = process::Stopped::plugins(daemon.pid());
    let impatient = caller.within(Duration::from_millis(300));
    for _ in 0..3 {
        let gave_up = impatient.create_volume(asked.clone()).unwrap_err();
        row("*/retried").holds(orders::may_still_run(&gave_up, provisioner), &gave_up.to_string());
    }
    drop(stopped);
    let made = row("*/retried").answers(caller.create_volume(asked.clone())).volume.unwrap();
    let again = row("*/retried").answers(caller.create_volume(asked)).volume.unwrap();
    row("*/retried").holds(made == again && std::fs::read_dir(daemon.path("volumes")).unwrap().count() == 1, "one volume was made");
    eventually("nothing to go on", || daemon.status()["going"].as_array().is_some_and(Vec::is_empty).then_some(()));
    assert_eq!((caller.connections(), heard.name.as_str()), (1, DRIVER));
    delete(&caller, &made.volume_id);
}
