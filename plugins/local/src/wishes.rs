//! What a caller wants of a volume, read from its capabilities and parameters; what is not understood is refused, not ignored.

use crate::settings::{SMALLEST, Settings};
use crate::volume::{ACCESS, FILESYSTEM};
use windlass_plugin_sdk::{Access, Capability, CapacityRange, Context, FilesystemKind, Refusal, Sizes};

const FSTYPE: &str = "csi.storage.k8s.io/fstype";
const ENCRYPTED: &str = "encrypted";

/// How a volume is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// As a raw device.
    is_block: bool,
    /// Mounted, with this file system.
    filesystem: Option<FilesystemKind>,
}

impl Wishes {
    /// Reads them, or says what cannot be had. Where nobody names a file system it is the one that is `inherited` from what is copied, or ext4.
    pub(crate) fn read(capabilities: &[Capability], parameters: &Context, inherited: Option<FilesystemKind>) -> Result<Self, Refusal> {
        let named = check_parameters(parameters)?;
        let mut wishes = Self { is_block: false, filesystem: None };
        for capability in capabilities {
            if capability.mode.is_multi_node() {
                let words = format!("the access mode {} is not supported: the volume is a file on one node", capability.mode.name());
                return Err(Refusal::invalid(words));
            }
            match capability.access {
                Access::Block => wishes.is_block = true,
                Access::Mount(asked) => wishes.mount(asked, named, inherited)?,
            }
        }
        Ok(wishes)
    }

    fn mount(&mut self, asked: Option<FilesystemKind>, named: Option<FilesystemKind>, inherited: Option<FilesystemKind>) -> Result<(), Refusal> {
        let kind = match (asked, named) {
            (Some(asked), Some(named)) if asked != named => {
                return Err(Refusal::invalid(format!("the capability asks for {asked}, and `{FSTYPE}` for {named}")));
            }
            (asked, named) => asked.or(named).or(inherited).unwrap_or(FilesystemKind::Ext4),
        };
        match self.filesystem.replace(kind) {
            Some(other) if other != kind => Err(Refusal::invalid(format!("the capabilities ask for {other} and for {kind}; a volume has one of them"))),
            _ => Ok(()),
        }
    }

    /// The sizes that such a volume can have.
    pub(crate) fn sizes(&self, settings: &Settings) -> Sizes {
        settings.sizes(self.filesystem.map_or(SMALLEST, FilesystemKind::smallest))
    }

    /// The file system that it is mounted with, if it is.
    pub(crate) fn filesystem(&self) -> Option<FilesystemKind> {
        self.filesystem
    }

    /// What is kept with the file.
    pub(crate) fn properties(&self) -> Context {
        let access = match (self.is_block, self.filesystem) {
            (true, Some(_)) => "block, mount",
            (true, None) => "block",
            (false, _) => "mount",
        };
        let properties = Context::from([(ACCESS, access)]);
        match self.filesystem {
            Some(kind) => properties.with(FILESYSTEM, kind.name()),
            None => properties,
        }
    }

    /// Why a volume with these properties cannot be used so, if it cannot.
    pub(crate) fn differ_from(&self, properties: &Context) -> Option<String> {
        let access = properties.get(ACCESS).unwrap_or_default();
        if self.is_block && !access.contains("block") {
            return Some("the volume was made to be mounted, not for raw block access".to_owned());
        }
        let wanted = self.filesystem?;
        if !access.contains("mount") {
            return Some("the volume was made for raw block access, not to be mounted".to_owned());
        }
        let made = properties.get(FILESYSTEM).unwrap_or_default();
        (made != wanted.name()).then(|| format!("the volume was made for {made}, not for {wanted}"))
    }
}

/// Checks the storage class's parameters; the file system that they ask for.
pub(crate) fn check_parameters(parameters: &Context) -> Result<Option<FilesystemKind>, Refusal> {
    if parameters.get(ENCRYPTED).is_some_and(|value| value != "false") {
        return Err(Refusal::invalid(format!("`{ENCRYPTED}` is asked for, and this driver cannot encrypt; `false` is the one value that it takes")));
    }
    parameters.only(&[FSTYPE, ENCRYPTED])?;
    let Some(name) = parameters.get(FSTYPE).filter(|name| !name.is_empty()) else { return Ok(None) };
    match FilesystemKind::named(name) {
        Some(kind) => Ok(Some(kind)),
        None => Err(Refusal::invalid(format!("`{FSTYPE}` is {:?}; ext4 and xfs are possible", name.chars().take(64).collect::<String>()))),
    }
}

/// Refuses a range that no size is in, before anything is compared with it.
pub(crate) fn refuse_range(range: &CapacityRange) -> Result<(), Refusal> {
    if range.limit != 0 && range.required > range.limit {
        let words = format!("required_bytes ({}) is more than limit_bytes ({})", range.required, range.limit);
        return Err(Refusal::out_of_range(words));
    }
    Ok(())
}
