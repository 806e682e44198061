//! Files, devices and mounts as the steps of a worker know them; no system call, and nothing that no step can see.

use std::collections::{BTreeMap, BTreeSet};
use windlass_plan::capability::FilesystemKind;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::paths::Place;
use windlass_plan::step::{Backing, BackingFile, Device, Doubt, Observed, Outcome, Probe, SeenMount, Shows, Step, TargetKind, Undo, Writable};

/// The root that all places are beneath.
pub(crate) const ROOT: &str = "/world";

/// What is on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Blank,
    /// What an mkfs that was cut off leaves.
    Torn,
    Ext4,
}

#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) content: Content,
    pub(crate) size: u64,
    inode: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Attached {
    volume: VolumeKey,
    pub(crate) file: String,
    pub(crate) size: u64,
    pub(crate) is_read_only: bool,
    sequence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mounted {
    pub(crate) place: Place,
    /// The device's number.
    pub(crate) device: u32,
    pub(crate) is_node: bool,
    pub(crate) is_read_only: bool,
}

/// The world.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kernel {
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) devices: BTreeMap<u32, Attached>,
    pub(crate) mounts: Vec<Mounted>,
    /// Targets, and files for nodes, that steps made.
    pub(crate) made: BTreeSet<Place>,
    count: u64,
    /// What must never happen, and did.
    pub(crate) crimes: Vec<String>,
    /// The next mkfs is cut off half-way.
    pub(crate) tears: bool,
}

fn fails<T>(reason: Reason, text: &str) -> Result<T, Failure> {
    Err(Failure::new(reason, text))
}

impl Kernel {
    /// A new file, which nobody has written to.
    pub(crate) fn create(&mut self, name: &str, size: u64) {
        self.count += 1;
        self.files.insert(name.to_owned(), File { content: Content::Blank, size, inode: self.count });
    }

    pub(crate) fn observe(&self, volume: VolumeKey) -> Observed {
        let devices = self.of(volume).map(|number| self.device(number)).collect();
        let mounts = self.mounts.iter().filter(|mount| self.devices.get(&mount.device).is_some_and(|device| device.volume == volume));
        Observed { devices, mounts: mounts.map(|mount| self.seen(mount)).collect() }
    }

    fn seen(&self, mount: &Mounted) -> SeenMount {
        SeenMount {
            path: format!("{ROOT}/{}", mount.place.below),
            shows: if mount.is_node { Shows::Node } else { Shows::Filesystem("ext4".to_owned()) },
            is_read_only: mount.is_read_only,
            is_superblock_read_only: !mount.is_node && self.devices[&mount.device].is_read_only,
            label: None,
        }
    }

    fn of(&self, volume: VolumeKey) -> impl Iterator<Item = u32> {
        self.devices.iter().filter(move |(_, device)| device.volume == volume).map(|(number, _)| *number)
    }

    fn device(&self, number: u32) -> Device {
        let attached = &self.devices[&number];
        let inode = self.files.get(&attached.file).map_or(0, |file| file.inode);
        Device {
            name: format!("loop{number}"),
            major: 7,
            minor: number,
            diskseq: Some(attached.sequence),
            size: attached.size,
            is_read_only: attached.is_read_only,
            backing: Backing::File(BackingFile { device: 1, inode, born_ns: inode }),
        }
    }

    fn at(&self, place: &Place) -> Option<&Mounted> {
        self.mounts.iter().rev().find(|mount| mount.place == *place)
    }

    /// The volume's one device, and the file behind it.
    fn held(&mut self, volume: VolumeKey) -> Result<(u32, &mut Attached, &mut File), Failure> {
        let Some(number) = self.of(volume).next() else { return fails(Reason::IdentityChanged, "no device carries the mark") };
        let Some(attached) = self.devices.get_mut(&number) else { return fails(Reason::IdentityChanged, "it is gone") };
        let Some(file) = self.files.get_mut(&attached.file) else { return fails(Reason::SourceMissing, "its file is gone") };
        Ok((number, attached, file))
    }

    pub(crate) fn apply(&mut self, volume: VolumeKey, step: &Step) -> Result<Outcome, Failure> {
        match step {
            Step::AttachFile(wish) => self.attach(volume, &wish.name, wish.writable == Writable::ReadOnly),
            Step::Probe { .. } => {
                let (_, _, file) = self.held(volume)?;
                Ok(Outcome::Probed(match file.content {
                    Content::Blank => Probe::Blank { proof: "no data".to_owned() },
                    Content::Torn => Probe::Unknown { doubt: Doubt::Unexplained, why: "nothing explains it".to_owned() },
                    Content::Ext4 => Probe::Holds { what: "ext4".to_owned(), kind: Some(FilesystemKind::Ext4) },
                }))
            }
            Step::Format(_) => self.format(volume),
            Step::Check { .. } => self.held(volume).map(|_| Outcome::Done),
            Step::Preen => Ok(Outcome::Done),
            Step::Mount(wish) => {
                let (device, _, file) = self.held(volume)?;
                let content = file.content;
                if self.made.iter().any(|made| made.split().0 == wish.place.below) {
                    return fails(Reason::BadPath, "the folder is not empty");
                }
                if content != Content::Ext4 {
                    self.crimes.push(format!("{content:?} is mounted"));
                }
                self.place(device, &wish.place, false, wish.writable == Writable::ReadOnly)
            }
            Step::PlaceNode(wish) => {
                let (device, ..) = self.held(volume)?;
                let folder = Place { root: 0, below: wish.place.split().0.to_owned() };
                if self.at(&folder).is_some() {
                    return fails(Reason::ForeignMount, "the folder is another volume");
                }
                self.place(device, &wish.place, true, false)
            }
            Step::Bind(wish) => {
                let (device, attached, _) = self.held(volume)?;
                let (is_node, is_read_only) = (wish.kind == TargetKind::File, wish.writable == Writable::ReadOnly);
                if is_node && attached.is_read_only != is_read_only || !is_read_only && attached.is_read_only {
                    return fails(Reason::Incompatible, "it is staged in another way");
                }
                if !self.at(&wish.from).is_some_and(|from| from.device == device && from.is_node == is_node) {
                    return fails(Reason::NotStaged, "it is not staged there");
                }
                self.place(device, &wish.to, is_node, is_read_only)
            }
            Step::Limit(_) => Ok(Outcome::Done),
            Step::Grow { .. } | Step::Refresh => {
                let (_, attached, file) = self.held(volume)?;
                attached.size = file.size;
                Ok(Outcome::Size(file.size))
            }
            Step::MapImage(_) => fails(Reason::Unsupported, "no images in this world"),
        }
    }

    fn attach(&mut self, volume: VolumeKey, name: &str, is_read_only: bool) -> Result<Outcome, Failure> {
        let Some(file) = self.files.get(name) else { return fails(Reason::SourceMissing, "no such file") };
        if let Some(number) = self.of(volume).next() {
            if self.devices[&number].is_read_only != is_read_only {
                return fails(Reason::Incompatible, "it is attached in another way");
            }
            return Ok(Outcome::Attached(self.device(number)));
        }
        let (size, number) = (file.size, (0..).find(|number| !self.devices.contains_key(number)).unwrap_or_default());
        self.count += 1;
        self.devices.insert(number, Attached { volume, file: name.to_owned(), size, is_read_only, sequence: self.count });
        Ok(Outcome::Attached(self.device(number)))
    }

    fn format(&mut self, volume: VolumeKey) -> Result<Outcome, Failure> {
        let tears = std::mem::take(&mut self.tears);
        let (_, attached, file) = self.held(volume)?;
        if file.content != Content::Blank || attached.is_read_only {
            let crime = format!("{:?} is formatted over", file.content);
            self.crimes.push(crime);
            return fails(Reason::Io, "that was somebody's data");
        }
        file.content = if tears { Content::Torn } else { Content::Ext4 };
        if tears { fails(Reason::ProgramTimedOut, "mkfs was cut off") } else { Ok(Outcome::Done) }
    }

    fn place(&mut self, device: u32, place: &Place, is_node: bool, is_read_only: bool) -> Result<Outcome, Failure> {
        match self.at(place) {
            Some(there) if there.device == device && there.is_node == is_node && there.is_read_only == is_read_only => return Ok(Outcome::Already),
            Some(there) if there.device == device => return fails(Reason::Incompatible, "it is there in another way"),
            Some(_) => return fails(Reason::ForeignMount, "something else is there"),
            None => {}
        }
        if !place.below.starts_with("stage") || is_node {
            self.made.insert(place.clone());
        }
        self.mounts.push(Mounted { place: place.clone(), device, is_node, is_read_only });
        Ok(Outcome::Done)
    }

    pub(crate) fn undo(&mut self, volume: VolumeKey, undo: &Undo) -> Result<Outcome, Failure> {
        match undo {
            Undo::Detach { .. } => {
                let numbers: Vec<u32> = self.of(volume).collect();
                if self.mounts.iter().any(|mount| numbers.contains(&mount.device)) {
                    return fails(Reason::InUse, "it is mounted");
                }
                numbers.iter().for_each(|number| drop(self.devices.remove(number)));
                Ok(if numbers.is_empty() { Outcome::Already } else { Outcome::Done })
            }
            Undo::Unmount { place, made, .. } => {
                let numbers: Vec<u32> = self.of(volume).collect();
                let before = self.mounts.len();
                self.mounts.retain(|mount| mount.place != *place || !numbers.contains(&mount.device));
                if made.is_some() && self.at(place).is_none() {
                    self.made.remove(place);
                }
                Ok(if self.mounts.len() == before { Outcome::Already } else { Outcome::Done })
            }
        }
    }
}
