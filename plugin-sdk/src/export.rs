//! Between the generated bindings and the traits: what the export macros put into a component. Conversions only.

use crate::bindings::controller::exports::windlass::plugin::controller as wit_controller;
use crate::bindings::controller::windlass::plugin::files as wit_files;
use crate::bindings::driver::exports::windlass::plugin::driver as wit_driver;
use crate::bindings::driver::windlass::plugin::{config, log, types};
use crate::bindings::node::exports::windlass::plugin::node as wit_node;
use crate::host::{FileImports, Imports};
use crate::{
    AttachPlan, CapacityFacts, CapacityRange, Content, Context, CreateFacts, Expanded, File, FileDriver, Files, Filesystem, Host, Key, Level, NodeDriver,
    NodeFacts, NodeInfo, Page, Refusal, Room, Source, Topology, TopologyRequirement, ValidateFacts, Volume, VolumeFacts,
};
use std::marker::PhantomData;

/// A driver, as the bindings want it.
pub struct Exported<D>(PhantomData<D>);

/// Compiles where `D` is a driver for the node.
pub const fn is_node_driver<D: NodeDriver>() {}

/// Compiles where `D` is a driver that makes its volumes.
pub const fn is_file_driver<D: FileDriver>() {}

/// The daemon, on the other side of the component's imports.
struct Daemon;

const HOST: Host<'static> = Host { imports: &Daemon };
const FILES: Files<'static> = Files { imports: &Daemon };

impl Imports for Daemon {
    fn config(&self, key: &str) -> Option<String> {
        config::get(key)
    }
    fn log(&self, level: Level, line: &str) {
        log::log(level, line);
    }
}

impl FileImports for Daemon {
    fn create(&self, folder: &str, name: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal> {
        let properties: Vec<_> = properties.into();
        wit_files::create(folder, name, size, &properties).map(|created| (created.file.into(), created.is_new))
    }
    fn stat(&self, folder: &str, name: &str) -> Result<Option<File>, Refusal> {
        wit_files::stat(folder, name).map(|file| file.map(File::from))
    }
    fn grow(&self, folder: &str, name: &str, size: u64) -> Result<File, Refusal> {
        wit_files::grow(folder, name, size).map(File::from)
    }
    fn delete(&self, folder: &str, name: &str) -> Result<(), Refusal> {
        wit_files::delete(folder, name)
    }
    fn list(&self, folder: &str, after: &str, limit: u32) -> Result<Vec<File>, Refusal> {
        wit_files::list(folder, after, limit).map(|files| files.into_iter().map(File::from).collect())
    }
    fn free(&self, folder: &str) -> Result<(u64, u64), Refusal> {
        wit_files::free(folder).map(|room| (room.available, room.total))
    }
}

impl From<wit_files::File> for File {
    fn from(file: wit_files::File) -> Self {
        Self { name: file.name, size: file.size, properties: file.properties.into() }
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
        let NodeInfo { node_id, max_volumes, topology } = D::node_info(&HOST, &NodeFacts { node: facts.node, topology: facts.topology.into() })?;
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
        let Source::File { folder, name } = plan.source;
        Self {
            source: wit_node::Source::File(wit_node::FileSource { folder, name }),
            content: match plan.content {
                Content::Blank => wit_node::Content::Blank,
                Content::Copy => wit_node::Content::Copy,
            },
            filesystem: plan.filesystem.map(|Filesystem { kind, label }| wit_node::Filesystem { kind, label, extras: Vec::new() }),
        }
    }
}

impl<D: FileDriver> wit_controller::Guest for Exported<D> {
    fn create_volume(facts: wit_controller::CreateFacts) -> Result<wit_controller::Volume, Refusal> {
        D::create_volume(&HOST, &FILES, &facts.into()).map(wit_controller::Volume::from)
    }
    fn delete_volume(volume: String) -> Result<(), Refusal> {
        D::delete_volume(&HOST, &FILES, &volume)
    }
    fn validate(facts: wit_controller::ValidateFacts) -> Result<Option<String>, Refusal> {
        let facts = ValidateFacts {
            volume: facts.volume,
            volume_context: facts.volume_context.into(),
            capabilities: facts.capabilities,
            parameters: facts.parameters.into(),
        };
        D::validate(&HOST, &FILES, &facts)
    }
    fn list_volumes(max_entries: u32, starting_token: String) -> Result<wit_controller::Page, Refusal> {
        let Page { volumes, next_token } = D::list_volumes(&HOST, &FILES, max_entries, &starting_token)?;
        Ok(wit_controller::Page { volumes: volumes.into_iter().map(wit_controller::Volume::from).collect(), next_token })
    }
    fn capacity(facts: wit_controller::CapacityFacts) -> Result<wit_controller::Room, Refusal> {
        let facts = CapacityFacts { capabilities: facts.capabilities, parameters: facts.parameters.into(), topology: facts.topology.map(Topology::from) };
        let Room { available, largest, smallest } = D::capacity(&HOST, &FILES, &facts)?;
        Ok(wit_controller::Room { available, largest, smallest })
    }
    fn expand(volume: String, capacity: CapacityRange) -> Result<wit_controller::Expanded, Refusal> {
        let Expanded { capacity, node_expansion } = D::expand(&HOST, &FILES, &volume, &capacity)?;
        Ok(wit_controller::Expanded { capacity, node_expansion })
    }
}

impl From<wit_controller::CreateFacts> for CreateFacts {
    fn from(facts: wit_controller::CreateFacts) -> Self {
        Self {
            name: facts.name,
            capacity: facts.capacity,
            capabilities: facts.capabilities,
            parameters: facts.parameters.into(),
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

impl From<Volume> for wit_controller::Volume {
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
