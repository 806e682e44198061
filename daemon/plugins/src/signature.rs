//! A component's signature: the file of minisign beside it, checked against the keys that the operator allows the driver.

use crate::component::Component;
use crate::file::{self, ReadError};
use base64::Engine;
use minisign_verify::{Error, PublicKey, Signature};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What a signature's file has behind its component's name.
pub const SUFFIX: &str = "minisig";

/// The largest signature file that is read, in bytes; one of minisign has some 300.
pub const LARGEST: u64 = 4 << 10;

/// How many keys a driver may have.
pub const MOST_KEYS: usize = 16;

/// Whose components a driver takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those that one of these keys signed.
    Keys(Vec<Key>),
    /// Anybody's: the operator has switched signatures off.
    Anybody,
}

/// A public key of minisign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    id: String,
    key: PublicKey,
}

/// A text that is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no public key of minisign, which is the second line of its .pub file: 56 characters that begin with RW")]
pub struct KeyError;

/// Who signed a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The key's id, as minisign prints it.
    pub key: String,
    /// The trusted comment, which is signed as well. Without control characters.
    pub comment: String,
}

/// Where the bytes that serve come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// They are part of the binary, which vouches for them.
    Embedded,
    /// A key that the operator allows has signed them.
    Signed(Signer),
    /// Nobody asked: signatures are off.
    Unchecked,
}

/// Why a component's signature does not let it pass.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature.
    #[error(
        "the component is not signed: there is no {path}; put the vendor's signature there (`windlass plugin sign` makes one), and the component is tried again"
    )]
    Missing {
        /// The signature's file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("the component's signature: {0}")]
    Read(#[from] ReadError),
    /// The file holds something else.
    #[error("{path} is not a signature of minisign: it has four lines, and this one is damaged or cut short")]
    Form {
        /// The signature's file.
        path: PathBuf,
    },
    /// An old signature, of the bytes and not of their hash.
    #[error(
        "{path} is a signature in minisign's old form; have it signed again with minisign's option `-H`, which newer ones need not be given, or with `windlass plugin sign`"
    )]
    Legacy {
        /// The signature's file.
        path: PathBuf,
    },
    /// A key that is not allowed.
    #[error("{path} was made with the key {found}; the driver's `keys` allow {allowed}")]
    OtherKey {
        /// The signature's file.
        path: PathBuf,
        /// The key's id.
        found: String,
        /// The ids of those that are allowed.
        allowed: String,
    },
    /// It is of other bytes, or was changed.
    #[error(
        "{path} does not fit the component: one of the two was changed, or it is another file's signature; where the other is on its way, both are tried again"
    )]
    Wrong {
        /// The signature's file.
        path: PathBuf,
    },
}

impl Key {
    /// Reads the key as it stands in the second line of minisign's `.pub` file.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let key = PublicKey::from_base64(text).map_err(|_| KeyError)?;
        Ok(Self { id: id(text).ok_or(KeyError)?, key })
    }

    /// Its id, as minisign prints it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Where the signature of a component is.
pub fn beside(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".");
    name.push(SUFFIX);
    name.into()
}

/// Who signed these bytes, which were read from `path`: one of `keys`, or an error. The trusted comment is checked with them.
pub fn check(component: &Component, path: &Path, keys: &[Key]) -> Result<Signer, SignatureError> {
    let path = beside(path);
    let (text, signature) = read(&path)?;
    let found = claimed(&text).ok_or_else(|| SignatureError::Form { path: path.clone() })?;
    let mut answer = None;
    for key in keys.iter().filter(|key| key.id == found) {
        match key.key.verify(&component.bytes, &signature, false) {
            Ok(()) => return Ok(Signer { key: found, comment: plain(signature.trusted_comment()) }),
            Err(error) => answer = Some(error),
        }
    }
    Err(match answer {
        None => SignatureError::OtherKey { path, found, allowed: keys.iter().map(Key::id).collect::<Vec<_>>().join(", ") },
        Some(Error::UnexpectedAlgorithm | Error::UnsupportedLegacyMode) => SignatureError::Legacy { path },
        Some(_) => SignatureError::Wrong { path },
    })
}

/// Who a component's signature says that it is by. Nothing of it is checked.
pub fn look(component: &Path) -> Result<Signer, SignatureError> {
    let path = beside(component);
    let (text, signature) = read(&path)?;
    let key = claimed(&text).ok_or(SignatureError::Form { path })?;
    Ok(Signer { key, comment: plain(signature.trusted_comment()) })
}

fn read(path: &Path) -> Result<(String, Signature), SignatureError> {
    let bytes = file::read(path, LARGEST).map_err(|error| match error {
        ReadError::Open { source, .. } if source.kind() == ErrorKind::NotFound => SignatureError::Missing { path: path.to_owned() },
        other => other.into(),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| SignatureError::Form { path: path.to_owned() })?;
    let signature = Signature::decode(&text).map_err(|_| SignatureError::Form { path: path.to_owned() })?;
    Ok((text, signature))
}

/// The id of the key that a signature names.
fn claimed(signature: &str) -> Option<String> {
    id(signature.lines().nth(1)?)
}

/// The id in a key or a signature: eight bytes after the two that name the algorithm, least significant first.
fn id(base64: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).ok()?;
    Some(format!("{:016X}", u64::from_le_bytes(bytes.get(2..10)?.try_into().ok()?)))
}

fn plain(comment: &str) -> String {
    comment.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::Source;

    // Made by the program `minisign` 0.11.
    const KEY: &str = "RWQksxTfdUv1q03y2SPLm6VT26aEIRH+bLcUR0wie8w2eNA6ajiWu/K+";
    const OTHER: &str = "RWTwa0jGn1NtOAtDnBqSPsTaec5DUAnvuSMs70CEGKUC0m2b7seaB9tk";
    const SIGNED: &[u8] = b"the bytes of a component\n";
    const HASHED: &str = "untrusted comment: signature from minisign secret key\nRUQksxTfdUv1q3caiS1JxkMnH+4YI1rGboFcC+mu/8KO0yCIvjBKudxXcy63phzEUJ7iI0tI7Pd7LLPEkywnepdKtdelB2ZfoAM=\ntrusted comment: version one\nB9PVNWr0mzBKmgaVIC7YU91E0dcFqGWLoxhcw+8to6y3qDcr6ygPGbdMSdb2aSldxqgwPP9LsIDpQlbFIkCCBA==\n";
    const LEGACY: &str = "untrusted comment: signature from minisign secret key\nRWQksxTfdUv1q62jSVMrJVstzZZ+P8ecvoyu0M3FLvkyZLxV0hfO/8jabeGSynefarkzEKEppkFfbdfp8LDTvPeV4WIQ4+jRxAI=\ntrusted comment: version one\nTOnDKAi82p+Paon2DiZ7sh7ZQvXNJT2z4u1h1L3JuunqVxSX6Cp5CVt2i4B9WZ8nap/C8ICQwrySjUJZPKZ9AA==\n";

    struct Scene(tempfile::TempDir);

    impl Scene {
        fn set(bytes: &[u8], signature: Option<&str>) -> Self {
            let scene = Self(tempfile::tempdir().unwrap());
            std::fs::write(scene.component(), bytes).unwrap();
            if let Some(signature) = signature {
                std::fs::write(beside(&scene.component()), signature).unwrap();
            }
            scene
        }

        fn component(&self) -> PathBuf {
            self.0.path().join("c.wasm")
        }

        fn check(&self, keys: &[&str]) -> Result<Signer, SignatureError> {
            let keys: Vec<Key> = keys.iter().map(|key| Key::parse(key).unwrap()).collect();
            check(&Source::File(self.component()).read().unwrap(), &self.component(), &keys)
        }
    }

    #[test]
    fn what_minisign_signed_is_taken_from_the_keys_that_are_allowed_and_from_no_other() {
        let scene = Scene::set(SIGNED, Some(HASHED));
        for keys in [&[KEY][..], &[OTHER, KEY]] {
            let signer = scene.check(keys).unwrap();
            assert_eq!((signer.key.as_str(), signer.comment.as_str()), ("ABF54B75DF14B324", "version one"));
        }
        assert_eq!(look(&scene.component()).unwrap().key, "ABF54B75DF14B324");
        let refused = scene.check(&[OTHER]).unwrap_err().to_string();
        assert!(refused.contains("ABF54B75DF14B324") && refused.contains("386D539FC6486BF0"), "{refused}");
        assert!(matches!(scene.check(&[]), Err(SignatureError::OtherKey { .. })));
        assert!(matches!(Scene::set(SIGNED, None).check(&[KEY]), Err(SignatureError::Missing { .. })));
        assert!(matches!(Scene::set(SIGNED, Some(LEGACY)).check(&[KEY]), Err(SignatureError::Legacy { .. })));
        assert!(matches!(Scene::set(b"other bytes", Some(HASHED)).check(&[KEY]), Err(SignatureError::Wrong { .. })));
        let long = format!("{HASHED}{}", "x".repeat(LARGEST as usize));
        assert!(matches!(Scene::set(SIGNED, Some(&long)).check(&[KEY]), Err(SignatureError::Read(ReadError::Size { .. }))));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        // The first line is the one that minisign itself calls untrusted.
        let untrusted = HASHED.find('\n').unwrap() + 1;
        for at in 0..HASHED.trim_end().len() {
            let cut = Scene::set(SIGNED, Some(&HASHED[..at])).check(&[KEY]);
            assert!(cut.is_err(), "cut at {at}: {cut:?}");
        }
        for at in untrusted..HASHED.trim_end().len() {
            for bit in 0..7 {
                let mut bytes = HASHED.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let flipped = Scene::set(SIGNED, Some(std::str::from_utf8(&bytes).unwrap())).check(&[KEY]);
                assert!(flipped.is_err(), "byte {at}, bit {bit}: {flipped:?}");
            }
        }
        for at in 0..SIGNED.len() {
            let mut bytes = SIGNED.to_vec();
            bytes[at] ^= 1;
            assert!(matches!(Scene::set(&bytes, Some(HASHED)).check(&[KEY]), Err(SignatureError::Wrong { .. })));
        }
    }

    #[test]
    fn a_key_is_the_second_line_of_its_file() {
        assert_eq!(Key::parse(KEY).unwrap().id(), "ABF54B75DF14B324");
        for wrong in ["", "RW", "untrusted comment: minisign public key", &KEY[..55], &format!("{KEY}="), &KEY.to_lowercase()] {
            assert_eq!(Key::parse(wrong), Err(KeyError), "{wrong:?}");
        }
    }
}
