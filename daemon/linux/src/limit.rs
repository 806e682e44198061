//! Limits what the pods may read from a device and write to it a second: `io.max` of the groups that they are in.
//!
//! A limit belongs to a device. With the device of an image it goes when that is unmapped; a loop device stays, and has none. It is lifted before the volume
//! is taken down, so that what is still to be written holds nobody up.
//! A group above the pods' holds for all of them together, and a volume's device is used by nobody else.
//!
//! Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (`io.max`).

use crate::words;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::rbd::IoLimits;
use windlass_plan::step::{Backing, Device};

/// Where kubelet has its pods, by the two ways of naming groups.
const OF_KUBERNETES: [&str; 2] = ["/sys/fs/cgroup/kubepods.slice", "/sys/fs/cgroup/kubepods"];

/// I/O that cannot be limited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    #[error(
        "the volume has limits of I/O, and this node has no control group for them: name those of the workloads in `node.limited_groups` of the daemon's \
         configuration, or take the limits off the volume"
    )]
    NoGroup,
    #[error(
        "the volume has limits of I/O, and {group} has no `io.max`: the controller `io` of cgroups version 2 is not enabled for it (`cgroup.subtree_control` \
         of the group above), or `node.limited_groups` names what is no group"
    )]
    NoController { group: String },
    #[error("the limits of I/O cannot be set in {group}")]
    Kernel {
        group: String,
        #[source]
        source: io::Error,
    },
}

impl From<LimitError> for Failure {
    fn from(error: LimitError) -> Self {
        let reason = match &error {
            LimitError::NoGroup | LimitError::NoController { .. } => Reason::MissingPrivilege,
            LimitError::Kernel { source, .. } => words::reason(source),
        };
        words::failure(reason, &error)
    }
}

/// The groups of Kubernetes that there are.
pub(crate) fn groups_of_kubernetes() -> Vec<PathBuf> {
    OF_KUBERNETES.iter().map(PathBuf::from).filter(|group| group.is_dir()).collect()
}

/// Sets the limits of the device in each of the groups. Without limits nothing is looked at.
pub(crate) fn limit(device: &Device, limits: &IoLimits, groups: &[PathBuf]) -> Result<(), LimitError> {
    if limits.is_none() {
        return Ok(());
    }
    if groups.is_empty() {
        return Err(LimitError::NoGroup);
    }
    let line = line(device, limits);
    groups.iter().try_for_each(|group| set(group, &line))
}

/// Takes limits of an image's device off, where it has any. Where that fails the volume is taken down all the same, as fast as its limits allow.
pub(crate) fn lift(device: &Device, groups: &[PathBuf]) {
    if !matches!(device.backing, Backing::Image(_)) {
        return;
    }
    let number = format!("{}:{} ", device.major, device.minor);
    let has_limits = |group: &&PathBuf| fs::read_to_string(group.join("io.max")).is_ok_and(|text| text.lines().any(|line| line.starts_with(&number)));
    let line = line(device, &IoLimits::default());
    for group in groups.iter().filter(has_limits) {
        if let Err(error) = set(group, &line) {
            tracing::warn!(device = device.name, %error, "its limits stay until it is gone");
        }
    }
}

fn set(group: &Path, line: &str) -> Result<(), LimitError> {
    let shown = || group.display().to_string();
    match fs::OpenOptions::new().write(true).open(group.join("io.max")).and_then(|mut file| io::Write::write_all(&mut file, line.as_bytes())) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LimitError::NoController { group: shown() }),
        Err(source) => Err(LimitError::Kernel { group: shown(), source }),
    }
}

fn line(device: &Device, limits: &IoLimits) -> String {
    let value = |limit: u64| if limit == 0 { "max".to_owned() } else { limit.to_string() };
    let IoLimits { read_iops, write_iops, read_rate, write_rate } = *limits;
    let [riops, wiops, rbps, wbps] = [read_iops, write_iops, read_rate, write_rate].map(value);
    format!("{}:{} rbps={rbps} wbps={wbps} riops={riops} wiops={wiops}", device.major, device.minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_plan::rbd::ImageIdentity;

    fn device() -> Device {
        let image = ImageIdentity { fsid: "3b52f9ba-5b0c-4f3f-8b63-0a5c0e6d4d11".into(), pool: 2, image: "10226b8b4567".into() };
        Device { name: "rbd0".into(), major: 252, minor: 16, diskseq: None, size: 1, is_read_only: false, backing: Backing::Image(image) }
    }

    #[test]
    fn limits_are_spelled_as_the_kernel_reads_them() {
        let limits = IoLimits { read_iops: 100, write_iops: 0, read_rate: 0, write_rate: 1 << 20 };
        assert_eq!(line(&device(), &limits), "252:16 rbps=max wbps=1048576 riops=100 wiops=max");
    }

    #[test]
    fn limits_that_cannot_be_set_are_refused_with_the_way_out_and_none_need_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let groups = [folder.path().to_owned()];
        limit(&device(), &IoLimits::default(), &[]).unwrap();
        limit(&device(), &IoLimits::default(), &groups).unwrap();
        let limits = IoLimits { read_iops: 1, ..IoLimits::default() };
        for (groups, names) in [(&[][..], "node.limited_groups"), (&groups[..], "io.max")] {
            let failure = Failure::from(limit(&device(), &limits, groups).unwrap_err());
            assert!(failure.reason == Reason::MissingPrivilege && failure.text.contains(names), "{failure}");
        }
    }
}
