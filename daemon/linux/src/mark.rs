//! Whose a device is: the mark that a loop device or an RBD image's device carries, read from sysfs, which asks no device anything.

use crate::krbd;
use crate::loops;
use crate::sys::Number;
use crate::words;
use std::io;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;

/// A device that carries a Windlass mark, of whichever instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedDevice {
    /// The first 61 bits of the volume's key: `VolumeKey::short`.
    pub short: u64,
    /// The kernel's name for the device.
    pub name: String,
    /// The file below, as the kernel knows it in our mount namespace, with ` (deleted)` at the end where it was; or the image.
    pub backing: String,
}

/// The mark of a device by the kernel's name for it. `None`: it shows nothing, or is not ours.
pub(crate) fn of_name(name: &str) -> Option<u64> {
    match krbd::id_of(name) {
        Some(id) => krbd::mark_of(id).map(|volume| volume.short()),
        None if loops::is_name(name) => loops::mark_of(name),
        None => None,
    }
}

/// The mark of a device by its number.
pub(crate) fn of_number(number: Number) -> Option<u64> {
    of_name(&name_of(number)?)
}

/// The kernel's name for the device of this number, if it is of a kind that we attach.
pub(crate) fn name_of(number: Number) -> Option<String> {
    let link = std::fs::read_link(format!("/sys/dev/block/{}:{}", number.major, number.minor)).ok()?;
    link.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name)).map(str::to_owned)
}

/// The number of the device called so.
pub(crate) fn number_of(name: &str) -> Option<Number> {
    let text = std::fs::read_to_string(format!("/sys/block/{name}/dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(Number { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// Does the device of this number show nothing any more? Its node may still be there, and come to mean another.
pub(crate) fn is_dead(number: Number) -> bool {
    match number.major {
        loops::MAJOR => !loops::is_bound(number.minor),
        _ => std::fs::metadata(format!("/sys/dev/block/{}:{}", number.major, number.minor)).is_err(),
    }
}

/// Is this what a device of a kind that we attach is called? A partition of one is not.
pub(crate) fn is_name(name: &str) -> bool {
    loops::is_name(name) || krbd::id_of(name).is_some()
}

/// The names of the devices that seem to be `volume`'s: what is on the device decides.
pub(crate) fn candidates(volume: VolumeKey) -> io::Result<Vec<String>> {
    let is_loop = |name: &String| loops::mark_of(name) == Some(volume.short());
    let mut names: Vec<String> = loops::all_names()?.into_iter().filter(is_loop).collect();
    for id in krbd::ids()? {
        if krbd::try_mark_of(id)? == Some(volume) {
            names.push(krbd::name_of(id));
        }
    }
    Ok(names)
}

/// Every device that carries a mark, from sysfs alone: never waits for a hung device.
pub fn survey() -> Result<Vec<MarkedDevice>, Failure> {
    let failed = |source| words::failure(Reason::Io, &SurveyError { source });
    let file = |name: String| {
        let short = loops::mark_of(&name)?;
        let backing = String::from_utf8_lossy(&loops::backing_of(&name)?).into_owned();
        Some(MarkedDevice { short, name, backing })
    };
    let image = |id| Some(MarkedDevice { short: krbd::mark_of(id)?.short(), name: krbd::name_of(id), backing: krbd::spelled(id)? });
    let images = krbd::ids().map_err(failed)?.into_iter().filter_map(image);
    Ok(loops::all_names().map_err(failed)?.into_iter().filter_map(file).chain(images).collect())
}

/// sysfs cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list block devices in /sys")]
pub(crate) struct SurveyError {
    #[source]
    pub(crate) source: io::Error,
}
