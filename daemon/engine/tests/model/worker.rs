//! A worker at the far end of the socket: it does steps to a kernel of its own making, and fails, dies or lies as it is told.

use crate::kernel::Kernel;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use windlass_engine::process::{Launch, Process};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::step::{Outcome, Step};
use windlass_wire::frame;
use windlass_wire::worker::{Answer, Ask, Setup};

/// What goes wrong with a step or an undo.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// The deed is done all the same.
    pub(crate) is_done: bool,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// It is said that it failed.
    Fails(Reason),
    /// The worker is lost.
    Loses,
    /// The daemon is killed: nothing that it does from here on counts.
    Kills,
}

/// What all workers of a daemon share.
pub(crate) struct World {
    pub(crate) kernel: Kernel,
    /// After so many steps and undos, this.
    pub(crate) fault: Option<(u8, Fault)>,
    /// The fault was met.
    pub(crate) has_failed: bool,
    /// The daemon was killed, and this is what it had written by then.
    pub(crate) killed: Option<BTreeMap<PathBuf, Vec<u8>>>,
    /// The daemon's folder.
    pub(crate) folder: PathBuf,
}

pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Thread(Option<JoinHandle<()>>);

impl Process for Thread {
    fn id(&self) -> u32 {
        std::process::id()
    }

    fn has_ended(&mut self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn wait(mut self: Box<Self>) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// Starts workers in one world.
pub(crate) fn launch(world: &Shared) -> Launch {
    let world = world.clone();
    Box::new(move || {
        let (ours, theirs) = UnixStream::pair()?;
        let world = world.clone();
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(move || serve(theirs, &world))?;
        Ok((Box::new(Thread(Some(thread))) as Box<dyn Process>, ours))
    })
}

/// Until the daemon closes the socket, or the worker is lost.
fn serve(mut socket: UnixStream, world: &Shared) {
    let Ok(Setup { .. }) = frame::read(&mut socket, frame::LIMIT) else { return };
    let mut leased = None;
    while let Ok(ask) = frame::read::<Ask>(&mut socket, frame::LIMIT) {
        let Some(answer) = answer(ask, &mut lock(world), &mut leased) else { return };
        if frame::write(&mut socket, &answer.unwrap_or_else(Answer::Failed)).is_err() {
            return;
        }
    }
}

/// `None`: the worker is lost.
fn answer(ask: Ask, world: &mut World, leased: &mut Option<VolumeKey>) -> Option<Result<Answer, Failure>> {
    if world.killed.is_some() {
        return None;
    }
    let volume = leased.ok_or_else(|| Failure::new(Reason::WorkerLost, "no lease"));
    Some(match ask {
        Ask::Lease { volume, look, .. } => {
            *leased = Some(volume);
            Ok(look.map_or(Answer::Ok, |_| Answer::Observed(world.kernel.observe(volume))))
        }
        Ask::Release { .. } => {
            *leased = None;
            Ok(Answer::Ok)
        }
        Ask::Observe(_) => volume.map(|volume| Answer::Observed(world.kernel.observe(volume))),
        Ask::Do(steps) => match volume {
            Ok(volume) => done(world, volume, &steps)?.map(Answer::Done),
            Err(failure) => Err(failure),
        },
        Ask::Undo(undos) => {
            let Ok(volume) = volume else { return None };
            let outcomes: Option<Vec<_>> = undos.iter().map(|undo| faulty(world, |kernel| kernel.undo(volume, undo))).collect();
            Ok(Answer::Undone(outcomes?))
        }
        Ask::SourceExists { name, .. } => Ok(Answer::Exists(world.kernel.files.contains_key(&name))),
        Ask::Survey => Ok(Answer::Survey(Vec::new())),
        Ask::Key(_) | Ask::Usage(_) => Err(Failure::new(Reason::Unsupported, "not in this world")),
    })
}

/// As a worker does them: up to one that fails, or that has to be followed by another than the next.
fn done(world: &mut World, volume: VolumeKey, steps: &[Step]) -> Option<Result<Vec<Outcome>, Failure>> {
    let mut outcomes = Vec::new();
    for step in steps {
        match faulty(world, |kernel| kernel.apply(volume, step))? {
            Ok(outcome) => outcomes.push(outcome),
            Err(failure) => return Some(Err(failure)),
        }
        if outcomes.last() == Some(&Outcome::NeedsPreen) {
            break;
        }
    }
    Some(Ok(outcomes))
}

/// `None`: the worker is lost.
fn faulty(world: &mut World, deed: impl FnOnce(&mut Kernel) -> Result<Outcome, Failure>) -> Option<Result<Outcome, Failure>> {
    let fault = match &mut world.fault {
        Some((0, fault)) => *fault,
        Some((left, _)) => {
            *left -= 1;
            return Some(deed(&mut world.kernel));
        }
        None => return Some(deed(&mut world.kernel)),
    };
    (world.fault, world.has_failed) = (None, true);
    if fault.is_done {
        let _ = deed(&mut world.kernel);
    }
    match fault.how {
        How::Fails(reason) => Some(Err(Failure::new(reason, "it was told to fail"))),
        How::Loses => None,
        How::Kills => {
            world.killed = Some(written(&world.folder));
            None
        }
    }
}

/// Every file of the daemon.
fn written(folder: &std::path::Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = ["journal", "notes"].map(|name| folder.join(name));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    files.filter_map(|entry| Some((entry.path(), std::fs::read(entry.path()).ok()?))).collect()
}
