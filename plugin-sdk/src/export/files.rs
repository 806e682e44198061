//! A [`FileDriver`] as the bindings want it, and granted folders behind the import `files`.

use super::{Daemon, HOST};
use crate::bindings::capacity::exports::windlass::plugin::capacity as wit_capacity;
use crate::bindings::controller::exports::windlass::plugin::controller as wit;
use crate::bindings::files::windlass::plugin::files as wit_files;
use crate::bindings::listing::exports::windlass::plugin::listing as wit_listing;
use crate::host::FileImports;
use crate::{CapacityFacts, CapacityRange, Context, Expanded, File, FileCapacity, FileDriver, FileListing, Files, Page, Refusal, Room, Topology};
use std::marker::PhantomData;

/// Compiles where `D` is a driver that makes its volumes as files.
pub const fn is_file_driver<D: FileDriver>() {}

/// Compiles where `D` can list its volumes.
pub const fn can_list<D: FileListing>() {}

/// Compiles where `D` knows its room.
pub const fn knows_its_room<D: FileCapacity>() {}

/// A driver that makes its volumes as files, as the bindings want it.
pub struct OfFiles<D>(PhantomData<D>);

const FILES: Files<'static> = Files { imports: &Daemon };

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

impl<D: FileDriver> wit::Guest for OfFiles<D> {
    fn create_volume(facts: wit::CreateFacts) -> Result<wit::Volume, Refusal> {
        D::create_volume(&HOST, &FILES, &facts.into()).map(wit::Volume::from)
    }
    fn delete_volume(volume: String) -> Result<(), Refusal> {
        D::delete_volume(&HOST, &FILES, &volume)
    }
    fn validate(facts: wit::ValidateFacts) -> Result<Option<String>, Refusal> {
        D::validate(&HOST, &FILES, &facts.into())
    }
    fn expand(volume: String, capacity: CapacityRange) -> Result<wit::Expanded, Refusal> {
        let Expanded { capacity, node_expansion } = D::expand(&HOST, &FILES, &volume, &capacity)?;
        Ok(wit::Expanded { capacity, node_expansion })
    }
}

impl<D: FileListing> wit_listing::Guest for OfFiles<D> {
    fn list_volumes(max_entries: u32, starting_token: String) -> Result<wit_listing::Page, Refusal> {
        let Page { volumes, next_token } = D::list_volumes(&HOST, &FILES, max_entries, &starting_token)?;
        Ok(wit_listing::Page { volumes: volumes.into_iter().map(wit_listing::Volume::from).collect(), next_token })
    }
}

impl<D: FileCapacity> wit_capacity::Guest for OfFiles<D> {
    fn room_for(facts: wit_capacity::CapacityFacts) -> Result<wit_capacity::Room, Refusal> {
        let facts = CapacityFacts { capabilities: facts.capabilities, parameters: facts.parameters.into(), topology: facts.topology.map(Topology::from) };
        let Room { available, largest, smallest } = D::capacity(&HOST, &FILES, &facts)?;
        Ok(wit_capacity::Room { available, largest, smallest })
    }
}
