//! Between the generated bindings and the traits: what the export macros put into a component. Conversions only.

mod files;
mod images;

pub use files::{OfFiles, can_list, can_list_snapshots, cuts_files, is_file_driver, knows_its_room};
pub use images::{OfImages, has_snapshots, is_rbd_driver, modifies};

use crate::bindings::controller::exports::windlass::plugin::controller as wit_controller;
use crate::bindings::driver::exports::windlass::plugin::driver as wit_driver;
use crate::bindings::driver::windlass::plugin::{config, log, types};
use crate::bindings::node::exports::windlass::plugin::node as wit_node;
use crate::host::Imports;
use crate::{
    AttachPlan, Content, CreateFacts, Filesystem, Host, Key, Level, MapOptions, NodeDriver, NodeFacts, NodeInfo, Refusal, Source, Topology,
    TopologyRequirement, ValidateFacts, Volume, VolumeFacts,
};
use std::marker::PhantomData;

/// A driver for the node, as the bindings want it.
pub struct Exported<D>(PhantomData<D>);

/// Compiles where `D` is a driver for the node.
pub const fn is_node_driver<D: NodeDriver>() {}

/// The daemon, on the other side of the component's imports.
struct Daemon;

const HOST: Host<'static> = Host { imports: &Daemon };

impl Imports for Daemon {
    fn config(&self, key: &str) -> Option<String> {
        config::get(key)
    }
    fn log(&self, level: Level, line: &str) {
        log::log(level, line);
    }
}

impl<D: NodeDriver> wit_driver::Guest for Exported<D> {
    fn describe() -> wit_driver::Description {
        let said = D::describe();
        let keys = |keys: Vec<Key>| keys.into_iter().map(|key| wit_driver::Key { name: key.name, help: key.help, required: key.required }).collect();
        wit_driver::Description {
            vendor: said.vendor,
            version: said.version,
            configuration: keys(said.configuration),
            secrets: keys(said.secrets),
            online_expansion: said.online_expansion,
            clones: said.clones,
        }
    }
    fn probe() -> Result<bool, Refusal> {
        D::probe(&HOST)
    }
}

impl<D: NodeDriver> wit_node::Guest for Exported<D> {
    fn attach(facts: wit_node::VolumeFacts) -> Result<wit_node::AttachPlan, Refusal> {
        D::attach(&HOST, &facts.into()).map(wit_node::AttachPlan::from)
    }
    fn node_info(facts: wit_node::NodeFacts) -> Result<wit_node::Info, Refusal> {
        let facts = NodeFacts { node: facts.node, topology: facts.topology.into(), addresses: facts.addresses };
        let NodeInfo { node_id, max_volumes, topology } = D::node_info(&HOST, &facts)?;
        Ok(wit_node::Info { node_id, max_volumes, topology: topology.into() })
    }
}

impl From<wit_node::VolumeFacts> for VolumeFacts {
    fn from(facts: wit_node::VolumeFacts) -> Self {
        Self { volume: facts.volume, volume_context: facts.volume_context.into(), publish_context: facts.publish_context.into(), capability: facts.capability }
    }
}

impl From<AttachPlan> for wit_node::AttachPlan {
    fn from(plan: AttachPlan) -> Self {
        Self {
            source: match plan.source {
                Source::File { folder, name } => wit_node::Source::File(wit_node::FileSource { folder, name }),
                Source::Rbd { pool, image, credentials, options } => {
                    wit_node::Source::Rbd(wit_node::RbdSource { pool, image, credentials, options: options.into() })
                }
            },
            content: match plan.content {
                Content::Blank => wit_node::Content::Blank,
                Content::Copy => wit_node::Content::Copy,
            },
            filesystem: plan.filesystem.map(|Filesystem { kind, label }| wit_node::Filesystem { kind, label, extras: Vec::new() }),
        }
    }
}

impl From<MapOptions> for wit_node::MapOptions {
    fn from(options: MapOptions) -> Self {
        let MapOptions { ms_mode, read_from, crush_location, osd_request_timeout, queue_depth, alloc_size, limits } = options;
        Self { ms_mode, read_from, crush_location, osd_request_timeout, queue_depth, alloc_size, limits, extras: Vec::new() }
    }
}

impl From<wit_controller::ValidateFacts> for ValidateFacts {
    fn from(facts: wit_controller::ValidateFacts) -> Self {
        Self {
            volume: facts.volume,
            volume_context: facts.volume_context.into(),
            capabilities: facts.capabilities,
            parameters: facts.parameters.into(),
            mutable_parameters: facts.mutable_parameters.into(),
        }
    }
}

impl From<wit_controller::CreateFacts> for CreateFacts {
    fn from(facts: wit_controller::CreateFacts) -> Self {
        Self {
            name: facts.name,
            capacity: facts.capacity,
            capabilities: facts.capabilities,
            parameters: facts.parameters.into(),
            mutable_parameters: facts.mutable_parameters.into(),
            source: facts.source,
            topology: facts.topology.into(),
        }
    }
}

impl From<types::TopologyRequirement> for TopologyRequirement {
    fn from(requirement: types::TopologyRequirement) -> Self {
        let places = |places: Vec<types::Topology>| places.into_iter().map(Topology::from).collect();
        Self { requisite: places(requirement.requisite), preferred: places(requirement.preferred) }
    }
}

impl From<Volume> for types::Volume {
    fn from(volume: Volume) -> Self {
        Self {
            id: volume.id,
            capacity: volume.capacity,
            context: volume.context.into(),
            source: volume.source,
            topology: volume.topology.into_iter().map(Vec::from).collect(),
        }
    }
}
