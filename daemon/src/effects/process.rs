//! The daemon's side of the effects processes: one for each granted folder, started on its first effect, started anew when it is lost.
//!
//! A folder that hangs keeps its own process, and the calls that wait for it, and nothing else. An effect that changes something is
//! waited for until it is answered or its process is dead: who gives up earlier frees a claim under which it may still be done.

use super::refuse;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use windlass_plan::effect::{EffectAnswer, EffectError, FilesVerb};
use windlass_plan::paths::HostPath;
use windlass_plan::plugin::RefusalKind;
use windlass_plugins::child::Binary;
use windlass_wire::effects::{Ready, Reply, Request, Setup};
use windlass_wire::frame;
use windlass_wire::mux::{Mux, WaitError};

/// How long a look is waited for. It changes nothing, whenever it ends.
const LOOK: Duration = Duration::from_secs(30);
/// How long a process may take to shut itself in and open its folder.
const START: Duration = Duration::from_secs(10);
/// Effects that may wait for one folder at once: each has a thread.
const WAITING: usize = 128;
/// Processes of one folder that were killed and are not dead yet: they hang in it, and another would hang as well.
const DYING: usize = 2;

/// The effects processes of a daemon, by folder.
pub(crate) struct EffectsProcesses {
    binary: Binary,
    desks: Mutex<BTreeMap<HostPath, Arc<Desk>>>,
}

/// What belongs to one folder.
struct Desk {
    folder: HostPath,
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

/// A child that is killed when it is let go, and reaped by a thread: one that hangs dies when its folder answers.
struct Mortal {
    pid: u32,
    child: Mutex<Option<Child>>,
    dying: Arc<AtomicUsize>,
}

impl EffectsProcesses {
    /// Nothing is started yet.
    pub(crate) fn new(binary: Binary) -> Self {
        Self { binary, desks: Mutex::default() }
    }

    /// The folders that drivers were granted now. What works in another one ends when it is done.
    pub(crate) fn allow(&self, folders: BTreeSet<HostPath>) {
        let mut desks = lock(&self.desks);
        let gone: Vec<_> = desks.extract_if(.., |folder, _| !folders.contains(folder)).collect();
        for folder in folders {
            desks.entry(folder.clone()).or_insert_with(|| Arc::new(Desk::new(folder)));
        }
        drop(desks);
        drop(gone);
    }

    /// The folder, the id and the missing walls of each process that runs, for status.
    pub(crate) fn view(&self) -> Vec<(HostPath, u32, Vec<String>)> {
        let desks: Vec<_> = lock(&self.desks).iter().map(|(folder, desk)| (folder.clone(), desk.clone())).collect();
        // A desk whose process is being started is not waited for.
        let view = |(folder, desk): (HostPath, Arc<Desk>)| {
            let state = desk.state.try_lock().ok()?;
            let running = state.running.as_ref().filter(|running| !running.mux.is_lost())?;
            Some((folder, running.process.pid, running.ready.missing_walls.clone()))
        };
        desks.into_iter().filter_map(view).collect()
    }

    /// Has an effect done that was checked before.
    pub(crate) fn perform(&self, folder: &HostPath, verb: FilesVerb) -> Result<EffectAnswer, EffectError> {
        let desk = lock(&self.desks).get(folder).cloned();
        let Some(desk) = desk else {
            return Err(unavailable("the folder was granted a moment ago, or is no longer; ask again".to_owned()));
        };
        desk.perform(&self.binary, verb)
    }

    /// Ends processes that nobody has needed for a while.
    pub(crate) fn end_idle(&self, idle: Duration) {
        for desk in self.all() {
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
    fn new(folder: HostPath) -> Self {
        Self { folder, state: Mutex::default(), waiting: AtomicUsize::new(0), dying: Arc::default() }
    }

    fn perform(&self, binary: &Binary, verb: FilesVerb) -> Result<EffectAnswer, EffectError> {
        let _one = Counted::of(&self.waiting, WAITING).ok_or_else(|| {
            unavailable(format!("{WAITING} calls wait for the granted folder {} already: its file system does not answer, or not fast enough", self.folder))
        })?;
        let running = self.running(binary)?;
        let changes = match &verb {
            FilesVerb::Create { .. } | FilesVerb::Grow { .. } | FilesVerb::Delete { .. } => true,
            FilesVerb::Stat { .. } | FilesVerb::List { .. } | FilesVerb::Room => false,
        };
        let asked = running.mux.call().and_then(|call| {
            call.send(&Request { id: call.id, verb })?;
            if changes { call.wait_until_lost() } else { call.wait(Instant::now() + LOOK) }
        });
        match asked {
            Ok(reply) => reply.result,
            Err(WaitError::TimedOut) => Err(unavailable(format!("the file system of the granted folder {} does not answer", self.folder))),
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
        // Others of this folder wait at the lock meanwhile: they want the same process.
        let running = Arc::new(self.start(binary)?);
        state.running = Some(running.clone());
        drop(state);
        drop(lost);
        Ok(running)
    }

    fn start(&self, binary: &Binary) -> Result<Running, EffectError> {
        if self.dying.load(Ordering::SeqCst) >= DYING {
            return Err(unavailable(format!("the file system of the granted folder {} does not answer: earlier work hangs in it", self.folder)));
        }
        let failed = |error: &dyn std::fmt::Display| unavailable(format!("the effects process of the folder {} could not be started: {error}", self.folder));
        let (child, mut socket) = binary.start(&["effects".to_owned()], Vec::new()).map_err(|error| failed(&error))?;
        let process = Mortal::new(child, &self.dying);
        let ready: Ready = socket
            .set_read_timeout(Some(START))
            .map_err(frame::FrameError::Io)
            .and_then(|()| frame::write(&mut socket, &Setup { folder: self.folder.clone() }))
            .and_then(|()| frame::read(&mut socket, frame::LIMIT))
            .map_err(|error| failed(&error))?;
        if let Some(problem) = &ready.problem {
            return Err(unavailable(format!("the granted folder {} cannot be used: {problem}", self.folder)));
        }
        let mux = Mux::start("effects", socket, frame::LIMIT).map_err(|error| failed(&error))?;
        Ok(Running { mux, process, ready })
    }
}

impl Mortal {
    fn new(child: Child, dying: &Arc<AtomicUsize>) -> Self {
        Self { pid: child.id(), child: Mutex::new(Some(child)), dying: dying.clone() }
    }

    /// Kills it and waits until it is dead, for as long as that takes; whoever comes second waits as well.
    fn die(&self) {
        let mut child = lock(&self.child);
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
