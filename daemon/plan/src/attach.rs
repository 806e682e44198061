//! The attach plan: what a plugin says a volume is. No field of it can hold a device path, a host path or a command (law 8).

use crate::capability::FilesystemKind;
use crate::rbd::{Credentials, ImageAt, MapOptions};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What `node.attach` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachPlan {
    /// Where the bytes are.
    pub source: Source,
    /// How the volume came into being.
    pub content: Content,
    /// The file system that belongs on it, for mounted volumes.
    pub filesystem: Option<Filesystem>,
}

/// Where a volume's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// A file in a folder that the operator granted, attached through a loop device.
    File {
        /// The grant's name (`[grants.files.NAME]`), not a path.
        folder: String,
        /// One component; checked like any other name.
        name: String,
    },
    /// An image of a cluster that the operator granted, mapped by the kernel client.
    Rbd(RbdSource),
}

/// See [`Source::Rbd`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RbdSource {
    /// Which image.
    pub at: ImageAt,
    /// Which of the call's secrets open the cluster.
    pub credentials: Credentials,
    /// How it is mapped.
    pub options: MapOptions,
}

impl fmt::Display for Source {
    /// The canonical form, as in `windlass.io/source`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File { folder, name } => write!(f, "file:{folder}/{name}"),
            Source::Rbd(rbd) => write!(f, "{}", rbd.at),
        }
    }
}

/// How a volume came into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Made blank: may be formatted once, on proof.
    Blank,
    /// A copy of something: never formatted.
    Copy,
}

/// A file system with typed options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Which.
    pub kind: FilesystemKind,
    /// Its label, if it is to have one: up to 12 letters, digits, `-` and `_`.
    pub label: Option<String>,
}
