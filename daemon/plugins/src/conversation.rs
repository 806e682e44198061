//! One call as the daemon leads it: the question, the effects and log lines that the plugin asks for in between, and the answer.

use crate::lanes::Taken;
use crate::process::PluginError;
use std::time::{Duration, Instant};
use windlass_plan::effect::{Effect, EffectAnswer, EffectError};
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall, RefusalKind};
use windlass_wire::frame::FrameError;
use windlass_wire::lane::{Lane, NoFrame};
use windlass_wire::plugin::{FromPlugin, Level, Limits, ToPlugin};

/// Log lines of one call that are believed; an honest process stops earlier.
const LOG_LINES: u32 = 256;

/// What performs a call's effects: checks them against the grants and has them done, or refuses.
pub type Perform<'a> = &'a mut dyn FnMut(Effect) -> Result<EffectAnswer, EffectError>;

/// Why a call ended without an answer.
pub(crate) enum Ended {
    /// The plugin failed, and its process works as it should.
    Failed(CallFailure),
    /// The process is gone, or does not keep the limits that it was given: it is not called again.
    Process(PluginError),
}

/// Makes a call by a lane that was taken for it, and has its effects done by the thread that waits.
pub(crate) fn run(mut lane: Taken<'_>, id: u64, call: PluginCall, limits: &Limits, time: Duration, perform: Perform<'_>) -> Result<PluginAnswer, Ended> {
    // Before the lane is anybody else's.
    converse(&mut lane, id, call, limits, time, perform).inspect_err(|ended| {
        if let Ended::Process(_) = ended {
            lane.lose();
        }
    })
}

fn converse(lane: &mut Lane, id: u64, call: PluginCall, limits: &Limits, time: Duration, perform: Perform<'_>) -> Result<PluginAnswer, Ended> {
    let broken = |what: String| Ended::Process(PluginError::Failed(CallFailure::Limit(what)));
    let lost = || Ended::Process(PluginError::Lost);
    let name = call.name();
    // The process ends its guests by itself; this deadline is for a process that does not. Time spent in effects is ours, not its.
    let mut until = Instant::now() + time;
    let (mut effects, mut lines) = (0, 0);
    lane.send(&ToPlugin::Call { id, call }).map_err(|error| match error {
        FrameError::TooLarge { .. } => Ended::Failed(CallFailure::Limit("the call is larger than a message may be".to_owned())),
        _ => lost(),
    })?;
    loop {
        match lane.receive_until(until) {
            Ok(FromPlugin::Return { id: of, result }) if of == id => return result.map_err(Ended::Failed),
            Ok(FromPlugin::Effect { id: of, effect }) if of == id => {
                effects += 1;
                if effects > limits.host_calls {
                    return Err(broken(format!("it asked for more than {} effects (`limits.host_calls`)", limits.host_calls)));
                }
                let began = Instant::now();
                let result = perform(effect);
                until += began.elapsed();
                answer(lane, id, result).map_err(|_| lost())?;
            }
            Ok(FromPlugin::Log { id: of, level, message }) if of == id => {
                lines += 1;
                if lines > LOG_LINES {
                    return Err(broken(format!("it wrote more than {LOG_LINES} log lines")));
                }
                log(name, level, &message);
            }
            Ok(_) => {
                tracing::warn!(call = name, "a plugin process sent what it may not send; it is let go");
                return Err(lost());
            }
            // The process should have ended its guest long ago: it is stopped, or no longer does what it is told.
            Err(NoFrame::TimedOut) => return Err(Ended::Process(PluginError::Failed(CallFailure::TimedOut { limit_ms: limits.call_ms }))),
            Err(NoFrame::Lost(error)) => {
                if !matches!(error, FrameError::Closed) {
                    tracing::warn!(call = name, error = &error as &dyn std::error::Error, "a plugin process sent what it may not send; it is let go");
                }
                return Err(lost());
            }
        }
    }
}

/// Tells a call what came of its effect. An answer that no message can hold is a refusal.
fn answer(lane: &mut Lane, id: u64, result: Result<EffectAnswer, EffectError>) -> Result<(), FrameError> {
    match lane.send(&ToPlugin::EffectDone { id, result }) {
        Err(FrameError::TooLarge { .. }) => {
            let error = EffectError { kind: RefusalKind::Exhausted, message: "the answer is larger than a message may be".to_owned() };
            lane.send(&ToPlugin::EffectDone { id, result: Err(error) })
        }
        sent => sent,
    }
}

fn log(call: &str, level: Level, message: &str) {
    // The plugin process cuts lines and replaces control characters; a broken one is not believed.
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect();
    match level {
        Level::Debug => tracing::debug!(target: "plugin", call, "{message}"),
        Level::Info => tracing::info!(target: "plugin", call, "{message}"),
        Level::Warn => tracing::warn!(target: "plugin", call, "{message}"),
        Level::Error => tracing::error!(target: "plugin", call, "{message}"),
    }
}
