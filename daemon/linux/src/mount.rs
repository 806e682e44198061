//! Mounts the attached device: made by `fsopen`, compared before anybody can see it, and only then placed by descriptor.

use crate::device::{DeviceError, Held};
use crate::roots::{OpenRoots, PlaceError, Placed, Sight};
use crate::sys;
use crate::target;
use crate::words;
use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use windlass_plan::capability::{FilesystemKind, MountFlag, MountFlags};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::step::{Mount, Outcome, Writable};

/// A device that cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("{path} does not exist; it is the caller's to make")]
    NoTarget { path: String },
    #[error("{path} is not a folder")]
    NotFolder { path: String },
    #[error("{path} is not empty; what is in it would be hidden, so nothing is mounted over it: empty it, or name another path")]
    Full { path: String },
    #[error("something else is mounted at {path} ({kind}, {major}:{minor}); it is left alone")]
    Foreign { path: String, kind: String, major: u32, minor: u32 },
    #[error("/dev/{device} is mounted at {path} already, {}; unstage it first", word(*is_read_only))]
    OtherMode { device: String, path: String, is_read_only: bool },
    #[error("the file system mounted at {path} stopped writing after an error; unstage the volume and stage it again")]
    StoppedWriting { path: String },
    #[error("/dev/{device} is read-only, so it cannot be mounted writable")]
    ReadOnlyDevice { device: String },
    #[error("/dev/{device} is writable, so a read-only mount of it could still be written around; attach it read-only")]
    WritableDevice { device: String },
    #[error("the kernel does not know the file system {kind}")]
    UnknownKind {
        kind: FilesystemKind,
        #[source]
        source: io::Error,
    },
    #[error("the kernel refuses the mount option {option}{log}")]
    Option {
        option: String,
        log: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount the {kind} file system of /dev/{device}{log}")]
    Create {
        kind: FilesystemKind,
        device: String,
        log: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot place the mount at {path}")]
    Attach {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the mount shows another device than /dev/{device}")]
    OtherDevice { device: String },
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

fn word(is_read_only: bool) -> &'static str {
    if is_read_only { "read-only" } else { "writable" }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        let reason = match error {
            MountError::Place(error) => return error.into(),
            MountError::Device(error) => return error.into(),
            MountError::NoTarget { .. } | MountError::NotFolder { .. } | MountError::Full { .. } => Reason::BadPath,
            MountError::Foreign { .. } => Reason::ForeignMount,
            MountError::OtherMode { .. } | MountError::ReadOnlyDevice { .. } | MountError::WritableDevice { .. } => Reason::Incompatible,
            MountError::StoppedWriting { .. } => Reason::NeedsRepair,
            MountError::UnknownKind { ref source, .. } if source.raw_os_error() == Some(libc::ENODEV) => Reason::MissingPrivilege,
            MountError::Option { ref source, .. } if source.raw_os_error() == Some(libc::EINVAL) => Reason::MissingPrivilege,
            MountError::Create { ref source, .. } => match source.raw_os_error() {
                Some(libc::EBUSY) => Reason::InUse,
                // What the superblock promised is not there: EUCLEAN and EBADMSG are the kernel's words for a structure that is broken.
                Some(libc::EUCLEAN | libc::EBADMSG) => Reason::NeedsRepair,
                _ => words::reason(source),
            },
            MountError::UnknownKind { ref source, .. } | MountError::Option { ref source, .. } | MountError::Attach { ref source, .. } => words::reason(source),
            MountError::OtherDevice { .. } => Reason::IdentityChanged,
        };
        words::failure(reason, &error)
    }
}

/// Mounts the device at a folder that exists. Never on top of another mount.
pub(crate) fn mount(roots: &OpenRoots, held: &Held, wish: &Mount) -> Result<Outcome, MountError> {
    let parent = roots.parent(&wish.place)?;
    let path = || parent.path.clone();
    let device = || held.device.name.clone();
    let is_read_only = wish.writable == Writable::ReadOnly;
    let target = match parent.look()? {
        Sight::Nothing => return Err(MountError::NoTarget { path: path() }),
        Sight::Plain(target) => target,
        Sight::Mounted(_, line, _) => {
            let is_ours = line.number == held.number() && line.root == "/";
            if !is_ours {
                return Err(MountError::Foreign { path: path(), kind: line.kind, major: line.number.major, minor: line.number.minor });
            }
            if line.is_read_only() != is_read_only {
                return Err(MountError::OtherMode { device: device(), path: path(), is_read_only: !is_read_only });
            }
            if !is_read_only && line.is_superblock_read_only() {
                return Err(MountError::StoppedWriting { path: path() });
            }
            return Ok(Outcome::Already);
        }
    };
    let seen = sys::stat(target.as_fd()).map_err(|source| MountError::Attach { path: path(), source })?;
    if !seen.is(libc::S_IFDIR) {
        return Err(MountError::NotFolder { path: path() });
    }
    if !target::is_empty(&target).map_err(|source| MountError::Attach { path: path(), source })? {
        return Err(MountError::Full { path: path() });
    }
    match (is_read_only, held.device.is_read_only) {
        (false, true) => return Err(MountError::ReadOnlyDevice { device: device() }),
        (true, false) => return Err(MountError::WritableDevice { device: device() }),
        _ => {}
    }
    let made = create(held, wish)?;
    // Before anybody can see it: is it the device that we hold?
    let shown = sys::stat(made.as_fd()).map_err(|source| MountError::Attach { path: path(), source })?.device;
    if shown != held.number() {
        return Err(MountError::OtherDevice { device: device() });
    }
    held.compare()?;
    sys::move_mount(made.as_fd(), target.as_fd()).map_err(|source| MountError::Attach { path: path(), source })?;
    match parent.find(made.as_fd())? {
        Placed::Here(_) => Ok(Outcome::Done),
        // The undo takes ours away again.
        Placed::Upon(line) => Err(MountError::Foreign { path: path(), kind: line.kind, major: line.number.major, minor: line.number.minor }),
    }
}

/// A mount of the device that is attached nowhere yet.
fn create(held: &Held, wish: &Mount) -> Result<OwnedFd, MountError> {
    let kind = wish.kind;
    let name = CString::new(kind.name()).unwrap_or_default();
    let context = sys::fs_open(&name).map_err(|source| MountError::UnknownKind { kind, source })?;
    let set = |key: &CStr, value: Option<&CStr>| {
        sys::fs_set(context.as_fd(), key, value).map_err(|source| MountError::Option {
            option: key.to_string_lossy().into_owned(),
            log: messages(&context),
            source,
        })
    };
    let source = CString::new(held.path()).unwrap_or_default();
    set(c"source", Some(&source))?;
    for flag in superblock_flags(wish) {
        set(flag, None)?;
    }
    if kind == FilesystemKind::Ext4 {
        // Whatever its superblock says: to go on writing, or to halt the machine.
        set(c"errors", Some(c"remount-ro"))?;
    }
    if let Some(label) = &wish.flags.context {
        set(c"context", Some(&CString::new(label.as_str()).unwrap_or_default()))?;
    }
    let failed = |source| MountError::Create { kind, device: held.device.name.clone(), log: messages(&context), source };
    sys::fs_create(context.as_fd()).map_err(failed)?;
    sys::fs_mount(context.as_fd(), mount_flags(&wish.flags, wish.writable)).map_err(failed)
}

/// Options of the file system, each a flag without a value.
fn superblock_flags(wish: &Mount) -> Vec<&'static CStr> {
    let mut options = Vec::new();
    if wish.kind == FilesystemKind::Xfs {
        // A clone has its origin's UUID, and both may be mounted here.
        options.push(c"nouuid");
    }
    if wish.writable == Writable::ReadOnly {
        options.push(c"ro");
        options.push(match wish.kind {
            FilesystemKind::Ext4 => c"noload",
            FilesystemKind::Xfs => c"norecovery",
        });
    }
    let wished = [(MountFlag::Sync, c"sync"), (MountFlag::DirSync, c"dirsync"), (MountFlag::LazyTime, c"lazytime"), (MountFlag::Discard, c"discard")];
    options.extend(wished.into_iter().filter(|(flag, _)| wish.flags.has(*flag)).map(|(_, option)| option));
    options
}

/// Flags of one mount. The three ways to keep access times exclude each other: the one that writes least wins.
pub(crate) fn mount_flags(flags: &MountFlags, writable: Writable) -> u64 {
    let plain = [
        (MountFlag::NoSuid, libc::MOUNT_ATTR_NOSUID),
        (MountFlag::NoDev, libc::MOUNT_ATTR_NODEV),
        (MountFlag::NoExec, libc::MOUNT_ATTR_NOEXEC),
        (MountFlag::NoDirAtime, libc::MOUNT_ATTR_NODIRATIME),
    ];
    let mut bits = plain.into_iter().filter(|(flag, _)| flags.has(*flag)).fold(0, |bits, (_, bit)| bits | bit);
    if flags.has(MountFlag::NoAtime) {
        bits |= libc::MOUNT_ATTR_NOATIME;
    } else if flags.has(MountFlag::StrictAtime) && !flags.has(MountFlag::RelAtime) {
        bits |= libc::MOUNT_ATTR_STRICTATIME;
    }
    if writable == Writable::ReadOnly || flags.has(MountFlag::ReadOnly) {
        bits |= libc::MOUNT_ATTR_RDONLY;
    }
    bits
}

/// What the kernel had to say about the mount, if anything.
fn messages(context: &OwnedFd) -> String {
    let Ok(context) = context.try_clone() else { return String::new() };
    let mut file = std::fs::File::from(context);
    let mut said = Vec::new();
    let mut line = [0; 512];
    while let Ok(length) = file.read(&mut line) {
        let text = String::from_utf8_lossy(&line[..length]);
        said.push(text.trim().trim_start_matches(['e', 'w', 'i']).trim().to_owned());
        if length == 0 || said.len() == 8 {
            break;
        }
    }
    said.retain(|text| !text.is_empty());
    if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_times_are_kept_in_one_way() {
        let bits = |given: &str| mount_flags(&MountFlags::parse([given]).unwrap(), Writable::ReadWrite);
        assert_eq!(bits("noatime,strictatime"), libc::MOUNT_ATTR_NOATIME);
        assert_eq!(bits("relatime,strictatime"), 0);
        assert_eq!(bits("strictatime,nodiratime"), libc::MOUNT_ATTR_STRICTATIME | libc::MOUNT_ATTR_NODIRATIME);
        assert_eq!(bits("ro,nosuid,nodev,noexec"), 0b1111);
        assert_eq!(mount_flags(&MountFlags::default(), Writable::ReadOnly), libc::MOUNT_ATTR_RDONLY);
    }
}
