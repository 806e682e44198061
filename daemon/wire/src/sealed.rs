//! A secret on its way to the process that uses it: the one place where a secret becomes bytes on a wire (law 10).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use windlass_plan::request::Secret;

/// A secret in a frame. It is made from a [`Secret`] by this crate's user on purpose, and opened by the process that it is sent to.
#[derive(Clone)]
pub struct Sealed(Secret);

impl Sealed {
    /// Puts a secret into a frame of its own.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Takes it out.
    pub fn open(self) -> Secret {
        self.0
    }
}

impl fmt::Debug for Sealed {
    /// Frames can be printed; this part of them cannot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.reveal())
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|value| Self(Secret::new(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_arrives_and_is_not_printed() {
        let sealed = Sealed::new(Secret::new("AQB".into()));
        assert_eq!(format!("{sealed:?}"), "***");
        let bytes = postcard::to_allocvec(&sealed).unwrap();
        assert_eq!(postcard::from_bytes::<Sealed>(&bytes).unwrap().open().reveal(), "AQB");
    }
}
