//! The daemon's side of the effects processes: one for each back end, started on its first effect, started anew when it is lost.
//!
//! A back end that hangs keeps its own process, and the calls that wait for it, and nothing else. An effect that changes something is
//! waited for until it is answered or its process is dead: who gives up earlier frees a claim under which it may still be done.

use super::mortal::Mortal;
use super::refuse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use windlass_plan::effect::{Background, EffectAnswer, EffectError};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::request::Secret;
use windlass_plugins::child::Binary;
use windlass_wire::effects::{BackEnd, Deed, Ready, Reply, Request, Setup};
use windlass_wire::frame;
use windlass_wire::mux::{Mux, WaitError};
use windlass_wire::sealed::Sealed;

/// How long a look is waited for. It changes nothing, whenever it ends.
const LOOK: Duration = Duration::from_secs(30);
/// How long an operator's question is waited for, which asks nobody but the process.
const GLANCE: Duration = Duration::from_secs(1);
/// How long a process may take to shut itself in and open its folder, or load its library.
const START: Duration = Duration::from_secs(10);
/// Effects that may wait for one back end at once: each has a thread.
const WAITING: usize = 128;
/// Processes of one back end that were killed and are not dead yet: they hang in it, and another would hang as well.
const DYING: usize = 2;

/// The effects processes of a daemon, by back end.
pub(crate) struct EffectsProcesses {
    binary: Binary,
    /// Whom those become that need no file of the daemon's.
    uid: Option<u32>,
    desks: Mutex<BTreeMap<BackEnd, Arc<Desk>>>,
}

/// What belongs to one back end.
struct Desk {
    back_end: BackEnd,
    uid: Option<u32>,
    state: Mutex<State>,
    waiting: AtomicUsize,
    dying: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    running: Option<Arc<Running>>,
    last: Option<Instant>,
}

struct Running {
    mux: Mux<Request, Reply>,
    process: Mortal,
    ready: Ready,
}

impl EffectsProcesses {
    /// Nothing is started yet.
    pub(crate) fn new(binary: Binary, uid: Option<u32>) -> Self {
        Self { binary, uid, desks: Mutex::default() }
    }

    /// What drivers were granted now. What works on another one ends when it is done.
    pub(crate) fn allow(&self, granted: BTreeSet<BackEnd>) {
        let mut desks = lock(&self.desks);
        let gone: Vec<_> = desks.extract_if(.., |back_end, _| !granted.contains(back_end)).collect();
        for back_end in granted {
            desks.entry(back_end.clone()).or_insert_with(|| Arc::new(Desk::new(back_end, self.uid)));
        }
        drop(desks);
        drop(gone);
    }

    /// The back end, the id and the missing walls of each process that runs, for status.
    pub(crate) fn view(&self) -> Vec<(BackEnd, u32, Vec<String>)> {
        let desks: Vec<_> = lock(&self.desks).iter().map(|(back_end, desk)| (back_end.clone(), desk.clone())).collect();
        // A desk whose process is being started is not waited for.
        let view = |(back_end, desk): (BackEnd, Arc<Desk>)| {
            let state = desk.state.try_lock().ok()?;
            let running = state.running.as_ref().filter(|running| !running.mux.is_lost())?;
            Some((back_end, running.process.pid, running.ready.missing_walls.clone()))
        };
        desks.into_iter().filter_map(view).collect()
    }

    /// What the processes that run do while nobody waits for it; why one does not say.
    pub(crate) fn background(&self) -> Vec<(BackEnd, Result<Vec<Background>, String>)> {
        let running: Vec<_> = lock(&self.desks).iter().filter_map(|(back_end, desk)| Some((back_end.clone(), desk.running_now()?))).collect();
        running.into_iter().map(|(back_end, running)| (back_end, running.background())).collect()
    }

    /// Has an effect done that was checked before, with the key that it needs.
    pub(crate) fn perform(&self, back_end: &BackEnd, deed: Deed, key: Option<Secret>) -> Result<EffectAnswer, EffectError> {
        let desk = lock(&self.desks).get(back_end).cloned();
        let Some(desk) = desk else {
            return Err(unavailable(format!("{back_end} was granted a moment ago, or is no longer; ask again")));
        };
        desk.perform(&self.binary, deed, key)
    }

    /// Ends processes that nobody has needed for a while. Those of clusters stay: they may be emptying a trash, which nobody waits for.
    pub(crate) fn end_idle(&self, idle: Duration) {
        for desk in self.all().into_iter().filter(|desk| matches!(desk.back_end, BackEnd::Folder(_))) {
            let Ok(mut state) = desk.state.try_lock() else { continue };
            let is_idle = state.last.is_some_and(|last| last.elapsed() >= idle) && desk.waiting.load(Ordering::SeqCst) == 0;
            let ended = state.running.take_if(|_| is_idle);
            drop(state);
            drop(ended);
        }
    }

    fn all(&self) -> Vec<Arc<Desk>> {
        lock(&self.desks).values().cloned().collect()
    }
}

impl Desk {
    fn new(back_end: BackEnd, uid: Option<u32>) -> Self {
        Self { back_end, uid, state: Mutex::default(), waiting: AtomicUsize::new(0), dying: Arc::default() }
    }

    fn perform(&self, binary: &Binary, deed: Deed, key: Option<Secret>) -> Result<EffectAnswer, EffectError> {
        let _one = Counted::of(&self.waiting, WAITING)
            .ok_or_else(|| unavailable(format!("{WAITING} calls wait for {} already: it does not answer, or not fast enough", self.back_end)))?;
        let running = self.running(binary)?;
        let changes = deed.changes();
        let asked = running.mux.call().and_then(|call| {
            if let Some(key) = key {
                call.send(&Request::Key { id: call.id, key: Sealed::new(key) })?;
            }
            call.send(&Request::Do { id: call.id, deed })?;
            if changes { call.wait_until_lost() } else { call.wait(Instant::now() + LOOK) }
        });
        match asked {
            Ok(reply) => reply.result,
            Err(WaitError::TimedOut) => Err(unavailable(format!("{} does not answer", self.back_end))),
            Err(WaitError::TooLarge) => Err(refuse(RefusalKind::Invalid, "the effect is larger than a message may be".to_owned())),
            Err(WaitError::Lost) => {
                // A process that is lost to us may still be in the middle of the effect. Its death is the end of it.
                running.process.die();
                Err(unavailable("the effects process was lost while it worked; ask again".to_owned()))
            }
        }
    }

    fn running(&self, binary: &Binary) -> Result<Arc<Running>, EffectError> {
        let mut state = lock(&self.state);
        state.last = Some(Instant::now());
        let lost = state.running.take_if(|running| running.mux.is_lost());
        if let Some(running) = &state.running {
            return Ok(running.clone());
        }
        // Others of this back end wait at the lock meanwhile: they want the same process.
        let running = Arc::new(self.start(binary)?);
        state.running = Some(running.clone());
        drop(state);
        drop(lost);
        Ok(running)
    }

    /// The process, if one runs; one that is being started is not waited for.
    fn running_now(&self) -> Option<Arc<Running>> {
        self.state.try_lock().ok()?.running.clone().filter(|running| !running.mux.is_lost())
    }

    fn start(&self, binary: &Binary) -> Result<Running, EffectError> {
        if self.dying.load(Ordering::SeqCst) >= DYING {
            return Err(unavailable(format!("{} does not answer: earlier work hangs in it", self.back_end)));
        }
        let failed = |error: &dyn std::fmt::Display| unavailable(format!("the effects process of {} could not be started: {error}", self.back_end));
        let (child, mut socket) = binary.start(&["effects".to_owned()], Vec::new()).map_err(|error| failed(&error))?;
        let process = Mortal::new(child, &self.dying);
        let ready: Ready = socket
            .set_read_timeout(Some(START))
            .map_err(frame::FrameError::Io)
            .and_then(|()| frame::write(&mut socket, &Setup { back_end: self.back_end.clone(), uid: self.uid }))
            .and_then(|()| frame::read(&mut socket, frame::LIMIT))
            .map_err(|error| failed(&error))?;
        if let Some(problem) = &ready.problem {
            return Err(unavailable(format!("{} cannot be used: {problem}", self.back_end)));
        }
        let mux = Mux::start("effects", socket, frame::LIMIT).map_err(|error| failed(&error))?;
        Ok(Running { mux, process, ready })
    }
}

impl Running {
    fn background(&self) -> Result<Vec<Background>, String> {
        let asked = self.mux.call().and_then(|call| {
            call.send(&Request::Do { id: call.id, deed: Deed::Background })?;
            call.wait(Instant::now() + GLANCE)
        });
        match asked.map(|reply| reply.result) {
            Ok(Ok(EffectAnswer::Background(list))) => Ok(list),
            Ok(Ok(_)) => Err("its process answers something else".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(WaitError::TimedOut) => Err("its process is busy, and does not answer within a second".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A place among those who wait.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn of(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let counted = Self(count);
        (count.fetch_add(1, Ordering::SeqCst) < most).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn unavailable(text: String) -> EffectError {
    refuse(RefusalKind::Unavailable, text)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
