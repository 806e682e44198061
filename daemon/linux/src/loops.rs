//! How a loop device says whose it is: the volume's key as its name, and the key's first 61 bits as a size limit that limits nothing.
//!
//! The name can only be had by an ioctl, which asks the backing file for its attributes and hangs when that hangs. The size limit is
//! in sysfs, which takes no lock that a hung device can hold. So sysfs chooses, and only a device whose number matches is asked.

use crate::mountinfo::is_numbered;
use std::io;
use windlass_plan::ids::VolumeKey;

/// The major number of loop devices.
pub(crate) const MAJOR: u32 = 7;

/// Larger than any file, so that the device is as large as its file.
const BIT: u64 = 1 << 62;

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

/// Is this what a loop device is called?
pub(crate) fn is_name(name: &str) -> bool {
    is_numbered(name, "loop")
}

/// The mark of a loop device by the kernel's name for it. `None`: not bound, or not ours.
pub(crate) fn mark_of(name: &str) -> Option<u64> {
    let limit: u64 = std::fs::read_to_string(format!("/sys/block/{name}/loop/sizelimit")).ok()?.trim().parse().ok()?;
    (limit & BIT != 0 && limit < 2 * BIT).then_some(limit & !BIT)
}

/// Whether the loop device of this number is bound to a file.
pub(crate) fn is_bound(minor: u32) -> bool {
    std::fs::metadata(format!("/sys/dev/block/7:{minor}/loop")).is_ok()
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
        names.extend(name.to_str().filter(|name| is_name(name)).map(str::to_owned));
    }
    names.sort_by_key(|name| (name.len(), name.clone()));
    Ok(names)
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
