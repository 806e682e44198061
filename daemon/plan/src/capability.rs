//! How a volume is to be used: as a block device or a file system, by whom, with which mount flags.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// CSI's `VolumeCapability`, with everything in it understood.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Capability {
    /// Block device or file system.
    pub access: Access,
    /// Who may use it at once.
    pub mode: AccessMode,
}

impl Capability {
    /// The SELinux label that is wanted of every file.
    pub fn label(&self) -> Option<&str> {
        match &self.access {
            Access::Mount(wish) => wish.flags.context.as_deref(),
            Access::Block => None,
        }
    }
}

/// CSI's `access_type`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Access {
    /// A raw block device.
    Block,
    /// A mounted file system.
    Mount(MountWish),
}

/// CSI's `MountVolume`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct MountWish {
    /// The file system that was asked for; `None` leaves it to the driver.
    pub filesystem: Option<FilesystemKind>,
    /// Flags, all of them known.
    pub flags: MountFlags,
}

/// A file system that Windlass makes, mounts and grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesystemKind {
    /// ext4, the default.
    Ext4,
    /// XFS.
    Xfs,
}

impl FilesystemKind {
    /// All of them, in the order in which they are offered.
    pub const ALL: [FilesystemKind; 2] = [FilesystemKind::Ext4, FilesystemKind::Xfs];

    /// The kernel's name for it, as in `/proc/filesystems`.
    pub fn name(self) -> &'static str {
        match self {
            FilesystemKind::Ext4 => "ext4",
            FilesystemKind::Xfs => "xfs",
        }
    }

    /// The kind called `name`, if it is one of ours.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The smallest device that its mkfs takes, in bytes (mkfs.xfs refuses less than 300 MiB).
    pub fn smallest(self) -> u64 {
        match self {
            FilesystemKind::Ext4 => 1 << 20,
            FilesystemKind::Xfs => 300 << 20,
        }
    }
}

impl fmt::Display for FilesystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// CSI's `AccessMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AccessMode {
    /// One node, reading and writing.
    SingleNodeWriter,
    /// One node, reading.
    SingleNodeReaderOnly,
    /// Many nodes, reading.
    MultiNodeReaderOnly,
    /// Many nodes, one of which writes.
    MultiNodeSingleWriter,
    /// Many nodes, all of which write.
    MultiNodeMultiWriter,
    /// One workload on one node.
    SingleNodeSingleWriter,
    /// Many workloads on one node.
    SingleNodeMultiWriter,
}

impl AccessMode {
    /// The mode's name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            AccessMode::SingleNodeWriter => "SINGLE_NODE_WRITER",
            AccessMode::SingleNodeReaderOnly => "SINGLE_NODE_READER_ONLY",
            AccessMode::MultiNodeReaderOnly => "MULTI_NODE_READER_ONLY",
            AccessMode::MultiNodeSingleWriter => "MULTI_NODE_SINGLE_WRITER",
            AccessMode::MultiNodeMultiWriter => "MULTI_NODE_MULTI_WRITER",
            AccessMode::SingleNodeSingleWriter => "SINGLE_NODE_SINGLE_WRITER",
            AccessMode::SingleNodeMultiWriter => "SINGLE_NODE_MULTI_WRITER",
        }
    }

    /// Nobody writes.
    pub fn is_reader_only(self) -> bool {
        matches!(self, AccessMode::SingleNodeReaderOnly | AccessMode::MultiNodeReaderOnly)
    }

    /// More than one node may use the volume at once.
    pub fn is_multi_node(self) -> bool {
        matches!(self, AccessMode::MultiNodeReaderOnly | AccessMode::MultiNodeSingleWriter | AccessMode::MultiNodeMultiWriter)
    }

    /// A second target path on one node is allowed (the table under NodePublishVolume in the specification).
    pub fn allows_many_targets(self) -> bool {
        self.is_multi_node() || self == AccessMode::SingleNodeMultiWriter
    }
}

impl fmt::Display for AccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One mount flag that is passed on. Everything that is not here is refused by name (law 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountFlag {
    /// `ro`
    ReadOnly,
    /// `nosuid`
    NoSuid,
    /// `nodev`
    NoDev,
    /// `noexec`
    NoExec,
    /// `noatime`
    NoAtime,
    /// `nodiratime`
    NoDirAtime,
    /// `relatime`
    RelAtime,
    /// `strictatime`
    StrictAtime,
    /// `sync`
    Sync,
    /// `dirsync`
    DirSync,
    /// `lazytime`
    LazyTime,
    /// `discard`
    Discard,
}

impl MountFlag {
    /// Every flag with its spelling in `mount(8)`.
    pub const ALL: [(&'static str, MountFlag); 12] = [
        ("ro", MountFlag::ReadOnly),
        ("nosuid", MountFlag::NoSuid),
        ("nodev", MountFlag::NoDev),
        ("noexec", MountFlag::NoExec),
        ("noatime", MountFlag::NoAtime),
        ("nodiratime", MountFlag::NoDirAtime),
        ("relatime", MountFlag::RelAtime),
        ("strictatime", MountFlag::StrictAtime),
        ("sync", MountFlag::Sync),
        ("dirsync", MountFlag::DirSync),
        ("lazytime", MountFlag::LazyTime),
        ("discard", MountFlag::Discard),
    ];
}

/// Mount flags that passed the allow-list, and an SELinux context exactly as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct MountFlags {
    /// The flags, as a set: order and repetition do not matter.
    pub flags: BTreeSet<MountFlag>,
    /// The value of `context=`.
    pub context: Option<String>,
}

/// A mount flag that is not on the allow-list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mount flag {flag:?} is not allowed; allowed are: {allowed}")]
pub struct UnknownFlag {
    /// What was asked for, cut to 64 characters.
    pub flag: String,
    /// The list, for people.
    pub allowed: String,
}

impl MountFlags {
    /// Checks `mount_flags` of a request against the list. Each may hold several, separated by commas, as in `mount -o`.
    ///
    /// `rw`, `defaults`, `_netdev` and `nouuid` (which XFS always gets) are understood and change nothing.
    pub fn parse<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownFlag> {
        let mut parsed = Self::default();
        for flag in given.into_iter().flat_map(split_flags).filter(|flag| !flag.is_empty()) {
            if let Some(context) = flag.strip_prefix("context=") {
                let context = context.trim_matches('"');
                let is_plain = !context.is_empty() && context.len() <= 256 && context.chars().all(|c| c.is_ascii_alphanumeric() || ":_.,-".contains(c));
                if !is_plain || parsed.context.as_deref().is_some_and(|other| other != context) {
                    return Err(UnknownFlag::new(flag));
                }
                parsed.context = Some(context.to_owned());
                continue;
            }
            match MountFlag::ALL.iter().find(|(name, _)| *name == flag) {
                Some((_, known)) => {
                    parsed.flags.insert(*known);
                }
                None if matches!(flag, "rw" | "defaults" | "_netdev" | "nouuid") => {}
                None => return Err(UnknownFlag::new(flag)),
            }
        }
        Ok(parsed)
    }

    /// Is the flag set?
    pub fn has(&self, flag: MountFlag) -> bool {
        self.flags.contains(&flag)
    }
}

/// Splits at commas outside double quotes (an SELinux context may hold a comma).
fn split_flags(given: &str) -> Vec<&str> {
    let mut is_quoted = false;
    given
        .split(move |c| {
            is_quoted ^= c == '"';
            c == ',' && !is_quoted
        })
        .collect()
}

impl UnknownFlag {
    fn new(flag: &str) -> Self {
        let allowed: Vec<&str> = MountFlag::ALL.iter().map(|(name, _)| *name).chain(["context=..."]).collect();
        Self { flag: flag.chars().take(64).collect(), allowed: allowed.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_an_allow_list() {
        let flags = MountFlags::parse(["noatime,nosuid", "nosuid", "_netdev", "context=\"system_u:object_r:container_file_t:s0:c1,c2\""]).unwrap();
        assert_eq!(flags.flags.len(), 2);
        assert_eq!(flags.context.as_deref(), Some("system_u:object_r:container_file_t:s0:c1,c2"));
        for bad in ["suid", "dev", "bind", "remount", "loop", "offset=1", "journal_path=/etc", "context=a b", "noatime,exec", "data=writeback"] {
            assert!(MountFlags::parse([bad]).is_err(), "{bad}");
        }
        assert!(MountFlags::parse(["context=a", "context=b"]).is_err());
    }
}
