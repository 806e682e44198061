//! The lanes of a plugin process: one for each call that it runs at once. Others wait here, where their time is not yet the plugin's.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use windlass_wire::lane::Lane;

/// All lanes of one process.
pub(crate) struct Lanes {
    free: Mutex<Free>,
    freed: Condvar,
    number: usize,
}

struct Free {
    lanes: Vec<Lane>,
    /// The process is lost: its lanes lead nowhere.
    is_lost: bool,
}

/// Why there is no lane for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLane {
    /// None was free in time.
    Full,
    /// The process was lost while the call waited; nothing of it was sent.
    Lost,
}

/// A lane that is taken.
pub(crate) struct Taken<'a> {
    lanes: &'a Lanes,
    lane: Option<Lane>,
}

impl Lanes {
    /// All of them are free.
    pub(crate) fn new(lanes: Vec<Lane>) -> Self {
        Self { number: lanes.len(), free: Mutex::new(Free { lanes, is_lost: false }), freed: Condvar::new() }
    }

    /// Takes the one that was free last, whose thread is warmest, as soon as there is one.
    pub(crate) fn take(&self, until: Instant) -> Result<Taken<'_>, NoLane> {
        let mut free = self.lock();
        loop {
            if free.is_lost {
                return Err(NoLane::Lost);
            }
            if let Some(lane) = free.lanes.pop() {
                return Ok(Taken { lanes: self, lane: Some(lane) });
            }
            let left = until.checked_duration_since(Instant::now()).ok_or(NoLane::Full)?;
            free = self.freed.wait_timeout(free, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells all who wait that the process is lost.
    pub(crate) fn lose(&self) {
        self.lock().is_lost = true;
        self.freed.notify_all();
    }

    /// How many calls run.
    pub(crate) fn taken(&self) -> usize {
        self.number - self.lock().lanes.len()
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken<'_> {
    /// The process is not to be trusted with another call: nobody gets this lane, nor another of it.
    pub(crate) fn lose(&self) {
        self.lanes.lose();
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
        self.lanes.lock().lanes.extend(self.lane.take());
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
        assert_eq!(lanes.take(Instant::now() + Duration::from_millis(5)).err(), Some(NoLane::Full));
        assert_eq!(lanes.taken(), 2);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lanes.take(Instant::now() + Duration::from_secs(10)).is_ok());
            drop(one);
            assert!(waits.join().unwrap());
        });
        assert_eq!(lanes.taken(), 1);
    }

    #[test]
    fn whoever_waits_for_a_lost_process_is_told_at_once() {
        let lanes = Lanes::new(vec![Lane::asking(UnixStream::pair().unwrap().0, 64).unwrap()]);
        let one = lanes.take(Instant::now()).ok().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lanes.take(Instant::now() + Duration::from_secs(60)).err());
            std::thread::sleep(Duration::from_millis(20));
            one.lose();
            assert_eq!(waits.join().unwrap(), Some(NoLane::Lost));
        });
        drop(one);
        assert_eq!(lanes.take(Instant::now()).err(), Some(NoLane::Lost));
    }
}
