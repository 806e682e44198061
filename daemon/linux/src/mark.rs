//! How a loop device says whose it is: the volume's key as its name, and the key's first 61 bits as a size limit that limits nothing.
//!
//! The name can only be had by an ioctl, which asks the backing file for its attributes and hangs when that hangs. The size limit is
//! in sysfs, which takes no lock that a hung device can hold. So sysfs chooses, and only a device whose number matches is asked.

use crate::mountinfo::is_loop_name;
use crate::words;
use std::io;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;

/// Larger than any file, so that the device is as large as its file.
const BIT: u64 = 1 << 62;

/// A loop device that carries a Windlass mark, of whichever instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedDevice {
    /// The first 61 bits of the volume's key: `VolumeKey::short`.
    pub short: u64,
    /// The kernel's name for the device.
    pub name: String,
    /// The file below, as the kernel knows it in our mount namespace; with ` (deleted)` at the end where it was.
    pub backing: String,
}

/// The size limit that marks a device as `volume`'s.
pub(crate) fn size_limit(volume: VolumeKey) -> u64 {
    BIT | volume.short()
}

/// The name that marks a device as `volume`'s: 57 bytes, and zeros.
pub(crate) fn name(volume: VolumeKey) -> [u8; 64] {
    let mut name = [0; 64];
    for (to, from) in name.iter_mut().zip(format!("windlass:{volume}").bytes()) {
        *to = from;
    }
    name
}

/// The mark of a loop device by the kernel's name for it. `None`: not bound, or not ours.
pub(crate) fn of_name(name: &str) -> Option<u64> {
    of_folder(&format!("/sys/block/{name}"))
}

/// The mark of a loop device by its minor number.
pub(crate) fn of_minor(minor: u32) -> Option<u64> {
    of_folder(&format!("/sys/dev/block/7:{minor}"))
}

fn of_folder(folder: &str) -> Option<u64> {
    let limit: u64 = std::fs::read_to_string(format!("{folder}/loop/sizelimit")).ok()?.trim().parse().ok()?;
    (limit & BIT != 0 && limit < 2 * BIT).then_some(limit & !BIT)
}

/// Whether the loop device of this number is bound to a file.
pub(crate) fn is_bound(minor: u32) -> bool {
    std::fs::metadata(format!("/sys/dev/block/7:{minor}/loop")).is_ok()
}

/// The kernel's name for the loop device of this minor number.
pub(crate) fn name_of(minor: u32) -> Option<String> {
    let link = std::fs::read_link(format!("/sys/dev/block/7:{minor}")).ok()?;
    link.file_name().and_then(|name| name.to_str()).filter(|name| is_loop_name(name)).map(str::to_owned)
}

/// The minor number of the loop device called so.
pub(crate) fn minor_of(name: &str) -> Option<u32> {
    let number = std::fs::read_to_string(format!("/sys/block/{name}/dev")).ok()?;
    number.trim().strip_prefix("7:")?.parse().ok()
}

/// The path of the file below a bound loop device.
pub(crate) fn backing_of(name: &str) -> Option<Vec<u8>> {
    let mut path = std::fs::read(format!("/sys/block/{name}/loop/backing_file")).ok()?;
    path.pop_if(|last| *last == b'\n');
    Some(path)
}

/// The names of all loop devices, bound or not, in the order of their numbers.
pub(crate) fn all_names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        names.extend(name.to_str().filter(|name| is_loop_name(name)).map(str::to_owned));
    }
    names.sort_by_key(|name| (name.len(), name.clone()));
    Ok(names)
}

/// The names of the devices whose size limit is `volume`'s: nearly certainly its own; the name on the device decides.
pub(crate) fn candidates(volume: VolumeKey) -> io::Result<Vec<String>> {
    Ok(all_names()?.into_iter().filter(|name| of_name(name) == Some(volume.short())).collect())
}

/// Every loop device that carries a mark, from sysfs alone: never waits for a hung device.
pub fn survey() -> Result<Vec<MarkedDevice>, Failure> {
    let names = all_names().map_err(|source| words::failure(Reason::Io, &SurveyError { source }))?;
    let marked = |name: String| {
        let short = of_name(&name)?;
        let backing = String::from_utf8_lossy(&backing_of(&name)?).into_owned();
        Some(MarkedDevice { short, name, backing })
    };
    Ok(names.into_iter().filter_map(marked).collect())
}

/// sysfs cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list block devices in /sys/block")]
pub(crate) struct SurveyError {
    #[source]
    pub(crate) source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_limits_nothing_and_fits_the_fields() {
        let key = VolumeKey::parse(&"f".repeat(48)).unwrap();
        assert!(size_limit(key) > 1 << 61 && size_limit(key) <= i64::MAX as u64);
        assert_eq!(&name(key)[..57], format!("windlass:{key}").as_bytes());
        assert_eq!(&name(key)[57..], [0; 7]);
    }
}
