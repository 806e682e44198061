//! Names as Ceph and the daemon take them, and words of strangers short enough to be repeated.

use windlass_plugin_sdk::Refusal;

/// The longest name, in bytes.
pub(crate) const LONGEST: usize = 96;

/// Can it be the name of a cluster's grant, a pool, a namespace, an image or a node? The daemon's rule, so that ids hold only what it takes.
pub(crate) fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with(['-', '.'])
}

/// The name under `key`, or a refusal that names both.
pub(crate) fn checked(key: &str, name: &str) -> Result<String, Refusal> {
    if is_name(name) {
        return Ok(name.to_owned());
    }
    let words =
        format!("`{key}` is {:?}; a name here is 1 to {LONGEST} letters, digits, `-`, `_`, `.`, `:` or `+`, and begins with neither `-` nor `.`", shown(name));
    Err(Refusal::invalid(words))
}

/// What a stranger wrote, short enough for a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
