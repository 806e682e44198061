//! A snapshot as a file: a copy of its volume's, independent of it from the moment that it has a name.

use crate::page;
use crate::volume::{self, CURRENT_LAYOUT, FILESYSTEM, LAYOUT, NAME};
use std::time::{SystemTime, UNIX_EPOCH};
use windlass_plugin_sdk::{Context, File, Folder, Refusal, Snapshot, SnapshotFacts, SnapshotFilter, SnapshotPage};

/// What the ids of snapshots begin with.
const PREFIX: &str = "snap-";

/// The properties that name the volume, by id, and when it was cut, in seconds since 1970.
const OF: &str = "snapshot-of";
const CREATED: &str = "created";

/// CreateSnapshot.
pub(crate) fn create(folder: &Folder<'_>, facts: &SnapshotFacts) -> Result<Snapshot, Refusal> {
    facts.parameters.only(&[])?;
    let id = volume::derive(PREFIX, &facts.name);
    if let Some(file) = folder.stat(&id)? {
        return same(&file, facts);
    }
    let of = volume::find(folder, &facts.volume)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let said = [(NAME, facts.name.as_str()), (OF, &of.name), (CREATED, &now.to_string()), (LAYOUT, CURRENT_LAYOUT)];
    let mut properties = Context::from(said);
    if let Some(kind) = of.properties.get(FILESYSTEM) {
        properties = properties.with(FILESYSTEM, kind);
    }
    let (file, _) = folder.copy(&of.name, &id, of.size, properties)?;
    same(&file, facts)
}

/// DeleteSnapshot. What was made from it lives on.
pub(crate) fn delete(folder: &Folder<'_>, id: &str) -> Result<(), Refusal> {
    if !is_id(id) {
        return Ok(());
    }
    match folder.stat(id)? {
        None => Ok(()),
        Some(file) if describe(&file).is_some() => folder.delete(id),
        Some(_) => Err(Refusal::precondition(format!("the file {id} was not made by this driver, so it is not deleted"))),
    }
}

/// ListSnapshots.
pub(crate) fn list(folder: &Folder<'_>, filter: &SnapshotFilter, max_entries: u32, token: &str) -> Result<SnapshotPage, Refusal> {
    if !token.is_empty() && !is_id(token) {
        return Err(Refusal::bad_token("starting_token is not one that this driver gave"));
    }
    let wanted = |file: &File| describe(file).filter(|snapshot| filter.admits(snapshot));
    // One is found without a look at any other.
    if let Some(id) = &filter.snapshot {
        let file = if is_id(id) && id.as_str() > token { folder.stat(id)? } else { None };
        return Ok(SnapshotPage { snapshots: file.as_ref().and_then(wanted).into_iter().collect(), next_token: String::new() });
    }
    let (snapshots, next_token) = page::read(folder, PREFIX, token, max_entries, wanted)?;
    Ok(SnapshotPage { snapshots, next_token })
}

/// The file of a snapshot.
pub(crate) fn find(folder: &Folder<'_>, id: &str) -> Result<File, Refusal> {
    let unknown = || Refusal::not_found(format!("there is no snapshot {:?}", id.chars().take(64).collect::<String>()));
    if !is_id(id) {
        return Err(unknown());
    }
    folder.stat(id)?.filter(|file| describe(file).is_some()).ok_or_else(unknown)
}

/// Could we have given this id?
fn is_id(id: &str) -> bool {
    volume::is_derived(PREFIX, id)
}

/// The snapshot as the caller sees it, if the file is one.
fn describe(file: &File) -> Option<Snapshot> {
    let of = file.properties.get(OF).filter(|_| is_id(&file.name) && file.properties.get(LAYOUT) == Some(CURRENT_LAYOUT))?;
    let created = file.properties.get(CREATED)?.parse().ok()?;
    Some(Snapshot { id: file.name.clone(), volume: of.to_owned(), size: file.size, created, ready: true })
}

/// The file that exists, if it is the snapshot that is wished for.
fn same(file: &File, facts: &SnapshotFacts) -> Result<Snapshot, Refusal> {
    match describe(file) {
        Some(snapshot) if file.properties.get(NAME) != Some(&facts.name) => {
            Err(Refusal::already_exists(format!("the snapshot {} belongs to another name", snapshot.id)))
        }
        Some(snapshot) if snapshot.volume != facts.volume => {
            Err(Refusal::already_exists(format!("a snapshot of this name exists, of the volume {:?}", snapshot.volume)))
        }
        Some(snapshot) => Ok(snapshot),
        None => Err(Refusal::already_exists(format!("a file {} exists that is no snapshot of this driver", file.name))),
    }
}
