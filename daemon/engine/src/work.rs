//! Work on one volume: a leased worker, the volume's journal, and the walk that undoes.

use crate::engine::{Engine, Place as ProgramPlace};
use crate::journal::Writer;
use crate::pool::Lease;
use crate::record::{Line, PublishFacts, Strand, StrandState, What};
use std::time::Duration;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::paths::{HostPath, Place};
use windlass_plan::step::{Observed, Outcome, SeenMount, Step, Undo, Usage};

/// How long a step waits for its turn to run an external program.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(20);

/// Work on one volume. One at a time: the caller holds the claim, the worker the lock.
pub struct Work<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) key: VolumeKey,
    pub(crate) lease: Lease,
    pub(crate) writer: Writer<'a>,
    /// What was seen with the lease, while nothing has been done since.
    seen: Option<Observed>,
}

impl<'a> Work<'a> {
    pub(crate) fn new(engine: &'a Engine, key: VolumeKey, lease: Lease, writer: Writer<'a>, seen: Option<Observed>) -> Self {
        Self { engine, key, lease, writer, seen }
    }

    /// A stage that stands has one device, and its name is a good hint. Anything else is looked for everywhere.
    pub(crate) fn hint(writer: &Writer<'_>) -> Option<String> {
        writer.record().standing_stage().and_then(|(strand, _)| Some(strand.device.as_ref()?.name.clone()))
    }

    /// What the kernel shows of the volume.
    pub fn observe(&mut self) -> Result<Observed, Failure> {
        let observed = match self.seen.take() {
            Some(seen) => seen,
            None => self.lease.observe(Self::hint(&self.writer))?,
        };
        if observed.devices.is_empty() {
            self.note_if_gone();
        }
        Ok(observed)
    }

    /// See [`crate::pool::Lease::source_exists`].
    pub fn source_exists(&mut self, folder: HostPath, name: String) -> Result<bool, Failure> {
        self.lease.source_exists(folder, name)
    }

    /// How full the volume is that is seen at the place.
    pub fn usage(&mut self, place: Place) -> Result<Usage, Failure> {
        self.lease.usage(place)
    }

    /// Does a step after writing down how it is undone.
    pub(crate) fn apply(&mut self, strand: u32, step: &Step) -> Result<(), Failure> {
        self.apply_all(strand, std::slice::from_ref(step)).map(drop)
    }

    /// Does steps after writing down how each is undone, in one question to the worker: each costs two changes of process. Fewer outcomes
    /// than steps where one needs something else first.
    pub(crate) fn apply_all(&mut self, strand: u32, steps: &[Step]) -> Result<Vec<Outcome>, Failure> {
        let undos = steps.iter().filter_map(|step| Some(Line::Undo { strand, step: step.name().to_owned(), undo: step.undo(self.key)? }));
        let undos: Vec<Line> = undos.collect();
        if !undos.is_empty() {
            self.writer.write_all(&undos)?;
            self.lease.volume_is_gone(false);
        }
        let program = steps.contains(&Step::Preen).then(|| place_for_a_program(self.engine)).transpose()?;
        self.seen = None;
        let outcomes = self.lease.apply(steps);
        drop(program);
        tracing::debug!(steps = ?steps.iter().map(Step::name).collect::<Vec<_>>(), ?outcomes, "done");
        outcomes
    }

    /// Takes a strand down, newest step first, and goes on past failures: what could not be undone stays in the journal.
    pub(crate) fn unwind(&mut self, strand: u32) -> Result<(), Failure> {
        let undos = {
            let record = self.writer.record();
            match record.strands.iter().find(|other| other.number == strand) {
                Some(strand) => strand.undos.clone(),
                None => return Ok(()),
            }
        };
        self.writer.write(&Line::Unwind { strand })?;
        let (mut first, mut is_behind) = (None, false);
        self.seen = None;
        let (steps, undos): (Vec<String>, Vec<Undo>) = undos.into_iter().rev().unzip();
        let outcomes = self.lease.undo(&undos);
        for ((step, undo), outcome) in steps.into_iter().zip(&undos).zip(outcomes) {
            match self.undone(undo, outcome) {
                // The journal counts from the newest: once one is left behind, those below it stay recorded as well, though they are
                // tried. Doing an undo again is the same as doing it once.
                Ok(_) if !is_behind => self.writer.write(&Line::Undone { strand })?,
                Ok(_) => {}
                Err(failure) => {
                    tracing::warn!(step, reason = ?failure.reason, "an undo failed: {failure}");
                    is_behind = true;
                    first.get_or_insert(failure);
                }
            }
        }
        self.note_if_gone();
        first.map_or(Ok(()), Err)
    }

    /// Is it undone? A way that cannot be entered (a file or a symlink is on it) leads to nothing of ours, unless the kernel shows a mount
    /// of the volume there all the same: a step that was refused for its path has nothing to undo.
    fn undone(&mut self, undo: &Undo, outcome: Result<Outcome, Failure>) -> Result<(), Failure> {
        let failure = match outcome {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        match undo {
            Undo::Unmount { place, .. } if failure.reason == Reason::BadPath => {
                let observed = self.lease.observe(None)?;
                let is_known = self.path(place).is_some();
                if is_known && self.seen_at(&observed, place).is_empty() { Ok(()) } else { Err(failure) }
            }
            _ => Err(failure),
        }
    }

    /// Undoes a strand after `cause`. What was left behind outweighs the cause: the caller must ask again (law 2).
    pub(crate) fn unwind_after(&mut self, strand: u32, cause: Failure) -> Failure {
        match self.unwind(strand) {
            Ok(()) => cause,
            Err(left) => Failure::new(Reason::LeftBehind, format!("{cause}; undoing it left something behind ({left}); ask again")),
        }
    }

    /// Drops a strand whose step did nothing: its undos are noted as done.
    pub(crate) fn abandon(&mut self, strand: u32) -> Result<(), Failure> {
        let undos = self.writer.record().strands.iter().find(|other| other.number == strand).map_or(0, |strand| strand.undos.len());
        let lines: Vec<Line> = std::iter::once(Line::Unwind { strand }).chain((0..undos).map(|_| Line::Undone { strand })).collect();
        self.writer.write_all(&lines)?;
        self.note_if_gone();
        Ok(())
    }

    /// Undoes a list that no strand holds, in order: what follows from the kernel's view alone when the journal was lost.
    pub(crate) fn undo_all(&mut self, undos: Vec<Undo>) -> Result<(), Failure> {
        self.seen = None;
        for undo in undos {
            self.lease.undo(&[undo]).into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        self.note_if_gone();
        Ok(())
    }

    pub(crate) fn note_if_gone(&mut self) {
        let is_gone = self.writer.record().strands.is_empty();
        self.lease.volume_is_gone(is_gone);
    }

    /// A copy of the strand that stages the volume, in whatever state.
    pub(crate) fn stage_strand(&self) -> Option<Strand> {
        self.writer.record().stage().cloned()
    }

    /// Undoes what an earlier daemon, or an undo that failed, left half built or half taken down.
    ///
    /// What is left of a publish at another target than `target` is tried and, if it does not go, left: one folder that somebody put
    /// files into must not hold up the whole volume.
    pub(crate) fn finish_interrupted(&mut self, target: Option<&Place>) -> Result<(), Failure> {
        let mut interrupted: Vec<(bool, u32, bool)> = (self.writer.record().strands.iter())
            .filter(|strand| strand.state != StrandState::Standing)
            .map(|strand| match &strand.what {
                What::Stage(_) => (true, strand.number, true),
                What::Publish(facts) => (false, strand.number, target == Some(&facts.target)),
            })
            .collect();
        // Publishes before the stage that they show.
        interrupted.sort_unstable();
        for (_, strand, must_go) in interrupted {
            match self.unwind(strand) {
                Err(left) if must_go => {
                    return Err(Failure::new(Reason::LeftBehind, format!("an earlier call was interrupted and could not be undone yet: {left}")));
                }
                Err(left) => tracing::warn!("what is left of an earlier publish does not go yet: {left}"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Takes down the strands of publishes that `is_meant`, all of them, and reports the first failure.
    pub(crate) fn unwind_publishes(&mut self, is_meant: impl Fn(&PublishFacts) -> bool) -> Result<bool, Failure> {
        let strands: Vec<u32> = self.writer.record().publishes().filter(|(_, facts)| is_meant(facts)).map(|(strand, _)| strand.number).collect();
        let mut first = None;
        for strand in &strands {
            if let Err(failure) = self.unwind(*strand) {
                first.get_or_insert(failure);
            }
        }
        first.map_or(Ok(!strands.is_empty()), Err)
    }

    pub(crate) fn path(&self, place: &Place) -> Option<HostPath> {
        self.engine.settings.roots.path(place)
    }

    /// The mounts of the volume that the kernel shows at the place.
    pub(crate) fn seen_at<'o>(&self, observed: &'o Observed, place: &Place) -> Vec<&'o SeenMount> {
        let path = self.path(place);
        observed.mounts.iter().filter(|mount| path.as_ref().is_some_and(|path| path.as_str() == mount.path)).collect()
    }

    /// Nothing of the volume is on this node: no device, and no stage in the journal. (A target folder that could not be removed, of a
    /// volume that is gone otherwise, does not count.)
    pub fn is_absent(&mut self) -> Result<bool, Failure> {
        let observed = self.observe()?;
        Ok(observed.devices.is_empty() && self.writer.record().stage().is_none())
    }

    /// Is anything recorded that a failure would leave behind?
    pub fn holds_something(&self) -> bool {
        self.writer.record().stage().is_some()
    }
}

/// A place for an external program: for a format it is had before the format is noted as begun, which nothing but its end takes back.
pub(crate) fn place_for_a_program(engine: &Engine) -> Result<ProgramPlace<'_>, Failure> {
    let words = "every place for an external program (mkfs, e2fsck) is taken, perhaps by one that hangs; ask again";
    engine.programs.enter(PROGRAM_PATIENCE).ok_or_else(|| Failure::new(Reason::ProgramTimedOut, words))
}
