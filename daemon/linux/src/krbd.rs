//! The kernel's RBD client as sysfs shows it: what is mapped, mapping and unmapping, without the `rbd` program and without udev.
//!
//! `Documentation/ABI/testing/sysfs-bus-rbd` of Linux has the files. A device says whose it is by the description of the key that it
//! was mapped with, which the kernel keeps as part of what was written to map it, and shows to root alone.

use std::fs;
use std::io;
use windlass_plan::ids::VolumeKey;
use windlass_plan::rbd::ImageIdentity;

const BUS: &str = "/sys/bus/rbd";

/// How the description of a volume's key begins; the volume's own key follows.
const DESCRIPTION: &str = "windlass:";

/// The kernel's word for an image that is mapped itself, and not a snapshot of it.
const NO_SNAPSHOT: &str = "-";

/// The kernel has the client.
pub(crate) fn is_there() -> bool {
    fs::metadata(BUS).is_ok()
}

/// The number of a mapping by the name of its device; partitions have no such name.
pub(crate) fn id_of(name: &str) -> Option<u32> {
    crate::mountinfo::is_numbered(name, "rbd").then(|| name[3..].parse().ok()).flatten()
}

/// The kernel's name for the device of a mapping.
pub(crate) fn name_of(id: u32) -> String {
    format!("rbd{id}")
}

/// All mappings of this kernel, whoever made them.
pub(crate) fn ids() -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(format!("{BUS}/devices")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut ids = Vec::new();
    for entry in entries {
        ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

fn attribute(id: u32, name: &str) -> io::Result<String> {
    fs::read_to_string(format!("{BUS}/devices/{id}/{name}")).map(|text| text.trim_end_matches('\n').to_owned())
}

/// The description under which the key of a volume's mapping is given to the kernel: its mark.
pub(crate) fn description(volume: VolumeKey) -> String {
    format!("{DESCRIPTION}{volume}")
}

/// The volume that a mapping was made for. `None`: not by us, or gone.
pub(crate) fn mark_of(id: u32) -> Option<VolumeKey> {
    try_mark_of(id).ok().flatten()
}

/// The same, where a mark that cannot be read must not count as none: without CAP_SYS_ADMIN the kernel does not show it.
pub(crate) fn try_mark_of(id: u32) -> io::Result<Option<VolumeKey>> {
    match attribute(id, "config_info") {
        Ok(config) => Ok(marked(&config)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The mark in the text that a mapping was made by: `MONITORS OPTIONS POOL IMAGE SNAPSHOT`.
fn marked(config: &str) -> Option<VolumeKey> {
    let options = config.split(' ').nth(1)?;
    let description = options.split(',').find_map(|option| option.strip_prefix("key="))?;
    VolumeKey::parse(description.strip_prefix(DESCRIPTION)?)
}

/// Which image a mapping shows. The error: it is gone, or was mapped by a kernel that does not say.
pub(crate) fn identity_of(id: u32) -> io::Result<ImageIdentity> {
    let text = format!("{}/{}/{}", attribute(id, "cluster_fsid")?, attribute(id, "pool_id")?, attribute(id, "image_id")?);
    ImageIdentity::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is not the identity of an image")))
}

/// The image as people call it: `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`, and `@SNAPSHOT` behind it where one is mapped.
pub(crate) fn spelled(id: u32) -> Option<String> {
    let (pool, mut image) = (attribute(id, "pool").ok()?, attribute(id, "name").ok()?);
    match attribute(id, "current_snap") {
        Ok(snapshot) if snapshot != NO_SNAPSHOT => image = format!("{image}@{snapshot}"),
        _ => {}
    }
    let namespace = attribute(id, "pool_ns").unwrap_or_default();
    Some(if namespace.is_empty() { format!("{pool}/{image}") } else { format!("{pool}/{namespace}/{image}") })
}

/// The id of the cluster that a mapping's image is in. `None`: gone, or a kernel that does not say.
pub(crate) fn cluster_of(id: u32) -> Option<String> {
    attribute(id, "cluster_fsid").ok()
}

/// Maps: returns when the cluster has answered, and the device is there. Holds as long as the cluster takes.
pub(crate) fn add(line: &str) -> io::Result<()> {
    write("add", line)
}

/// Unmaps. EBUSY: somebody has the device open.
pub(crate) fn remove(id: u32) -> io::Result<()> {
    write("remove", &id.to_string())
}

/// Reads the image's header anew, its size among it.
pub(crate) fn refresh(id: u32) -> io::Result<()> {
    fs::write(format!("{BUS}/devices/{id}/refresh"), "1")
}

/// The variant for a module with one major number for all devices, which newer kernels have from the beginning; the other refuses
/// there.
fn write(verb: &str, text: &str) -> io::Result<()> {
    let single = format!("{BUS}/{verb}_single_major");
    // In one write: the kernel takes each as a whole order.
    let open = |path: &str| fs::OpenOptions::new().write(true).open(path);
    let mut file = match open(&single) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => open(&format!("{BUS}/{verb}"))?,
        opened => opened?,
    };
    let written = io::Write::write(&mut file, text.as_bytes())?;
    if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_in_what_a_mapping_was_made_by() {
        let key = VolumeKey::parse(&"ab".repeat(24)).unwrap();
        let line = |options: &str| format!("10.0.0.1:6789,10.0.0.2:6789 {options} rbd csi-vol-1 -");
        assert_eq!(marked(&line(&format!("name=admin,key={},ro", description(key)))), Some(key));
        for other in ["name=admin,secret=AQ==", "name=admin,key=admin", "name=admin,key=windlass:ab", &format!("name=a,mykey={}", description(key))] {
            assert_eq!(marked(&line(other)), None, "{other}");
        }
        assert_eq!(marked(""), None);
    }

    #[test]
    fn a_partition_is_not_a_device_of_ours() {
        assert_eq!((id_of("rbd12"), id_of("rbd12p1"), id_of("rbd"), id_of("rbd-x"), id_of("loop1")), (Some(12), None, None, None, None));
    }
}
