//! At start: undoes what an earlier daemon was in the middle of, and reports what nobody owns. Nothing is unmapped on our own account.

use crate::engine::Engine;
use crate::record::{Record, StrandState};
use crate::work::Work;
use std::collections::HashSet;
use windlass_plan::failure::Failure;
use windlass_wire::worker::Surveyed;

impl Engine {
    /// The volumes that an earlier daemon was in the middle of. Each is to be claimed and [`Work::recover`]ed.
    pub fn interrupted(&self) -> Vec<Record> {
        self.journal.all().into_iter().filter(|record| record.strands.iter().any(|strand| strand.state != StrandState::Standing)).collect()
    }

    /// Devices with a mark that no record explains: of a lost journal, or of another daemon. Reported, never touched (law 3).
    pub fn unowned(&self) -> Result<Vec<Surveyed>, Failure> {
        let known: HashSet<u64> = self.journal.all().iter().map(|record| record.header.key.short()).collect();
        Ok(self.survey()?.into_iter().filter(|found| found.short_key.is_some_and(|key| !known.contains(&key))).collect())
    }
}

impl Work<'_> {
    /// Undoes what was interrupted.
    pub fn recover(&mut self) -> Result<(), Failure> {
        self.finish_interrupted(None)
    }
}
