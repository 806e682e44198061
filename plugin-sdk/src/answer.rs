//! What a driver answers, each with a builder that makes it in one expression.

use crate::{Access, Capability, ContentSource, Context, Credentials, FilesystemKind, IoLimits, MsMode, RbdPool, ReadFrom, Topology};

/// Who the driver is: the answer of [`NodeDriver::describe`](crate::NodeDriver::describe).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Who made it.
    pub vendor: String,
    /// `vendor_version` of GetPluginInfo.
    pub version: String,
    /// The keys of the operator's `[config]` table that it reads; the daemon refuses others.
    pub configuration: Vec<Key>,
    /// The secrets that it names.
    pub secrets: Vec<Key>,
    /// Its volumes can grow while they are in use.
    pub online_expansion: bool,
    /// It makes volumes from other volumes.
    pub clones: bool,
}

/// A key of the configuration, or the name of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What it is for: a sentence for the operator.
    pub help: String,
    /// The driver does not work without it.
    pub required: bool,
}

impl Key {
    fn new(name: &str, help: &str, required: bool) -> Self {
        Self { name: name.to_owned(), help: help.to_owned(), required }
    }
}

impl Description {
    /// A driver that reads no configuration, names no secret, and grows volumes only while nobody uses them.
    pub fn new(vendor: impl Into<String>, version: impl Into<String>) -> Self {
        Self { vendor: vendor.into(), version: version.into(), configuration: Vec::new(), secrets: Vec::new(), online_expansion: false, clones: false }
    }

    /// It reads this key of the configuration, if it is there.
    #[must_use]
    pub fn config(mut self, name: &str, help: &str) -> Self {
        self.configuration.push(Key::new(name, help, false));
        self
    }

    /// It does not work without this key of the configuration.
    #[must_use]
    pub fn required_config(mut self, name: &str, help: &str) -> Self {
        self.configuration.push(Key::new(name, help, true));
        self
    }

    /// It names this secret, without which it does not work.
    #[must_use]
    pub fn secret(mut self, name: &str, help: &str) -> Self {
        self.secrets.push(Key::new(name, help, true));
        self
    }

    /// Its volumes can grow while they are in use.
    #[must_use]
    pub fn online_expansion(mut self) -> Self {
        self.online_expansion = true;
        self
    }

    /// It makes volumes from other volumes ([`ContentSource::Volume`]).
    #[must_use]
    pub fn clones(mut self) -> Self {
        self.clones = true;
        self
    }
}

/// What a volume is, for the node that is to have it: the answer of [`NodeDriver::attach`](crate::NodeDriver::attach).
///
/// ```
/// use windlass_plugin_sdk::*;
///
/// let plan = AttachPlan::file("volumes", "disk-1").formatted_for(&Capability::mount(None), FilesystemKind::Xfs).label("data");
/// assert_eq!(plan.filesystem, Some(Filesystem { kind: FilesystemKind::Xfs, label: Some("data".into()) }));
/// assert_eq!(AttachPlan::file("volumes", "disk-1").formatted_for(&Capability::block(), FilesystemKind::Xfs).filesystem, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachPlan {
    /// Where the bytes are.
    pub source: Source,
    /// How the volume came into being.
    pub content: Content,
    /// The file system that belongs on it, for mounted volumes.
    pub filesystem: Option<Filesystem>,
}

/// Where a volume's bytes are. Names of the operator's, never a path or a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file in a folder that the operator granted.
    File {
        /// The grant's name.
        folder: String,
        /// The file's: one component of letters, digits, `-`, `_` and `.`, not beginning with a dot.
        name: String,
    },
    /// An image of a cluster that the operator granted, mapped by the kernel client.
    Rbd {
        /// The pool, and the cluster by its grant's name.
        pool: RbdPool,
        /// The image's name.
        image: String,
        /// Which of the call's secrets open the cluster.
        credentials: Credentials,
        /// How it is mapped.
        options: MapOptions,
    },
}

/// How an image is mapped. As it is, everything is left to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapOptions {
    /// How the kernel client talks to the cluster.
    pub ms_mode: Option<MsMode>,
    /// Which copy of an object is read.
    pub read_from: Option<ReadFrom>,
    /// Where the node is, for [`ReadFrom::Localize`]: types and names of the CRUSH map.
    pub crush_location: Vec<(String, String)>,
    /// Seconds after which an I/O that nobody answers fails in the pod; 0: it waits.
    pub osd_request_timeout: u32,
    /// Requests in flight, 2 to 4096; 0: the kernel's choice.
    pub queue_depth: u32,
    /// Bytes, a power of two from 512 to 32 MiB; 0: the kernel's choice.
    pub alloc_size: u32,
    /// What the pods of the node may do with it a second; 0: no limit.
    pub limits: IoLimits,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self {
            ms_mode: None,
            read_from: None,
            crush_location: Vec::new(),
            osd_request_timeout: 0,
            queue_depth: 0,
            alloc_size: 0,
            limits: IoLimits { read_iops: 0, write_iops: 0, read_rate: 0, write_rate: 0 },
        }
    }
}

impl Source {
    /// The file `name` in the folder that was granted as `folder`.
    pub fn file(folder: impl Into<String>, name: impl Into<String>) -> Self {
        Source::File { folder: folder.into(), name: name.into() }
    }
}

/// How a volume came into being. The daemon formats what is blank, once, and only on proof of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Made empty.
    Blank,
    /// A copy of something, or never ours: not formatted, whatever is on it.
    Copy,
}

/// A file system with typed options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Which.
    pub kind: FilesystemKind,
    /// 1 to 12 letters, digits, `-` and `_`.
    pub label: Option<String>,
}

impl AttachPlan {
    /// A volume that is the file `name` in the folder that was granted as `folder`, made blank.
    pub fn file(folder: impl Into<String>, name: impl Into<String>) -> Self {
        Self { source: Source::file(folder, name), content: Content::Blank, filesystem: None }
    }

    /// A volume that is the image `image` of a granted pool, made blank and mapped as the kernel likes.
    pub fn rbd(pool: RbdPool, image: impl Into<String>, credentials: Credentials) -> Self {
        let source = Source::Rbd { pool, image: image.into(), credentials, options: MapOptions::default() };
        Self { source, content: Content::Blank, filesystem: None }
    }

    /// How its image is mapped, if it is one.
    #[must_use]
    pub fn options(mut self, wanted: MapOptions) -> Self {
        if let Source::Rbd { options, .. } = &mut self.source {
            *options = wanted;
        }
        self
    }

    /// It holds a copy of something, so that it must not be formatted.
    #[must_use]
    pub fn copy(mut self) -> Self {
        self.content = Content::Copy;
        self
    }

    /// For a mounted volume the file system that was asked for, or `default`; for a raw one none.
    #[must_use]
    pub fn formatted_for(mut self, capability: &Capability, default: FilesystemKind) -> Self {
        self.filesystem = match capability.access {
            Access::Block => None,
            Access::Mount(asked) => Some(Filesystem { kind: asked.unwrap_or(default), label: None }),
        };
        self
    }

    /// The label of its file system, if it has one.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(filesystem) = &mut self.filesystem {
            filesystem.label = Some(label.into());
        }
        self
    }
}

/// Who the node is, in the driver's terms: the answer of [`NodeDriver::node_info`](crate::NodeDriver::node_info).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// `node_id` of NodeGetInfo, at most 256 bytes.
    pub node_id: String,
    /// How many volumes the node can have; 0 leaves it to the orchestrator.
    pub max_volumes: u64,
    /// Where the node is.
    pub topology: Topology,
}

impl NodeInfo {
    /// A node without limit and topology.
    pub fn new(node_id: impl Into<String>) -> Self {
        Self { node_id: node_id.into(), max_volumes: 0, topology: Topology::new() }
    }

    /// It can have so many volumes.
    #[must_use]
    pub fn max_volumes(mut self, count: u64) -> Self {
        self.max_volumes = count;
        self
    }

    /// One more segment of where it is.
    #[must_use]
    pub fn segment(mut self, key: &str, value: &str) -> Self {
        self.topology = self.topology.with(key, value);
        self
    }
}

/// A volume as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id: at most 128 bytes, and enough to find it again.
    pub id: String,
    /// Its size in bytes.
    pub capacity: u64,
    /// What the node is told: at most 4096 bytes; keys that begin with `windlass.io/` are the daemon's.
    pub context: Context,
    /// What it was filled with.
    pub source: Option<ContentSource>,
    /// Where it is reachable from; empty is everywhere.
    pub topology: Vec<Topology>,
}

impl Volume {
    /// A volume that was made blank and is reachable from everywhere.
    pub fn new(id: impl Into<String>, capacity: u64) -> Self {
        Self { id: id.into(), capacity, context: Context::new(), source: None, topology: Vec::new() }
    }

    /// One more key for the node.
    #[must_use]
    pub fn context(mut self, key: &str, value: &str) -> Self {
        self.context = self.context.with(key, value);
        self
    }

    /// It is reachable from this place too.
    #[must_use]
    pub fn reachable_from(mut self, place: Topology) -> Self {
        self.topology.push(place);
        self
    }
}

/// A snapshot as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id: at most 128 bytes, and enough to find it again.
    pub id: String,
    /// The volume that it is of, by id. It may be gone.
    pub volume: String,
    /// What a volume that is made from it has at least, in bytes.
    pub size: u64,
    /// When it was cut, in seconds since 1970 by the clock of the back end.
    pub created: u64,
    /// A volume can be made from it now.
    pub ready: bool,
}

/// Room for new volumes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// In all.
    pub available: u64,
    /// For one volume at the most; 0 is unknown.
    pub largest: u64,
    /// For one volume at the least; 0 is unknown.
    pub smallest: u64,
}

/// Some of the volumes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Not more than were asked for.
    pub volumes: Vec<Volume>,
    /// Where the next page begins; empty at the end.
    pub next_token: String,
}

/// Some of the snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotPage {
    /// Not more than were asked for.
    pub snapshots: Vec<Snapshot>,
    /// Where the next page begins; empty at the end.
    pub next_token: String,
}

/// A volume has grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expanded {
    /// Its size in bytes.
    pub capacity: u64,
    /// The node has something to do as well, such as growing the file system.
    pub node_expansion: bool,
}
