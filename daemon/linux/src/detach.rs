//! Unbinds a volume's loop devices and unmaps its images, for certain or not at all: when it returns well, no device shows the volume.

use crate::device::{self, DeviceError};
use crate::holders;
use crate::krbd;
use crate::loops;
use crate::mark;
use crate::mountinfo::{Shown, Table};
use crate::sys;
use crate::words;
use std::io;
use std::time::{Duration, Instant};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::step::Outcome;

/// How long somebody may have the device open for a moment (udev looks at every device that was closed after writing).
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the kernel may take to let go after the last close.
const LETTING_GO: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(10);

/// A device that cannot be unbound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DetachError {
    #[error("cannot read what is mounted")]
    Mounts {
        #[source]
        source: io::Error,
    },
    #[error("/dev/{name} is still mounted at {points}")]
    Mounted { name: String, points: String },
    #[error("/dev/{name} is in use{holders}")]
    InUse { name: String, holders: String },
    #[error("cannot write /dev/{name}'s last data to where it belongs")]
    Flush {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {deed} /dev/{name}")]
    Release {
        deed: &'static str,
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("the kernel has not let go of /dev/{name} yet; ask again")]
    Lingers { name: String },
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<DetachError> for Failure {
    fn from(error: DetachError) -> Self {
        let reason = match error {
            DetachError::Device(error) => return error.into(),
            DetachError::Mounted { .. } | DetachError::InUse { .. } => Reason::InUse,
            DetachError::Lingers { .. } | DetachError::Mounts { .. } | DetachError::Flush { .. } => Reason::Io,
            DetachError::Release { ref source, .. } => words::reason(source),
        };
        words::failure(reason, &error)
    }
}

/// Unbinds or unmaps every device that carries the volume's mark. The lease's own descriptor must be closed by now.
pub(crate) fn detach(volume: VolumeKey) -> Result<Outcome, DetachError> {
    let names = mark::candidates(volume).map_err(|source| DeviceError::Survey(mark::SurveyError { source }))?;
    let mut outcome = Outcome::Already;
    for name in names {
        refuse_mounted(&name)?;
        if let_go(&name, volume)? {
            wait_until_gone(&name, volume)?;
            outcome = Outcome::Done;
        }
    }
    Ok(outcome)
}

fn refuse_mounted(name: &str) -> Result<(), DetachError> {
    let table = Table::read().map_err(|source| DetachError::Mounts { source })?;
    let number = mark::number_of(name);
    let shows_it = |shown: &Shown| match shown {
        Shown::Filesystem(shown) => Some(*shown) == number,
        Shown::Node(node) => node == name,
    };
    let points: Vec<&str> = table.lines().filter(|line| line.shows().as_ref().is_some_and(shows_it)).map(|line| line.point.as_str()).take(8).collect();
    if points.is_empty() { Ok(()) } else { Err(DetachError::Mounted { name: name.to_owned(), points: points.join(", ") }) }
}

/// False: it was not this volume's, or gone already.
fn let_go(name: &str, volume: VolumeKey) -> Result<bool, DetachError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // O_EXCL fails while a file system in any mount namespace, or another exclusive user, has the device.
        match device::open_node(name, false, libc::O_EXCL) {
            Ok(None) => return Ok(false),
            Ok(Some(node)) => {
                let attempt = match krbd::id_of(name) {
                    Some(id) => try_unmap(name, id, node, volume)?,
                    None => try_unbind(name, &node, volume)?,
                };
                match attempt {
                    Attempt::NotOurs => return Ok(false),
                    Attempt::Gone => return Ok(true),
                    Attempt::OthersHaveIt => {}
                }
            }
            Err(DeviceError::Open { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= deadline {
            return Err(DetachError::InUse { name: name.to_owned(), holders: holders::of_device(name) });
        }
        std::thread::sleep(PAUSE);
    }
}

enum Attempt {
    NotOurs,
    Gone,
    OthersHaveIt,
}

/// LOOP_CLR_FD succeeds also while others have the device open: then it only promises to unbind at the last close. Whether it did
/// can be asked through our own descriptor, which keeps a promised device from going; and a promise can be taken back.
fn try_unbind(name: &str, node: &std::fs::File, volume: VolumeKey) -> Result<Attempt, DetachError> {
    let release = |deed| move |source| DetachError::Release { deed, name: name.to_owned(), source };
    let info = match sys::loop_status(node) {
        Ok(info) => info,
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(Attempt::NotOurs),
        Err(source) => return Err(release("ask")(source)),
    };
    if info.file_name != loops::name(volume) {
        return Ok(Attempt::NotOurs);
    }
    node.sync_all().map_err(|source| DetachError::Flush { name: name.to_owned(), source })?;
    match sys::loop_clear(node) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(Attempt::Gone),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(Attempt::OthersHaveIt),
        Err(source) => return Err(release("unbind")(source)),
    }
    match sys::loop_status(node) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(Attempt::Gone),
        Err(source) => Err(release("ask")(source)),
        Ok(mut promised) => {
            promised.flags &= !sys::LO_FLAGS_AUTOCLEAR;
            sys::loop_set_status(node, promised).map_err(release("keep"))?;
            Ok(Attempt::OthersHaveIt)
        }
    }
}

/// The kernel unmaps a device that nobody has open, or refuses; so ours is closed first. Everything was written before, so that unmapping
/// has nothing left to wait for.
fn try_unmap(name: &str, id: u32, node: std::fs::File, volume: VolumeKey) -> Result<Attempt, DetachError> {
    if krbd::mark_of(id) != Some(volume) {
        return Ok(Attempt::NotOurs);
    }
    node.sync_all().map_err(|source| DetachError::Flush { name: name.to_owned(), source })?;
    let sequence = sys::disk_sequence(&node).ok();
    drop(node);
    // Somebody else may have unmapped it while it was closed, and its number may be another volume's by now.
    let is_same = device::open_node(name, false, 0)?.is_some_and(|node| sys::disk_sequence(&node).ok() == sequence) && krbd::mark_of(id) == Some(volume);
    if !is_same {
        return Ok(Attempt::NotOurs);
    }
    match krbd::remove(id) {
        Ok(()) => Ok(Attempt::Gone),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Attempt::Gone),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(Attempt::OthersHaveIt),
        Err(source) => Err(DetachError::Release { deed: "unmap", name: name.to_owned(), source }),
    }
}

/// By now nobody can open the device as this volume's. Its number may show something else a moment later, which is as good.
fn wait_until_gone(name: &str, volume: VolumeKey) -> Result<(), DetachError> {
    let deadline = Instant::now() + LETTING_GO;
    while mark::of_name(name) == Some(volume.short()) {
        if Instant::now() >= deadline {
            return Err(DetachError::Lingers { name: name.to_owned() });
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
