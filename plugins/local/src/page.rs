//! Pages of a listing: files whose names begin alike, in the order of their names, so that a page goes on after the last whatever became of it.

use windlass_plugin_sdk::{File, Folder, Refusal};

/// The most entries that one answer holds, so that it stays far below the daemon's limit for one message.
const PAGE: u32 = 256;

/// At most `max_entries` of those that `describe` knows, after the name `token` (empty: from the beginning), and the token of the next page.
pub(crate) fn read<T>(
    folder: &Folder<'_>,
    prefix: &str,
    token: &str,
    max_entries: u32,
    describe: impl Fn(&File) -> Option<T>,
) -> Result<(Vec<T>, String), Refusal> {
    let wanted = max_entries.clamp(1, PAGE) as usize;
    let mut after = if token.is_empty() { prefix } else { token }.to_owned();
    let mut entries: Vec<(String, T)> = Vec::new();
    // One more than wanted shows whether there is a next page.
    while entries.len() <= wanted {
        let found = folder.list(&after, PAGE)?;
        entries.extend(found.iter().filter_map(|file| Some((file.name.clone(), describe(file)?))));
        match found.last() {
            Some(last) if last.name.starts_with(prefix) => after.clone_from(&last.name),
            _ => break,
        }
    }
    let is_more = entries.len() > wanted;
    entries.truncate(wanted);
    let next_token = entries.last().filter(|_| is_more).map(|(name, _)| name.clone()).unwrap_or_default();
    Ok((entries.into_iter().map(|(_, entry)| entry).collect(), next_token))
}
