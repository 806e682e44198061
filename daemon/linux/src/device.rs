//! A volume's device, held open: as long as the descriptor lives, the kernel gives the device's name to nobody else.

use crate::krbd;
use crate::loops;
use crate::mark;
use crate::sys::{self, LoopInfo, Number};
use crate::words;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::step::{Backing, BackingFile, Device};

/// A device that carries the volume's mark.
#[derive(Debug)]
pub(crate) struct Held {
    /// Opened for reading only: a writer's descriptor would keep kernels that protect mounted devices from mounting.
    pub(crate) node: File,
    pub(crate) device: Device,
    /// The file below a loop device, where the lease opened it.
    pub(crate) file: Option<File>,
    /// Attached by this lease: nobody can have written to it yet.
    pub(crate) is_fresh: bool,
    /// Its first bytes as the probe read them, for the check that follows: across a network a read costs as much as the rest of the check.
    pub(crate) head: Option<Vec<u8>>,
}

/// A device that cannot be opened, or is not what it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("cannot open /dev/{name}; the daemon needs the host's /dev")]
    Open {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("/dev/{name} is not the node of the device {name}; the daemon needs the host's /dev, and sees another")]
    NotTheNode { name: String },
    #[error("cannot ask {name} for its {what}")]
    Ask {
        name: String,
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{name} is another disk than it was: its sequence number, or what it shows, changed")]
    Changed { name: String },
    #[error("the volume has no device here; it has to be attached first")]
    None,
    #[error("the volume has {count} devices here: {names}; unstage it to clear them away")]
    Several { count: usize, names: String },
    #[error(transparent)]
    Survey(#[from] mark::SurveyError),
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let reason = match &error {
            DeviceError::Open { source, .. } | DeviceError::Ask { source, .. } => words::reason(source),
            DeviceError::NotTheNode { .. } | DeviceError::Changed { .. } => Reason::IdentityChanged,
            DeviceError::None => Reason::NotStaged,
            DeviceError::Several { .. } => Reason::LeftBehind,
            DeviceError::Survey(_) => Reason::Io,
        };
        words::failure(reason, &error)
    }
}

/// Opens the node of a device; `None` where there is no such device any more. Proves that it is the node of that device.
pub(crate) fn open_node(name: &str, is_writing: bool, flags: i32) -> Result<Option<File>, DeviceError> {
    let opened = std::fs::OpenOptions::new().read(true).write(is_writing).custom_flags(flags | libc::O_NOFOLLOW).open(format!("/dev/{name}"));
    let node = match opened {
        Ok(node) => node,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound && mark::number_of(name).is_none() => return Ok(None),
        Err(source) => return Err(DeviceError::Open { name: name.to_owned(), source }),
    };
    let seen = sys::stat(node.as_fd()).map_err(|source| DeviceError::Ask { name: name.to_owned(), what: "number", source })?;
    let is_node = seen.is(libc::S_IFBLK) && Some(seen.is_device) == mark::number_of(name);
    if is_node { Ok(Some(node)) } else { Err(DeviceError::NotTheNode { name: name.to_owned() }) }
}

impl Held {
    /// Opens the device called so if it carries the whole of the volume's mark. To be asked only of one whose mark in sysfs matches.
    pub(crate) fn open(name: &str, volume: VolumeKey) -> Result<Option<Held>, DeviceError> {
        let Some(node) = open_node(name, false, 0)? else { return Ok(None) };
        match krbd::id_of(name) {
            Some(id) => Held::open_image(name, id, node, volume),
            None => Held::open_loop(name, node, volume),
        }
    }

    /// The device stays mapped as long as the node is open, so what sysfs says of its number now is about this one.
    fn open_image(name: &str, id: u32, node: File, volume: VolumeKey) -> Result<Option<Held>, DeviceError> {
        if krbd::mark_of(id) != Some(volume) {
            return Ok(None);
        }
        let image = krbd::identity_of(id).map_err(|source| DeviceError::Ask { name: name.to_owned(), what: "image", source })?;
        let device = describe(name, &node, Backing::Image(image))?;
        Ok(Some(Held { node, device, file: None, is_fresh: false, head: None }))
    }

    fn open_loop(name: &str, node: File, volume: VolumeKey) -> Result<Option<Held>, DeviceError> {
        let info = match sys::loop_status(&node) {
            Ok(info) => info,
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
            Err(source) => return Err(DeviceError::Ask { name: name.to_owned(), what: "state", source }),
        };
        if info.file_name != loops::name(volume) || info.size_limit != loops::size_limit(volume) {
            return Ok(None);
        }
        let info = stay_bound(&node, info).map_err(|source| DeviceError::Ask { name: name.to_owned(), what: "state", source })?;
        let mut backing = BackingFile { device: number_of(info.device), inode: info.inode, born_ns: 0 };
        backing.born_ns = birth_of(name, &backing);
        let device = describe(name, &node, Backing::File(backing))?;
        Ok(Some(Held { node, device, file: None, is_fresh: false, head: None }))
    }

    /// All devices that carry the volume's mark.
    pub(crate) fn all(volume: VolumeKey) -> Result<Vec<Held>, DeviceError> {
        let names = mark::candidates(volume).map_err(|source| mark::SurveyError { source })?;
        names.iter().filter_map(|name| Held::open(name, volume).transpose()).collect()
    }

    /// The device of this name, if it carries the volume's mark.
    pub(crate) fn marked(name: &str, volume: VolumeKey) -> Result<Option<Held>, DeviceError> {
        let is_candidate = mark::of_name(name) == Some(volume.short());
        if is_candidate { Held::open(name, volume) } else { Ok(None) }
    }

    /// The one device that carries the volume's mark.
    pub(crate) fn only(volume: VolumeKey) -> Result<Held, DeviceError> {
        let mut all = Held::all(volume)?;
        match (all.pop(), all.len()) {
            (None, _) => Err(DeviceError::None),
            (Some(held), 0) => Ok(held),
            (Some(last), others) => {
                let names: Vec<&str> = all.iter().chain([&last]).map(|held| held.device.name.as_str()).collect();
                Err(DeviceError::Several { count: others + 1, names: names.join(", ") })
            }
        }
    }

    /// Before a program writes to the device: what was read of it counts no more.
    pub(crate) fn will_change(&mut self) {
        (self.is_fresh, self.head) = (false, None);
    }

    /// Compares the device with what it was when it was opened (law 6).
    pub(crate) fn compare(&self) -> Result<(), DeviceError> {
        let name = || self.device.name.clone();
        let seen = sys::stat(self.node.as_fd()).map_err(|source| DeviceError::Ask { name: name(), what: "number", source })?;
        if seen.is_device == self.number() && sequence(&self.node) == self.device.diskseq { Ok(()) } else { Err(DeviceError::Changed { name: name() }) }
    }

    /// Reads the device's size anew.
    pub(crate) fn measure(&mut self) -> Result<u64, DeviceError> {
        let ask = |source| DeviceError::Ask { name: self.device.name.clone(), what: "size", source };
        self.device.size = sys::device_size(&self.node).map_err(ask)?;
        Ok(self.device.size)
    }

    pub(crate) fn number(&self) -> Number {
        Number { major: self.device.major, minor: self.device.minor }
    }

    pub(crate) fn path(&self) -> String {
        format!("/dev/{}", self.device.name)
    }
}

/// A detach that was cut short may have told the kernel to unbind the device at its last close: a volume that is in use must not
/// vanish so.
fn stay_bound(node: &File, mut info: LoopInfo) -> io::Result<LoopInfo> {
    if info.flags & sys::LO_FLAGS_AUTOCLEAR != 0 {
        info.flags &= !sys::LO_FLAGS_AUTOCLEAR;
        sys::loop_set_status(node, info)?;
    }
    Ok(info)
}

/// The device as the kernel shows it now.
fn describe(name: &str, node: &File, backing: Backing) -> Result<Device, DeviceError> {
    let ask = |what| move |source| DeviceError::Ask { name: name.to_owned(), what, source };
    let seen = sys::stat(node.as_fd()).map_err(ask("number"))?;
    Ok(Device {
        name: name.to_owned(),
        major: seen.is_device.major,
        minor: seen.is_device.minor,
        diskseq: sequence(node),
        size: sys::device_size(node).map_err(ask("size"))?,
        is_read_only: sys::is_device_read_only(node).map_err(ask("read-only flag"))?,
        backing,
    })
}

/// When the file below was made. The device itself does not say; the path that sysfs shows does, if it still leads to that file.
fn birth_of(name: &str, backing: &BackingFile) -> u64 {
    let seen = loops::backing_of(name).and_then(|path| {
        let path = String::from_utf8(path).ok()?;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path).ok()?;
        sys::stat(file.as_fd()).ok()
    });
    match seen.as_ref().map(|seen| (backing_of(seen), seen.born_ns)) {
        Some((seen, born_ns)) if (seen.device, seen.inode) == (backing.device, backing.inode) => born_ns,
        _ => 0,
    }
}

/// The identity of a file that backs a device.
pub(crate) fn backing_of(seen: &sys::Stat) -> BackingFile {
    BackingFile { device: libc::makedev(seen.device.major, seen.device.minor), inode: seen.inode, born_ns: seen.born_ns }
}

/// The kernel's way to pack a device number, as the loop driver reports it, into the C library's.
fn number_of(packed: u64) -> u64 {
    let packed = packed as u32;
    libc::makedev((packed & 0xfff00) >> 8, (packed & 0xff) | ((packed >> 12) & 0xfff00))
}

/// The sequence number, where the kernel has such a thing.
fn sequence(node: &File) -> Option<u64> {
    sys::disk_sequence(node).ok()
}

/// Opens the content of a file that was found with O_PATH: the very same file.
pub(crate) fn reopen(found: BorrowedFd<'_>, is_writing: bool) -> io::Result<File> {
    std::fs::OpenOptions::new().read(true).write(is_writing).open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_unpacked() {
        for (major, minor) in [(254u32, 0u32), (8, 17), (259, 300), (0, 4095)] {
            let packed = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
            assert_eq!(number_of(packed.into()), libc::makedev(major, minor), "{major}:{minor}");
        }
    }
}
