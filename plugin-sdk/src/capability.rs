//! Questions that drivers ask of a capability, and its short forms for tests.

use crate::{Access, AccessMode, Capability, FilesystemKind};
use std::fmt;

impl Capability {
    /// A mounted volume for one writing node; `None` leaves the file system to the driver.
    pub fn mount(filesystem: Option<FilesystemKind>) -> Self {
        Self { access: Access::Mount(filesystem), mode: AccessMode::SingleNodeWriter }
    }

    /// A raw volume for one writing node.
    pub fn block() -> Self {
        Self { access: Access::Block, mode: AccessMode::SingleNodeWriter }
    }

    /// The same with another access mode.
    #[must_use]
    pub fn mode(mut self, mode: AccessMode) -> Self {
        self.mode = mode;
        self
    }
}

impl AccessMode {
    /// More than one node may use the volume at once.
    pub fn is_multi_node(self) -> bool {
        matches!(self, AccessMode::MultiNodeReaderOnly | AccessMode::MultiNodeSingleWriter | AccessMode::MultiNodeMultiWriter)
    }

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
}

impl FilesystemKind {
    /// The kernel's name for it.
    pub fn name(self) -> &'static str {
        match self {
            FilesystemKind::Ext4 => "ext4",
            FilesystemKind::Xfs => "xfs",
        }
    }

    /// The kind called `name`, if the daemon can make it.
    pub fn named(name: &str) -> Option<Self> {
        [FilesystemKind::Ext4, FilesystemKind::Xfs].into_iter().find(|kind| kind.name() == name)
    }

    /// The smallest device that it fits on, in bytes.
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
