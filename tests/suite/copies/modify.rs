//! ControllerModifyVolume at the socket, against a real cluster: what is kept with an image while it lives, and what a copy of it has.

use super::{Calls, controller, from_volume, nothing_is_left};
use harness::eventually;
use harness::rbd::{RBD_DRIVER, RbdVolume, driver_file, secrets};
use harness::rows::{answered, holds, refused};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use tonic::{Code, Status};
use windlass_csi::v1::controller_service_capability::{Type, rpc};
use windlass_csi::v1::{
    ControllerGetCapabilitiesRequest, ControllerModifyVolumeRequest, ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest, CreateVolumeRequest,
    Volume,
};

/// No address of the bench is this node's.
const NODE: &str = "node9/10.87.0.9";

type Parameters<'a> = &'a [(&'a str, &'a str)];

fn map(parameters: Parameters<'_>) -> BTreeMap<String, String> {
    parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Calls {
    fn modify(&self, volume: &str, parameters: Parameters<'_>) -> Result<(), Status> {
        let request = ControllerModifyVolumeRequest { volume_id: volume.to_owned(), secrets: self.secrets.clone(), mutable_parameters: map(parameters) };
        self.driver.controller_modify_volume(request).map(drop)
    }

    fn create_limited(&self, request: CreateVolumeRequest, parameters: Parameters<'_>) -> Result<Volume, Status> {
        self.driver.create_volume(CreateVolumeRequest { mutable_parameters: map(parameters), ..request }).map(|answer| answer.volume.unwrap())
    }

    /// What a node is told that gets the volume now, but for the daemon's own.
    fn told(&self, volume: &Volume) -> BTreeMap<String, String> {
        let capability = RbdVolume::create_request("", &harness::mount(super::Mode::SingleNodeWriter), 1, "rbd", &self.secrets).volume_capabilities.pop();
        let request = ControllerPublishVolumeRequest {
            volume_id: volume.volume_id.clone(),
            node_id: NODE.to_owned(),
            volume_capability: capability,
            volume_context: volume.volume_context.clone(),
            secrets: self.secrets.clone(),
            ..Default::default()
        };
        let mut told = self.driver.controller_publish_volume(request).unwrap().publish_context;
        told.retain(|key, _| !key.starts_with("windlass.io/"));
        let back = ControllerUnpublishVolumeRequest { volume_id: volume.volume_id.clone(), node_id: NODE.to_owned(), secrets: self.secrets.clone() };
        self.driver.controller_unpublish_volume(back).unwrap();
        told
    }
}

#[test]
fn ceph_modifying_keeps_to_its_rows() {
    let controller = controller();
    let calls = Calls::to(&controller);
    let capabilities = calls.driver.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).unwrap().capabilities;
    assert!(capabilities.iter().any(|one| matches!(&one.r#type, Some(Type::Rpc(rpc)) if rpc.r#type() == rpc::Type::ModifyVolume)));

    let limits: Parameters<'_> = &[("readIops", "500"), ("writeBytesPerSecond", "10Mi")];
    let volume = calls.create_limited(calls.request("limited", 64, None), limits).unwrap();
    assert_eq!(answered("CreateVolume/idempotent", calls.create_limited(calls.request("limited", 64, None), limits)), volume);
    // What may change is no reason to refuse a volume that exists.
    assert_eq!(answered("CreateVolume/idempotent", calls.create("limited", 64, None)), volume);
    refused("*/INVALID_ARGUMENT/2", calls.create_limited(calls.request("b", 64, None), &[("iops", "1")]), Code::InvalidArgument, "readIops, writeIops");
    assert_eq!(calls.told(&volume), map(&[("readIops", "500"), ("writeBytesPerSecond", "10485760")]));

    for _ in 0..10 {
        answered(
            "ControllerModifyVolume/idempotent",
            calls.modify(&volume.volume_id, &[("readIops", "600"), ("readFromReplica", "balance"), ("writeIops", "")]),
        );
    }
    let now = map(&[("readFromReplica", "balance"), ("readIops", "600"), ("writeBytesPerSecond", "10485760")]);
    assert_eq!(calls.told(&volume), now);
    refused("*/INVALID_ARGUMENT", calls.modify("", limits), Code::InvalidArgument, "volume_id");
    refused("*/INVALID_ARGUMENT", calls.modify(&volume.volume_id, &[]), Code::InvalidArgument, "mutable_parameters");
    let long = "9".repeat(5000);
    for (wrong, names) in
        [("many", "`writeIops`"), ("-1", "`writeIops`"), ("1Ki", "`writeIops`"), ("18446744073709551616", "`writeIops`"), (long.as_str(), "mutable_parameters")]
    {
        let mixed = calls.modify(&volume.volume_id, &[("readIops", "70"), ("writeIops", wrong)]);
        refused("ControllerModifyVolume/INVALID_ARGUMENT", mixed, Code::InvalidArgument, names);
    }
    refused(
        "ControllerModifyVolume/INVALID_ARGUMENT",
        calls.modify(&volume.volume_id, &[("readIops", "70"), ("pool", "fast")]),
        Code::InvalidArgument,
        "\"pool\"",
    );
    holds("ControllerModifyVolume/INVALID_ARGUMENT", calls.told(&volume) == now);
    let gone = format!("{}00000000-0000-4000-8000-000000000000", &volume.volume_id[..volume.volume_id.len() - 36]);
    for nothing in [gone.as_str(), "nothing", &"x".repeat(129)] {
        refused("ControllerModifyVolume/NOT_FOUND", calls.modify(nothing, limits), Code::NotFound, "");
    }
    let reader = controller.cluster.create_user("reader", &[("mon", "allow r"), ("osd", "allow r")]).unwrap();
    let weak = Calls { secrets: secrets("reader", &reader), ..Calls::to(&controller) };
    refused("*/PERMISSION_DENIED", weak.modify(&volume.volume_id, limits), Code::PermissionDenied, "");
    assert_eq!(calls.told(&volume), now);

    // A copy has what it is asked to have, and not what its source has.
    let copy = calls.create("copy", 64, Some(from_volume(&volume.volume_id))).unwrap();
    assert_eq!(calls.told(&copy), BTreeMap::new());
    // Sixty-four at once, each of one parameter: none undoes another's.
    std::thread::scope(|scope| {
        for n in 0..64 {
            let (calls, id) = (&calls, &copy.volume_id);
            scope.spawn(move || calls.modify(id, &[if n % 2 == 0 { ("readIops", "11") } else { ("writeIops", "12") }]).unwrap());
        }
    });
    assert_eq!(calls.told(&copy), map(&[("readIops", "11"), ("writeIops", "12")]));

    // Kubernetes gives the call no secrets: the grant's own key opens the cluster, where there is one.
    let bare = Calls { secrets: BTreeMap::new(), ..Calls::to(&controller) };
    refused("*/INVALID_ARGUMENT/2", bare.modify(&copy.volume_id, &[("readIops", "13")]), Code::InvalidArgument, "userID");
    let key = controller.daemon.path("key");
    std::fs::write(&key, controller.cluster.admin_key()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = format!("{}user = \"admin\"\nkey_file = \"{}\"\n", driver_file(&controller.cluster), key.display());
    controller.daemon.rename_in(file.as_bytes(), &format!("drivers.d/{RBD_DRIVER}.toml"));
    eventually("the new file is taken up", || bare.modify(&copy.volume_id, &[("readIops", "13")]).ok());
    assert_eq!(calls.told(&copy), map(&[("readIops", "13"), ("writeIops", "12")]));
    for volume in [&volume, &copy] {
        calls.delete(&volume.volume_id).unwrap();
    }
    nothing_is_left(&controller);
}
