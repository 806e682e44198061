//! CreateVolume from a snapshot or from another volume: a file of its own, which nothing binds to its source, and which is never formatted.

use crate::settings::Settings;
use crate::snapshot;
use crate::volume;
use crate::wishes::{Wishes, refuse_range};
use windlass_plugin_sdk::{CapacityRange, ContentSource, CreateFacts, File, FilesystemKind, Folder, Host, Refusal, Volume};

/// Makes the volume, or finds it; its source may be gone then.
pub(crate) fn create(host: &Host<'_>, folder: &Folder<'_>, facts: &CreateFacts, settings: &Settings, source: &ContentSource) -> Result<Volume, Refusal> {
    let id = volume::id(&facts.name);
    volume::refuse_elsewhere(folder, &id, facts, settings)?;
    let (wishes, size) = match folder.stat(&id)? {
        Some(file) => {
            let wishes = Wishes::read(&facts.capabilities, &facts.parameters, volume::filesystem(&file))?;
            volume::check_same(&file, facts, &wishes)?;
            (wishes, file.size)
        }
        None => {
            let source = find(folder, source)?;
            let inherited = volume::filesystem(&source);
            let wishes = Wishes::read(&facts.capabilities, &facts.parameters, inherited)?;
            refuse_other_filesystem(inherited, wishes.filesystem())?;
            let size = size(&wishes, settings, &facts.capacity, source.size)?;
            (wishes, size)
        }
    };
    // Also where it is there: the daemon takes the file for the volume's by what this call did with it.
    let source = volume::id_of(source);
    let (file, is_new) = folder.copy(source, &id, size, volume::properties(&facts.name, &wishes).with(volume::SOURCE, source))?;
    if !is_new {
        volume::check_same(&file, facts, &wishes)?;
    }
    host.debug(format!("{id} is {} bytes, a copy of {source}, {}", file.size, if is_new { "new" } else { "made before" }));
    Ok(volume::describe(&file, settings))
}

fn find(folder: &Folder<'_>, source: &ContentSource) -> Result<File, Refusal> {
    match source {
        ContentSource::Volume(id) => volume::find(folder, id),
        ContentSource::Snapshot(id) => snapshot::find(folder, id),
    }
}

/// As large as its source, or larger where that is asked for.
fn size(wishes: &Wishes, settings: &Settings, capacity: &CapacityRange, source: u64) -> Result<u64, Refusal> {
    refuse_range(capacity)?;
    if (capacity.required != 0 && capacity.required < source) || (capacity.limit != 0 && capacity.limit < source) {
        let words = format!("volume_content_source has {source} bytes; a volume from it cannot have {} to {}", capacity.required, capacity.limit);
        return Err(Refusal::out_of_range(words));
    }
    if capacity.required <= source { Ok(source) } else { wishes.sizes(settings).choose(capacity) }
}

/// A copy has its source's file system, whatever is asked for.
fn refuse_other_filesystem(has: Option<FilesystemKind>, wanted: Option<FilesystemKind>) -> Result<(), Refusal> {
    match (has, wanted) {
        (Some(has), Some(wanted)) if has != wanted => {
            Err(Refusal::invalid(format!("volume_content_source has {has}, and the volume is to have {wanted}; a copy keeps its file system")))
        }
        _ => Ok(()),
    }
}
