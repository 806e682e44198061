//! One plugin process: started on the first call, shared by all calls of its generation, ended when nobody has called for a while.

use crate::child::{Binary, Mortal};
use crate::conversation::{Ended, Perform, run};
use crate::lanes::{Lanes, NoLane};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall};
use windlass_wire::lane::{Lane, NoFrame};
use windlass_wire::plugin::{FromPlugin, Setup};

/// How long a process may take to shut itself in and load its code.
const START: Duration = Duration::from_secs(10);
/// What a call may take longer than its own limit, for the way there and back, before it is given up.
const GRACE: Duration = Duration::from_secs(1);
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
    /// Every call that the process may run at once runs, and none has ended in time.
    #[error("all {0} calls that the plugin may run at once are running (`limits.concurrency`), and none has ended; ask again")]
    Full(u32),
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

/// How a process is that nobody has heard of since its last call.
enum Health {
    Alive,
    Gone,
    /// It said something that nobody asked for.
    Talks,
}

impl Running {
    fn health(&self) -> Health {
        match (&self.socket).read(&mut [0]) {
            Ok(0) => Health::Gone,
            Ok(_) => Health::Talks,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Health::Alive,
            Err(_) => Health::Gone,
        }
    }
}

/// A look at the process, for status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
        self.call_by(Instant::now() + self.time(), call, perform)
    }

    /// The same, for a call that has a lane by then.
    fn call_by(&self, until: Instant, call: PluginCall, perform: Perform<'_>) -> Result<PluginAnswer, PluginError> {
        let running = self.running()?;
        let limits = &self.launcher.setup.limits;
        let lane = match running.lanes.take(until) {
            Ok(lane) => lane,
            // Nothing of the call was sent: it is the next process's.
            Err(NoLane::Lost) if Instant::now() < until => {
                self.let_go(&running);
                return self.call_by(until, call, perform);
            }
            Err(NoLane::Lost) => return Err(PluginError::Lost),
            Err(NoLane::Full) => {
                // Guests cannot hold their places for so long: their calls wait for effects. Those who come now get another process.
                self.put_aside(&running);
                return Err(PluginError::Full(limits.concurrency));
            }
        };
        match run(lane, running.next.fetch_add(1, Ordering::Relaxed), call, limits, self.time(), perform) {
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

    /// What a call may take, with the way there and back.
    fn time(&self) -> Duration {
        Duration::from_millis(self.launcher.setup.limits.call_ms) + GRACE
    }

    /// For how many seconds the process is left alone, since it kept failing.
    pub fn backing_off(&self) -> Option<u64> {
        // Somebody is starting it.
        let Ok(state) = self.state.try_lock() else { return None };
        state.not_before.and_then(|at| at.checked_duration_since(Instant::now())).map(|left| left.as_secs() + 1)
    }

    /// Starts the process, if it does not run.
    pub fn warm(&self) -> Result<(), PluginError> {
        self.running().map(drop)
    }

    /// Ends the process if no call has come for `idle`. True when it runs no longer.
    pub fn end_if_idle(&self, idle: Duration) -> bool {
        // Somebody is starting it: it is not idle.
        let Ok(mut state) = self.state.try_lock() else { return false };
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

    /// For status; never waits for a process that is being started.
    pub fn view(&self) -> ProcessView {
        let Ok(state) = self.state.try_lock() else { return ProcessView::default() };
        let running = state.running.as_ref().filter(|running| matches!(running.process.ends_within(Duration::ZERO), Ok(None)));
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
        match state.running.as_ref().map(|running| (running.clone(), running.health())) {
            Some((running, Health::Alive)) => return Ok(running),
            Some((running, Health::Talks)) => {
                tracing::warn!(driver = self.launcher.setup.driver, "a plugin process said what nobody asked for; it is let go");
                running.lanes.lose();
                back_off(&mut state);
            }
            Some((_, Health::Gone)) | None => {}
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
        let (child, socket) = self.launcher.binary.start(&arguments, descriptors).map_err(|error| failed(&error))?;
        let process = Mortal::new(child);
        let mut first = Lane::asking(socket, 64 << 10).map_err(|error| failed(&error))?;
        let ready = match first.send(&self.launcher.setup) {
            Ok(()) => first.receive_until(Instant::now() + START),
            Err(error) => Err(NoFrame::Lost(error)),
        };
        let refused = match ready {
            Ok(FromPlugin::Ready { missing_walls }) => {
                let socket = first.into_socket();
                socket.set_nonblocking(true).map_err(|error| failed(&error))?;
                tracing::debug!(driver = self.launcher.setup.driver, pid = process.pid(), "plugin process started");
                return Ok(Running { socket, lanes: Lanes::new(lanes), next: AtomicU64::new(1), process, missing_walls });
            }
            Ok(FromPlugin::Unusable { reason }) => reason.chars().filter(|c| !c.is_control()).take(1000).collect(),
            Ok(_) => "it answered something else than that it is ready".to_owned(),
            Err(NoFrame::TimedOut) => format!("it was not ready within {} s", START.as_secs()),
            Err(NoFrame::Lost(error)) => format!("it ended before it was ready ({error})"),
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
