//! The places of a plugin process: as many calls as it runs at once. Others wait here, where their time is not yet the plugin's.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// A number of places.
pub(crate) struct Places {
    free: Mutex<u32>,
    freed: Condvar,
}

/// A place that is taken.
pub(crate) struct Place<'a>(&'a Places);

impl Places {
    /// All of them are free.
    pub(crate) fn new(number: u32) -> Self {
        Self { free: Mutex::new(number), freed: Condvar::new() }
    }

    /// Takes one; `None` when none was free in time.
    pub(crate) fn take(&self, until: Instant) -> Option<Place<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            let left = until.checked_duration_since(Instant::now())?;
            free = self.freed.wait_timeout(free, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_place_is_taken_once_and_free_again_when_it_is_let_go_of() {
        let places = Places::new(2);
        let (one, _two) = (places.take(Instant::now()), places.take(Instant::now()));
        assert!(places.take(Instant::now() + Duration::from_millis(5)).is_none());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| places.take(Instant::now() + Duration::from_secs(10)).is_some());
            drop(one);
            assert!(waits.join().unwrap());
        });
    }
}
