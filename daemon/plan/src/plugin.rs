//! What is asked of a plugin and what it answers: the WIT package `windlass:plugin@0.1.0` as plain data.
//!
//! Everything that comes back from a plugin was written by a stranger: lengths are bounded where it is received, meaning is
//! checked in `check`.

use crate::attach::AttachPlan;
use crate::capability::Capability;
use crate::request::{CapacityRange, ContentSource, Context, Topology, TopologyRequirement};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A function of the component's exports, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PluginCall {
    /// `driver.describe`
    Describe,
    /// `driver.probe`
    Probe,
    /// `node.attach`
    Attach(VolumeFacts),
    /// `node.node-info`
    NodeInfo(NodeFacts),
    /// `controller.create-volume`
    CreateVolume(CreateFacts),
    /// `controller.delete-volume`
    DeleteVolume {
        /// The volume's id.
        volume: String,
    },
    /// `controller.validate`
    Validate(ValidateFacts),
    /// `listing.list-volumes`
    ListVolumes {
        /// At most so many; never 0.
        max_entries: u32,
        /// Where to go on; empty at the beginning.
        starting_token: String,
    },
    /// `capacity.room-for`
    Capacity(CapacityFacts),
    /// `controller.expand`
    Expand {
        /// The volume's id.
        volume: String,
        /// How large it is to be.
        capacity: CapacityRange,
    },
    /// `modification.modify-volume`
    Modify {
        /// The volume's id.
        volume: String,
        /// The parameters that change.
        parameters: Context,
    },
    /// `snapshots.create-snapshot`
    CreateSnapshot(SnapshotFacts),
    /// `snapshots.delete-snapshot`
    DeleteSnapshot {
        /// The snapshot's id.
        snapshot: String,
    },
    /// `snapshot-listing.list-snapshots`
    ListSnapshots {
        /// The one with this id.
        snapshot: Option<String>,
        /// Those of this volume.
        volume: Option<String>,
        /// At most so many; never 0.
        max_entries: u32,
        /// Where to go on; empty at the beginning.
        starting_token: String,
    },
    /// `publishing.publish`
    Publish(PublishFacts),
    /// `publishing.unpublish`
    Unpublish {
        /// The volume's id.
        volume: String,
        /// From which node; `None` is from all.
        node: Option<String>,
    },
}

impl PluginCall {
    /// The export's name in the WIT, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            PluginCall::Describe => "driver.describe",
            PluginCall::Probe => "driver.probe",
            PluginCall::Attach(_) => "node.attach",
            PluginCall::NodeInfo(_) => "node.node-info",
            PluginCall::CreateVolume(_) => "controller.create-volume",
            PluginCall::DeleteVolume { .. } => "controller.delete-volume",
            PluginCall::Validate(_) => "controller.validate",
            PluginCall::ListVolumes { .. } => "listing.list-volumes",
            PluginCall::Capacity(_) => "capacity.room-for",
            PluginCall::Expand { .. } => "controller.expand",
            PluginCall::Modify { .. } => "modification.modify-volume",
            PluginCall::CreateSnapshot(_) => "snapshots.create-snapshot",
            PluginCall::DeleteSnapshot { .. } => "snapshots.delete-snapshot",
            PluginCall::ListSnapshots { .. } => "snapshot-listing.list-snapshots",
            PluginCall::Publish(_) => "publishing.publish",
            PluginCall::Unpublish { .. } => "publishing.unpublish",
        }
    }

    /// May the function use imports other than `log` and `config`? Those of `driver` and `node` are pure.
    pub fn has_effects(&self) -> bool {
        !matches!(self, PluginCall::Describe | PluginCall::Probe | PluginCall::Attach(_) | PluginCall::NodeInfo(_))
    }
}

/// What a function returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PluginAnswer {
    /// Of `describe`.
    Described(Description),
    /// Of `probe`.
    Ready(bool),
    /// Of `attach`.
    Plan(AttachPlan),
    /// Of `node-info`.
    NodeInfo(NodeInfo),
    /// Of `create-volume`.
    Volume(VolumeAnswer),
    /// Of `delete-volume` and `delete-snapshot`.
    Deleted,
    /// Of `modify-volume`.
    Modified,
    /// Of `create-snapshot`.
    Snapshot(SnapshotAnswer),
    /// Of `validate`: nothing, or why not.
    Validated(Option<String>),
    /// Of `list-volumes`.
    Volumes {
        /// The entries.
        entries: Vec<VolumeAnswer>,
        /// Where to go on; empty at the end.
        next_token: String,
    },
    /// Of `list-snapshots`.
    Snapshots {
        /// The entries.
        entries: Vec<SnapshotAnswer>,
        /// Where to go on; empty at the end.
        next_token: String,
    },
    /// Of `capacity`.
    Capacity(CapacityAnswer),
    /// Of `expand`.
    Expanded(ExpandAnswer),
    /// Of `publish`: the publish_context, without what the daemon adds.
    Published(Context),
    /// Of `unpublish`.
    Unpublished,
}

/// What a driver says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Who made it.
    pub vendor: String,
    /// The vendor's version, `vendor_version` of GetPluginInfo.
    pub version: String,
    /// The operator's configuration keys that it reads.
    pub configuration: Vec<Key>,
    /// The secrets that it names in plans and effects.
    pub secrets: Vec<Key>,
    /// Its volumes can grow while they are in use.
    pub online_expansion: bool,
    /// It makes volumes from other volumes.
    pub clones: bool,
}

/// A key of the configuration, or the name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub help: String,
    /// The driver does not work without it.
    pub required: bool,
}

/// What `node.attach` is told. It has no secrets, no path and no clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// The volume's id.
    pub volume: String,
    /// From CreateVolume, with what the orchestrator added.
    pub volume_context: Context,
    /// From ControllerPublishVolume.
    pub publish_context: Context,
    /// How it is to be used.
    pub capability: Capability,
}

/// What `node.node-info` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The node's name, from the daemon's configuration.
    pub node: String,
    /// The node's topology, from the daemon's configuration.
    pub topology: Topology,
    /// From which addresses the node reaches the clusters that the driver was granted.
    pub addresses: Vec<IpAddr>,
}

/// What `node.node-info` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// `node_id` of NodeGetInfo.
    pub node_id: String,
    /// 0 leaves it to the orchestrator.
    pub max_volumes: u64,
    /// Where the node is, in the driver's terms.
    pub topology: Topology,
}

/// What `controller.create-volume` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateFacts {
    /// The caller's name.
    pub name: String,
    /// How large.
    pub capacity: CapacityRange,
    /// How it will be used.
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

/// What `snapshots.create-snapshot` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// The caller's name.
    pub name: String,
    /// The volume that it is of.
    pub volume: String,
    /// The snapshot class's parameters.
    pub parameters: Context,
}

/// What `publishing.publish` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishFacts {
    /// The volume's id.
    pub volume: String,
    /// The node's id, as some version of the driver gave it.
    pub node: String,
    /// How it is to be used there.
    pub capability: Capability,
    /// Only read there.
    pub readonly: bool,
    /// From CreateVolume.
    pub volume_context: Context,
}

/// What `controller.validate` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidateFacts {
    /// The volume's id.
    pub volume: String,
    /// As CreateVolume returned it.
    pub volume_context: Context,
    /// All of them must be supported.
    pub capabilities: Vec<Capability>,
    /// The storage class's parameters.
    pub parameters: Context,
    /// Parameters that may change later.
    pub mutable_parameters: Context,
}

/// What `controller.capacity` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityFacts {
    /// For volumes used so.
    pub capabilities: Vec<Capability>,
    /// For volumes with these parameters.
    pub parameters: Context,
    /// For volumes reachable from there.
    pub topology: Option<Topology>,
}

/// A volume as a driver describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeAnswer {
    /// The volume's id.
    pub volume: String,
    /// Its size in bytes.
    pub capacity: u64,
    /// What the node is to be told.
    pub context: Context,
    /// What it was filled with.
    pub source: Option<ContentSource>,
    /// Where it is reachable from; empty is everywhere.
    pub topology: Vec<Topology>,
}

/// A snapshot as a driver describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAnswer {
    /// The snapshot's id.
    pub snapshot: String,
    /// The volume that it is of.
    pub volume: String,
    /// What a volume that is made from it has at least, in bytes.
    pub size: u64,
    /// When it was cut, in seconds since 1970 and nanoseconds.
    pub created: (u64, u32),
    /// A volume can be made from it now.
    pub is_ready: bool,
}

/// Room for new volumes, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityAnswer {
    /// In all.
    pub available: u64,
    /// For one volume at the most; 0 is unknown.
    pub largest: u64,
    /// For one volume at the least; 0 is unknown.
    pub smallest: u64,
}

/// A volume has grown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpandAnswer {
    /// Its size in bytes.
    pub capacity: u64,
    /// The node has something to do as well.
    pub node_expansion: bool,
}

/// A plugin says no. One kind, one gRPC code (`status.rs` of the daemon).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind.
    pub kind: RefusalKind,
    /// The plugin's words, bounded and without control characters.
    pub message: String,
}

/// The kinds of refusal that WIT knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// A parameter or argument is wrong.
    Invalid,
    /// The volume, snapshot or node does not exist.
    NotFound,
    /// The name is taken by something that differs.
    AlreadyExists,
    /// No room, or not there.
    Exhausted,
    /// In use, or not in the state that the call needs.
    Precondition,
    /// No size in the range will do.
    OutOfRange,
    /// The token of a listing is not one of ours.
    BadToken,
    /// The secrets' identity may not do this.
    PermissionDenied,
    /// The secrets are not valid.
    Unauthenticated,
    /// The back end cannot be reached; ask again.
    Unavailable,
    /// This driver cannot do that at all.
    Unsupported,
}

/// How a call of a plugin failed: a refusal, a trap, a deadline and a limit are four different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallFailure {
    /// The plugin said no.
    Refused(Refusal),
    /// The plugin trapped; the text is wasmtime's, bounded.
    Trapped(String),
    /// The plugin took longer than it may.
    TimedOut {
        /// What it was given, in milliseconds.
        limit_ms: u64,
    },
    /// What it returned or asked for is larger than it may be, or is not what the WIT says.
    Limit(String),
    /// The component does not export the function.
    NotExported,
}
