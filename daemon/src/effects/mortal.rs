//! A process that is killed when it is let go, and counted until it is dead: one that hangs dies when its back end answers.

use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A child that is killed when it is let go, and reaped by a thread.
pub(super) struct Mortal {
    pub(super) pid: u32,
    child: Mutex<Option<Child>>,
    dying: Arc<AtomicUsize>,
}

impl Mortal {
    pub(super) fn new(child: Child, dying: &Arc<AtomicUsize>) -> Self {
        Self { pid: child.id(), child: Mutex::new(Some(child)), dying: dying.clone() }
    }

    /// Kills it and waits until it is dead, for as long as that takes; whoever comes second waits as well.
    pub(super) fn die(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = child.as_mut() {
            let _counted = Dying::of(&self.dying);
            end(child);
        }
        *child = None;
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let Some(mut child) = self.child.get_mut().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let counted = Dying::of(&self.dying);
        let _ = child.kill();
        let reaper = std::thread::Builder::new().name("reap".into()).stack_size(64 << 10).spawn(move || {
            end(&mut child);
            drop(counted);
        });
        if let Err(error) = reaper {
            tracing::warn!(%error, pid = self.pid, "no thread to reap an effects process with; it was killed");
        }
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Counts a process that was killed until it is dead.
struct Dying(Arc<AtomicUsize>);

impl Dying {
    fn of(dying: &Arc<AtomicUsize>) -> Self {
        dying.fetch_add(1, Ordering::SeqCst);
        Self(dying.clone())
    }
}

impl Drop for Dying {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
