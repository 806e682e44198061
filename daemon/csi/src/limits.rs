//! What CSI allows in a field ("Size Limits", "Secrets" and the field comments of the specification), in both directions.

use std::collections::{BTreeMap, HashSet};
use windlass_plan::capability::UnknownFlag;
use windlass_plan::ids::{MAX_STRING, NameError};

/// The most that a `map<string, string>` may hold, keys and values together, in bytes.
pub const MAX_MAP: usize = 4096;

/// The most that a path may be long, in bytes: what the kernel takes.
pub const MAX_PATH: usize = 4096;

/// The most that a node's id may be long, in bytes.
pub const MAX_NODE_ID: usize = 256;

/// Where kubelet puts a pod's service account tokens: in `volume_context`, or (newer ones, where the driver asks for it) in `secrets`.
pub const SERVICE_ACCOUNT_TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// The most that these tokens may be long, in bytes. They are no part of any map's 4 KiB: one token alone is about 1 KiB.
pub(crate) const MAX_TOKENS: usize = 16 * 1024;

/// The most that a part of a topology segment (the key's prefix, the key's name, the value) may be long, in characters.
const MAX_SEGMENT: usize = 63;

/// What is wrong with a field. The texts complete a sentence that begins with the field's name, and end with what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Required and not there.
    #[error("is required and not set: give {right}")]
    Missing {
        /// What belongs there.
        right: &'static str,
    },
    /// An id that no driver can have given: the id of nothing.
    #[error("is the id of nothing: it {why}")]
    NobodysId {
        /// Why it can be none.
        why: NameError,
    },
    /// Longer than CSI allows.
    #[error("is {length} bytes long: give at most {limit}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A map or a list that holds more than CSI allows.
    #[error("holds {size} bytes in all: give at most {limit}")]
    TooMuch {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A character that the field cannot hold.
    #[error("holds the character {character:?}: give text without control characters")]
    Character {
        /// The first that is wrong.
        character: char,
    },
    /// A name whose first or last character is wrong.
    #[error("begins or ends with something else than a letter or a digit: give a name that does not")]
    Ends,
    /// A number below zero.
    #[error("is {number}: give a positive number, or 0 for \"not set\"")]
    Negative {
        /// The number.
        number: i64,
    },
    /// A size that the field's type cannot hold.
    #[error("is {number}: give at most {}", i64::MAX)]
    TooLarge {
        /// The number.
        number: u64,
    },
    /// A range of sizes without an end.
    #[error("has neither required_bytes nor limit_bytes: give at least one of them")]
    EmptyRange,
    /// A number that stands for nothing that is known here.
    #[error("is {number}, which stands for nothing known: give {known}")]
    UnknownValue {
        /// The number.
        number: i32,
        /// What is known.
        known: &'static str,
    },
    /// A field that needs a capability which the driver does not have.
    #[error("needs the capability {capability}, which this driver does not advertise: leave it empty")]
    NotAdvertised {
        /// The capability's name in the specification.
        capability: &'static str,
    },
    /// A file system that is not one of ours.
    #[error("is the file system {given:?}: give {known}, or nothing for the driver's default")]
    UnknownFilesystem {
        /// What was asked for, cut to 64 characters.
        given: String,
        /// What there is.
        known: String,
    },
    /// A mount flag that is not on the list.
    #[error("is refused: {0}")]
    Flag(UnknownFlag),
    /// A secret's name that the specification does not allow. The name stays out of the text: it may be a value in the wrong place.
    #[error("has a key that is empty or holds something else than letters, digits, `-`, `_` and `.`: give such keys only")]
    SecretKey,
    /// Two topology keys that differ in case alone.
    #[error("has the key {key:?} twice: give keys that differ, whatever their case")]
    SameKey {
        /// The second one.
        key: String,
    },
    /// A part of a topology segment is too long.
    #[error("has the segment {key:?}, in which a part is longer than {MAX_SEGMENT} characters: give shorter ones")]
    Segment {
        /// The segment's key, cut to 128 characters.
        key: String,
    },
    /// A token that cannot be one that we gave.
    #[error("is {length} bytes long, so it is none of ours: give the next_token of an earlier answer, or nothing")]
    Token {
        /// Its length in bytes.
        length: usize,
    },
}

/// Turns a name's error into ours; `right` says what belongs in an empty field.
pub(crate) fn of_name(error: NameError, right: &'static str) -> Problem {
    match error {
        NameError::Empty => Problem::Missing { right },
        NameError::TooLong { length, limit } => Problem::TooLong { length, limit },
        NameError::Character { character } => Problem::Character { character },
        NameError::Ends => Problem::Ends,
    }
}

/// A string of CSI's ordinary length.
pub(crate) fn string(text: &str) -> Result<(), Problem> {
    bytes(text, MAX_STRING)
}

/// A string of at most `limit` bytes.
pub(crate) fn bytes(text: &str, limit: usize) -> Result<(), Problem> {
    if text.len() > limit {
        return Err(Problem::TooLong { length: text.len(), limit });
    }
    Ok(())
}

/// A map of CSI's ordinary size.
pub(crate) fn map(map: &BTreeMap<String, String>) -> Result<(), Problem> {
    total(map.iter().map(|(key, value)| key.len() + value.len()).sum())
}

/// Something that may be as large as a map.
pub(crate) fn total(size: usize) -> Result<(), Problem> {
    if size > MAX_MAP {
        return Err(Problem::TooMuch { size, limit: MAX_MAP });
    }
    Ok(())
}

/// The segments of one topology.
pub(crate) fn segments(segments: &BTreeMap<String, String>) -> Result<(), Problem> {
    map(segments)?;
    let mut seen = HashSet::new();
    for (key, value) in segments {
        let (prefix, name) = key.split_once('/').unwrap_or(("", key));
        if [prefix, name, value].iter().any(|part| part.chars().count() > MAX_SEGMENT) {
            return Err(Problem::Segment { key: key.chars().take(128).collect() });
        }
        if !seen.insert(key.to_lowercase()) {
            return Err(Problem::SameKey { key: key.clone() });
        }
    }
    Ok(())
}
