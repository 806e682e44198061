//! A call's way to the daemon: the lane that the call came by, and its number.

use crate::sys;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use windlass_plan::effect::{EffectAnswer, EffectError};
use windlass_plan::plugin::{CallFailure, PluginAnswer};
use windlass_wire::frame::FrameError;
use windlass_wire::lane::Lane;
use windlass_wire::plugin::{FromPlugin, ToPlugin};

/// The way of one call. Without a daemon at its end there is nothing left to do here: the process ends.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    id: u64,
    lane: Arc<Mutex<Lane>>,
}

impl Link {
    /// The next call that comes by a lane.
    pub(crate) fn next(lane: &Arc<Mutex<Lane>>) -> (Self, windlass_plan::plugin::PluginCall) {
        match lock(lane).receive() {
            Ok(ToPlugin::Call { id, call }) => (Self { id, lane: lane.clone() }, call),
            Err(FrameError::Closed) => sys::exit_now(0),
            Ok(ToPlugin::EffectDone { .. }) | Err(_) => sys::exit_now(1),
        }
    }

    /// The daemon's number for the call.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Sends a frame of this call.
    pub(crate) fn send(&self, message: &FromPlugin) {
        if lock(&self.lane).send(message).is_err() {
            sys::exit_now(1);
        }
    }

    /// What came of the effect that was just asked for. The daemon bounds the time that an effect takes.
    pub(crate) fn answer(&self) -> Result<EffectAnswer, EffectError> {
        match lock(&self.lane).receive() {
            Ok(ToPlugin::EffectDone { id, result }) if id == self.id => result,
            Err(FrameError::Closed) => sys::exit_now(0),
            Ok(_) | Err(_) => sys::exit_now(1),
        }
    }

    /// The end of the call.
    pub(crate) fn finish(&self, result: Result<PluginAnswer, CallFailure>) {
        let sent = lock(&self.lane).send(&FromPlugin::Return { id: self.id, result });
        match sent {
            Ok(()) => {}
            // Nothing of it was sent, and the call can still be answered.
            Err(FrameError::TooLarge { length, limit }) => {
                let failure = CallFailure::Limit(format!("the answer is {length} bytes long; a frame holds {limit}"));
                self.send(&FromPlugin::Return { id: self.id, result: Err(failure) });
            }
            Err(_) => sys::exit_now(1),
        }
    }
}

/// A panic in one call must not take the others with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
