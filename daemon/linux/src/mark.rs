//! Whose a device is: the mark that a loop device or an RBD image's device carries, read from sysfs, which asks no device anything.

use crate::krbd;
use crate::loops;
use crate::sys::Number;
use std::io;
use windlass_plan::ids::VolumeKey;

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
    number_at(&format!("/sys/block/{name}/dev"))
}

/// The number that a file of sysfs holds.
pub(crate) fn number_at(file: &str) -> Option<Number> {
    let text = std::fs::read_to_string(file).ok()?;
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

/// sysfs, or the table of mounts, cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot list block devices in /sys")]
pub(crate) struct SurveyError {
    #[source]
    pub(crate) source: io::Error,
}
