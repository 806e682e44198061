//! What tells threads of a test that it is over, also when it panics: a scope waits for its threads, and a test that fails must not hang.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets the flag when dropped.
pub struct AtEnd<'a>(pub &'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
