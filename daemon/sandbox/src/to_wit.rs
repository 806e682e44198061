//! From the daemon's words to the WIT's: arguments of a call, answers of an effect.

pub(crate) mod rbd;

use crate::bindings::exports::windlass::plugin::{capacity, controller, node, publishing, snapshots};
use crate::bindings::windlass::plugin::{files, types as wit};
use windlass_plan::capability::{Access, AccessMode, Capability, FilesystemKind};
use windlass_plan::effect::FileFacts;
use windlass_plan::plugin::{CapacityFacts, CreateFacts, NodeFacts, PublishFacts, SnapshotFacts, ValidateFacts, VolumeFacts};
use windlass_plan::request::{CapacityRange, ContentSource, Context, TopologyRequirement};

pub(crate) fn volume_facts(facts: VolumeFacts) -> node::VolumeFacts {
    node::VolumeFacts {
        volume: facts.volume,
        volume_context: context(facts.volume_context),
        publish_context: context(facts.publish_context),
        capability: capability(&facts.capability),
    }
}

pub(crate) fn node_facts(facts: NodeFacts) -> node::NodeFacts {
    node::NodeFacts { node: facts.node, topology: context(facts.topology), addresses: facts.addresses.iter().map(ToString::to_string).collect() }
}

pub(crate) fn create_facts(facts: CreateFacts) -> controller::CreateFacts {
    controller::CreateFacts {
        name: facts.name,
        capacity: capacity_range(facts.capacity),
        capabilities: facts.capabilities.iter().map(capability).collect(),
        parameters: context(facts.parameters),
        mutable_parameters: context(facts.mutable_parameters),
        source: facts.source.map(content_source),
        topology: topology_requirement(facts.topology),
    }
}

pub(crate) fn validate_facts(facts: ValidateFacts) -> controller::ValidateFacts {
    controller::ValidateFacts {
        volume: facts.volume,
        volume_context: context(facts.volume_context),
        capabilities: facts.capabilities.iter().map(capability).collect(),
        parameters: context(facts.parameters),
        mutable_parameters: context(facts.mutable_parameters),
    }
}

pub(crate) fn snapshot_facts(facts: SnapshotFacts) -> snapshots::SnapshotFacts {
    snapshots::SnapshotFacts { name: facts.name, volume: facts.volume, parameters: context(facts.parameters) }
}

pub(crate) fn publish_facts(facts: PublishFacts) -> publishing::PublishFacts {
    publishing::PublishFacts {
        volume: facts.volume,
        node: facts.node,
        capability: capability(&facts.capability),
        readonly: facts.readonly,
        volume_context: context(facts.volume_context),
    }
}

pub(crate) fn capacity_facts(facts: CapacityFacts) -> capacity::CapacityFacts {
    capacity::CapacityFacts {
        capabilities: facts.capabilities.iter().map(capability).collect(),
        parameters: context(facts.parameters),
        topology: facts.topology.map(context),
    }
}

pub(crate) fn capacity_range(range: CapacityRange) -> wit::CapacityRange {
    wit::CapacityRange { required: range.required, limit: range.limit }
}

pub(crate) fn file(facts: FileFacts) -> files::File {
    files::File { name: facts.name, size: facts.size, properties: context(facts.properties) }
}

pub(crate) fn context(context: Context) -> Vec<(String, String)> {
    context.into_iter().collect()
}

/// Mount flags stay with the daemon, which alone mounts.
fn capability(capability: &Capability) -> wit::Capability {
    let access = match &capability.access {
        Access::Block => wit::Access::Block,
        Access::Mount(wish) => wit::Access::Mount(wish.filesystem.map(|kind| match kind {
            FilesystemKind::Ext4 => wit::FilesystemKind::Ext4,
            FilesystemKind::Xfs => wit::FilesystemKind::Xfs,
        })),
    };
    let mode = match capability.mode {
        AccessMode::SingleNodeWriter => wit::AccessMode::SingleNodeWriter,
        AccessMode::SingleNodeReaderOnly => wit::AccessMode::SingleNodeReaderOnly,
        AccessMode::MultiNodeReaderOnly => wit::AccessMode::MultiNodeReaderOnly,
        AccessMode::MultiNodeSingleWriter => wit::AccessMode::MultiNodeSingleWriter,
        AccessMode::MultiNodeMultiWriter => wit::AccessMode::MultiNodeMultiWriter,
        AccessMode::SingleNodeSingleWriter => wit::AccessMode::SingleNodeSingleWriter,
        AccessMode::SingleNodeMultiWriter => wit::AccessMode::SingleNodeMultiWriter,
    };
    wit::Capability { access, mode }
}

fn content_source(source: ContentSource) -> wit::ContentSource {
    match source {
        ContentSource::Snapshot(id) => wit::ContentSource::Snapshot(id),
        ContentSource::Volume(id) => wit::ContentSource::Volume(id),
    }
}

fn topology_requirement(requirement: TopologyRequirement) -> wit::TopologyRequirement {
    let all = |places: Vec<_>| places.into_iter().map(context).collect();
    wit::TopologyRequirement { requisite: all(requirement.requisite), preferred: all(requirement.preferred) }
}
