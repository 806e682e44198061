//! The steps that a worker can do, how each is undone, and what it reports.
//!
//! A worker is leased for one volume at a time and remembers, for the length of the lease, the device that `Attach` (or `Find`)
//! opened: later steps of the same lease mean that device, by its open descriptor and not by its name (law 6).

use crate::attach::Filesystem;
use crate::capability::{FilesystemKind, MountFlags};
use crate::ids::VolumeKey;
use crate::paths::{HostPath, Place};
use crate::rbd::{ImageIdentity, IoLimits, MapOptions, PoolAt, RbdName};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Read-write or read-only, as a type: a device, a mount and a bind each have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Writable {
    /// Reading and writing.
    ReadWrite,
    /// Reading; nothing below is ever written (law 11).
    ReadOnly,
}

/// One thing to do. Each may hang, each may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Binds a loop device with direct I/O to the file, by descriptor, marked with the volume's key. Already bound so: that device.
    AttachFile(AttachFile),
    /// Maps an image by the kernel client, marked with the volume's key. Already mapped so: that device. The user's key comes ahead
    /// of the step, in a message of its own (law 10).
    MapImage(MapImage),
    /// Looks at what is on the attached device; never writes.
    Probe {
        /// The controller proved that no object of the image had ever been written. Of a file the kernel itself knows.
        is_never_written: bool,
    },
    /// mkfs on the attached device. The engine sends it only on proof.
    Format(Filesystem),
    /// Looks whether the file system is clean. Starts no program.
    Check {
        /// The file system that is there.
        kind: FilesystemKind,
        /// Read-only: a dirty journal is a failure, nothing is repaired.
        writable: Writable,
    },
    /// `e2fsck -p` on the attached device. The engine sends it only where `Check` asked for it (law 14).
    Preen,
    /// Mounts the attached device at a folder that exists, and compares the device after the mount.
    Mount(Mount),
    /// Places the attached device's node at a path, as a file that the step makes.
    PlaceNode(PlaceNode),
    /// Grows the file system mounted at the place to the attached device, if it is smaller.
    Grow {
        /// Where it is mounted.
        place: Place,
        /// Which it is.
        kind: FilesystemKind,
    },
    /// Binds what is staged at `from` to `to`; makes the target.
    Bind(Bind),
    /// Takes up the new size of the backing file or image.
    Refresh,
    /// Limits what the node's pods may do with the attached device a second. The last step: making and mounting a file system is not limited.
    Limit(IoLimits),
}

/// See [`Step::AttachFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachFile {
    /// The volume that the device will be marked with.
    pub volume: VolumeKey,
    /// The granted folder.
    pub folder: HostPath,
    /// The file in it: one component.
    pub name: String,
    /// A read-only device refuses all writes, also from root.
    pub writable: Writable,
}

/// See [`Step::MapImage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapImage {
    /// The volume that the device will be marked with.
    pub volume: VolumeKey,
    /// The cluster's monitors.
    pub monitors: Vec<SocketAddr>,
    /// Who maps it.
    pub user: RbdName,
    /// The pool.
    pub at: PoolAt,
    /// The image's name.
    pub image: RbdName,
    /// Who it must turn out to be.
    pub identity: ImageIdentity,
    /// How it is mapped.
    pub options: MapOptions,
    /// A read-only device refuses all writes, also from root.
    pub writable: Writable,
}

/// See [`Step::Mount`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// A folder that exists.
    pub place: Place,
    /// Which file system.
    pub kind: FilesystemKind,
    /// Flags from the request.
    pub flags: MountFlags,
    /// Read-only also means: the journal is not replayed.
    pub writable: Writable,
}

/// See [`Step::PlaceNode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceNode {
    /// The file to make and to place the node on.
    pub place: Place,
}

/// See [`Step::Bind`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The staged mount, or the staged node.
    pub from: Place,
    /// The target, made by the step.
    pub to: Place,
    /// A folder for a file system, a file for a device node.
    pub kind: TargetKind,
    /// Flags of this mount alone (nosuid, noexec ...).
    pub flags: MountFlags,
    /// Read-only for this target.
    pub writable: Writable,
}

/// What a target is made as, and removed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TargetKind {
    /// `mkdir`, `rmdir`.
    Folder,
    /// An empty file, `unlink`.
    File,
    /// Whichever of the two is there: for a target whose record was lost.
    Either,
}

/// How a step is undone. Speaks of identity, so that it is right whether or not the deed happened (law 2), and doing it twice is the
/// same as once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Undo {
    /// Unbind or unmap every device that carries the volume's mark. In use by somebody: a failure that names the holders.
    Detach {
        /// The mark.
        volume: VolumeKey,
    },
    /// Take away every mount at the place that shows this volume's device, and the target if a step made it.
    Unmount {
        /// The volume whose device it must be.
        volume: VolumeKey,
        /// Where.
        place: Place,
        /// Made by a step: removed with `rmdir` or `unlink`, which fail on what is not ours. `None`: the caller's folder, left alone.
        made: Option<TargetKind>,
    },
}

impl Step {
    /// How the step is undone; `None` for one that leaves nothing to undo (a look, or data that is the volume's own).
    pub fn undo(&self, volume: VolumeKey) -> Option<Undo> {
        match self {
            Step::AttachFile(_) | Step::MapImage(_) => Some(Undo::Detach { volume }),
            Step::Mount(mount) => Some(Undo::Unmount { volume, place: mount.place.clone(), made: None }),
            Step::PlaceNode(node) => Some(Undo::Unmount { volume, place: node.place.clone(), made: Some(TargetKind::File) }),
            Step::Bind(bind) => Some(Undo::Unmount { volume, place: bind.to.clone(), made: Some(bind.kind) }),
            Step::Probe { .. } | Step::Format(_) | Step::Check { .. } | Step::Preen | Step::Grow { .. } | Step::Refresh | Step::Limit(_) => None,
        }
    }

    /// The step's name, for logs, the journal and people.
    pub fn name(&self) -> &'static str {
        match self {
            Step::AttachFile(_) => "attach",
            Step::MapImage(_) => "map",
            Step::Probe { .. } => "probe",
            Step::Format(_) => "format",
            Step::Check { .. } => "check",
            Step::Preen => "preen",
            Step::Mount(_) => "mount",
            Step::PlaceNode(_) => "place-node",
            Step::Grow { .. } => "grow",
            Step::Bind(_) => "bind",
            Step::Refresh => "refresh",
            Step::Limit(_) => "limit",
        }
    }
}

/// What a step reports. Idempotency is in the type: done now, or was so already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of `AttachFile` and `MapImage`.
    Attached(Device),
    /// Of `Probe`.
    Probed(Probe),
    /// Of `Format`, `Preen`, `Mount`, `PlaceNode`, `Bind`, `Limit`.
    Done,
    /// Of `Check`: the file system is to be repaired before it is mounted.
    NeedsPreen,
    /// The world was so already.
    Already,
    /// Of `Grow` and `Refresh`: the size in bytes of what was grown.
    Size(u64),
}

/// A block device as the kernel knows it: compared again after every wait (law 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The kernel's name (`loop3`, `rbd0`): a hint, never an identity.
    pub name: String,
    /// Its number.
    pub major: u32,
    /// Its number.
    pub minor: u32,
    /// Counts contents of device names since boot; `None` before Linux 5.15.
    pub diskseq: Option<u64>,
    /// In bytes.
    pub size: u64,
    /// Refuses writes.
    pub is_read_only: bool,
    /// What it shows.
    pub backing: Backing,
}

/// What a device shows, by an identity that outlives names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backing {
    /// A file.
    File(BackingFile),
    /// An image of a Ceph cluster.
    Image(ImageIdentity),
}

/// A backing file's identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BackingFile {
    /// The device number of its file system.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970: tells two files apart that had the same inode. 0 where the file system does not know.
    pub born_ns: u64,
}

impl std::fmt::Display for Backing {
    /// In a few words, for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "inode {} of device {}", file.inode, file.device),
            Self::Image(image) => write!(f, "image {image}"),
        }
    }
}

/// The three answers of the probe (law 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// Nothing was ever written to it.
    Blank {
        /// How that is known, naming the ranges: shown to people, kept in the format note.
        proof: String,
    },
    /// This is on it.
    Holds {
        /// What, as `blkid` would call it: `ext4`, `xfs`, `btrfs`, `crypto_LUKS`, `gpt` ...
        what: String,
        /// One of the file systems that we mount.
        kind: Option<FilesystemKind>,
    },
    /// Could not tell.
    Unknown {
        /// What kind of not knowing.
        doubt: Doubt,
        /// Why.
        why: String,
    },
}

/// Why a probe cannot tell what is on a device. Only the first can be what an interrupted mkfs left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// All that was asked for was read, and no format known to us explains it.
    Unexplained,
    /// A read failed, or there is a superblock that cannot be true: a file system may well be there.
    Damaged,
}

/// What of a volume the kernel shows, whatever the journal says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// Devices that carry the volume's mark; more than one only after a fault.
    pub devices: Vec<Device>,
    /// Mounts of these devices and binds of their nodes, in the order of mountinfo.
    pub mounts: Vec<SeenMount>,
}

/// One line of mountinfo that belongs to a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenMount {
    /// The mount point, absolute.
    pub path: String,
    /// A file system on the device, or the device's node.
    pub shows: Shows,
    /// The mount itself is read-only.
    pub is_read_only: bool,
    /// The file system below is read-only (an error turned it so, or it was mounted so).
    pub is_superblock_read_only: bool,
    /// The SELinux label that it was mounted with.
    pub label: Option<String>,
}

/// What a mount of a volume shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shows {
    /// A file system, by the kernel's name.
    Filesystem(String),
    /// The device's node.
    Node,
}

/// NodeGetVolumeStats, in bytes and inodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes in all.
    pub total: u64,
    /// Bytes used and available; `None` for a block device.
    pub bytes: Option<(u64, u64)>,
    /// Inodes: total, used, free; `None` for a block device.
    pub inodes: Option<(u64, u64, u64)>,
}
