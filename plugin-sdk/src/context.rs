//! Keys and values as CSI hands them around: storage class parameters, volume_context, topology segments; read with errors that name the key.

use crate::Refusal;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// Keys with this prefix are the orchestrator's own words; a driver may read them and need not know them.
pub const ORCHESTRATOR_PREFIX: &str = "csi.storage.k8s.io/";

/// A place: segment name to value, such as `windlass.io/node` to the node's name.
pub type Topology = Context;

/// Keys and values, each key once, in the order of the keys.
///
/// ```
/// use windlass_plugin_sdk::{Context, Refusal};
///
/// let parameters = Context::from([("pool", "fast"), ("copies", "three")]);
/// assert_eq!(parameters.require("pool"), Ok("fast"));
/// assert_eq!(parameters.parse::<u32>("stripes"), Ok(None));
/// assert_eq!(parameters.parse::<u32>("copies").unwrap_err().words(), "`copies` is \"three\": invalid digit found in string");
/// assert_eq!(parameters.only(&["pool"]).unwrap_err().words(), "`copies` is not known; known are: pool");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Context(BTreeMap<String, String>);

impl Context {
    /// Without any key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key, or changes its value.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The value of `key`, or a refusal ([`Refusal::Invalid`]) that names it.
    pub fn require(&self, key: &str) -> Result<&str, Refusal> {
        self.get(key).ok_or_else(|| Refusal::invalid(format!("`{key}` is required")))
    }

    /// The value of `key` as a number or whatever else can be read from text; a bad one is a refusal ([`Refusal::Invalid`])
    /// that names the key.
    pub fn parse<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Option<T>, Refusal> {
        self.get(key).map(|value| parse(key, value).map_err(Refusal::Invalid)).transpose()
    }

    /// The first key that is neither in `known` nor the orchestrator's own is refused ([`Refusal::Invalid`]) by name.
    ///
    /// Unknown wishes must not be ignored: a misspelt `encrypted` would be a volume in the clear.
    pub fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        let Some(unknown) = self.0.keys().find(|key| !key.starts_with(ORCHESTRATOR_PREFIX) && !known.contains(&key.as_str())) else {
            return Ok(());
        };
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Refusal::invalid(format!("`{}` is not known; known are: {known}", shorten(unknown))))
    }

    /// All keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// No key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all keys and values together; CSI allows 4096.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

/// Reads `value`, or says which key has which value and what is wrong with it.
pub(crate) fn parse<T: FromStr<Err: Display>>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("`{key}` is {:?}: {error}", shorten(value)))
}

/// What a stranger wrote, short enough to be repeated in a message.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Context {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Context {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl From<Vec<(String, String)>> for Context {
    fn from(pairs: Vec<(String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl From<Context> for Vec<(String, String)> {
    fn from(context: Context) -> Self {
        context.0.into_iter().collect()
    }
}
