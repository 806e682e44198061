//! The reference driver: each volume, and each snapshot, is a sparse file in a folder that the operator granted. It needs no cluster.

mod copy;
mod page;
mod settings;
mod snapshot;
mod volume;
mod wishes;

use settings::Settings;
use windlass_plugin_sdk::*;
use wishes::{Wishes, refuse_range};

/// The driver.
pub struct Local;

impl NodeDriver for Local {
    fn describe() -> Description {
        Description::new("windlass.io", env!("CARGO_PKG_VERSION"))
            .config("folder", "the granted folder that holds the volumes; `volumes` if not given")
            .config("node", "the node's name, from which alone its volumes are reachable; without it they are reachable from everywhere")
            .config("max_bytes", "the largest volume, in bytes; 16 TiB if not given")
            .online_expansion()
            .clones()
    }

    fn probe(host: &Host<'_>) -> Result<bool, Refusal> {
        Settings::read(host).map(|_| true)
    }

    fn attach(host: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        if !volume::is_id(&facts.volume) {
            return Err(volume::unknown(&facts.volume));
        }
        if let Some(words) = volume::unreadable(&facts.volume_context) {
            return Err(Refusal::precondition(words));
        }
        let made_for = facts.volume_context.get(volume::FILESYSTEM).and_then(FilesystemKind::named);
        let plan = AttachPlan::file(Settings::read(host)?.folder, &facts.volume).formatted_for(&facts.capability, made_for.unwrap_or(FilesystemKind::Ext4));
        Ok(if facts.volume_context.get(volume::CONTENT) == Some(volume::COPY) { plan.copy() } else { plan })
    }

    fn node_info(_: &Host<'_>, facts: &NodeFacts) -> Result<NodeInfo, Refusal> {
        Ok(NodeInfo::new(&facts.node).segment(settings::NODE_SEGMENT, &facts.node))
    }
}

impl FileDriver for Local {
    fn create_volume(host: &Host<'_>, files: &Files<'_>, facts: &CreateFacts) -> Result<Volume, Refusal> {
        let settings = Settings::read(host)?;
        let folder = files.folder(&settings.folder);
        if let Some(source) = &facts.source {
            return copy::create(host, &folder, facts, &settings, source);
        }
        let wishes = Wishes::read(&facts.capabilities, &facts.parameters, None)?;
        let size = wishes.sizes(&settings).choose(&facts.capacity)?;
        let id = volume::id(&facts.name);
        volume::refuse_elsewhere(&folder, &id, facts, &settings)?;
        let (file, is_new) = folder.create(&id, size, volume::properties(&facts.name, &wishes))?;
        if !is_new {
            volume::check_same(&file, facts, &wishes)?;
        }
        host.debug(format!("{id} is {} bytes, {}", file.size, if is_new { "new" } else { "made before" }));
        Ok(volume::describe(&file, &settings))
    }

    fn delete_volume(host: &Host<'_>, files: &Files<'_>, volume: &str) -> Result<(), Refusal> {
        if !volume::is_id(volume) {
            return Ok(());
        }
        let folder = files.folder(Settings::read(host)?.folder);
        match folder.stat(volume)? {
            None => Ok(()),
            Some(file) if volume::is_ours(&file) => folder.delete(volume),
            Some(_) => Err(Refusal::precondition(format!("the file {volume} was not made by this driver, so it is not deleted"))),
        }
    }

    fn validate(host: &Host<'_>, files: &Files<'_>, facts: &ValidateFacts) -> Result<Option<String>, Refusal> {
        let file = volume::find(&files.folder(Settings::read(host)?.folder), &facts.volume)?;
        Ok(match Wishes::read(&facts.capabilities, &facts.parameters, None) {
            Ok(wishes) => wishes.differ_from(&file.properties).or_else(|| volume::context_differs(&file, &facts.volume_context)),
            Err(refusal) => Some(refusal.words().to_owned()),
        })
    }

    fn expand(host: &Host<'_>, files: &Files<'_>, volume: &str, capacity: &CapacityRange) -> Result<Expanded, Refusal> {
        let settings = Settings::read(host)?;
        let folder = files.folder(&settings.folder);
        let file = volume::find(&folder, volume)?;
        refuse_range(capacity)?;
        let size = if file.size >= capacity.required {
            if capacity.limit != 0 && file.size > capacity.limit {
                let words = format!("the volume has {} bytes, limit_bytes is {}, and volumes do not shrink", file.size, capacity.limit);
                return Err(Refusal::out_of_range(words));
            }
            file.size
        } else {
            folder.grow(volume, settings.sizes(file.size).choose(capacity)?)?.size
        };
        Ok(Expanded { capacity: size, node_expansion: true })
    }
}

impl FileListing for Local {
    fn list_volumes(host: &Host<'_>, files: &Files<'_>, max_entries: u32, token: &str) -> Result<Page, Refusal> {
        if !token.is_empty() && !volume::is_id(token) {
            return Err(Refusal::bad_token("starting_token is not one that this driver gave"));
        }
        let settings = Settings::read(host)?;
        let describe = |file: &File| volume::is_ours(file).then(|| volume::describe(file, &settings));
        let (volumes, next_token) = page::read(&files.folder(&settings.folder), volume::PREFIX, token, max_entries, describe)?;
        Ok(Page { volumes, next_token })
    }
}

impl FileSnapshots for Local {
    fn create_snapshot(host: &Host<'_>, files: &Files<'_>, facts: &SnapshotFacts) -> Result<Snapshot, Refusal> {
        snapshot::create(&files.folder(Settings::read(host)?.folder), facts)
    }

    fn delete_snapshot(host: &Host<'_>, files: &Files<'_>, snapshot: &str) -> Result<(), Refusal> {
        snapshot::delete(&files.folder(Settings::read(host)?.folder), snapshot)
    }
}

impl FileSnapshotListing for Local {
    fn list_snapshots(host: &Host<'_>, files: &Files<'_>, filter: &SnapshotFilter, max_entries: u32, token: &str) -> Result<SnapshotPage, Refusal> {
        snapshot::list(&files.folder(Settings::read(host)?.folder), filter, max_entries, token)
    }
}

impl FileCapacity for Local {
    fn capacity(host: &Host<'_>, files: &Files<'_>, facts: &CapacityFacts) -> Result<Room, Refusal> {
        let settings = Settings::read(host)?;
        wishes::check_parameters(&facts.parameters)?;
        let Ok(wishes) = Wishes::read(&facts.capabilities, &facts.parameters, None) else { return Ok(Room::default()) };
        if facts.topology.as_ref().is_some_and(|place| !settings.is_here(place)) {
            return Ok(Room::default());
        }
        let sizes = wishes.sizes(&settings);
        let available = files.folder(&settings.folder).available()?;
        Ok(Room { available, largest: available.min(sizes.largest), smallest: sizes.smallest })
    }
}

#[cfg(feature = "component")]
export_file_driver!(Local, listing, capacity, snapshots, snapshot_listing);
