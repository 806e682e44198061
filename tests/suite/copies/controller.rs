//! Identity and Controller of the driver for Ceph RBD, row by row, at the socket, against a real cluster. No node is needed: one is claimed for.

use super::{Calls, Mode, controller, from_volume, mount, nothing_is_left};
use harness::rbd::{RBD_DRIVER, secrets};
use harness::rows::{answered, at_once, holds, refused, ten_times};
use harness::{block, mount_as};
use std::collections::BTreeMap;
use tonic::{Code, Status};
use windlass_csi::v1::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerGetCapabilitiesRequest, ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest,
    CreateVolumeRequest, GetPluginCapabilitiesRequest, GetPluginInfoRequest, Topology, TopologyRequirement, ValidateVolumeCapabilitiesRequest, Volume,
    VolumeCapability,
};

const MIB: i64 = 1 << 20;

/// No address of the bench is this node's.
const NODE: &str = "node9/10.87.0.9";

impl Calls {
    fn make(&self, name: &str, change: impl FnOnce(&mut CreateVolumeRequest)) -> Result<Volume, Status> {
        let mut request = self.request(name, 64, None);
        change(&mut request);
        self.driver.create_volume(request).map(|answer| answer.volume.unwrap())
    }

    fn expand(&self, volume: &str, required_bytes: i64, limit_bytes: i64) -> Result<i64, Status> {
        let capacity_range = Some(CapacityRange { required_bytes, limit_bytes });
        let request = ControllerExpandVolumeRequest { volume_id: volume.to_owned(), capacity_range, secrets: self.secrets.clone(), ..Default::default() };
        self.driver.controller_expand_volume(request).map(|answer| answer.capacity_bytes)
    }

    fn validate(&self, volume: &Volume, capabilities: Vec<VolumeCapability>) -> Result<(Option<Vec<VolumeCapability>>, String), Status> {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: volume.volume_id.clone(),
            volume_context: volume.volume_context.clone(),
            volume_capabilities: capabilities,
            secrets: self.secrets.clone(),
            ..Default::default()
        };
        self.driver.validate_volume_capabilities(request).map(|answer| (answer.confirmed.map(|said| said.volume_capabilities), answer.message))
    }

    fn give(&self, volume: &Volume) -> Result<(), Status> {
        let request = ControllerPublishVolumeRequest {
            volume_id: volume.volume_id.clone(),
            node_id: NODE.to_owned(),
            volume_capability: Some(mount(Mode::SingleNodeWriter)),
            volume_context: volume.volume_context.clone(),
            secrets: self.secrets.clone(),
            ..Default::default()
        };
        self.driver.controller_publish_volume(request).map(drop)
    }

    fn take_back(&self, volume: &Volume) -> Result<(), Status> {
        let request = ControllerUnpublishVolumeRequest { volume_id: volume.volume_id.clone(), node_id: NODE.to_owned(), secrets: self.secrets.clone() };
        self.driver.controller_unpublish_volume(request).map(drop)
    }
}

#[test]
fn ceph_a_driver_says_who_it_is_and_what_it_can_do() {
    let controller = controller();
    let driver = controller.driver();
    let info = ten_times("GetPluginInfo/idempotent", || driver.get_plugin_info(GetPluginInfoRequest {}));
    holds("GetPluginInfo/limits", info.name == RBD_DRIVER && (1..=128).contains(&info.vendor_version.len()));
    ten_times("GetPluginCapabilities/idempotent", || driver.get_plugin_capabilities(GetPluginCapabilitiesRequest {}));
    ten_times("ControllerGetCapabilities/idempotent", || driver.controller_get_capabilities(ControllerGetCapabilitiesRequest {}));
    holds("Probe/ready", ten_times("Probe/idempotent", || driver.probe()));
}

#[test]
fn ceph_volumes_are_made_by_the_rows() {
    let controller = controller();
    let (calls, cluster) = (Calls::to(&controller), &controller.cluster);
    let volume = ten_times("CreateVolume/idempotent", || calls.create("a", 64, None));
    let range = |required_bytes, limit_bytes| Some(CapacityRange { required_bytes, limit_bytes });
    for fits in [range(64 * MIB, 64 * MIB), range(1, 0), range(0, 64 * MIB), None] {
        assert_eq!(answered("CreateVolume/idempotent", calls.make("a", |m| m.capacity_range = fits)), volume);
    }
    for differs in [range(64 * MIB + 1, 0), range(0, 63 * MIB)] {
        refused("CreateVolume/ALREADY_EXISTS", calls.make("a", |m| m.capacity_range = differs), Code::AlreadyExists, "bytes");
    }
    let kinds = [block(Mode::SingleNodeWriter), mount_as("xfs", Mode::SingleNodeWriter, &[])];
    for capability in kinds {
        let other = calls.make("a", |m| (m.volume_capabilities, m.capacity_range) = (vec![capability], None));
        refused("CreateVolume/ALREADY_EXISTS", other, Code::AlreadyExists, "differs");
    }
    refused(
        "CreateVolume/ALREADY_EXISTS",
        calls.make("a", |m| drop(m.parameters.insert("objectSize".into(), "8388608".into()))),
        Code::AlreadyExists,
        "differs",
    );
    for (required, limit) in [(i64::MAX, 0), (2 * MIB, MIB), (0, 4096)] {
        refused("CreateVolume/OUT_OF_RANGE", calls.make("none", |m| m.capacity_range = range(required, limit)), Code::OutOfRange, "");
    }
    for (number, (required, limit)) in [(MIB + 1, 0), (5_000_192, 5_000_192), (0, 1 << 30)].into_iter().enumerate() {
        let made = answered("CreateVolume/capacity", calls.make(&format!("size-{number}"), |m| m.capacity_range = range(required, limit))).capacity_bytes;
        holds("CreateVolume/capacity", made >= required && (limit == 0 || made <= limit));
    }
    refused("*/INVALID_ARGUMENT/2", calls.make("none", |m| drop(m.parameters.insert("pol".into(), "rbd".into()))), Code::InvalidArgument, "`pol`");
    refused("*/INVALID_ARGUMENT", calls.make("none", |m| m.volume_capabilities.clear()), Code::InvalidArgument, "volume_capabilities");
    // A copy keeps its source's file system.
    let as_xfs = calls.make("none", |m| {
        m.volume_content_source = Some(from_volume(&volume.volume_id));
        m.volume_capabilities = vec![mount_as("xfs", Mode::SingleNodeWriter, &[])];
        m.capacity_range = range(400 * MIB, 0);
    });
    refused("CreateVolume/INVALID_ARGUMENT", as_xfs, Code::InvalidArgument, "volume_content_source");

    // The topology chooses the pool; where none is reachable there is no room.
    let pools = r#"[{"poolName": "rbd", "domainSegments": [{"domainLabel": "rack", "value": "a"}]}]"#;
    let place = |rack: &str| Topology { segments: [("topology.example/rack".to_owned(), rack.to_owned())].into() };
    let placed = |name: &str, rack: &str| {
        calls.make(name, |m| {
            m.parameters.remove("pool");
            m.parameters.insert("topologyConstrainedPools".into(), pools.into());
            m.accessibility_requirements = Some(TopologyRequirement { requisite: vec![place(rack)], preferred: Vec::new() });
        })
    };
    let there = answered("CreateVolume/topology", placed("placed", "a"));
    holds("CreateVolume/topology", there.accessible_topology == [place("a")]);
    refused("CreateVolume/RESOURCE_EXHAUSTED", placed("nowhere", "b"), Code::ResourceExhausted, "");

    // The longest of everything, in and out.
    for name in ["n".repeat(128), "ü".repeat(64), "../../etc/passwd".to_owned(), "-rf".to_owned()] {
        let long = answered("CreateVolume/limits", calls.make(&name, |m| drop(m.parameters.insert("csi.storage.k8s.io/pvc/name".into(), "p".repeat(3900)))));
        let context: usize = long.volume_context.iter().map(|(key, value)| key.len() + value.len()).sum();
        holds("CreateVolume/limits", (1..=128).contains(&long.volume_id.len()) && context <= 4096);
    }
    refused("*/INVALID_ARGUMENT/2", calls.make(&"n".repeat(129), |_| {}), Code::InvalidArgument, "128");
    let made = at_once("CreateVolume/concurrent", || calls.create("crowd", 64, None));
    let images = || cluster.rbd(&["ls", "rbd"]).lines().map(str::to_owned).collect::<Vec<_>>();
    let image = made.volume_id.rsplit('/').next().unwrap().to_owned();
    assert_eq!(images().iter().filter(|name| **name == image).count(), 1);
    // What was refused has left nothing: 3 sizes, 4 names, and 3 besides.
    assert_eq!(images().len(), 10, "{:?}", images());
    is_kept_secret(&controller, &["CreateVolume/secrets"]);
}

/// The key is in no log, no status and no file of the daemon's.
#[track_caller]
fn is_kept_secret(controller: &harness::rbd::Controller, rows: &[&str]) {
    let key = controller.cluster.admin_key();
    let is_told = controller.daemon.log().contains(key) || controller.daemon.status().to_string().contains(key);
    let files = std::process::Command::new("grep").args(["-rl", key]).arg(controller.daemon.path("state")).arg(controller.daemon.path("run")).output().unwrap();
    for row in rows {
        holds(row, !is_told && files.stdout.is_empty());
    }
}

#[test]
fn ceph_volumes_are_confirmed_grown_and_deleted_by_the_rows() {
    let controller = controller();
    let calls = Calls::to(&controller);
    let volume = calls.create("a", 64, None).unwrap();
    let gone = Volume { volume_id: format!("{}00000000-0000-4000-8000-000000000000", &volume.volume_id[..volume.volume_id.len() - 36]), ..volume.clone() };
    let unknown = [gone.clone(), Volume { volume_id: "nothing".into(), ..gone.clone() }, Volume { volume_id: "x".repeat(129), ..gone }];

    let writer = || mount(Mode::SingleNodeWriter);
    for good in [vec![writer()], vec![mount(Mode::SingleNodeReaderOnly), mount_as("ext4", Mode::SingleNodeMultiWriter, &["noatime"])]] {
        let (confirmed, _) = ten_times("ValidateVolumeCapabilities/idempotent", || calls.validate(&volume, good.clone()));
        assert_eq!(confirmed, Some(good));
    }
    let all = vec![writer(), block(Mode::SingleNodeWriter)];
    for bad in [vec![block(Mode::SingleNodeWriter)], vec![mount(Mode::MultiNodeMultiWriter)], vec![mount_as("xfs", Mode::SingleNodeWriter, &[])], all] {
        let (confirmed, why) = answered("ValidateVolumeCapabilities/idempotent", calls.validate(&volume, bad));
        holds("ValidateVolumeCapabilities/idempotent", confirmed.is_none() && !why.is_empty());
        holds("ValidateVolumeCapabilities/limits", why.len() <= 128);
    }
    for nothing in &unknown {
        refused("ValidateVolumeCapabilities/NOT_FOUND", calls.validate(nothing, vec![writer()]), Code::NotFound, "volume");
        refused("*/INVALID_ARGUMENT", calls.validate(nothing, Vec::new()), Code::InvalidArgument, "volume_capabilities");
        refused("ControllerExpandVolume/NOT_FOUND", calls.expand(&nothing.volume_id, MIB, 0), Code::NotFound, "volume");
        let bare = ControllerExpandVolumeRequest { volume_id: nothing.volume_id.clone(), secrets: calls.secrets.clone(), ..Default::default() };
        refused("*/INVALID_ARGUMENT", calls.driver.controller_expand_volume(bare), Code::InvalidArgument, "capacity_range");
        holds("*/order", calls.expand(&nothing.volume_id, MIB, 0).unwrap_err().code() == Code::NotFound);
        answered("DeleteVolume/unknown", calls.delete(&nothing.volume_id));
    }

    for (required, limit) in [(i64::MAX, 0), (128 * MIB, 64 * MIB), (0, 32 * MIB), (MIB, 32 * MIB)] {
        refused("ControllerExpandVolume/OUT_OF_RANGE", calls.expand(&volume.volume_id, required, limit), Code::OutOfRange, "");
    }
    let image = format!("rbd/{}", volume.volume_id.rsplit('/').next().unwrap());
    assert!(controller.cluster.rbd(&["info", &image]).contains("size 64 MiB"), "nothing was changed");
    let exact = ten_times("ControllerExpandVolume/idempotent", || calls.expand(&volume.volume_id, 100 * MIB, 100 * MIB));
    holds("ControllerExpandVolume/capacity", exact == 100 * MIB);
    assert_eq!(answered("ControllerExpandVolume/idempotent", calls.expand(&volume.volume_id, MIB, 0)), 100 * MIB, "a volume never shrinks");

    // Given to a node, it is in use; and it is not altered by who wants to delete it.
    calls.give(&volume).unwrap();
    refused("DeleteVolume/FAILED_PRECONDITION", calls.delete(&volume.volume_id), Code::FailedPrecondition, "node9");
    holds("DeleteVolume/FAILED_PRECONDITION", controller.cluster.rbd(&["info", &image]).contains("size 100 MiB"));
    calls.take_back(&volume).unwrap();
    at_once("DeleteVolume/concurrent", || calls.delete(&volume.volume_id));
    ten_times("DeleteVolume/idempotent", || calls.delete(&volume.volume_id));
    is_kept_secret(&controller, &["ValidateVolumeCapabilities/secrets", "ControllerExpandVolume/secrets", "DeleteVolume/secrets"]);

    // Nobody's key opens nothing, and is not repeated.
    let wrong = Calls { secrets: secrets("admin", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="), ..Calls::to(&controller) };
    refused("*/UNAUTHENTICATED", wrong.create("b", 64, None), Code::Unauthenticated, "ceph auth get");
    let bare = Calls { secrets: BTreeMap::new(), ..Calls::to(&controller) };
    refused("*/INVALID_ARGUMENT/2", bare.create("b", 64, None), Code::InvalidArgument, "userID");
    nothing_is_left(&controller);
}
