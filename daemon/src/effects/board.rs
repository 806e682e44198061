//! What is done in a cluster while nobody waits, for an operator who asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use windlass_plan::effect::{Background, BackgroundState};
use windlass_plan::rbd::PoolAt;

/// A line a pool and kind of work. Held for moments only: whoever works writes to it, and whoever asks reads it.
#[derive(Default)]
pub(super) struct Board(Mutex<BTreeMap<(&'static str, String), Line>>);

struct Line {
    since: Instant,
    state: BackgroundState,
    why: Option<String>,
}

impl Board {
    /// The work is how it is now. A line that is there keeps its age, and its reason unless there is another.
    pub(super) fn write(&self, what: &'static str, at: &PoolAt, state: BackgroundState, why: Option<String>) {
        let mut lines = self.lines();
        let line = lines.entry((what, at.to_string())).or_insert_with(|| Line { since: Instant::now(), state, why: None });
        line.state = state;
        line.why = why.or_else(|| line.why.take());
    }

    /// The work is done.
    pub(super) fn wipe(&self, what: &'static str, at: &PoolAt) {
        self.lines().remove(&(what, at.to_string()));
    }

    pub(super) fn list(&self) -> Vec<Background> {
        let lines = self.lines();
        let line = |((what, pool), line): (&(&'static str, String), &Line)| Background {
            what: (*what).to_owned(),
            pool: pool.clone(),
            state: line.state,
            seconds: line.since.elapsed().as_secs(),
            why: line.why.clone(),
        };
        lines.iter().map(line).collect()
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
