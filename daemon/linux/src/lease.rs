//! A lease of one volume: its lock, its device, and the steps that are done under them.

use crate::attach::{self, AttachError};
use crate::bind;
use crate::check;
use crate::detach;
use crate::device::{DeviceError, Held};
use crate::format;
use crate::grow;
use crate::limit;
use crate::lock::{Fate, Lock};
use crate::map;
use crate::mount;
use crate::mountinfo::{Line, Shown, Table};
use crate::probe;
use crate::program::Tools;
use crate::roots::{OpenRoots, PlaceError};
use crate::unmount;
use std::time::Duration;
use windlass_plan::failure::Failure;
use windlass_plan::ids::VolumeKey;
use windlass_plan::paths::{HostPath, Place};
use windlass_plan::request::Secret;
use windlass_plan::step::{Device, Observed, Outcome, SeenMount, Shows, Step, Undo, Usage};

/// One volume, ours to work on. Synchronous, and any call may hang as long as the volume's device does.
pub struct Lease<'a> {
    roots: &'a OpenRoots,
    tools: &'a Tools,
    volume: VolumeKey,
    lock: Lock,
    held: Option<Held>,
    key: Option<Secret>,
}

impl<'a> Lease<'a> {
    /// Locks the volume by a file in `locks`, within `patience`. `WorkerLost`: somebody, named by pid, still works on it.
    pub fn take(roots: &'a OpenRoots, tools: &'a Tools, locks: &HostPath, volume: VolumeKey, patience: Duration) -> Result<Self, Failure> {
        Ok(Self { roots, tools, volume, lock: Lock::take(locks, volume, patience)?, held: None, key: None })
    }

    /// The device that the lease holds open.
    pub fn device(&self) -> Option<&Device> {
        self.held.as_ref().map(|held| &held.device)
    }

    /// Takes the key that the next `MapImage` of this lease will use, once (law 10).
    pub fn give_key(&mut self, key: Secret) {
        self.key = Some(key);
    }

    /// What the kernel shows of the volume. Exactly one device: the lease holds it from here on.
    pub fn observe(&mut self) -> Result<Observed, Failure> {
        self.observe_near(None)
    }

    /// The same, looking first at the device of this name. Where it carries the volume's mark the others are not looked at, so that a
    /// call costs the same however many devices there are.
    pub fn observe_near(&mut self, hint: Option<&str>) -> Result<Observed, Failure> {
        let known = hint.map(|name| Held::marked(name, self.volume)).transpose()?.flatten();
        let mut devices = match known {
            Some(known) => vec![known],
            None => Held::all(self.volume)?,
        };
        let table = Table::read().map_err(|source| PlaceError::Mounts { source })?;
        let mounts = table.lines().filter_map(|line| seen(line, &devices)).collect();
        let observed = Observed { devices: devices.iter().map(|held| held.device.clone()).collect(), mounts };
        if devices.len() == 1 {
            self.hold(devices.pop());
        }
        Ok(observed)
    }

    /// Does a step, or finds it done.
    pub fn apply(&mut self, step: &Step) -> Result<Outcome, Failure> {
        match step {
            Step::AttachFile(wish) => {
                let held = attach::attach(self.volume, wish)?;
                let device = held.device.clone();
                self.held = Some(held);
                Ok(Outcome::Attached(device))
            }
            Step::MapImage(wish) => {
                let held = map::map(self.volume, wish, self.key.take(), self.tools, self.lock.file())?;
                let device = held.device.clone();
                self.held = Some(held);
                Ok(Outcome::Attached(device))
            }
            Step::Probe { is_never_written } => Ok(Outcome::Probed(probe::probe(self.need()?, *is_never_written)?)),
            Step::Format(filesystem) => {
                let held = need(&mut self.held, self.volume)?;
                format::format(held, filesystem, self.tools, self.lock.file())?;
                Ok(Outcome::Done)
            }
            Step::Check { kind, writable } => Ok(check::check(self.need()?, *kind, *writable)?),
            Step::Preen => {
                let held = need(&mut self.held, self.volume)?;
                check::preen(held, self.tools, self.lock.file())?;
                Ok(Outcome::Done)
            }
            Step::Mount(wish) => Ok(mount::mount(self.roots, need(&mut self.held, self.volume)?, wish)?),
            Step::PlaceNode(wish) => Ok(bind::place_node(self.roots, need(&mut self.held, self.volume)?, wish)?),
            Step::Grow { place, kind } => Ok(Outcome::Size(grow::grow(self.roots, self.volume, &mut self.held, place, *kind)?)),
            Step::Bind(wish) => Ok(bind::bind(self.roots, self.volume, &mut self.held, wish)?),
            Step::Limit(limits) => {
                let tools = self.tools;
                limit::limit(&self.need()?.device, limits, &tools.limited)?;
                Ok(Outcome::Done)
            }
            Step::Refresh => Ok(Outcome::Size(grow::refresh(self.need()?)?)),
        }
    }

    /// Undoes a step, whether or not it was done. `Done` or `Already`.
    pub fn undo(&mut self, undo: &Undo) -> Result<Outcome, Failure> {
        match undo {
            Undo::Detach { volume } => {
                self.refuse_other(*volume)?;
                self.lift_limits();
                // Our own descriptor is a user of the device like any other.
                self.held = None;
                Ok(detach::detach(*volume)?)
            }
            Undo::Unmount { volume, place, made } => {
                self.refuse_other(*volume)?;
                if made.is_none() {
                    self.lift_limits();
                }
                Ok(unmount::unmount(self.roots, *volume, place, *made)?)
            }
        }
    }

    /// How full the volume is that is mounted or placed there. `NotThere`: it is not.
    pub fn usage(&mut self, place: &Place) -> Result<Usage, Failure> {
        Ok(grow::usage(self.roots, self.volume, &mut self.held, place)?)
    }

    /// Closes the device and lets go of the lock. Programs that could not be killed keep it.
    pub fn release(self, fate: Fate) {
        drop(self.held);
        self.lock.release(fate);
    }

    /// What a file system or a device still has to write at its end is nobody's any more, and would take as long as the limit says.
    fn lift_limits(&self) {
        if let Some(held) = &self.held {
            limit::lift(&held.device, &self.tools.limited);
        }
    }

    fn refuse_other(&self, volume: VolumeKey) -> Result<(), Failure> {
        if volume == self.volume { Ok(()) } else { Err(AttachError::OtherVolume.into()) }
    }

    /// Takes a device that was found; one that is held already stays, with the file that was opened beside it.
    fn hold(&mut self, found: Option<Held>) {
        let is_same =
            matches!((&self.held, &found), (Some(held), Some(found)) if held.device.name == found.device.name && held.device.diskseq == found.device.diskseq);
        if !is_same {
            self.held = found;
        }
    }

    fn need(&mut self) -> Result<&mut Held, Failure> {
        Ok(need(&mut self.held, self.volume)?)
    }
}

/// The lease's device, compared with what it was; found by its mark where the lease has none yet.
fn need(held: &mut Option<Held>, volume: VolumeKey) -> Result<&mut Held, DeviceError> {
    match held {
        Some(held) => {
            held.compare()?;
            Ok(held)
        }
        None => Ok(held.insert(Held::only(volume)?)),
    }
}

fn seen(line: &Line, devices: &[Held]) -> Option<SeenMount> {
    let shown = line.shows()?;
    devices.iter().find(|held| match &shown {
        Shown::Filesystem(number) => held.number() == *number,
        Shown::Node(name) => held.device.name == *name,
    })?;
    Some(SeenMount {
        path: line.point.clone(),
        shows: match shown {
            Shown::Filesystem(_) => Shows::Filesystem(line.kind.clone()),
            Shown::Node(_) => Shows::Node,
        },
        is_read_only: line.is_read_only(),
        is_superblock_read_only: line.is_superblock_read_only(),
        label: line.label().map(str::to_owned),
    })
}
