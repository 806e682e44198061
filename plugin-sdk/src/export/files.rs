//! A [`FileDriver`] as the bindings want it, and granted folders behind the import `files`.

use super::{Daemon, HOST};
use crate::bindings::capacity::exports::windlass::plugin::capacity as wit_capacity;
use crate::bindings::controller::exports::windlass::plugin::controller as wit;
use crate::bindings::files::windlass::plugin::files as wit_files;
use crate::bindings::listing::exports::windlass::plugin::listing as wit_listing;
use crate::bindings::snapshot_listing::exports::windlass::plugin::snapshot_listing as wit_snapshot_listing;
use crate::bindings::snapshots::exports::windlass::plugin::snapshots as wit_snapshots;
use crate::host::FileImports;
use crate::{
    CapacityFacts, CapacityRange, Context, Expanded, File, FileCapacity, FileDriver, FileListing, FileSnapshotListing, FileSnapshots, Files, Page, Refusal,
    Room, Snapshot, SnapshotFacts, SnapshotFilter, SnapshotPage, Topology,
};
use std::marker::PhantomData;

/// Compiles where `D` is a driver that makes its volumes as files.
pub const fn is_file_driver<D: FileDriver>() {}

/// Compiles where `D` can list its volumes.
pub const fn can_list<D: FileListing>() {}

/// Compiles where `D` knows its room.
pub const fn knows_its_room<D: FileCapacity>() {}

/// Compiles where `D` has snapshots.
pub const fn cuts_files<D: FileSnapshots>() {}

/// Compiles where `D` can list its snapshots.
pub const fn can_list_snapshots<D: FileSnapshotListing>() {}

/// A driver that makes its volumes as files, as the bindings want it.
pub struct OfFiles<D>(PhantomData<D>);

const FILES: Files<'static> = Files { imports: &Daemon };

impl FileImports for Daemon {
    fn create(&self, folder: &str, name: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal> {
        let properties: Vec<_> = properties.into();
        wit_files::create(folder, name, size, &properties).map(|created| (created.file.into(), created.is_new))
    }
    fn copy(&self, folder: &str, name: &str, to: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal> {
        let properties: Vec<_> = properties.into();
        wit_files::copy(folder, name, to, size, &properties).map(|created| (created.file.into(), created.is_new))
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

impl<D: FileSnapshots> wit_snapshots::Guest for OfFiles<D> {
    fn create_snapshot(facts: wit_snapshots::SnapshotFacts) -> Result<wit_snapshots::Snapshot, Refusal> {
        let facts = SnapshotFacts { name: facts.name, volume: facts.volume, parameters: facts.parameters.into() };
        let Snapshot { id, volume, size, created, ready } = D::create_snapshot(&HOST, &FILES, &facts)?;
        Ok(wit_snapshots::Snapshot { id, volume, size, created: wit_snapshots::Timestamp { seconds: created, nanoseconds: 0 }, ready })
    }
    fn delete_snapshot(snapshot: String) -> Result<(), Refusal> {
        D::delete_snapshot(&HOST, &FILES, &snapshot)
    }
}

impl<D: FileSnapshotListing> wit_snapshot_listing::Guest for OfFiles<D> {
    fn list_snapshots(filter: wit_snapshot_listing::SnapshotFilter, max_entries: u32, token: String) -> Result<wit_snapshot_listing::Page, Refusal> {
        let filter = SnapshotFilter { snapshot: filter.snapshot, volume: filter.volume };
        let SnapshotPage { snapshots, next_token } = D::list_snapshots(&HOST, &FILES, &filter, max_entries, &token)?;
        let listed = |Snapshot { id, volume, size, created, ready }| {
            let created = wit_snapshot_listing::Timestamp { seconds: created, nanoseconds: 0 };
            wit_snapshot_listing::Snapshot { id, volume, size, created, ready }
        };
        Ok(wit_snapshot_listing::Page { snapshots: snapshots.into_iter().map(listed).collect(), next_token })
    }
}
