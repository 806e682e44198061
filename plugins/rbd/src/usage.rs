//! How a volume will be used, from its capabilities: raw or mounted, by whom, and which hold of the image that takes.

use crate::class::FSTYPE;
use windlass_plugin_sdk::{Access, AccessMode, Capability, Context, FilesystemKind, Hold, Refusal, Sizes};

/// The metadata that say it, and the key of volume_context that names the file system.
pub(crate) const ACCESS: &str = "windlass.access";
pub(crate) const FILESYSTEM: &str = "windlass.filesystem";

const MIB: u64 = 1 << 20;

/// The object map of an image has room for 256,000,000 objects; of the usual size, 4 MiB, these are 976 TiB.
const LARGEST: u64 = 512 << 40;

/// What its capabilities say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    /// As a raw device.
    is_block: bool,
    /// Mounted, with this file system.
    pub(crate) filesystem: Option<FilesystemKind>,
}

impl Usage {
    /// Reads them, or says what cannot be had. `default` is the file system that the storage class names.
    pub(crate) fn read(capabilities: &[Capability], default: Option<FilesystemKind>) -> Result<Self, Refusal> {
        let mut usage = Self { is_block: false, filesystem: None };
        for capability in capabilities {
            hold(capability)?;
            match capability.access {
                Access::Block => usage.is_block = true,
                Access::Mount(asked) => usage.mount(asked, default)?,
            }
        }
        Ok(usage)
    }

    fn mount(&mut self, asked: Option<FilesystemKind>, default: Option<FilesystemKind>) -> Result<(), Refusal> {
        let kind = match (asked, default) {
            (Some(asked), Some(default)) if asked != default => {
                return Err(Refusal::invalid(format!("the capability asks for {asked}, and `{FSTYPE}` for {default}")));
            }
            (asked, default) => asked.or(default).unwrap_or(FilesystemKind::Ext4),
        };
        match self.filesystem.replace(kind) {
            Some(other) if other != kind => Err(Refusal::invalid(format!("the capabilities ask for {other} and for {kind}; a volume has one of them"))),
            _ => Ok(()),
        }
    }

    /// The sizes that such a volume can have.
    pub(crate) fn sizes(&self) -> Sizes {
        sizes(self.filesystem.map_or(MIB, FilesystemKind::smallest))
    }

    /// What is kept with the image.
    pub(crate) fn metadata(&self) -> Context {
        let access = match (self.is_block, self.filesystem) {
            (true, Some(_)) => "block, mount",
            (true, None) => "block",
            (false, _) => "mount",
        };
        match self.filesystem {
            Some(kind) => Context::from([(ACCESS, access), (FILESYSTEM, kind.name())]),
            None => Context::from([(ACCESS, access)]),
        }
    }

    /// Why a volume that was made with these metadata cannot be used so, if it cannot. Of one that ceph-csi made nothing is known.
    pub(crate) fn differs_from(&self, metadata: &Context) -> Option<String> {
        let access = metadata.get(ACCESS)?;
        if self.is_block && !access.contains("block") {
            return Some("the volume was made to be mounted, not for raw block access".to_owned());
        }
        let wanted = self.filesystem?;
        if !access.contains("mount") {
            return Some("the volume was made for raw block access, not to be mounted".to_owned());
        }
        let made = metadata.get(FILESYSTEM).unwrap_or_default();
        (made != wanted.name()).then(|| format!("the volume was made for {made}, not for {wanted}"))
    }
}

/// The sizes that a volume of at least `smallest` bytes can have.
pub(crate) fn sizes(smallest: u64) -> Sizes {
    Sizes { smallest, largest: LARGEST.max(smallest), default: 1 << 30, unit: MIB, sector: 512 }
}

/// What a node's use of a volume takes. A file system has one writing node, whatever is asked for; a raw device may have writers that know of each other.
pub(crate) fn hold(capability: &Capability) -> Result<Hold, Refusal> {
    use AccessMode::{
        MultiNodeMultiWriter, MultiNodeReaderOnly, MultiNodeSingleWriter, SingleNodeMultiWriter, SingleNodeReaderOnly, SingleNodeSingleWriter, SingleNodeWriter,
    };
    match (capability.mode, &capability.access) {
        (SingleNodeWriter | SingleNodeSingleWriter | SingleNodeMultiWriter, _) => Ok(Hold::Writer),
        (SingleNodeReaderOnly | MultiNodeReaderOnly, _) => Ok(Hold::Reader),
        (MultiNodeMultiWriter, Access::Block) => Ok(Hold::SharedWriter),
        (MultiNodeMultiWriter, Access::Mount(_)) => {
            Err(Refusal::invalid("MULTI_NODE_MULTI_WRITER is possible for raw block volumes alone: ext4 and xfs on two nodes at once would be destroyed"))
        }
        (MultiNodeSingleWriter, _) => Err(Refusal::invalid("MULTI_NODE_SINGLE_WRITER is not supported: nobody could say which node writes")),
    }
}
