//! The socket to the daemon as the calls share it: one writer at a time, and a mailbox for each call.

use crate::sys;
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use windlass_plan::effect::{EffectAnswer, EffectError};
use windlass_plan::plugin::CallFailure;
use windlass_wire::frame::{self, FrameError};
use windlass_wire::plugin::FromPlugin;

/// The way to the daemon.
pub(crate) struct Link {
    socket: UnixStream,
    sending: Mutex<()>,
    calls: Mutex<HashMap<u64, Arc<Mailbox>>>,
}

/// Where a call finds what the daemon sends it.
#[derive(Default)]
pub(crate) struct Mailbox {
    is_cancelled: AtomicBool,
    answer: Mutex<Option<Result<EffectAnswer, EffectError>>>,
    arrived: Condvar,
}

/// How a wait for a time ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The call was cancelled.
    Cancelled,
    /// The time came.
    UntilTheEnd,
}

impl Link {
    /// Takes the writing half over.
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, sending: Mutex::new(()), calls: Mutex::default() }
    }

    /// Sends a frame. Without a daemon there is nothing left to do here: the process ends.
    pub(crate) fn send(&self, message: &FromPlugin) {
        let sending = lock(&self.sending);
        let sent = frame::write(&mut &self.socket, message);
        drop(sending);
        match (sent, message) {
            (Ok(()), _) => {}
            // Nothing was written yet: the frame was too large, and the call can still be answered.
            (Err(FrameError::TooLarge { length, limit }), FromPlugin::Return { id, result: Ok(_) }) => {
                let failure = CallFailure::Limit(format!("the answer is {length} bytes long; a frame holds {limit}"));
                self.send(&FromPlugin::Return { id: *id, result: Err(failure) });
            }
            (Err(_), _) => sys::exit_now(1),
        }
    }

    /// A mailbox for a call; the number must be new.
    pub(crate) fn open(&self, id: u64) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        lock(&self.calls).insert(id, mailbox.clone());
        mailbox
    }

    /// The call is over; what still comes for it is dropped.
    pub(crate) fn close(&self, id: u64) {
        lock(&self.calls).remove(&id);
    }

    /// The mailbox of a call that is not over.
    pub(crate) fn mailbox(&self, id: u64) -> Option<Arc<Mailbox>> {
        lock(&self.calls).get(&id).cloned()
    }
}

impl Mailbox {
    /// Ends the call at its next host call or tick.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        // Under the lock, so that a call which is about to wait sees it.
        let _answer = lock(&self.answer);
        self.arrived.notify_all();
    }

    /// Nobody waits for the call any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// Puts an effect's answer in.
    pub(crate) fn deliver(&self, answer: Result<EffectAnswer, EffectError>) {
        *lock(&self.answer) = Some(answer);
        self.arrived.notify_all();
    }

    /// Waits for an effect's answer; `None` when the call was cancelled. The daemon bounds the time that an effect takes.
    pub(crate) fn answer(&self) -> Option<Result<EffectAnswer, EffectError>> {
        let mut answer = lock(&self.answer);
        loop {
            if let Some(answer) = answer.take() {
                return Some(answer);
            }
            if self.is_cancelled() {
                return None;
            }
            answer = self.arrived.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for a time to come.
    pub(crate) fn sleep(&self, until: Instant) -> Waited {
        let mut answer = lock(&self.answer);
        loop {
            if self.is_cancelled() {
                return Waited::Cancelled;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Waited::UntilTheEnd;
            }
            answer = self.arrived.wait_timeout(answer, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A panic in one call must not take the others with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
