//! Grows a mounted file system to its device, and a device to its file; measures both. By descriptor of the mount, never by name.

use crate::bind;
use crate::device::{DeviceError, Held};
use crate::krbd;
use crate::mark;
use crate::mountinfo::Line;
use crate::probe::superblock::{Ext, Implausible};
use crate::probe::{self, Unread};
use crate::roots::{OpenRoots, PlaceError, Sight};
use crate::sys;
use crate::words;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use windlass_plan::capability::FilesystemKind;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::paths::Place;
use windlass_plan::step::{TargetKind, Usage};

/// The smallest last group that XFS makes, in blocks.
const XFS_LEAST_GROUP: u64 = 64;

/// Something that cannot be grown or measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrowError {
    #[error("{path} is not a mount of this volume")]
    NotThere { path: String },
    #[error("{path} shows {found}, not {wanted}")]
    OtherKind { path: String, found: String, wanted: FilesystemKind },
    #[error("{path} is read-only, so its file system cannot be grown")]
    ReadOnly { path: String },
    #[error("a mounted ext4 file system can be grown only with CAP_SYS_RESOURCE, which the daemon does not have")]
    NoResourceCapability,
    #[error("cannot grow the file system at {path}")]
    Grow {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read how large the file system at {path} is")]
    Measure {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the ext4 superblock of /dev/{device} cannot be read")]
    Unread {
        device: String,
        #[source]
        source: Unread,
    },
    #[error("the ext4 superblock of /dev/{device} is missing")]
    NoSuperblock { device: String },
    #[error("the ext4 superblock of /dev/{device} is not as it should be")]
    Implausible {
        device: String,
        #[source]
        source: Implausible,
    },
    #[error("cannot take up the new size of what /dev/{device} shows")]
    Refresh {
        device: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<GrowError> for Failure {
    fn from(error: GrowError) -> Self {
        let reason = match error {
            GrowError::Place(PlaceError::ParentMissing { .. }) | GrowError::NotThere { .. } => Reason::NotThere,
            GrowError::Place(error) => return error.into(),
            GrowError::Device(error) => return error.into(),
            GrowError::OtherKind { .. } => Reason::HoldsOtherContent,
            GrowError::ReadOnly { .. } => Reason::CannotGrow,
            GrowError::NoResourceCapability => Reason::MissingPrivilege,
            GrowError::Grow { ref source, .. } => match source.raw_os_error() {
                Some(libc::EROFS | libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL) => Reason::CannotGrow,
                _ => words::reason(source),
            },
            GrowError::Measure { ref source, .. } | GrowError::Refresh { ref source, .. } => words::reason(source),
            GrowError::Unread { .. } | GrowError::NoSuperblock { .. } | GrowError::Implausible { .. } => Reason::Io,
        };
        words::failure(reason, &error)
    }
}

/// Takes up the new size of the backing file or image; the device's size then.
pub(crate) fn refresh(held: &mut Held) -> Result<u64, GrowError> {
    let refreshed = match krbd::id_of(&held.device.name) {
        Some(id) => krbd::refresh(id),
        None => sys::loop_refresh(&held.node),
    };
    refreshed.map_err(|source| GrowError::Refresh { device: held.device.name.clone(), source })?;
    Ok(held.measure()?)
}

/// Grows the file system that is mounted at the place, if its device has room for more; its size in bytes then.
pub(crate) fn grow(roots: &OpenRoots, volume: VolumeKey, held: &mut Option<Held>, place: &Place, kind: FilesystemKind) -> Result<u64, GrowError> {
    let there = enter(roots, volume, held, place)?;
    let path = there.path;
    let Some(held) = held.as_mut().filter(|_| there.kind == TargetKind::Folder) else { return Err(GrowError::NotThere { path }) };
    if there.line.kind != kind.name() {
        return Err(GrowError::OtherKind { path, found: there.line.kind, wanted: kind });
    }
    let size = held.measure()?;
    let folder = there.parent.open(libc::O_RDONLY | libc::O_DIRECTORY).map_err(|source| GrowError::Measure { path: path.clone(), source })?;
    let seen = sys::stat(folder.as_fd()).map_err(|source| GrowError::Measure { path: path.clone(), source })?.device;
    if seen != held.number() {
        return Err(GrowError::NotThere { path });
    }
    let is_read_only = there.line.is_superblock_read_only() || there.line.is_read_only();
    let fs = Mounted { folder, path, size, is_read_only };
    match kind {
        FilesystemKind::Ext4 => fs.grow_ext4(held),
        FilesystemKind::Xfs => fs.grow_xfs(),
    }
}

/// A mounted file system and the size of its device.
struct Mounted {
    folder: File,
    path: String,
    size: u64,
    is_read_only: bool,
}

impl Mounted {
    /// The superblock is read through the device: ext4 keeps its own in the same page cache, so this is the one in force.
    fn grow_ext4(&self, held: &Held) -> Result<u64, GrowError> {
        let read = || -> Result<Ext, GrowError> {
            let device = || held.device.name.clone();
            let head = probe::read(&held.node, 0, self.size.min(4096)).map_err(|source| GrowError::Unread { device: device(), source })?;
            let ext = Ext::read(&head, self.size).ok_or_else(|| GrowError::NoSuperblock { device: device() })?;
            ext.map_err(|source| GrowError::Implausible { device: device(), source })
        };
        let before = read()?;
        let Some(blocks) = before.can_grow_to(self.size) else { return Ok(before.blocks * before.block_size) };
        self.refuse_read_only()?;
        match sys::ext4_resize(&self.folder, blocks) {
            Ok(()) => read().map(|after| after.blocks * after.block_size),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(GrowError::NoResourceCapability),
            Err(source) => Err(GrowError::Grow { path: self.path.clone(), source }),
        }
    }

    fn grow_xfs(&self) -> Result<u64, GrowError> {
        let geometry = || sys::xfs_geometry(&self.folder).map_err(|source| GrowError::Measure { path: self.path.clone(), source });
        let before = geometry()?;
        let block_size = u64::from(before.block_size);
        let target = self.size / block_size.max(1);
        let gap = target.saturating_sub(before.data_blocks);
        let is_whole = before.data_blocks.is_multiple_of(u64::from(before.group_blocks).max(1));
        if gap == 0 || (is_whole && gap < XFS_LEAST_GROUP) {
            return Ok(before.data_blocks * block_size);
        }
        self.refuse_read_only()?;
        sys::xfs_grow(&self.folder, target, before.inode_percent).map_err(|source| GrowError::Grow { path: self.path.clone(), source })?;
        Ok(geometry()?.data_blocks * block_size)
    }

    fn refuse_read_only(&self) -> Result<(), GrowError> {
        if self.is_read_only { Err(GrowError::ReadOnly { path: self.path.clone() }) } else { Ok(()) }
    }
}

/// How full the volume at the place is.
pub(crate) fn usage(roots: &OpenRoots, volume: VolumeKey, held: &mut Option<Held>, place: &Place) -> Result<Usage, GrowError> {
    let there = enter(roots, volume, held, place)?;
    if there.kind == TargetKind::File {
        let Some(held) = held.as_mut() else { return Err(GrowError::NotThere { path: there.path }) };
        return Ok(Usage { total: held.measure()?, bytes: None, inodes: None });
    }
    let room = sys::room(there.file.as_fd()).map_err(|source| GrowError::Measure { path: there.path, source })?;
    let bytes = |blocks: u64| blocks.saturating_mul(room.block_size);
    Ok(Usage {
        total: bytes(room.blocks),
        bytes: Some((bytes(room.blocks.saturating_sub(room.free)), bytes(room.available))),
        inodes: Some((room.inodes, room.inodes.saturating_sub(room.free_inodes), room.free_inodes)),
    })
}

/// A mount of this volume, entered.
struct There {
    file: OwnedFd,
    line: Line,
    kind: TargetKind,
    parent: crate::roots::Parent,
    path: String,
}

fn enter(roots: &OpenRoots, volume: VolumeKey, held: &mut Option<Held>, place: &Place) -> Result<There, GrowError> {
    let parent = roots.parent(place)?;
    let path = parent.path.clone();
    let Sight::Mounted(file, line, _) = parent.look()? else { return Err(GrowError::NotThere { path }) };
    let Some((kind, number)) = bind::shows(&line, file.as_fd()) else { return Err(GrowError::NotThere { path }) };
    if mark::of_number(number) != Some(volume.short()) || !bind::adopt(held, volume, number)? {
        return Err(GrowError::NotThere { path });
    }
    Ok(There { file, line, kind, parent, path })
}
