//! Malformed requests: what is required and missing, and what no field can hold. Each names its field, and changes nothing.

use super::{but, row, tree};
use harness::{Daemon, Volume, block, mount, mount_as};
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::volume_capability::{AccessMode, AccessType, MountVolume};
use windlass_csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use windlass_csi::v1::{
    CapacityRange, ControllerExpandVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest, GetCapacityRequest, ListVolumesRequest, NodeExpandVolumeRequest,
    NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest, ValidateVolumeCapabilitiesRequest, VolumeCapability, VolumeContentSource,
};

const MISSING: &str = "*/INVALID_ARGUMENT";
const WRONG: &str = "*/INVALID_ARGUMENT/2";

/// A request of each kind that is right as it stands.
struct Requests<'a> {
    daemon: &'a Daemon,
    volume: Volume,
}

impl Requests<'_> {
    fn create(&self) -> CreateVolumeRequest {
        Volume::create_request("another", &self.volume.capability, 16)
    }
    fn validate(&self) -> ValidateVolumeCapabilitiesRequest {
        ValidateVolumeCapabilitiesRequest { volume_id: self.volume.id(), volume_capabilities: vec![self.volume.capability.clone()], ..Default::default() }
    }
    fn expand(&self) -> ControllerExpandVolumeRequest {
        let range = CapacityRange { required_bytes: 1 << 20, limit_bytes: 0 };
        ControllerExpandVolumeRequest { volume_id: self.volume.id(), capacity_range: Some(range), ..Default::default() }
    }
    fn stage(&self) -> NodeStageVolumeRequest {
        self.volume.stage_request()
    }
    fn publish(&self) -> NodePublishVolumeRequest {
        self.volume.publish_request(0)
    }
    fn stats(&self) -> NodeGetVolumeStatsRequest {
        NodeGetVolumeStatsRequest { volume_id: self.volume.id(), volume_path: self.volume.target(0), ..Default::default() }
    }
    fn node_expand(&self) -> NodeExpandVolumeRequest {
        NodeExpandVolumeRequest { volume_id: self.volume.id(), volume_path: self.volume.target(0), ..Default::default() }
    }

    /// Runs `check` on a daemon with one volume, and sees that nothing was changed by it.
    fn all(check: impl FnOnce(&Requests<'_>)) {
        let daemon = Daemon::start();
        let volume = Volume::create(&daemon, "arguments", mount(Mode::SingleNodeWriter), 16).unwrap();
        let look = || (tree(&daemon.path("volumes")), tree(&daemon.path("kubelet")));
        let before = look();
        check(&Requests { daemon: &daemon, volume: volume.clone() });
        row(WRONG).holds(look() == before, "refused requests change nothing");
        daemon.assert_nothing_left();
    }
}

#[test]
fn loop_what_is_required_and_missing_is_named() {
    Requests::all(|r| {
        let (d, missing) = (r.daemon, row(MISSING));
        missing.refuses(d.create_volume(but(r.create(), |m| m.name.clear())), "name");
        missing.refuses(d.create_volume(but(r.create(), |m| m.volume_capabilities.clear())), "volume_capabilities");
        missing.refuses(d.create_volume(but(r.create(), |m| m.volume_capabilities[0].access_type = None)), "access_type");
        missing.refuses(d.create_volume(but(r.create(), |m| m.volume_capabilities[0].access_mode = None)), "access_mode");
        missing.refuses(d.delete_volume(DeleteVolumeRequest::default()), "volume_id");
        missing.refuses(d.validate_volume_capabilities(but(r.validate(), |m| m.volume_id.clear())), "volume_id");
        missing.refuses(d.validate_volume_capabilities(but(r.validate(), |m| m.volume_capabilities.clear())), "volume_capabilities");
        missing.refuses(d.controller_expand_volume(but(r.expand(), |m| m.volume_id.clear())), "volume_id");
        missing.refuses(d.controller_expand_volume(but(r.expand(), |m| m.capacity_range = None)), "capacity_range");
        missing.refuses(d.controller_expand_volume(but(r.expand(), |m| m.capacity_range = Some(CapacityRange::default()))), "capacity_range");
        missing.refuses(d.node_stage_volume(but(r.stage(), |m| m.volume_id.clear())), "volume_id");
        missing.refuses(d.node_stage_volume(but(r.stage(), |m| m.staging_target_path.clear())), "staging_target_path");
        missing.refuses(d.node_stage_volume(but(r.stage(), |m| m.volume_capability = None)), "volume_capability");
        missing.refuses(d.node_stage_volume(but(r.stage(), |m| m.volume_capability = Some(VolumeCapability::default()))), "volume_capability");
        missing.refuses(d.node_unstage_volume(but(r.volume.unstage_request(), |m| m.volume_id.clear())), "volume_id");
        missing.refuses(d.node_unstage_volume(but(r.volume.unstage_request(), |m| m.staging_target_path.clear())), "staging_target_path");
        missing.refuses(d.node_publish_volume(but(r.publish(), |m| m.volume_id.clear())), "volume_id");
        missing.refuses(d.node_publish_volume(but(r.publish(), |m| m.target_path.clear())), "target_path");
        missing.refuses(d.node_publish_volume(but(r.publish(), |m| m.volume_capability = None)), "volume_capability");
        missing.refuses(d.node_unpublish_volume(but(r.volume.unpublish_request(0), |m| m.volume_id.clear())), "volume_id");
        missing.refuses(d.node_unpublish_volume(but(r.volume.unpublish_request(0), |m| m.target_path.clear())), "target_path");
        missing.refuses(d.node_get_volume_stats(but(r.stats(), |m| m.volume_id.clear())), "volume_id");
        missing.refuses(d.node_get_volume_stats(but(r.stats(), |m| m.volume_path.clear())), "volume_path");
        missing.refuses(d.node_expand_volume(but(r.node_expand(), |m| m.volume_id.clear())), "volume_id");
        missing.refuses(d.node_expand_volume(but(r.node_expand(), |m| m.volume_path.clear())), "volume_path");
    });
}

/// Every field that a request for a volume may carry a capability in gets every bad capability.
#[test]
fn loop_capabilities_that_nobody_knows_are_refused_everywhere() {
    let long = "x".repeat(10_000);
    let wished = |change: &dyn Fn(&mut MountVolume)| {
        but(mount(Mode::SingleNodeWriter), |c| match &mut c.access_type {
            Some(AccessType::Mount(wish)) => change(wish),
            _ => unreachable!("it is a mount"),
        })
    };
    let mode = |mode: i32| but(block(Mode::SingleNodeWriter), |c| c.access_mode = Some(AccessMode { mode }));
    let bad = [
        (mode(0), "access_mode.mode"),
        (mode(8), "access_mode.mode"),
        (mode(-1), "access_mode.mode"),
        (mode(i32::MAX), "access_mode.mode"),
        (mount_as("ntfs", Mode::SingleNodeWriter, &[]), "fs_type"),
        (mount_as("ext4\n", Mode::SingleNodeWriter, &[]), "fs_type"),
        (mount_as("../../bin/sh", Mode::SingleNodeWriter, &[]), "fs_type"),
        (mount_as(&long, Mode::SingleNodeWriter, &[]), "fs_type"),
        (mount_as("", Mode::SingleNodeWriter, &["bind"]), "mount_flags"),
        (mount_as("", Mode::SingleNodeWriter, &["noatime,loop"]), "mount_flags"),
        (mount_as("", Mode::SingleNodeWriter, &["journal_path=/etc/shadow"]), "mount_flags"),
        (mount_as("", Mode::SingleNodeWriter, &["noatime\u{0}exec"]), "mount_flags"),
        (mount_as("", Mode::SingleNodeWriter, &[&long]), "mount_flags"),
        (wished(&|wish| wish.volume_mount_group = "1000".to_owned()), "volume_mount_group"),
    ];
    Requests::all(|r| {
        let (d, wrong) = (r.daemon, row(WRONG));
        for (capability, field) in bad {
            let all = || vec![capability.clone()];
            let one = || Some(capability.clone());
            wrong.refuses(d.create_volume(but(r.create(), |m| m.volume_capabilities = all())), field);
            wrong.refuses(d.validate_volume_capabilities(but(r.validate(), |m| m.volume_capabilities = all())), field);
            wrong.refuses(d.get_capacity(GetCapacityRequest { volume_capabilities: all(), ..Default::default() }), field);
            wrong.refuses(d.controller_expand_volume(but(r.expand(), |m| m.volume_capability = one())), field);
            wrong.refuses(d.node_stage_volume(but(r.stage(), |m| m.volume_capability = one())), field);
            wrong.refuses(d.node_publish_volume(but(r.publish(), |m| m.volume_capability = one())), field);
            wrong.refuses(d.node_expand_volume(but(r.node_expand(), |m| m.volume_capability = one())), field);
        }
    });
}

#[test]
fn loop_numbers_names_and_parameters_that_cannot_be_are_refused() {
    let range = |required_bytes, limit_bytes| Some(CapacityRange { required_bytes, limit_bytes });
    let secret = |key: &str| [(key.to_owned(), "value".to_owned())].into();
    let parameter = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let long = "x".repeat(10_000);
    Requests::all(|r| {
        let (d, wrong) = (r.daemon, row(WRONG));
        for (capacity, field) in [(range(-1, 0), "required_bytes"), (range(0, -1), "limit_bytes"), (range(i64::MIN, 0), "required_bytes")] {
            wrong.refuses(d.create_volume(but(r.create(), |m| m.capacity_range = capacity)), field);
            wrong.refuses(d.controller_expand_volume(but(r.expand(), |m| m.capacity_range = capacity)), field);
            wrong.refuses(d.node_expand_volume(but(r.node_expand(), |m| m.capacity_range = capacity)), field);
        }
        wrong.refuses(d.list_volumes(ListVolumesRequest { max_entries: -1, ..Default::default() }), "max_entries");
        for name in ["a\u{0}b", "a\u{8}b", "\u{b}", "\u{c}", "a\u{1f}", "\u{7f}", "a\u{9f}b", &long] {
            wrong.refuses(d.create_volume(but(r.create(), |m| m.name = name.to_owned())), "name");
        }
        for key in ["", "a b", "a/b", "ü", "a\n"] {
            wrong.refuses(d.create_volume(but(r.create(), |m| m.secrets = secret(key))), "secrets");
            wrong.refuses(d.delete_volume(DeleteVolumeRequest { volume_id: r.volume.id(), secrets: secret(key) }), "secrets");
            wrong.refuses(d.node_stage_volume(but(r.stage(), |m| m.secrets = secret(key))), "secrets");
            wrong.refuses(d.node_publish_volume(but(r.publish(), |m| m.secrets = secret(key))), "secrets");
        }
        for (key, value) in [("encrypted", "true"), ("unknown", "1"), ("csi.storage.k8s.io/fstype", "ntfs"), (&long[..4000], "1")] {
            let prefix = &key[..key.len().min(20)];
            wrong.refuses(d.create_volume(but(r.create(), |m| m.parameters = parameter(key, value))), prefix);
        }
        wrong.refuses(d.create_volume(but(r.create(), |m| m.mutable_parameters = parameter("iops", "1"))), "mutable_parameters");
        let sides = vec![mount_as("ext4", Mode::SingleNodeWriter, &[]), mount_as("xfs", Mode::SingleNodeWriter, &[])];
        wrong.refuses(d.create_volume(but(r.create(), |m| m.volume_capabilities = sides)), "ext4");
        for mode in [Mode::MultiNodeReaderOnly, Mode::MultiNodeSingleWriter, Mode::MultiNodeMultiWriter] {
            wrong.refuses(d.create_volume(but(r.create(), |m| m.volume_capabilities = vec![mount(mode)])), "MULTI_NODE");
        }
    });
}

#[test]
fn loop_a_source_that_cannot_be_copied_is_refused() {
    Requests::all(|r| {
        let refused = row("CreateVolume/INVALID_ARGUMENT");
        let of = |kind| Some(VolumeContentSource { r#type: kind });
        refused.refuses(r.daemon.create_volume(but(r.create(), |m| m.volume_content_source = of(None))), "volume_content_source");
        for id in ["", "a/b\u{0}", &"x".repeat(129)] {
            let snapshot = Type::Snapshot(SnapshotSource { snapshot_id: id.to_owned() });
            let volume = Type::Volume(VolumeSource { volume_id: id.to_owned() });
            for source in [of(Some(snapshot)), of(Some(volume))] {
                let code = r.daemon.create_volume(but(r.create(), |m| m.volume_content_source = source)).unwrap_err().code();
                assert!(matches!(code, tonic::Code::InvalidArgument | tonic::Code::NotFound), "{id:?}: {code:?}");
            }
        }
    });
}
