//! external-attacher against a real cluster: a volume is given to nodes and taken back, with its one connection and its deadlines (docs/orchestrators.md).

use super::{Calls, controller, nothing_is_left};
use harness::mount;
use harness::orders::{component, may_still_run};
use harness::rbd::{CLUSTER, RbdVolume};
use harness::rows::{answered, holds, refused};
use std::time::Duration;
use tonic::Code;
use windlass_csi::v1;
use windlass_csi::v1::controller_service_capability::rpc::Type as Rpc;
use windlass_csi::v1::volume_capability::access_mode::Mode;

#[test]
fn ceph_the_attacher_gives_a_volume_to_nodes_in_its_order() {
    let controller = controller();
    let calls = Calls::to(&controller);
    let attaching = component("external-attacher");
    let (attacher, heard) = attaching.start(&calls.driver);
    assert!(heard.controller.contains(&Rpc::PublishUnpublishVolume), "{heard:?}");
    // So it never says that a volume is read-only, and does not compare each minute which nodes have what.
    assert!(!heard.controller.contains(&Rpc::PublishReadonly) && !heard.controller.contains(&Rpc::ListVolumesPublishedNodes), "{heard:?}");

    // What kubelet was told of the node at its registration is in CSINode, and what CreateVolume answered in the PersistentVolume, with the provisioner's key.
    let (_, registered) = component("kubelet").start(&calls.driver);
    let node = registered.node.unwrap();
    holds("NodeGetInfo/topology", node.accessible_topology.as_ref().is_some_and(|place| !place.segments.is_empty()));
    let capability = mount(Mode::SingleNodeMultiWriter);
    let mut asked = RbdVolume::create_request("pvc-attached", &capability, 64, "rbd", &calls.secrets);
    let places: Vec<_> = node.accessible_topology.into_iter().collect();
    asked.accessibility_requirements = Some(v1::TopologyRequirement { requisite: places.clone(), preferred: places });
    // Of a class whose pools are in places, what is wanted nowhere in particular is in the pool for that.
    let mut nowhere = v1::CreateVolumeRequest { name: "pvc-nowhere".to_owned(), ..asked.clone() };
    let pools = r#"[{"poolName": "rbd", "domainSegments": [{"domainLabel": "rack", "value": "a"}]}]"#;
    nowhere.parameters.insert("topologyConstrainedPools".to_owned(), pools.to_owned());
    let anywhere = answered("NodeGetInfo/topology", calls.driver.create_volume(nowhere)).volume.unwrap();
    assert!(anywhere.volume_id.contains("/rbd/") && anywhere.accessible_topology.is_empty(), "{anywhere:?}");
    calls.delete(&anywhere.volume_id).unwrap();
    let volume = answered("NodeGetInfo/topology", calls.driver.create_volume(asked)).volume.unwrap();
    assert!(volume.accessible_topology.is_empty() && volume.volume_id.contains(CLUSTER));
    let mut volume_context = volume.volume_context.clone();
    volume_context.insert("storage.kubernetes.io/csiProvisionerIdentity".to_owned(), "1798675200000-81-rbd.csi.windlass".to_owned());
    let publish = v1::ControllerPublishVolumeRequest {
        volume_id: volume.volume_id.clone(),
        node_id: node.node_id.clone(),
        volume_capability: Some(capability),
        readonly: false,
        volume_context,
        secrets: calls.secrets.clone(),
    };

    // A deadline that is too short for a cluster: not final, and the work goes on; asked again, and once more after a restart.
    let gave_up = attacher.within(Duration::from_millis(1)).controller_publish_volume(publish.clone()).unwrap_err();
    assert!(may_still_run(&gave_up, attaching), "{gave_up}");
    let given = answered("ControllerPublishVolume/orchestrator", attacher.controller_publish_volume(publish.clone())).publish_context;
    let again = answered("ControllerPublishVolume/orchestrator", attacher.controller_publish_volume(publish.clone())).publish_context;
    holds("ControllerPublishVolume/orchestrator", given["windlass.io/image"] == again["windlass.io/image"]);

    // The pod moves before the first node is done with it: refused with a code that is final, in words that name who has it; tried again with backoff.
    let elsewhere = v1::ControllerPublishVolumeRequest { node_id: "node9/10.87.0.9".to_owned(), ..publish.clone() };
    let taken = attacher.controller_publish_volume(elsewhere.clone()).unwrap_err();
    assert!(!may_still_run(&taken, attaching), "{taken}");
    refused("ControllerPublishVolume/FAILED_PRECONDITION", Err::<(), _>(taken), Code::FailedPrecondition, "node-1");

    // Taken from the first, and once more by the finalizer's next turn; then the other node has it.
    let unpublish = |node_id: &str| {
        let (volume_id, secrets) = (volume.volume_id.clone(), calls.secrets.clone());
        attacher.controller_unpublish_volume(v1::ControllerUnpublishVolumeRequest { volume_id, node_id: node_id.to_owned(), secrets })
    };
    for _ in 0..2 {
        answered("ControllerPublishVolume/orchestrator", unpublish(&node.node_id));
    }
    answered("ControllerPublishVolume/orchestrator", attacher.controller_publish_volume(elsewhere.clone()));
    answered("ControllerPublishVolume/orchestrator", unpublish(&elsewhere.node_id));
    assert_eq!(attacher.connections(), 1, "it would have exited");
    calls.delete(&volume.volume_id).unwrap();
    // Deleted under it: what the API still calls attached is let go all the same.
    answered("ControllerUnpublishVolume/unknown", unpublish(&node.node_id));
    nothing_is_left(&controller);
}
