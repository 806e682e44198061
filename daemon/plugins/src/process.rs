//! One plugin process: started on the first call, shared by all calls of its generation, ended when nobody has called for a while.

use crate::child::{Binary, Mortal};
use crate::lanes::{Lanes, Taken};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use windlass_plan::effect::{Effect, EffectAnswer, EffectError};
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall, RefusalKind};
use windlass_wire::frame::{self, FrameError};
use windlass_wire::lane::{Lane, NoFrame};
use windlass_wire::plugin::{FromPlugin, Level, Limits, Setup, ToPlugin};

/// How long a process may take to shut itself in and load its code.
const START: Duration = Duration::from_secs(10);
/// What a call may take longer than its own limit, for the way there and back, before it is given up.
const GRACE: Duration = Duration::from_secs(1);
/// Log lines of one call that are believed; an honest process stops earlier.
const LOG_LINES: u32 = 256;

/// How to start the process of one generation.
pub struct Launcher {
    /// The binary.
    pub binary: Binary,
    /// The compiled code.
    pub code: File,
    /// Who it becomes.
    pub uid: Option<u32>,
    /// What it is told.
    pub setup: Setup,
}

/// Why a call got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// The plugin itself: a refusal, a trap, a deadline, a limit.
    #[error("{}", describe(.0))]
    Failed(CallFailure),
    /// The process was lost in the middle.
    #[error("the plugin process was lost while it worked on the call; ask again")]
    Lost,
    /// The process could not be started.
    #[error("the plugin process could not be started: {0}")]
    Start(String),
    /// No generation serves.
    #[error("the driver has no working plugin: {0}")]
    NoGeneration(String),
    /// It failed too often a moment ago; it is left alone for a while.
    #[error("the plugin process keeps failing and is left alone for another {0} s")]
    BackingOff(u64),
}

fn describe(failure: &CallFailure) -> String {
    match failure {
        CallFailure::Refused(refusal) => refusal.message.clone(),
        CallFailure::Trapped(text) => format!("the plugin trapped: {text}"),
        CallFailure::TimedOut { limit_ms } => format!("the plugin took longer than {limit_ms} ms"),
        CallFailure::Limit(text) => format!("the plugin went over a limit: {text}"),
        CallFailure::NotExported => "the plugin does not have this function".to_owned(),
    }
}

/// What performs a call's effects: checks them against the grants and has them done, or refuses.
pub type Perform<'a> = &'a mut dyn FnMut(Effect) -> Result<EffectAnswer, EffectError>;

/// The process of one generation, if it runs.
pub struct Process {
    launcher: Launcher,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Arc<Running>>,
    last_call: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
    starts: u64,
}

struct Running {
    /// Open for as long as the process lives; nothing is said on it any more.
    socket: UnixStream,
    lanes: Lanes,
    next: AtomicU64,
    process: Mortal,
    missing_walls: Vec<String>,
}

impl Running {
    /// Has the process gone?
    fn is_lost(&self) -> bool {
        !matches!((&self.socket).read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Why a call ended without an answer.
enum Ended {
    /// The plugin failed, and its process works as it should.
    Failed(CallFailure),
    /// The process is gone, or does not keep the limits that it was given: it is not called again.
    Process(PluginError),
}

/// A look at the process, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessView {
    /// Its id, while it runs.
    pub pid: Option<u32>,
    /// Calls that run.
    pub in_flight: usize,
    /// How often it was started.
    pub starts: u64,
    /// Walls that this kernel or this user cannot have.
    pub missing_walls: Vec<String>,
}

impl Process {
    /// Nothing is started yet.
    pub fn new(launcher: Launcher) -> Self {
        Self { launcher, state: Mutex::default() }
    }

    /// Calls an export. The thread that waits here performs the call's effects.
    pub fn call(&self, call: PluginCall, perform: Perform<'_>) -> Result<PluginAnswer, PluginError> {
        let running = self.running()?;
        let limits = &self.launcher.setup.limits;
        let time = Duration::from_millis(limits.call_ms) + GRACE;
        let Some(lane) = running.lanes.take(Instant::now() + time) else {
            // Guests cannot hold their places for so long: their calls wait for effects. Those who come now get another process.
            self.put_aside(&running);
            return Err(PluginError::Failed(CallFailure::TimedOut { limit_ms: limits.call_ms }));
        };
        match run(lane, running.next.fetch_add(1, Ordering::Relaxed), call, limits, time, perform) {
            Ok(answer) => {
                self.lock().failures = 0;
                Ok(answer)
            }
            Err(Ended::Failed(failure)) => Err(PluginError::Failed(failure)),
            Err(Ended::Process(error)) => {
                self.let_go(&running);
                Err(error)
            }
        }
    }

    /// Starts the process, if it does not run.
    pub fn warm(&self) -> Result<(), PluginError> {
        self.running().map(drop)
    }

    /// Ends the process if no call has come for `idle`. True when it runs no longer.
    pub fn end_if_idle(&self, idle: Duration) -> bool {
        let mut state = self.lock();
        let is_idle = state.last_call.is_none_or(|last| last.elapsed() >= idle);
        let ended = match &state.running {
            Some(running) if is_idle && running.lanes.taken() == 0 => state.running.take(),
            Some(_) => return false,
            None => return true,
        };
        drop(state);
        drop(ended);
        true
    }

    /// For status.
    pub fn view(&self) -> ProcessView {
        let state = self.lock();
        let running = state.running.as_ref().filter(|running| !running.is_lost());
        ProcessView {
            pid: running.map(|running| running.process.pid()),
            in_flight: running.map_or(0, |running| running.lanes.taken()),
            starts: state.starts,
            missing_walls: running.map(|running| running.missing_walls.clone()).unwrap_or_default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Result<Arc<Running>, PluginError> {
        let mut state = self.lock();
        state.last_call = Some(Instant::now());
        if let Some(running) = state.running.as_ref().filter(|running| !running.is_lost()) {
            return Ok(running.clone());
        }
        state.running = None;
        if let Some(wait) = state.not_before.and_then(|at| at.checked_duration_since(Instant::now())) {
            return Err(PluginError::BackingOff(wait.as_secs() + 1));
        }
        // Others wait at the lock meanwhile: they want the same process.
        state.starts += 1;
        match self.start() {
            Ok(running) => {
                let running = Arc::new(running);
                state.running = Some(running.clone());
                Ok(running)
            }
            Err(error) => {
                back_off(&mut state);
                Err(error)
            }
        }
    }

    /// Kills a process that is not to be trusted with another call, and counts that.
    fn let_go(&self, broken: &Arc<Running>) {
        let mut state = self.lock();
        // Several calls lose one process: it is counted once.
        if state.running.as_ref().is_some_and(|running| Arc::ptr_eq(running, broken)) {
            state.running = None;
            back_off(&mut state);
        }
        drop(state);
        broken.process.kill();
    }

    /// Leaves a process to the calls that it has; it ends with the last of them.
    fn put_aside(&self, full: &Arc<Running>) {
        let mut state = self.lock();
        if state.running.as_ref().is_some_and(|running| Arc::ptr_eq(running, full)) {
            tracing::warn!(driver = self.launcher.setup.driver, "every call of the plugin process waits for an effect; another process takes new calls");
            state.running = None;
        }
    }

    fn start(&self) -> Result<Running, PluginError> {
        let failed = |error: &dyn std::fmt::Display| PluginError::Start(error.to_string());
        let mut arguments = vec!["plugin-host".to_owned()];
        arguments.extend(self.launcher.uid.map(|uid| format!("--uid={uid}")));
        let limits = &self.launcher.setup.limits;
        let limit = (limits.message as usize).saturating_mul(2).max(64 << 10);
        let mut descriptors: Vec<OwnedFd> = vec![self.launcher.code.try_clone().map_err(|error| failed(&error))?.into()];
        let mut lanes = Vec::new();
        for _ in 0..limits.concurrency.clamp(1, 64) {
            let (ours, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
            lanes.push(Lane::asking(ours, limit).map_err(|error| failed(&error))?);
            descriptors.push(theirs.into());
        }
        arguments.push(format!("--lanes={}", lanes.len()));
        let (child, mut socket) = self.launcher.binary.start(&arguments, descriptors).map_err(|error| failed(&error))?;
        let process = Mortal::new(child);
        let ready = socket
            .set_read_timeout(Some(START))
            .map_err(frame::FrameError::Io)
            .and_then(|()| frame::write(&mut socket, &self.launcher.setup))
            .and_then(|()| frame::read::<FromPlugin>(&mut socket, 64 << 10));
        let refused = match ready {
            Ok(FromPlugin::Ready { missing_walls }) => {
                socket.set_nonblocking(true).map_err(|error| failed(&error))?;
                tracing::debug!(driver = self.launcher.setup.driver, pid = process.pid(), "plugin process started");
                return Ok(Running { socket, lanes: Lanes::new(lanes), next: AtomicU64::new(1), process, missing_walls });
            }
            Ok(FromPlugin::Unusable { reason }) => reason.chars().filter(|c| !c.is_control()).take(1000).collect(),
            Ok(_) => "it answered something else than that it is ready".to_owned(),
            Err(error) => format!("it ended before it was ready ({error})"),
        };
        Err(PluginError::Start(refused))
    }
}

/// 0, 0, 1, 2, 4 ... 32 s: one lost process is bad luck, a row of them is a bad plugin.
fn back_off(state: &mut State) {
    state.failures = state.failures.saturating_add(1);
    if state.failures > 2 {
        state.not_before = Some(Instant::now() + Duration::from_secs(1 << (state.failures - 3).min(5)));
    }
}

fn run(mut lane: Taken<'_>, id: u64, call: PluginCall, limits: &Limits, time: Duration, perform: Perform<'_>) -> Result<PluginAnswer, Ended> {
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
                answer(&mut lane, id, result).map_err(|_| lost())?;
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
