//! A volume as a file: its id, which is the file's name, and the properties that are kept with it.

use crate::settings::Settings;
use crate::wishes::Wishes;
use sha2::{Digest, Sha256};
use windlass_plugin_sdk::{Context, CreateFacts, File, FilesystemKind, Folder, Refusal, Volume};

/// The property and the key of volume_context that name the file system.
pub(crate) const FILESYSTEM: &str = "filesystem";
/// The property that says how the volume is used.
pub(crate) const ACCESS: &str = "access";
const NAME: &str = "name";
const LAYOUT: &str = "layout";

/// The version of the properties, and of volume_context.
const CURRENT_LAYOUT: &str = "1";
const PREFIX: &str = "vol-";
/// Hexadecimal digits of an id.
const DIGITS: usize = 32;

/// The id of the volume that the caller calls `name`: found again by name without a look at any other volume.
pub(crate) fn id(name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    let digits = hash.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}"));
    std::iter::once(PREFIX.to_owned()).chain(digits).collect()
}

/// Could we have given this id?
pub(crate) fn is_id(id: &str) -> bool {
    id.strip_prefix(PREFIX).is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
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
    let volume = Volume { topology: settings.place().into_iter().collect(), ..Volume::new(&file.name, file.size) };
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
    let given = context.get(FILESYSTEM)?;
    (Some(given) != file.properties.get(FILESYSTEM)).then(|| format!("volume_context has another `{FILESYSTEM}` than the volume was made for"))
}
