//! Every loop device that shows a file and every mapped image on this node, whoever made it, from sysfs and the table of mounts.
//!
//! Nothing here opens a device, and no file of sysfs is read whose answer waits for one: `size` of an RBD mapping does (it takes the
//! lock under which the kernel reads an image's header from the cluster), the size of its disk does not.

use crate::krbd;
use crate::loops;
use crate::mark::{self, SurveyError};
use crate::mountinfo::{Shown, Table};
use crate::sys::Number;
use crate::words;
use std::fs;
use std::io;
use windlass_plan::failure::{Failure, Reason};

/// A loop device that shows a file, or the device of a mapped image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// The kernel's name for the device.
    pub name: String,
    /// Its mark, of whichever instance: the first 61 bits of a volume's key, `VolumeKey::short`. `None`: it is not a device of Windlass's.
    pub short: Option<u64>,
    /// The cluster's id, of an image.
    pub cluster: Option<String>,
    /// The file below, as the kernel knows it in our mount namespace, with ` (deleted)` at the end where it was; or the image, as
    /// `POOL/IMAGE`, `POOL/NAMESPACE/IMAGE`, and `@SNAPSHOT` behind it where one is mapped.
    pub backing: String,
    /// Bytes.
    pub size: u64,
    /// The device refuses writes.
    pub is_read_only: bool,
    /// Where it, or a partition of it, is mounted in our mount namespace, or its node is shown.
    pub mounted_at: Vec<String>,
    /// The devices that the kernel made of it, by its names for them: dm-0, md1.
    pub below: Vec<String>,
}

/// Looks once. A device that goes meanwhile is left out.
pub fn survey() -> Result<Vec<Surveyed>, Failure> {
    look().map_err(|source| words::failure(Reason::Io, &SurveyError { source }))
}

fn look() -> io::Result<Vec<Surveyed>> {
    let mounts = Table::read()?;
    let mut found = Vec::new();
    for name in loops::all_names()? {
        if let Some(path) = loops::backing_of(&name) {
            let short = loops::mark_of(&name);
            found.extend(surveyed(name, short, None, String::from_utf8_lossy(&path).into_owned(), &mounts));
        }
    }
    for id in krbd::ids()? {
        let short = krbd::try_mark_of(id)?.map(|volume| volume.short());
        if let Some(image) = krbd::spelled(id) {
            found.extend(surveyed(krbd::name_of(id), short, krbd::cluster_of(id), image, &mounts));
        }
    }
    Ok(found)
}

fn surveyed(name: String, short: Option<u64>, cluster: Option<String>, backing: String, mounts: &Table) -> Option<Surveyed> {
    let attribute = |file: &str| fs::read_to_string(format!("/sys/block/{name}/{file}")).ok();
    let sectors: u64 = attribute("size")?.trim().parse().ok()?;
    let numbers = numbers_of(&name);
    let is_of_it = |shown: &Shown| match shown {
        Shown::Filesystem(number) => numbers.contains(number),
        Shown::Node(node) => *node == name,
    };
    let mounted_at = mounts.lines().filter(|line| line.shows().as_ref().is_some_and(is_of_it)).map(|line| line.point.clone()).collect();
    let is_read_only = attribute("ro")?.trim() == "1";
    let below = entries(&format!("/sys/block/{name}/holders"));
    // The kernel counts in sectors of 512 bytes, whatever the device's own are.
    Some(Surveyed { size: sectors * 512, short, cluster, backing, is_read_only, mounted_at, below, name })
}

/// The numbers of the device and its partitions.
fn numbers_of(name: &str) -> Vec<Number> {
    let partitions = entries(&format!("/sys/block/{name}")).into_iter().filter(|entry| entry.starts_with(name));
    let partitions = partitions.filter_map(|partition| mark::number_at(&format!("/sys/block/{name}/{partition}/dev")));
    mark::number_of(name).into_iter().chain(partitions).collect()
}

fn entries(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
