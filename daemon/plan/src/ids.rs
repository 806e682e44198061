//! Names that come from outside, each as a type that cannot hold a bad value, and the key that stands for a volume on a node.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// The longest string that CSI allows where it names no other limit ("Size Limits" of the specification), in bytes.
pub const MAX_STRING: usize = 128;

/// Why a name is refused. The texts complete a sentence that begins with the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The field is required and empty.
    #[error("is required and empty")]
    Empty,
    /// Longer than CSI allows.
    #[error("is {length} bytes long; {limit} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A character that the field cannot hold.
    #[error("holds the character {character:?}, which is not allowed there")]
    Character {
        /// The first character that is wrong.
        character: char,
    },
    /// A driver's name must begin and end with a letter or a digit.
    #[error("must begin and end with a letter or a digit")]
    Ends,
}

/// A CSI driver's name: 1 to 63 letters, digits, `-` and `.`, alphanumeric at both ends (GetPluginInfo).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DriverName(String);

impl DriverName {
    /// Takes a name, or says what is wrong with it.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > 63 {
            return Err(NameError::TooLong { length: name.len(), limit: 63 });
        }
        if let Some(character) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))) {
            return Err(NameError::Character { character });
        }
        let ends = [name.as_bytes()[0], name.as_bytes()[name.len() - 1]];
        if !ends.iter().all(u8::is_ascii_alphanumeric) {
            return Err(NameError::Ends);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DriverName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::parse(&name)
    }
}

impl From<DriverName> for String {
    fn from(name: DriverName) -> Self {
        name.0
    }
}

impl fmt::Display for DriverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A volume's id as its driver gave it: opaque, 1 to 128 bytes, no control characters. Never used as a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(String);

impl VolumeId {
    /// Takes an id, or says what is wrong with it.
    pub fn parse(id: &str) -> Result<Self, NameError> {
        Ok(Self(parse_text(id)?))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for VolumeId {
    type Error = NameError;
    fn try_from(id: String) -> Result<Self, NameError> {
        Self::parse(&id)
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A snapshot's id as its driver gave it: opaque, 1 to 128 bytes, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(String);

impl SnapshotId {
    /// Takes an id, or says what is wrong with it.
    pub fn parse(id: &str) -> Result<Self, NameError> {
        Ok(Self(parse_text(id)?))
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = NameError;
    fn try_from(id: String) -> Result<Self, NameError> {
        Self::parse(&id)
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text of 1 to 128 bytes without the characters that CSI forbids in names (U+0000-0008, 000B, 000C, 000E-001F, 007F-009F).
pub fn parse_text(text: &str) -> Result<String, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_STRING {
        return Err(NameError::TooLong { length: text.len(), limit: MAX_STRING });
    }
    match text.chars().find(|c| is_forbidden(*c)) {
        Some(character) => Err(NameError::Character { character }),
        None => Ok(text.to_owned()),
    }
}

fn is_forbidden(c: char) -> bool {
    matches!(c as u32, 0..=8 | 0xB | 0xC | 0xE..=0x1F | 0x7F..=0x9F)
}

/// What stands for one volume on this node, in file names and on devices: a digest of instance, driver and volume id.
///
/// `instance` tells daemons apart that run on one kernel (`instance` in the configuration), so that neither takes the other's
/// devices for its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeKey([u8; 24]);

impl VolumeKey {
    /// The key of `volume` of `driver` under the daemon called `instance`.
    pub fn derive(instance: &str, driver: &DriverName, volume: &VolumeId) -> Self {
        let mut hash = Sha256::new();
        for part in [instance, driver.as_str(), volume.as_str()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut key = [0; 24];
        key.copy_from_slice(&hash.finalize()[..24]);
        Self(key)
    }

    /// Reads what `Display` wrote: 48 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 48 {
            return None;
        }
        let mut key = [0; 24];
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (hex(pair[0])? << 4) | hex(pair[1])?;
        }
        Some(Self(key))
    }

    /// The first 61 bits of the key, for places that hold a number and no text (the size limit of a loop device).
    pub fn short(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first) >> 3
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 48 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("a volume key is 48 hexadecimal digits")]
pub struct BadKey;

impl TryFrom<String> for VolumeKey {
    type Error = BadKey;
    fn try_from(text: String) -> Result<Self, BadKey> {
        Self::parse(&text).ok_or(BadKey)
    }
}

impl From<VolumeKey> for String {
    fn from(key: VolumeKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_names_follow_the_specification() {
        for good in ["a", "local.windlass.io", "x-1.y", &"a".repeat(63)] {
            assert!(DriverName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", ".a", "a/b", "a b", "é", &"a".repeat(64)] {
            assert!(DriverName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_differ_when_a_boundary_moves() {
        let key = |i: &str, d: &str, v: &str| VolumeKey::derive(i, &DriverName::parse(d).unwrap(), &VolumeId::parse(v).unwrap());
        assert_ne!(key("i", "ab", "c"), key("i", "a", "bc"));
        assert_ne!(key("i", "a", "c"), key("j", "a", "c"));
        let one = key("", "a", "v");
        assert_eq!(VolumeKey::parse(&one.to_string()), Some(one));
        assert!(one.short() < 1 << 61);
    }

    #[test]
    fn an_id_with_a_control_character_is_refused() {
        assert_eq!(VolumeId::parse("a\u{1}"), Err(NameError::Character { character: '\u{1}' }));
        assert!(VolumeId::parse("tab\tis fine, \u{1F6A2} too").is_ok());
        assert_eq!(VolumeId::parse(&"x".repeat(129)), Err(NameError::TooLong { length: 129, limit: 128 }));
    }
}
