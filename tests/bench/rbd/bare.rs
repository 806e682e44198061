//! The kernel work of a stage and its undoing, twice: as bare system calls, and as programs, the way of drivers that shell out.

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io::Write;
use std::process::Command;

const BUS: &str = "/sys/bus/rbd";

/// As the daemon calls it.
const MKFS: [&str; 7] = ["mkfs.ext4", "-F", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"];

/// Maps, mounts and undoes it with nothing between it and the kernel.
pub(super) struct Bare<'a> {
    pub(super) monitor: &'a str,
    pub(super) key: &'a str,
}

impl Bare<'_> {
    /// The options are those of the daemon's mappings, so that all share one client and its session.
    pub(super) fn map(&self, image: &str) -> Result<String> {
        write("add_single_major", &format!("{} name=admin,secret={},mount_timeout=30 rbd {image} -", self.monitor, self.key))?;
        device_of(image)
    }

    pub(super) fn unmap(&self, device: &str) -> Result<()> {
        write("remove_single_major", device.trim_start_matches("/dev/rbd"))
    }

    pub(super) fn stage(&self, image: &str, at: &str) -> Result<()> {
        mount_ext4(&self.map(image)?, at)
    }

    pub(super) fn stage_fresh(&self, image: &str, at: &str) -> Result<()> {
        let device = self.map(image)?;
        program(&[&MKFS[..], &[&device]].concat())?;
        mount_ext4(&device, at)
    }

    pub(super) fn unstage(&self, image: &str, at: &str) -> Result<()> {
        let device = device_of(image)?;
        umount2(at, MntFlags::UMOUNT_NOFOLLOW)?;
        self.unmap(&device)
    }
}

/// The same by programs, as the drivers do that are built on `rbd` and Kubernetes' mount library.
pub(super) struct Programs<'a> {
    pub(super) monitor: &'a str,
    pub(super) keyring: &'a str,
}

impl Programs<'_> {
    pub(super) fn map(&self, image: &str) -> Result<()> {
        self.rbd("map", &format!("rbd/{image}"))
    }

    /// `noudev`: nobody in the machine would tell `rbd` of the device.
    fn rbd(&self, verb: &str, subject: &str) -> Result<()> {
        program(&["rbd", "-c", "/dev/null", "-m", self.monitor, "--id", "admin", "--keyring", self.keyring, verb, subject, "-o", "noudev"])
    }

    pub(super) fn stage(&self, image: &str, at: &str) -> Result<()> {
        self.map(image)?;
        let device = device_of(image)?;
        program(&["blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", &device])?;
        program(&["fsck", "-a", &device])?;
        program(&["mount", "-t", "ext4", "-o", "defaults", &device, at])?;
        program(&["resize2fs", &device])
    }

    pub(super) fn stage_fresh(&self, image: &str, at: &str) -> Result<()> {
        self.map(image)?;
        let device = device_of(image)?;
        // Status 2: nothing was found, which is what they format on.
        let blank = Command::new("blkid").args(["-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", &device]).output()?;
        ensure!(blank.status.code() == Some(2), "blkid says {} of a blank device", blank.status);
        program(&["mkfs.ext4", "-F", "-m0", "-Enodiscard,lazy_itable_init=1,lazy_journal_init=1", &device])?;
        program(&["mount", "-t", "ext4", "-o", "defaults", &device, at])?;
        program(&["resize2fs", &device])
    }

    pub(super) fn unstage(&self, image: &str, at: &str) -> Result<()> {
        let device = device_of(image)?;
        program(&["umount", at])?;
        self.rbd("unmap", &device)
    }
}

/// The node of an image that is mapped, by sysfs alone.
fn device_of(image: &str) -> Result<String> {
    for entry in fs::read_dir(format!("{BUS}/devices"))?.flatten() {
        if fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == image) {
            return Ok(format!("/dev/rbd{}", entry.file_name().to_string_lossy()));
        }
    }
    anyhow::bail!("{image} is not mapped")
}

fn mount_ext4(device: &str, at: &str) -> Result<()> {
    mount(Some(device), at, Some("ext4"), MsFlags::empty(), None::<&str>).with_context(|| format!("mount {device}"))
}

fn write(file: &str, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(format!("{BUS}/{file}"))?;
    // In one write: the kernel takes each as a whole order.
    file.write_all(text.as_bytes()).with_context(|| format!("{file:?}"))
}

fn program(argv: &[&str]) -> Result<()> {
    let output = Command::new(argv[0]).args(&argv[1..]).output().with_context(|| format!("{argv:?}"))?;
    ensure!(output.status.success(), "{argv:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(())
}
