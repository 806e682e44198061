//! The lanes of a plugin process: one for each call that it runs at once. Others wait here, where their time is not yet the plugin's.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use windlass_wire::lane::Lane;

/// All lanes of one process.
pub(crate) struct Lanes {
    free: Mutex<Vec<Lane>>,
    freed: Condvar,
    number: usize,
}

/// A lane that is taken.
pub(crate) struct Taken<'a> {
    lanes: &'a Lanes,
    lane: Option<Lane>,
}

impl Lanes {
    /// All of them are free.
    pub(crate) fn new(lanes: Vec<Lane>) -> Self {
        Self { number: lanes.len(), free: Mutex::new(lanes), freed: Condvar::new() }
    }

    /// Takes the one that was free last, whose thread is warmest; `None` when none was free in time.
    pub(crate) fn take(&self, until: Instant) -> Option<Taken<'_>> {
        let mut free = self.lock();
        loop {
            if let Some(lane) = free.pop() {
                return Some(Taken { lanes: self, lane: Some(lane) });
            }
            let left = until.checked_duration_since(Instant::now())?;
            free = self.freed.wait_timeout(free, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many calls run.
    pub(crate) fn taken(&self) -> usize {
        self.number - self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Taken<'_> {
    type Target = Lane;

    fn deref(&self) -> &Lane {
        self.lane.as_ref().expect("it is there until the drop")
    }
}

impl DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Lane {
        self.lane.as_mut().expect("it is there until the drop")
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.lanes.lock().extend(self.lane.take());
        self.lanes.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn a_lane_is_taken_once_and_free_again_when_it_is_let_go_of() {
        let lane = || Lane::asking(UnixStream::pair().unwrap().0, 64).unwrap();
        let lanes = Lanes::new(vec![lane(), lane()]);
        let (one, _two) = (lanes.take(Instant::now()), lanes.take(Instant::now()));
        assert!(lanes.take(Instant::now() + Duration::from_millis(5)).is_none());
        assert_eq!(lanes.taken(), 2);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lanes.take(Instant::now() + Duration::from_secs(10)).is_some());
            drop(one);
            assert!(waits.join().unwrap());
        });
        assert_eq!(lanes.taken(), 1);
    }
}
