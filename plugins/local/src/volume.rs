//! A volume as a file: its id, which is the file's name, and the properties that are kept with it.

use crate::settings::Settings;
use crate::wishes::Wishes;
use sha2::{Digest, Sha256};
use windlass_plugin_sdk::{ContentSource, Context, CreateFacts, File, FilesystemKind, Folder, Refusal, Volume};

/// The property and the key of volume_context that name the file system.
pub(crate) const FILESYSTEM: &str = "filesystem";
/// The property that says how the volume is used.
pub(crate) const ACCESS: &str = "access";
/// The property that names what a volume was copied from, by id.
pub(crate) const SOURCE: &str = "source";
/// The key of volume_context that says that a volume is a copy, and its value.
pub(crate) const CONTENT: &str = "content";
pub(crate) const COPY: &str = "copy";
pub(crate) const NAME: &str = "name";
pub(crate) const LAYOUT: &str = "layout";

/// The version of the properties, and of volume_context.
pub(crate) const CURRENT_LAYOUT: &str = "1";
/// What the ids of volumes begin with. Those of snapshots begin otherwise, so that none can pass for the other.
pub(crate) const PREFIX: &str = "vol-";
/// Hexadecimal digits of an id.
const DIGITS: usize = 32;

/// The id of the volume that the caller calls `name`: found again by name without a look at any other volume.
pub(crate) fn id(name: &str) -> String {
    derive(PREFIX, name)
}

/// The id of what the caller calls `name`, of the kind that has this prefix.
pub(crate) fn derive(prefix: &str, name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    let digits = hash.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}"));
    std::iter::once(prefix.to_owned()).chain(digits).collect()
}

/// Could we have given this id?
pub(crate) fn is_id(id: &str) -> bool {
    is_derived(PREFIX, id)
}

/// Could we have given this id to something of the kind that has this prefix?
pub(crate) fn is_derived(prefix: &str, id: &str) -> bool {
    id.strip_prefix(prefix).is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// Did we make this file?
pub(crate) fn is_ours(file: &File) -> bool {
    is_id(&file.name) && file.properties.get(LAYOUT) == Some(CURRENT_LAYOUT)
}

/// There is no such volume.
pub(crate) fn unknown(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no volume {:?}", id.chars().take(64).collect::<String>()))
}

/// Why this version cannot read the volume_context, if it cannot. One that says nothing of its layout is in the first. A later version may mean
/// other things by the same words, and know other file systems: what is not known is refused, not guessed at.
pub(crate) fn unreadable(context: &Context) -> Option<String> {
    let shown = |value: &str| value.chars().take(64).collect::<String>();
    let way_out = "another version of the driver wrote it: update the driver here first; the volume is untouched";
    if let Some(layout) = context.get(LAYOUT).filter(|layout| *layout != CURRENT_LAYOUT) {
        return Some(format!("volume_context has the `{LAYOUT}` {:?}, and this version reads {CURRENT_LAYOUT:?}; {way_out}", shown(layout)));
    }
    if let Some(content) = context.get(CONTENT).filter(|content| *content != COPY) {
        return Some(format!("volume_context has the `{CONTENT}` {:?}, which this version does not know; {way_out}", shown(content)));
    }
    let kind = context.get(FILESYSTEM).filter(|kind| FilesystemKind::named(kind).is_none())?;
    Some(format!("volume_context has the `{FILESYSTEM}` {:?}, which this version does not know; {way_out}", shown(kind)))
}

/// The file of a volume.
pub(crate) fn find(folder: &Folder<'_>, id: &str) -> Result<File, Refusal> {
    if !is_id(id) {
        return Err(unknown(id));
    }
    folder.stat(id)?.filter(is_ours).ok_or_else(|| unknown(id))
}

/// The file system that a file was made for, or holds a copy of.
pub(crate) fn filesystem(file: &File) -> Option<FilesystemKind> {
    file.properties.get(FILESYSTEM).and_then(FilesystemKind::named)
}

/// Refuses a volume where the topology does not want it.
pub(crate) fn refuse_elsewhere(folder: &Folder<'_>, id: &str, facts: &CreateFacts, settings: &Settings) -> Result<(), Refusal> {
    if settings.is_reachable(&facts.topology.requisite) {
        return Ok(());
    }
    Err(match folder.stat(id)? {
        Some(_) => Refusal::already_exists("a volume of this name exists on another node than the topology requires"),
        None => Refusal::exhausted("volumes of this driver are reachable from its own node alone, which the topology excludes"),
    })
}

/// What is kept with the file.
pub(crate) fn properties(name: &str, wishes: &Wishes) -> Context {
    wishes.properties().with(NAME, name).with(LAYOUT, CURRENT_LAYOUT)
}

/// Is the file that exists the volume that is wished for?
pub(crate) fn check_same(file: &File, facts: &CreateFacts, wishes: &Wishes) -> Result<(), Refusal> {
    let differs = |words: String| Err(Refusal::already_exists(format!("a volume of this name exists, and differs: {words}")));
    if !is_ours(file) {
        return differs("its file was not made by this driver".to_owned());
    }
    if file.properties.get(NAME) != Some(&facts.name) {
        return differs("it belongs to another name".to_owned());
    }
    if !facts.capacity.admits(file.size) {
        return differs(format!("it has {} bytes, which is not in the range that is asked for", file.size));
    }
    if source(file) != facts.source {
        let said = |source: Option<&str>| source.map_or("nothing".to_owned(), |id| format!("{:?}", id.chars().take(64).collect::<String>()));
        let asked = facts.source.as_ref().map(id_of);
        return differs(format!("it was made from {}, not from {}", said(file.properties.get(SOURCE)), said(asked)));
    }
    let made = wishes.properties();
    match [ACCESS, FILESYSTEM].into_iter().find(|key| file.properties.get(key) != made.get(key)) {
        Some(key) => {
            let said = |properties: &Context| properties.get(key).unwrap_or("none").to_owned();
            differs(format!("its {key} is {:?}, not {:?}", said(&file.properties), said(&made)))
        }
        None => Ok(()),
    }
}

/// The volume as the caller sees it.
pub(crate) fn describe(file: &File, settings: &Settings) -> Volume {
    let topology = settings.place().into_iter().collect();
    let volume = Volume { topology, source: source(file), ..Volume::new(&file.name, file.size) };
    let volume = if volume.source.is_some() { volume.context(CONTENT, COPY) } else { volume };
    match file.properties.get(FILESYSTEM) {
        Some(kind) => volume.context(FILESYSTEM, kind),
        None => volume,
    }
}

/// Why this cannot be the volume_context that we gave, if it cannot. Keys of others do not count.
pub(crate) fn context_differs(file: &File, context: &Context) -> Option<String> {
    if let Some(words) = unreadable(context) {
        return Some(words);
    }
    let has_content = source(file).map(|_| COPY);
    if context.get(CONTENT).is_some_and(|given| Some(given) != has_content) {
        return Some(format!("volume_context has another `{CONTENT}` than the volume has"));
    }
    let given = context.get(FILESYSTEM)?;
    (Some(given) != file.properties.get(FILESYSTEM)).then(|| format!("volume_context has another `{FILESYSTEM}` than the volume was made for"))
}

/// What a volume was copied from; its id says of which kind that is.
fn source(file: &File) -> Option<ContentSource> {
    let id = file.properties.get(SOURCE)?.to_owned();
    Some(if is_id(&id) { ContentSource::Volume(id) } else { ContentSource::Snapshot(id) })
}

/// The id that a source has.
pub(crate) fn id_of(source: &ContentSource) -> &str {
    match source {
        ContentSource::Snapshot(id) | ContentSource::Volume(id) => id,
    }
}
