//! What a driver is told, one type a call.

use crate::{Capability, CapacityRange, ContentSource, Context, Snapshot, Topology};

/// What [`NodeDriver::attach`](crate::NodeDriver::attach) is told. It has no secret, no path and no clock.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl VolumeFacts {
    /// For tests: a volume without any context.
    pub fn new(volume: impl Into<String>, capability: Capability) -> Self {
        Self { volume: volume.into(), volume_context: Context::new(), publish_context: Context::new(), capability }
    }

    /// For tests: one more key of volume_context.
    #[must_use]
    pub fn context(mut self, key: &str, value: &str) -> Self {
        self.volume_context = self.volume_context.with(key, value);
        self
    }
}

/// What [`NodeDriver::node_info`](crate::NodeDriver::node_info) is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node's name, from the daemon's configuration.
    pub node: String,
    /// The node's topology, from the daemon's configuration.
    pub topology: Topology,
    /// IP addresses, without a port, from which the node reaches the clusters that were granted: what fencing it needs.
    pub addresses: Vec<String>,
}

/// Where a new volume must be reachable from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopologyRequirement {
    /// At least one of these, if any is given.
    pub requisite: Vec<Topology>,
    /// In order of preference.
    pub preferred: Vec<Topology>,
}

/// What [`FileDriver::create_volume`](crate::FileDriver::create_volume) is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateFacts {
    /// The caller's name for the volume: the same name and wishes twice is the same volume.
    pub name: String,
    /// How large, in bytes.
    pub capacity: CapacityRange,
    /// How it will be used: at least one, and all of them must be possible.
    pub capabilities: Vec<Capability>,
    /// The storage class's parameters.
    pub parameters: Context,
    /// Parameters that may change later; for a driver with [`RbdModification`](crate::RbdModification).
    pub mutable_parameters: Context,
    /// What it starts with.
    pub source: Option<ContentSource>,
    /// Where it must be reachable from.
    pub topology: TopologyRequirement,
}

impl CreateFacts {
    /// For tests: a volume of at least `required` bytes (0: any size), used in one way.
    pub fn new(name: impl Into<String>, required: u64, capability: Capability) -> Self {
        Self {
            name: name.into(),
            capacity: CapacityRange { required, limit: 0 },
            capabilities: vec![capability],
            parameters: Context::new(),
            mutable_parameters: Context::new(),
            source: None,
            topology: TopologyRequirement::default(),
        }
    }
}

/// What [`FileDriver::validate`](crate::FileDriver::validate) is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidateFacts {
    /// The volume's id.
    pub volume: String,
    /// As CreateVolume returned it.
    pub volume_context: Context,
    /// All of them must be supported.
    pub capabilities: Vec<Capability>,
    /// The storage class's parameters.
    pub parameters: Context,
    /// Parameters that may change later; for a driver with [`RbdModification`](crate::RbdModification).
    pub mutable_parameters: Context,
}

/// What [`RbdDriver::publish`](crate::RbdDriver::publish) is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishFacts {
    /// The volume's id.
    pub volume: String,
    /// As the driver's own [`NodeDriver::node_info`](crate::NodeDriver::node_info) returned it.
    pub node: String,
    /// How the node will use it.
    pub capability: Capability,
    /// It will only be read.
    pub readonly: bool,
    /// As CreateVolume returned it, with what the orchestrator added.
    pub volume_context: Context,
}

impl PublishFacts {
    /// For tests: a volume for a node, to be written.
    pub fn new(volume: impl Into<String>, node: impl Into<String>, capability: Capability) -> Self {
        Self { volume: volume.into(), node: node.into(), capability, readonly: false, volume_context: Context::new() }
    }
}

/// What [`FileSnapshots::create_snapshot`](crate::FileSnapshots::create_snapshot) and [`RbdSnapshots`](crate::RbdSnapshots)' are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// The caller's name for the snapshot: the same name and volume twice is the same snapshot.
    pub name: String,
    /// The volume that it is of, by id.
    pub volume: String,
    /// The snapshot class's parameters.
    pub parameters: Context,
}

impl SnapshotFacts {
    /// For tests: without any parameter.
    pub fn new(name: impl Into<String>, volume: impl Into<String>) -> Self {
        Self { name: name.into(), volume: volume.into(), parameters: Context::new() }
    }
}

/// Which snapshots [`FileSnapshotListing::list_snapshots`](crate::FileSnapshotListing::list_snapshots) is to list. As it is: all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotFilter {
    /// The one with this id.
    pub snapshot: Option<String>,
    /// Those of the volume with this id.
    pub volume: Option<String>,
}

impl SnapshotFilter {
    /// Does it let this one through?
    pub fn admits(&self, snapshot: &Snapshot) -> bool {
        self.snapshot.as_ref().is_none_or(|id| *id == snapshot.id) && self.volume.as_ref().is_none_or(|id| *id == snapshot.volume)
    }
}

/// What [`FileCapacity::capacity`](crate::FileCapacity::capacity) is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapacityFacts {
    /// For volumes used so; may be empty.
    pub capabilities: Vec<Capability>,
    /// For volumes with these parameters.
    pub parameters: Context,
    /// For volumes reachable from there.
    pub topology: Option<Topology>,
}
