//! What a plugin may ask the world for while a controller call runs: its imports as data, and their answers.

use crate::plugin::RefusalKind;
use crate::rbd::{Claimed, Credentials, Hold, Holder, ImageFacts, ImageWish, PoolAt, PoolRoom, RbdName, SnapshotFacts};
use crate::request::Context;
use serde::{Deserialize, Serialize};

/// One call of an import that leaves the plugin process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// The interface `files`.
    Files(FilesEffect),
    /// The interface `rbd`.
    Rbd(RbdEffect),
}

/// The interface `rbd`: images of a cluster that the operator granted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RbdEffect {
    /// The grant's name.
    pub cluster: RbdName,
    /// Which of the call's secrets open it.
    pub credentials: Credentials,
    /// What to do there.
    pub verb: RbdVerb,
}

/// What can be done in a granted cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RbdVerb {
    /// The name of the pool with this number.
    PoolName {
        /// Its number.
        number: u64,
    },
    /// Something in a pool.
    Pool {
        /// The pool.
        at: PoolAt,
        /// What.
        verb: PoolVerb,
    },
    /// Something with an image.
    Image {
        /// Its pool.
        at: PoolAt,
        /// Its name.
        image: RbdName,
        /// What.
        verb: ImageVerb,
    },
}

/// What can be done in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolVerb {
    /// Lists in the order of names.
    List {
        /// Names after this one; empty from the beginning.
        after: String,
        /// At most so many.
        limit: u32,
    },
    /// Free room.
    Room,
    /// Values by key of an object of ceph-csi's journal.
    Journal {
        /// Its name, which begins with `csi.`.
        object: RbdName,
        /// Which.
        keys: Vec<String>,
    },
    /// Removes keys of such an object; none of them: the object.
    RemoveFromJournal {
        /// Its name, which begins with `csi.`.
        object: RbdName,
        /// Which.
        keys: Vec<String>,
    },
}

/// What can be done with an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageVerb {
    /// Makes it with its metadata; one that exists is returned untouched.
    Create(ImageWish),
    /// Looks.
    Stat,
    /// Adds to its metadata.
    SetMetadata(Context),
    /// Grows; never shrinks.
    Resize {
        /// In bytes.
        size: u64,
    },
    /// Into the trash; not there is as good. Refused while anybody has it.
    Delete,
    /// Gives it to a node: lock and proof.
    Claim {
        /// How it will be used.
        hold: Hold,
        /// By whom.
        holder: Holder,
    },
    /// Takes it back; who has not let go is shut out first.
    Release {
        /// From whom; `None` is from all.
        holder: Option<Holder>,
    },
    /// Takes a snapshot; one of that name is returned as it is.
    TakeSnapshot {
        /// Its name.
        snapshot: RbdName,
    },
    /// Deletes a snapshot; not there is as good.
    DeleteSnapshot {
        /// Its name.
        snapshot: RbdName,
    },
    /// Makes another image from a snapshot of this one; one that exists is returned untouched.
    Copy {
        /// The snapshot.
        snapshot: RbdName,
        /// Where the copy is made.
        to: PoolAt,
        /// What it is called.
        copy: RbdName,
        /// What it is made as, but for the size, which is the snapshot's.
        wish: Box<ImageWish>,
        /// With more images behind it than this it is made independent of them in the background; `None` is never.
        ancestors: Option<u32>,
    },
}

/// The interface `files`: volumes as sparse files in a folder that the operator granted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesEffect {
    /// The grant's name.
    pub folder: String,
    /// What to do there.
    pub verb: FilesVerb,
}

/// What can be done in a granted folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesVerb {
    /// Makes a sparse file with its properties in one atomic step; the one that exists already is returned untouched.
    Create {
        /// The file's name.
        name: String,
        /// In bytes.
        size: u64,
        /// Kept with the file, at most 3 KiB in all.
        properties: Context,
    },
    /// Makes a file that holds what another does, in one atomic step; the one that exists already is returned untouched.
    Copy {
        /// The file that is copied.
        name: String,
        /// What the copy is called.
        to: String,
        /// In bytes; at least what the file has.
        size: u64,
        /// Kept with the copy, at most 3 KiB in all.
        properties: Context,
    },
    /// Looks.
    Stat {
        /// The file's name.
        name: String,
    },
    /// Grows a file; never shrinks one.
    Grow {
        /// The file's name.
        name: String,
        /// In bytes.
        size: u64,
    },
    /// Deletes; not there is as good.
    Delete {
        /// The file's name.
        name: String,
    },
    /// Lists in the order of names.
    List {
        /// Names after this one; empty from the beginning.
        after: String,
        /// At most so many.
        limit: u32,
    },
    /// Free room.
    Room,
}

impl FilesVerb {
    /// Does it change anything?
    pub fn changes(&self) -> bool {
        match self {
            Self::Create { .. } | Self::Copy { .. } | Self::Grow { .. } | Self::Delete { .. } => true,
            Self::Stat { .. } | Self::List { .. } | Self::Room => false,
        }
    }
}

impl RbdVerb {
    /// Does it change anything?
    pub fn changes(&self) -> bool {
        match self {
            Self::PoolName { .. } | Self::Image { verb: ImageVerb::Stat, .. } => false,
            Self::Pool { verb: PoolVerb::List { .. } | PoolVerb::Room | PoolVerb::Journal { .. }, .. } => false,
            Self::Pool { verb: PoolVerb::RemoveFromJournal { .. }, .. } | Self::Image { .. } => true,
        }
    }
}

/// What an effect answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EffectAnswer {
    /// Of `create` and `copy`: the file, and whether this call made it.
    Created {
        /// The file as it is now.
        file: FileFacts,
        /// It did not exist before.
        is_new: bool,
    },
    /// Of `stat`; `None` where there is no such file.
    File(Option<FileFacts>),
    /// Of `grow`.
    Grown(FileFacts),
    /// Of `delete`.
    Deleted,
    /// Of `list`.
    Files(Vec<FileFacts>),
    /// Of `room`, in bytes.
    Room {
        /// Free for us.
        available: u64,
        /// The file system's size.
        total: u64,
    },
    /// Of the interface `rbd`.
    Rbd(RbdAnswer),
    /// What is done while nobody waits for it. Asked for by the operator, never by a plugin.
    Background(Vec<Background>),
}

/// Work in a pool that nobody waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Background {
    /// What is done: `purge` (the trash is emptied) or `flatten` (copies are made independent).
    pub what: String,
    /// The pool.
    pub pool: String,
    /// How it is.
    pub state: BackgroundState,
    /// Seconds since it was asked for.
    pub seconds: u64,
    /// Why it could not be ended yet, as the last round found.
    pub why: Option<String>,
}

/// How work in the background is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackgroundState {
    /// It is being done.
    Working,
    /// It waits for its turn, or to be tried again.
    Waiting,
    /// It was tried often enough: the next call that concerns the pool has it tried again.
    Left,
}

/// What an effect of the interface `rbd` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RbdAnswer {
    /// Of `pool-name`.
    PoolName(Option<RbdName>),
    /// Of `create` and `copy`: the image, and whether this call made it.
    Created {
        /// The image as it is now.
        image: ImageFacts,
        /// It did not exist before.
        is_new: bool,
    },
    /// Of `stat`.
    Image(Option<ImageFacts>),
    /// Of `resize`.
    Resized(ImageFacts),
    /// Of `set-metadata`, `delete`, `release`, `delete-snapshot` and `remove-from-journal`.
    Done,
    /// Of `take-snapshot`: the snapshot, and whether this call took it.
    Snapshot {
        /// The snapshot.
        snapshot: SnapshotFacts,
        /// It did not exist before.
        is_new: bool,
    },
    /// Of `journal`.
    Journal(Context),
    /// Of `list`.
    Names(Vec<RbdName>),
    /// Of `free`.
    Room(PoolRoom),
    /// Of `claim`: what was proven, of which the node is told and not the plugin, and the image's metadata.
    Claimed(Claimed),
}

/// A file in a granted folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Its name.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// As given at its making.
    pub properties: Context,
}

/// An effect was refused by the daemon or failed in the world. The plugin sees kind and words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct EffectError {
    /// The kind: the same list that a plugin refuses with.
    pub kind: RefusalKind,
    /// For the plugin's log and its own refusal.
    pub message: String,
}

/// Is `name` fit to be a file in a granted folder? One component of 1 to 200 letters, digits, `-`, `_`, `.`, not beginning with a dot.
pub fn is_file_name(name: &str) -> bool {
    (1..=200).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
