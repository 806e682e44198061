//! Between the daemon and an effects process, which talks to what is outside: a granted folder, or a cluster; later HTTPS.

use crate::sealed::Sealed;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use windlass_plan::effect::{EffectAnswer, EffectError, FilesVerb, RbdVerb};
use windlass_plan::paths::HostPath;
use windlass_plan::rbd::RbdName;

/// What a process talks to. Each has a process of its own, so that one that hangs holds up nobody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BackEnd {
    /// A folder that a driver was granted.
    Folder(HostPath),
    /// A Ceph cluster that a driver was granted, by its monitors.
    Cluster(Vec<SocketAddr>),
}

impl fmt::Display for BackEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "the granted folder {folder}"),
            Self::Cluster(monitors) => {
                let monitors: Vec<String> = monitors.iter().map(ToString::to_string).collect();
                write!(f, "the cluster at {}", monitors.join(", "))
            }
        }
    }
}

/// The first frame. The process shuts itself in to its back end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// What it talks to.
    pub back_end: BackEnd,
    /// Which user it becomes, where it needs none of the daemon's files.
    pub uid: Option<u32>,
}

/// The answer to [`Setup`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// Why the back end cannot be used; the process ends then, and another may have more luck.
    pub problem: Option<String>,
    /// What the process runs without, for `windlass status`: empty where it is shut in fully.
    pub missing_walls: Vec<String>,
}

/// A frame to an effects process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// The key for the effect of this number, which comes next: the one frame that holds a secret.
    Key {
        /// The effect's number.
        id: u64,
        /// The key.
        key: Sealed,
    },
    /// An effect that was checked and may be done.
    Do {
        /// The daemon's number for it.
        id: u64,
        /// What to do.
        deed: Deed,
    },
}

/// What to do, by the kind of back end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Deed {
    /// In the folder.
    Files(FilesVerb),
    /// In the cluster.
    Rbd {
        /// As whom; the key comes in a frame of its own.
        user: RbdName,
        /// What.
        verb: RbdVerb,
    },
    /// Tell what is done while nobody waits for it. Needs no key, and asks nobody.
    Background,
}

impl Deed {
    /// Does it change anything? A look may be given up.
    pub fn changes(&self) -> bool {
        match self {
            Self::Files(verb) => verb.changes(),
            Self::Rbd { verb, .. } => verb.changes(),
            Self::Background => false,
        }
    }
}

/// The answer to a deed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// The number of the request.
    pub id: u64,
    /// What came of it.
    pub result: Result<EffectAnswer, EffectError>,
}
