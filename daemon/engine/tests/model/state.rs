//! The model: what each call must come to, given those before it, what is on the volume's file, and what was noted of its formatting.

use crate::kernel::Content;
use std::collections::BTreeMap;
use windlass_plan::capability::{Access, AccessMode, Capability, MountWish};
use windlass_plan::failure::Reason;

pub(crate) const VOLUMES: usize = 2;
pub(crate) const STAGES: usize = 2;
pub(crate) const TARGETS: usize = 2;

/// How a volume is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) is_block: bool,
    pub(crate) mode: AccessMode,
}

impl Use {
    pub(crate) fn capability(self) -> Capability {
        let access = if self.is_block { Access::Block } else { Access::Mount(MountWish::default()) };
        Capability { access, mode: self.mode }
    }

    fn is_reader(self) -> bool {
        self.mode.is_reader_only()
    }
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    Stage { volume: usize, stage: usize, usage: Use },
    Unstage { volume: usize, stage: usize },
    Publish { volume: usize, stage: usize, target: usize, usage: Use, is_read_only: bool },
    Unpublish { volume: usize, target: usize },
    Grow { volume: usize, stage: usize, by: u64 },
}

impl Call {
    pub(crate) fn volume(self) -> usize {
        match self {
            Self::Stage { volume, .. }
            | Self::Unstage { volume, .. }
            | Self::Publish { volume, .. }
            | Self::Unpublish { volume, .. }
            | Self::Grow { volume, .. } => volume,
        }
    }

    /// What takes back whatever the call has done.
    pub(crate) fn opposite(self) -> Option<Call> {
        match self {
            Self::Stage { volume, stage, .. } => Some(Self::Unstage { volume, stage }),
            Self::Publish { volume, target, .. } => Some(Self::Unpublish { volume, target }),
            Self::Unstage { .. } | Self::Unpublish { .. } | Self::Grow { .. } => None,
        }
    }
}

/// Where and how a volume is staged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Staged {
    pub(crate) stage: usize,
    pub(crate) usage: Use,
    pub(crate) is_recorded: bool,
}

/// How it is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    arguments: (usize, Use, bool),
    pub(crate) is_mount_read_only: bool,
    pub(crate) is_recorded: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Volume {
    pub(crate) staged: Option<Staged>,
    pub(crate) published: BTreeMap<usize, Published>,
}

/// What the model is told of a volume's file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) content: Content,
    /// It was formatted, or handed out for writing, as the notes say.
    pub(crate) is_finished: bool,
}

/// All volumes.
#[derive(Debug, Clone, Default)]
pub(crate) struct State(pub(crate) [Volume; VOLUMES]);

impl State {
    /// Does the call.
    pub(crate) fn expect(&mut self, call: Call, facts: Facts) -> Result<(), Reason> {
        match call {
            Call::Stage { volume, stage, usage } => self.stage(volume, stage, usage, facts),
            Call::Unstage { volume, stage } => {
                let volume = &mut self.0[volume];
                match volume.staged {
                    None => Ok(()),
                    // Without a record nobody can tell a stage from a target.
                    Some(staged) if staged.stage != stage => {
                        if staged.is_recorded {
                            Ok(())
                        } else {
                            Err(Reason::InUse)
                        }
                    }
                    Some(_) if !volume.published.is_empty() => Err(Reason::InUse),
                    Some(_) => {
                        volume.staged = None;
                        Ok(())
                    }
                }
            }
            Call::Publish { volume, stage, target, usage, is_read_only } => self.publish(volume, stage, target, usage, is_read_only),
            Call::Unpublish { volume, target } => {
                self.0[volume].published.remove(&target);
                Ok(())
            }
            Call::Grow { volume, stage, .. } => self.0[volume].staged.filter(|staged| staged.stage == stage).map(drop).ok_or(Reason::NotThere),
        }
    }

    fn stage(&mut self, volume: usize, stage: usize, usage: Use, facts: Facts) -> Result<(), Reason> {
        if let Some(staged) = &mut self.0[volume].staged {
            let is_same = if staged.is_recorded {
                staged.usage == usage
            } else {
                staged.usage.is_block == usage.is_block && staged.usage.is_reader() == usage.is_reader()
            };
            if staged.stage != stage || !is_same {
                return Err(Reason::Incompatible);
            }
            staged.usage = usage;
            return Ok(());
        }
        match (usage.is_block, facts.content) {
            (true, _) | (false, Content::Ext4) => {}
            (false, _) if usage.is_reader() => return Err(Reason::HoldsOtherContent),
            (false, Content::Torn) => return Err(Reason::CannotTell),
            (false, Content::Blank) if facts.is_finished => return Err(Reason::NoProof),
            (false, Content::Blank) => {}
        }
        let mut others = self.0.iter().enumerate().filter(|(other, _)| *other != volume).filter_map(|(_, other)| other.staged);
        match others.find(|other| other.stage == stage) {
            Some(other) if other.usage.is_block && !usage.is_block => return Err(Reason::BadPath),
            Some(_) => return Err(Reason::ForeignMount),
            None => {}
        }
        self.0[volume].staged = Some(Staged { stage, usage, is_recorded: true });
        Ok(())
    }

    fn publish(&mut self, number: usize, stage: usize, target: usize, usage: Use, is_read_only: bool) -> Result<(), Reason> {
        let is_taken = self.0.iter().enumerate().any(|(other, volume)| other != number && volume.published.contains_key(&target));
        let volume = &mut self.0[number];
        let (arguments, wants_reading) = ((stage, usage, is_read_only), is_read_only || usage.is_reader());
        let here = volume.published.get(&target);
        if let (Some(here), Some(staged)) = (here, volume.staged) {
            let is_same = if here.is_recorded {
                here.arguments == arguments
            } else {
                staged.usage.is_block == usage.is_block && (usage.is_block || here.is_mount_read_only == wants_reading)
            };
            if !is_same {
                return Err(Reason::Incompatible);
            }
        }
        let staged = volume.staged.filter(|staged| staged.stage == stage).ok_or(Reason::NotStaged)?;
        if staged.usage.is_block != usage.is_block {
            return Err(if staged.is_recorded { Reason::Incompatible } else { Reason::NotStaged });
        }
        if staged.usage.is_reader() && !wants_reading || usage.is_block && !staged.usage.is_reader() && wants_reading {
            return Err(Reason::NotStaged);
        }
        if here.is_some() {
            return Ok(());
        }
        if !usage.mode.allows_many_targets() && !volume.published.is_empty() {
            return Err(Reason::SecondWriter);
        }
        if is_taken {
            return Err(Reason::ForeignMount);
        }
        volume.published.insert(target, Published { arguments, is_mount_read_only: wants_reading, is_recorded: true });
        Ok(())
    }

    /// What must be seen: places with their volume, whether a node is there, and whether the mount is read-only.
    pub(crate) fn seen(&self) -> BTreeMap<String, (usize, bool, bool)> {
        let mut seen = BTreeMap::new();
        for (number, volume) in self.0.iter().enumerate() {
            let Some(staged) = volume.staged else { continue };
            let usage = staged.usage;
            let path = format!("stage-{}{}", staged.stage, if usage.is_block { "/device" } else { "" });
            seen.insert(path, (number, usage.is_block, !usage.is_block && usage.is_reader()));
            seen.extend(
                volume.published.iter().map(|(target, published)| (format!("target-{target}"), (number, usage.is_block, published.is_mount_read_only))),
            );
        }
        seen
    }
}
