//! Places a device's node in its staging folder, and binds what is staged to a target: a clone of one mount, placed by descriptor.

use crate::device::{DeviceError, Held, open_node};
use crate::mark;
use crate::mount::mount_flags;
use crate::mountinfo::{self, Line};
use crate::roots::{OpenRoots, Parent, PlaceError, Placed, Sight};
use crate::sys::{self, Number};
use crate::target::{self, TargetError};
use crate::words;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use windlass_plan::capability::MountFlags;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::paths::Place;
use windlass_plan::step::{Bind, Outcome, PlaceNode, TargetKind, Writable};

/// Something that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("{path} is not a mount of this volume: it is not staged there")]
    NotStaged { path: String },
    #[error("the file system at {path} stopped writing after an error; unpublish and unstage the volume, and stage it again")]
    StoppedWriting { path: String },
    #[error("{path} is mounted read-only, so it cannot be published writable")]
    StagedReadOnly { path: String },
    #[error("/dev/{device} is writable, and a read-only node of a writable device can be written through; stage the volume read-only")]
    WritableDevice { device: String },
    #[error("this volume is at {path} already, {}", if *.is_read_only { "read-only" } else { "writable" })]
    OtherMode { path: String, is_read_only: bool },
    #[error("something else is mounted at {path} ({kind}, {major}:{minor}); it is left alone")]
    Foreign { path: String, kind: String, major: u32, minor: u32 },
    #[error("cannot {deed} {path}")]
    Kernel {
        deed: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("what appeared at {path} is not this volume's device")]
    OtherDevice { path: String },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        let reason = match error {
            BindError::Target(error) => return error.into(),
            BindError::Place(error) => return error.into(),
            BindError::Device(error) => return error.into(),
            BindError::NotStaged { .. } => Reason::NotStaged,
            BindError::StoppedWriting { .. } => Reason::NeedsRepair,
            BindError::StagedReadOnly { .. } | BindError::WritableDevice { .. } | BindError::OtherMode { .. } => Reason::Incompatible,
            BindError::Foreign { .. } => Reason::ForeignMount,
            BindError::Kernel { ref source, .. } => words::reason(source),
            BindError::OtherDevice { .. } => Reason::IdentityChanged,
        };
        words::failure(reason, &error)
    }
}

/// Places the held device's node.
pub(crate) fn place_node(roots: &OpenRoots, held: &Held, wish: &PlaceNode) -> Result<Outcome, BindError> {
    let parent = roots.parent(&wish.place)?;
    if let Some((folder, line)) = mounted_folder(roots, &wish.place)? {
        return Err(foreign(&folder, line));
    }
    let shown = Shown { kind: TargetKind::File, name: held.device.name.clone(), number: held.number(), is_read_only: held.device.is_read_only };
    if let Some(outcome) = already(&parent, &shown, None)? {
        return Ok(outcome);
    }
    let node = open_node(&shown.name, false, libc::O_PATH)?.ok_or(DeviceError::Changed { name: shown.name.clone() })?;
    place(&parent, &shown, node.as_fd(), &MountFlags::default(), Writable::ReadWrite)
}

/// The folder above a place, where something is mounted at it. A file that a step makes there would be made in somebody's volume.
pub(crate) fn mounted_folder(roots: &OpenRoots, place: &Place) -> Result<Option<(Parent, Line)>, PlaceError> {
    let (above, _) = place.split();
    if above.is_empty() {
        return Ok(None);
    }
    let folder = roots.parent(&Place { root: place.root, below: above.to_owned() })?;
    let Sight::Mounted(_, line, _) = folder.look()? else { return Ok(None) };
    Ok(Some((folder, line)))
}

/// Binds what is staged. The device that it shows becomes the lease's, if the lease has none yet.
pub(crate) fn bind(roots: &OpenRoots, volume: VolumeKey, held: &mut Option<Held>, wish: &Bind) -> Result<Outcome, BindError> {
    let from = roots.parent(&wish.from)?;
    let not_staged = || BindError::NotStaged { path: from.path.clone() };
    let Sight::Mounted(staged, line, _) = from.look()? else { return Err(not_staged()) };
    let Some((kind, number)) = shows(&line, staged.as_fd()) else { return Err(not_staged()) };
    // The lease's own device by its descriptor; another only if it carries the whole mark.
    if kind != wish.kind || mark::of_number(number) != Some(volume.short()) || !adopt(held, volume, number)? {
        return Err(not_staged());
    }
    let Some(device) = held.as_ref().map(|held| &held.device) else { return Err(not_staged()) };
    let shown = Shown { kind, name: device.name.clone(), number, is_read_only: device.is_read_only };
    refuse_mode(&from, &line, &shown, wish.writable)?;
    let to = roots.parent(&wish.to)?;
    if let Some(outcome) = already(&to, &shown, Some(wish.writable))? {
        return Ok(outcome);
    }
    place(&to, &shown, staged.as_fd(), &wish.flags, wish.writable)
}

/// What is bound: a file system on a device, or the device's node.
struct Shown {
    kind: TargetKind,
    name: String,
    number: Number,
    is_read_only: bool,
}

fn refuse_mode(from: &Parent, line: &Line, shown: &Shown, writable: Writable) -> Result<(), BindError> {
    let path = || from.path.clone();
    match (shown.kind, writable) {
        (TargetKind::Folder, Writable::ReadWrite) if line.is_read_only() => Err(BindError::StagedReadOnly { path: path() }),
        (TargetKind::Folder, _) if !line.is_read_only() && line.is_superblock_read_only() => Err(BindError::StoppedWriting { path: path() }),
        (TargetKind::File, Writable::ReadWrite) if shown.is_read_only => Err(BindError::StagedReadOnly { path: path() }),
        (TargetKind::File, Writable::ReadOnly) if !shown.is_read_only => Err(BindError::WritableDevice { device: shown.name.clone() }),
        _ => Ok(()),
    }
}

/// Which device a mount that we stand in shows. A node is asked for its number: its name is nothing to rely on.
pub(crate) fn shows(line: &Line, there: BorrowedFd<'_>) -> Option<(TargetKind, Number)> {
    match line.shows()? {
        mountinfo::Shown::Filesystem(number) => Some((TargetKind::Folder, number)),
        mountinfo::Shown::Node(_) => {
            let seen = sys::stat(there).ok()?;
            seen.is(libc::S_IFBLK).then_some((TargetKind::File, seen.is_device))
        }
    }
}

/// Makes the device of this number the lease's. False: it is not this volume's.
pub(crate) fn adopt(held: &mut Option<Held>, volume: VolumeKey, number: Number) -> Result<bool, DeviceError> {
    if let Some(held) = held.as_ref().filter(|held| held.number() == number) {
        held.compare()?;
        return Ok(true);
    }
    let Some(name) = mark::name_of(number) else { return Ok(false) };
    let Some(found) = Held::open(&name, volume)?.filter(|found| found.number() == number) else { return Ok(false) };
    *held = Some(found);
    Ok(true)
}

/// Is the device there already? Anything else that is mounted there is a failure.
fn already(parent: &Parent, shown: &Shown, writable: Option<Writable>) -> Result<Option<Outcome>, BindError> {
    let Sight::Mounted(there, line, _) = parent.look()? else { return Ok(None) };
    if !is_shown(&line, there.as_fd(), shown) {
        return Err(foreign(parent, line));
    }
    let is_read_only = line.is_read_only();
    match writable {
        Some(wanted) if (wanted == Writable::ReadOnly) != is_read_only => Err(BindError::OtherMode { path: parent.path.clone(), is_read_only }),
        _ => Ok(Some(Outcome::Already)),
    }
}

fn foreign(parent: &Parent, line: Line) -> BindError {
    BindError::Foreign { path: parent.path.clone(), kind: line.kind, major: line.number.major, minor: line.number.minor }
}

fn is_shown(line: &Line, there: BorrowedFd<'_>, shown: &Shown) -> bool {
    let is_whole = shown.kind == TargetKind::File || line.root == "/";
    is_whole && shows(line, there) == Some((shown.kind, shown.number))
}

fn place(to: &Parent, shown: &Shown, from: BorrowedFd<'_>, flags: &MountFlags, writable: Writable) -> Result<Outcome, BindError> {
    let kernel = |deed| {
        let path = to.path.clone();
        move |source| BindError::Kernel { deed, path, source }
    };
    let copy: OwnedFd = sys::clone_mount(from).map_err(kernel("clone the mount for"))?;
    let set = mount_flags(flags, writable);
    if set != 0 {
        // The kernel wants the whole field of access times cleared where one of them is set.
        let clear = if set & libc::MOUNT_ATTR__ATIME != 0 { libc::MOUNT_ATTR__ATIME } else { 0 };
        sys::set_mount_flags(copy.as_fd(), set, clear).map_err(kernel("set the mount flags of"))?;
    }
    let target = target::make(to, shown.kind)?;
    sys::move_mount(copy.as_fd(), target.as_fd()).map_err(kernel("place the mount at"))?;
    match to.find(copy.as_fd())? {
        Placed::Here(line) if is_shown(&line, copy.as_fd(), shown) => Ok(Outcome::Done),
        Placed::Here(_) => Err(BindError::OtherDevice { path: to.path.clone() }),
        // The undo takes ours away again.
        Placed::Upon(line) => Err(foreign(to, line)),
    }
}
