//! What a caller asks for, one type an RPC, after everything that can be known without looking at the world was checked.

use crate::capability::Capability;
use crate::ids::{SnapshotId, VolumeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// CSI's `map<string,string>` where it is not secret.
pub type Context = BTreeMap<String, String>;

/// CSI's `secrets`. Neither `Debug` nor `Serialize`: a value leaves it only by being asked for by name (law 10).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Takes the map over.
    pub fn new(values: BTreeMap<String, String>) -> Self {
        Self(values)
    }

    /// The names, which are not secret.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A secret by its name.
    pub fn get(&self, name: &str) -> Option<Secret> {
        self.0.get(name).cloned().map(Secret)
    }
}

/// One secret's value. Neither `Debug` nor `Serialize`: it is read where it is used, and nowhere else (law 10).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Takes a value over.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, to be used and not to be kept.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// A request and the secrets that came with it, kept apart so that the first can be shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Call<T> {
    /// The request.
    pub request: T,
    /// Its secrets.
    pub secrets: Secrets,
}

/// A range of sizes in bytes; 0 is "not given", as in CSI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct CapacityRange {
    /// At least this many bytes.
    pub required: u64,
    /// At most this many bytes.
    pub limit: u64,
}

impl CapacityRange {
    /// Does a volume of `size` bytes satisfy the range?
    pub fn admits(&self, size: u64) -> bool {
        size >= self.required && (self.limit == 0 || size <= self.limit)
    }
}

/// A place in the topology: segment name to value.
pub type Topology = BTreeMap<String, String>;

/// Where a volume must be reachable from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct TopologyRequirement {
    /// At least one of these, if any is given.
    pub requisite: Vec<Topology>,
    /// In order of preference.
    pub preferred: Vec<Topology>,
}

/// What a new volume is to be filled with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContentSource {
    /// A snapshot, by id.
    Snapshot(String),
    /// Another volume, by id.
    Volume(String),
}

/// CreateVolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CreateVolume {
    /// The caller's name for it: what makes the call idempotent.
    pub name: String,
    /// How large.
    pub capacity: CapacityRange,
    /// How it will be used; at least one.
    pub capabilities: Vec<Capability>,
    /// The storage class's parameters.
    pub parameters: Context,
    /// Parameters that may change later.
    pub mutable_parameters: Context,
    /// What it starts with.
    pub source: Option<ContentSource>,
    /// Where it must be reachable from.
    pub topology: TopologyRequirement,
}

/// DeleteVolume. An id that cannot be one is an id of nothing (`None`): deleting it is OK.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeleteVolume {
    /// The volume.
    pub volume: VolumeId,
}

/// ValidateVolumeCapabilities.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ValidateVolume {
    /// The volume.
    pub volume: VolumeId,
    /// As CreateVolume returned it.
    pub volume_context: Context,
    /// All of them must be supported.
    pub capabilities: Vec<Capability>,
    /// The storage class's parameters.
    pub parameters: Context,
    /// Parameters that may change later.
    pub mutable_parameters: Context,
}

/// ListVolumes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListVolumes {
    /// At most so many entries; 0 is "as many as fit".
    pub max_entries: u32,
    /// Where to go on; empty at the beginning.
    pub starting_token: String,
}

/// ListSnapshots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListSnapshots {
    /// The one with this id.
    pub snapshot: Option<SnapshotId>,
    /// Those of this volume.
    pub volume: Option<VolumeId>,
    /// At most so many entries; 0 is "as many as fit".
    pub max_entries: u32,
    /// Where to go on; empty at the beginning.
    pub starting_token: String,
}

/// GetCapacity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capacity {
    /// For volumes used so; may be empty.
    pub capabilities: Vec<Capability>,
    /// For volumes with these parameters.
    pub parameters: Context,
    /// For volumes reachable from there.
    pub topology: Option<Topology>,
}

/// ControllerExpandVolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExpandVolume {
    /// The volume.
    pub volume: VolumeId,
    /// How large it is to be.
    pub capacity: CapacityRange,
    /// How it is used, if the caller says.
    pub capability: Option<Capability>,
}

/// ControllerModifyVolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModifyVolume {
    /// The volume.
    pub volume: VolumeId,
    /// The parameters that change; at least one.
    pub parameters: Context,
}

/// CreateSnapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CreateSnapshot {
    /// The volume that it is of.
    pub volume: VolumeId,
    /// The caller's name for it: what makes the call idempotent.
    pub name: String,
    /// The snapshot class's parameters.
    pub parameters: Context,
}

/// DeleteSnapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeleteSnapshot {
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// ControllerPublishVolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishToNode {
    /// The volume.
    pub volume: VolumeId,
    /// The node, as NodeGetInfo named it.
    pub node: String,
    /// How it is to be used there.
    pub capability: Capability,
    /// Only read there.
    pub readonly: bool,
    /// From CreateVolume.
    pub volume_context: Context,
}

/// ControllerUnpublishVolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnpublishFromNode {
    /// The volume.
    pub volume: VolumeId,
    /// From which node; `None` is from all.
    pub node: Option<String>,
}

/// NodeStageVolume. Paths stay as they were spelled: they are looked at after the volume is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StageVolume {
    /// The volume.
    pub volume: VolumeId,
    /// Where, as spelled by the caller.
    pub staging_path: String,
    /// How it is to be used.
    pub capability: Capability,
    /// From ControllerPublishVolume.
    pub publish_context: Context,
    /// From CreateVolume.
    pub volume_context: Context,
}

/// NodeUnstageVolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnstageVolume {
    /// The volume.
    pub volume: VolumeId,
    /// Where, as spelled by the caller.
    pub staging_path: String,
}

/// NodePublishVolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishVolume {
    /// The volume.
    pub volume: VolumeId,
    /// Where it is staged, as spelled by the caller; empty where the caller gave none.
    pub staging_path: String,
    /// Where it is to appear, as spelled by the caller.
    pub target_path: String,
    /// How it is to be used.
    pub capability: Capability,
    /// Read-only for this target.
    pub readonly: bool,
    /// From ControllerPublishVolume.
    pub publish_context: Context,
    /// From CreateVolume.
    pub volume_context: Context,
}

/// NodeUnpublishVolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnpublishVolume {
    /// The volume.
    pub volume: VolumeId,
    /// Where it appears, as spelled by the caller.
    pub target_path: String,
}

/// NodeGetVolumeStats.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VolumeStats {
    /// The volume.
    pub volume: VolumeId,
    /// A staging or target path of it, as spelled by the caller.
    pub volume_path: String,
}

/// NodeExpandVolume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExpandNode {
    /// The volume.
    pub volume: VolumeId,
    /// A staging or target path of it, as spelled by the caller.
    pub volume_path: String,
    /// How large it is to be.
    pub capacity: CapacityRange,
    /// How it is used, if the caller says.
    pub capability: Option<Capability>,
}
