//! What was asked of clusters: how often, for how long, with what end, and what still has none.

use crate::error::CephError;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A call that has been under way for longer than this has outlived whoever asked: librbd cannot be told to stop.
pub const ABANDONED: Duration = Duration::from_secs(60);

/// Counts of all calls of a process, by verb.
#[derive(Default)]
pub struct Statistics(Mutex<Book>);

#[derive(Default)]
struct Book {
    tallies: BTreeMap<&'static str, Tally>,
    under_way: BTreeMap<u64, (&'static str, Instant)>,
    last: u64,
}

/// The calls of one verb.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that ended, however.
    pub ended: u64,
    /// Of these, those that failed.
    pub failed: u64,
    /// Of these, those whose cluster did not answer in time.
    pub timed_out: u64,
    /// How long those that ended took, added up.
    pub total: Duration,
    /// The longest of them.
    pub longest: Duration,
    /// Calls that have not ended.
    pub under_way: u64,
    /// Of these, those that take longer than [`ABANDONED`].
    pub abandoned: u64,
}

impl Statistics {
    /// Calls by verb, as of now.
    pub fn tallies(&self) -> BTreeMap<&'static str, Tally> {
        let book = self.lock();
        let mut tallies = book.tallies.clone();
        for (verb, since) in book.under_way.values() {
            let tally = tallies.entry(verb).or_default();
            tally.under_way += 1;
            tally.abandoned += u64::from(since.elapsed() > ABANDONED);
        }
        tallies
    }

    /// Does something and counts it.
    pub(crate) fn counted<T>(&self, verb: &'static str, work: impl FnOnce() -> Result<T, CephError>) -> Result<T, CephError> {
        let started = Instant::now();
        let number = {
            let mut book = self.lock();
            book.last += 1;
            let number = book.last;
            book.under_way.insert(number, (verb, started));
            number
        };
        let result = work();
        let took = started.elapsed();
        let mut book = self.lock();
        book.under_way.remove(&number);
        let tally = book.tallies.entry(verb).or_default();
        tally.ended += 1;
        tally.failed += u64::from(result.is_err());
        tally.timed_out += u64::from(matches!(result, Err(CephError::TimedOut { .. } | CephError::Unreachable { .. })));
        tally.total += took;
        tally.longest = tally.longest.max(took);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    #[test]
    fn calls_are_counted_by_how_they_end() {
        let statistics = Statistics::default();
        let failed = |errno| CephError::of("look at", "an image".to_owned(), Errno(errno));
        statistics.counted("stat", || Ok(())).unwrap();
        statistics.counted("stat", || Err::<(), _>(failed(libc::ETIMEDOUT))).unwrap_err();
        statistics.counted("stat", || Err::<(), _>(failed(libc::EIO))).unwrap_err();
        let seen = statistics.counted("grow", || Ok(statistics.tallies()["grow"])).unwrap();
        assert_eq!((seen.under_way, seen.ended, seen.abandoned), (1, 0, 0));
        let tally = statistics.tallies()["stat"];
        assert_eq!((tally.ended, tally.failed, tally.timed_out, tally.under_way), (3, 2, 1, 0));
    }
}
