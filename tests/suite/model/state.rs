//! The model: what the specification's tables say of each call, given the calls before it.
//!
//! It holds what is true of volumes, devices and places, and no word of how the daemon comes to it. The one thing that it knows of the daemon
//! is that a lost journal takes with it what the kernel does not show: with which arguments something was staged or published.

use super::op::{Access, At, NAMES, Op, STAGES, Use};
use std::collections::BTreeMap;
use tonic::Code;

/// What a call answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing but OK.
    Done,
    /// A size in bytes.
    Size(u64),
    /// Whether capabilities are confirmed.
    Confirmed(bool),
    /// The sizes of all volumes, by name.
    Volumes(BTreeMap<usize, u64>),
}

/// How a volume stands on the node.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub(super) stage: usize,
    pub(super) usage: Use,
    /// The device's size.
    pub(super) device: u64,
    /// The journal knows it.
    is_recorded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Arguments {
    stage: usize,
    usage: Use,
    is_read_only: bool,
    is_other_context: bool,
}

/// How a volume is shown at a target.
#[derive(Debug, Clone)]
pub(super) struct Published {
    arguments: Arguments,
    pub(super) is_mount_read_only: bool,
    is_recorded: bool,
}

/// A volume that exists.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    access: Access,
    /// The file's size.
    size: u64,
    /// The size of the file system on it, if there is one.
    filesystem: Option<u64>,
    pub(super) staged: Option<Staged>,
    pub(super) published: BTreeMap<usize, Published>,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) volumes: [Option<Volume>; NAMES],
}

const MIB: u64 = 1 << 20;

impl State {
    /// Does an operation; what the daemon must answer.
    pub(super) fn expect(&mut self, op: &Op) -> Result<Answer, Code> {
        match *op {
            Op::Create { name, usage, mib, is_exact } => self.create(name, usage, mib * MIB, is_exact),
            Op::Delete { name } => match &self.volumes[name] {
                Some(volume) if volume.staged.is_some() => Err(Code::FailedPrecondition),
                _ => {
                    self.volumes[name] = None;
                    Ok(Answer::Done)
                }
            },
            Op::Validate { name, usage } => {
                let volume = self.volumes[name].as_ref().ok_or(Code::NotFound)?;
                Ok(Answer::Confirmed(volume.access == usage.access && !usage.is_multi_node()))
            }
            Op::List { .. } => Ok(Answer::Volumes(self.sizes())),
            Op::Expand { name, mib, is_exact } => {
                let volume = self.volumes[name].as_mut().ok_or(Code::NotFound)?;
                if is_exact && volume.size > mib * MIB {
                    return Err(Code::OutOfRange);
                }
                volume.size = volume.size.max(mib * MIB);
                Ok(Answer::Size(volume.size))
            }
            Op::Stage { name, stage, usage } => self.stage(name, stage, usage),
            Op::Unstage { name, stage } => self.unstage(name, stage),
            Op::Publish { name, stage, target, usage, is_read_only, is_other_context } => {
                self.publish(name, stage, target, usage, is_read_only, is_other_context)
            }
            Op::Unpublish { name, target } => {
                if let Some(volume) = &mut self.volumes[name] {
                    volume.published.remove(&target);
                }
                Ok(Answer::Done)
            }
            Op::Stats { name, at } => {
                let volume = self.volumes[name].as_ref().filter(|volume| volume.is_at(at)).ok_or(Code::NotFound)?;
                Ok(match &volume.staged {
                    Some(staged) if staged.usage.access == Access::Block => Answer::Size(staged.device),
                    _ => Answer::Done,
                })
            }
            Op::Grow { name, at, mib } => self.grow(name, at, mib.map(|mib| mib * MIB)),
            Op::Restart | Op::Kill => Ok(Answer::Done),
            Op::LoseJournal => {
                for volume in self.volumes.iter_mut().flatten() {
                    volume.staged.iter_mut().for_each(|staged| staged.is_recorded = false);
                    volume.published.values_mut().for_each(|published| published.is_recorded = false);
                }
                Ok(Answer::Done)
            }
        }
    }

    /// The calls that take all of it down again, in order.
    pub(super) fn takedown(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        for (name, volume) in self.volumes.iter().enumerate() {
            let Some(volume) = volume else { continue };
            ops.extend(volume.published.keys().map(|target| Op::Unpublish { name, target: *target }));
            ops.extend(volume.staged.iter().map(|staged| Op::Unstage { name, stage: staged.stage }));
            ops.push(Op::Delete { name });
        }
        ops
    }

    fn sizes(&self) -> BTreeMap<usize, u64> {
        self.volumes.iter().enumerate().filter_map(|(name, volume)| Some((name, volume.as_ref()?.size))).collect()
    }

    fn create(&mut self, name: usize, usage: Use, size: u64, is_exact: bool) -> Result<Answer, Code> {
        if usage.is_multi_node() {
            return Err(Code::InvalidArgument);
        }
        match &self.volumes[name] {
            Some(volume) if volume.access == usage.access && volume.size >= size && (!is_exact || volume.size == size) => Ok(Answer::Size(volume.size)),
            Some(_) => Err(Code::AlreadyExists),
            None => {
                self.volumes[name] = Some(Volume { access: usage.access, size, filesystem: None, staged: None, published: BTreeMap::new() });
                Ok(Answer::Size(size))
            }
        }
    }

    fn stage(&mut self, name: usize, stage: usize, usage: Use) -> Result<Answer, Code> {
        let other = self.other_at_stage(name, stage);
        let volume = self.volumes[name].as_mut().ok_or(Code::NotFound)?;
        if let Some(staged) = &mut volume.staged {
            let is_same = if staged.is_recorded {
                staged.usage == usage
            } else {
                // What the kernel shows: which kind, and whether for reading alone.
                staged.usage.access == usage.access && staged.usage.is_reader() == usage.is_reader()
            };
            if staged.stage != stage || !is_same {
                return Err(Code::AlreadyExists);
            }
            (staged.usage, staged.is_recorded) = (usage, true);
            return Ok(Answer::Done);
        }
        if usage.access == Access::Mount {
            if volume.filesystem.is_none() && usage.is_reader() {
                return Err(Code::FailedPrecondition);
            }
            // Formatted before it is seen that it cannot be mounted there: the volume is the caller's, and blank.
            volume.filesystem.get_or_insert(volume.size);
        }
        match other {
            // A folder with something in it is no place to mount at.
            Some(Access::Block) if usage.access == Access::Mount => return Err(Code::InvalidArgument),
            Some(_) => return Err(Code::FailedPrecondition),
            None => {}
        }
        if usage.access == Access::Mount && !usage.is_reader() && !volume.grow_filesystem() {
            return Err(Code::FailedPrecondition);
        }
        volume.staged = Some(Staged { stage, usage, device: volume.size, is_recorded: true });
        Ok(Answer::Done)
    }

    fn unstage(&mut self, name: usize, stage: usize) -> Result<Answer, Code> {
        let Some(volume) = &mut self.volumes[name] else { return Ok(Answer::Done) };
        let Some(staged) = &volume.staged else { return Ok(Answer::Done) };
        if staged.stage != stage {
            // Staged elsewhere is not staged here. Without a record nobody can tell the stage from a target, and it stays.
            return if staged.is_recorded { Ok(Answer::Done) } else { Err(Code::FailedPrecondition) };
        }
        if !volume.published.is_empty() {
            return Err(Code::FailedPrecondition);
        }
        volume.staged = None;
        Ok(Answer::Done)
    }

    fn publish(&mut self, name: usize, stage: Option<usize>, target: usize, usage: Use, is_read_only: bool, is_other_context: bool) -> Result<Answer, Code> {
        let is_taken =
            self.volumes.iter().enumerate().any(|(other, volume)| other != name && volume.as_ref().is_some_and(|v| v.published.contains_key(&target)));
        let volume = self.volumes[name].as_mut().ok_or(Code::NotFound)?;
        let stage = stage.ok_or(Code::FailedPrecondition)?;
        let arguments = Arguments { stage, usage, is_read_only, is_other_context };
        let wants_reading = is_read_only || usage.is_reader();
        let here = volume.published.get(&target);
        if let (Some(here), Some(staged)) = (here, &volume.staged) {
            let is_same = if here.is_recorded {
                here.arguments == arguments
            } else {
                staged.usage.access == usage.access && (usage.access == Access::Block || here.is_mount_read_only == wants_reading)
            };
            if !is_same {
                return Err(Code::AlreadyExists);
            }
        }
        let staged = volume.staged.as_ref().ok_or(Code::FailedPrecondition)?;
        if staged.stage != stage {
            return Err(Code::FailedPrecondition);
        }
        if staged.usage.access != usage.access {
            return Err(if staged.is_recorded { Code::AlreadyExists } else { Code::FailedPrecondition });
        }
        let exceeds = match usage.access {
            Access::Mount => staged.usage.is_reader() && !wants_reading,
            Access::Block => staged.usage.is_reader() != wants_reading,
        };
        if exceeds {
            return Err(Code::FailedPrecondition);
        }
        if here.is_some() {
            return Ok(Answer::Done);
        }
        if !usage.allows_many() && !volume.published.is_empty() {
            return Err(Code::FailedPrecondition);
        }
        if is_taken {
            return Err(Code::FailedPrecondition);
        }
        volume.published.insert(target, Published { arguments, is_mount_read_only: wants_reading, is_recorded: true });
        Ok(Answer::Done)
    }

    fn grow(&mut self, name: usize, at: At, wanted: Option<u64>) -> Result<Answer, Code> {
        let volume = self.volumes[name].as_mut().ok_or(Code::NotFound)?;
        if !volume.is_at(at) {
            return Err(Code::NotFound);
        }
        let staged = volume.staged.as_mut().ok_or(Code::NotFound)?;
        staged.device = volume.size;
        if staged.usage.access == Access::Mount {
            // Through the stage where it is known; otherwise where the caller says.
            let through = if staged.is_recorded { At::Stage(staged.stage) } else { at };
            let is_read_only = match through {
                At::Stage(_) => staged.usage.is_reader(),
                At::Target(target) => staged.usage.is_reader() || volume.published.get(&target).is_some_and(|published| published.is_mount_read_only),
            };
            if volume.filesystem != Some(volume.size) && is_read_only || !volume.grow_filesystem() {
                return Err(Code::FailedPrecondition);
            }
        }
        if wanted.is_some_and(|wanted| wanted > volume.size) {
            return Err(Code::OutOfRange);
        }
        Ok(Answer::Size(volume.size))
    }

    /// What another volume is staged as at the path.
    fn other_at_stage(&self, name: usize, stage: usize) -> Option<Access> {
        (0..STAGES).find(|at| *at == stage)?;
        let mut others = self.volumes.iter().enumerate().filter(|(other, _)| *other != name).filter_map(|(_, volume)| volume.as_ref()?.staged.as_ref());
        others.find(|staged| staged.stage == stage).map(|staged| staged.usage.access)
    }
}

impl Volume {
    /// False: it is smaller than its device, and the kernel does not let this daemon grow it.
    fn grow_filesystem(&mut self) -> bool {
        let is_possible = self.filesystem == Some(self.size) || harness::process::may_resize_ext4();
        if is_possible {
            self.filesystem = Some(self.size);
        }
        is_possible
    }

    fn is_at(&self, at: At) -> bool {
        match at {
            At::Stage(stage) => self.staged.as_ref().is_some_and(|staged| staged.stage == stage),
            At::Target(target) => self.published.contains_key(&target),
        }
    }
}
