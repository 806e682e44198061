//! What may have been done to one volume on this node: strands (one stage, any number of publishes) of undos with states.
//!
//! A record is the sum of the lines of its journal file. Lines only ever add; this file says what each adds, and refuses orders that
//! make no sense.

use serde::{Deserialize, Serialize};
use windlass_plan::capability::{Capability, FilesystemKind};
use windlass_plan::ids::{DriverName, VolumeId, VolumeKey};
use windlass_plan::paths::{HostPath, Place};
use windlass_plan::step::{Device, Undo, Writable};

/// The journal's format. A file of another version is read as far as this daemon understands it, or put aside with a warning.
pub const VERSION: u32 = 1;

/// One line of a journal file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "line")]
pub enum Line {
    /// The first line.
    Open(Header),
    /// A strand begins: nothing has been done for it yet.
    Begin {
        /// Its number.
        strand: u32,
        /// What it is.
        what: What,
    },
    /// The step that follows this line is undone so. Written before the deed.
    Undo {
        /// The strand.
        strand: u32,
        /// The step's name.
        step: String,
        /// How it is undone.
        undo: Undo,
    },
    /// The device that the strand's first step attached, or as it is after it has grown.
    Device {
        /// The strand.
        strand: u32,
        /// As the worker reported it.
        device: Device,
    },
    /// All steps of the strand are done: the caller may be told.
    Complete {
        /// The strand.
        strand: u32,
    },
    /// Unwinding has begun: from here on the strand is only ever taken down.
    Unwind {
        /// The strand.
        strand: u32,
    },
    /// The strand's newest undo that was not yet done is done.
    Undone {
        /// The strand.
        strand: u32,
    },
}

/// What a journal file is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// The boot in which it was written: after another, the kernel's state is gone and the record with it.
    pub boot: String,
    /// The driver.
    pub driver: DriverName,
    /// The volume.
    pub volume: VolumeId,
    /// Its key; also the file's name.
    pub key: VolumeKey,
    /// The roots that places in this file count from, as the kernel resolved them.
    pub roots: Vec<HostPath>,
}

/// What a strand is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The volume is staged.
    Stage(StageFacts),
    /// The staged volume is shown at a target.
    Publish(PublishFacts),
}

/// How a volume is staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFacts {
    /// Where.
    pub staging: Place,
    /// The same, as an absolute path for people.
    pub path: String,
    /// As what.
    pub capability: Capability,
    /// The canonical source.
    pub source: String,
    /// The file system, for a mounted volume.
    pub filesystem: Option<FilesystemKind>,
}

/// How a volume is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishFacts {
    /// Where.
    pub target: Place,
    /// The same, as an absolute path for people.
    pub path: String,
    /// As what.
    pub capability: Capability,
    /// Read-only there.
    pub writable: Writable,
    /// A digest of the other arguments that a second call must repeat; `None` where the journal was lost.
    pub arguments: Option<String>,
}

/// One strand: what was done for one purpose, newest last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strand {
    /// Its number, unique in the record.
    pub number: u32,
    /// Its purpose.
    pub what: What,
    /// How to take it down, oldest first, with the steps' names. What was undone is gone from here.
    pub undos: Vec<(String, Undo)>,
    /// The device, once known.
    pub device: Option<Device>,
    /// Where it is in its life.
    pub state: StrandState,
}

/// A strand's life: it is built, stands, and is taken down; each state leads only to later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StrandState {
    /// Steps are being done. Found so at start: the daemon died in the middle.
    Building,
    /// All is done.
    Standing,
    /// It is being taken down.
    Unwinding,
}

/// Everything that may have been done to one volume on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub header: Header,
    /// Its strands; at most one is a stage.
    pub strands: Vec<Strand>,
}

/// A line that does not fit what came before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal's line {line:?} does not follow from what is before it")]
pub struct Misfit {
    /// The line.
    pub line: Box<Line>,
}

impl Record {
    /// A record with nothing in it.
    pub fn new(header: Header) -> Self {
        Self { header, strands: Vec::new() }
    }

    /// Adds what a line says.
    pub fn add(&mut self, line: &Line) -> Result<(), Misfit> {
        let misfit = || Misfit { line: Box::new(line.clone()) };
        match line {
            Line::Open(_) => return Err(misfit()),
            Line::Begin { strand, what } => {
                let is_second_stage = matches!(what, What::Stage(_)) && self.stage().is_some();
                if is_second_stage || self.strands.iter().any(|other| other.number == *strand) {
                    return Err(misfit());
                }
                self.strands.push(Strand { number: *strand, what: what.clone(), undos: Vec::new(), device: None, state: StrandState::Building });
            }
            Line::Undo { strand, step, undo } => self.in_state(*strand, StrandState::Building).ok_or_else(misfit)?.undos.push((step.clone(), undo.clone())),
            Line::Device { strand, device } => {
                let found = self.strand_mut(*strand).filter(|strand| strand.state != StrandState::Unwinding);
                found.ok_or_else(misfit)?.device = Some(device.clone());
            }
            Line::Complete { strand } => self.in_state(*strand, StrandState::Building).ok_or_else(misfit)?.state = StrandState::Standing,
            Line::Unwind { strand } => self.strand_mut(*strand).ok_or_else(misfit)?.state = StrandState::Unwinding,
            Line::Undone { strand } => {
                let found = self.in_state(*strand, StrandState::Unwinding).ok_or_else(misfit)?;
                found.undos.pop().ok_or_else(misfit)?;
            }
        }
        self.strands.retain(|strand| strand.state != StrandState::Unwinding || !strand.undos.is_empty());
        Ok(())
    }

    /// The stage, in whatever state.
    pub fn stage(&self) -> Option<&Strand> {
        self.strands.iter().find(|strand| matches!(strand.what, What::Stage(_)))
    }

    /// The stage and its facts, when it stands.
    pub fn standing_stage(&self) -> Option<(&Strand, &StageFacts)> {
        self.strands.iter().find_map(|strand| match &strand.what {
            What::Stage(facts) if strand.state == StrandState::Standing => Some((strand, facts)),
            _ => None,
        })
    }

    /// The publishes, in whatever state.
    pub fn publishes(&self) -> impl Iterator<Item = (&Strand, &PublishFacts)> {
        self.strands.iter().filter_map(|strand| match &strand.what {
            What::Publish(facts) => Some((strand, facts)),
            What::Stage(_) => None,
        })
    }

    /// A number that no strand has.
    pub fn next_number(&self) -> u32 {
        self.strands.iter().map(|strand| strand.number + 1).max().unwrap_or(0)
    }

    fn strand_mut(&mut self, number: u32) -> Option<&mut Strand> {
        self.strands.iter_mut().find(|strand| strand.number == number)
    }

    fn in_state(&mut self, number: u32, state: StrandState) -> Option<&mut Strand> {
        self.strand_mut(number).filter(|strand| strand.state == state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_plan::capability::{Access, AccessMode};

    fn header() -> Header {
        let (driver, volume) = (DriverName::parse("d").unwrap(), VolumeId::parse("v").unwrap());
        Header { version: VERSION, boot: "b".into(), key: VolumeKey::derive("", &driver, &volume), driver, volume, roots: Vec::new() }
    }

    fn stage() -> What {
        let capability = Capability { access: Access::Block, mode: AccessMode::SingleNodeWriter };
        What::Stage(StageFacts { staging: Place { root: 0, below: "s".into() }, path: "/s".into(), capability, source: "file:a/b".into(), filesystem: None })
    }

    #[test]
    fn a_strand_is_built_stands_and_is_taken_down_and_nothing_else() {
        let undo = Line::Undo { strand: 0, step: "attach".into(), undo: Undo::Detach { volume: header().key } };
        let (begin, complete, unwind, undone) =
            (Line::Begin { strand: 0, what: stage() }, Line::Complete { strand: 0 }, Line::Unwind { strand: 0 }, Line::Undone { strand: 0 });
        let check = |lines: &[&Line], fits: bool, strands: usize| {
            let mut record = Record::new(header());
            let all = lines.iter().all(|line| record.add(line).is_ok());
            assert_eq!((all, record.strands.len()), (fits, strands), "{lines:?}");
        };
        check(&[&begin, &undo, &complete], true, 1);
        check(&[&begin, &undo, &unwind, &undone], true, 0);
        check(&[&begin, &unwind], true, 0);
        check(&[&begin, &undo, &complete, &unwind], true, 1);
        check(&[&begin, &undo, &complete, &undo], false, 1);
        check(&[&begin, &begin], false, 1);
        check(&[&begin, &undo, &undone], false, 1);
        check(&[&complete], false, 0);
        check(&[&Line::Open(header())], false, 0);
    }
}
