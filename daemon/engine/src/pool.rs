//! Workers: processes forked before they are needed, leased for one volume at a time, replaced when they are lost.

use crate::process::{Launch, Process};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::request::Secret;
use windlass_plan::step::{Observed, Outcome, Step, Undo, Usage};
use windlass_plan::{paths::HostPath, paths::Place};
use windlass_wire::frame;
use windlass_wire::sealed::Sealed;
use windlass_wire::worker::{Answer, Ask, Look, Setup, Surveyed};

/// How many workers wait for work when nothing goes on.
const IDLE: usize = 2;
/// How many pieces of work go on at once. One that takes longer than [`SLOW`] counts no more: it may hang, and must not hold up others.
const AT_ONCE: usize = 16;
/// After this time a piece of work does not count any more.
const SLOW: Duration = Duration::from_secs(1);
/// What a worker takes to let go of a volume, if nothing holds it up.
const MOMENT: Duration = Duration::from_millis(2);
/// Workers beyond [`IDLE`] end when none was needed for so long.
const SPARE: Duration = Duration::from_secs(10);

/// All workers of a daemon.
pub struct Pool {
    launch: Launch,
    setup: Setup,
    idle: Mutex<Idle>,
    leases: Mutex<Leases>,
    returned: Condvar,
}

#[derive(Default)]
struct Idle {
    workers: Vec<Worker>,
    /// Asked to let their volume go, since when: mostly for some microseconds, for ever where the device hangs.
    leaving: Vec<(Worker, Instant)>,
    last_use: Option<Instant>,
}

impl Idle {
    /// Takes those back that have let go.
    fn collect(&mut self) {
        for (mut worker, since) in std::mem::take(&mut self.leaving) {
            match worker.has_let_go() {
                Some(true) if self.workers.len() < AT_ONCE => self.workers.push(worker),
                Some(_) => retire(worker),
                None => self.leaving.push((worker, since)),
            }
        }
    }

    /// Is one about to be free?
    fn has_one_that_just_left(&self) -> bool {
        self.leaving.iter().any(|(_, since)| since.elapsed() < MOMENT)
    }

    /// Lets those go that died while they waited.
    fn bury(&mut self) {
        for mut worker in std::mem::take(&mut self.workers) {
            if worker.process.has_ended() { retire(worker) } else { self.workers.push(worker) }
        }
    }
}

#[derive(Default)]
struct Leases {
    next: u64,
    since: HashMap<u64, Instant>,
}

struct Worker {
    process: Box<dyn Process>,
    socket: UnixStream,
}

impl Worker {
    /// The answer to a release, if it is there: an answer is written, and comes, in one piece. False: it is another one, or none will come.
    fn has_let_go(&mut self) -> Option<bool> {
        let answer = self.socket.set_nonblocking(true).map_err(frame::FrameError::Io).and_then(|()| frame::read(&mut self.socket, frame::LIMIT));
        match answer {
            Err(frame::FrameError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Ok(Answer::Ok) => Some(self.socket.set_nonblocking(false).is_ok()),
            Ok(_) | Err(_) => Some(false),
        }
    }
}

impl Pool {
    /// Forks the first workers, so that they have nothing of what the daemon opens later.
    pub fn start(launch: Launch, setup: Setup) -> std::io::Result<Arc<Self>> {
        let pool = Self { launch, setup, idle: Mutex::default(), leases: Mutex::default(), returned: Condvar::new() };
        let first = (0..IDLE).map(|_| pool.fork()).collect::<Result<Vec<_>, _>>()?;
        pool.idle().workers = first;
        Ok(Arc::new(pool))
    }

    /// Takes a worker for `volume`, waiting up to `patience_ms` for an earlier worker that holds the volume's lock; and looks at once what
    /// the kernel shows of it, where that is asked: most work begins so, and one question is quicker than two.
    pub fn lease(self: &Arc<Self>, volume: VolumeKey, patience_ms: u64, look: Option<Look>) -> Result<(Lease, Option<Observed>), Failure> {
        let mut lease = self.any()?;
        match lease.ask(&Ask::Lease { volume, patience_ms, look })? {
            Answer::Ok => Ok((lease, None)),
            Answer::Observed(observed) => Ok((lease, Some(observed))),
            other => Err(unexpected("lease", &other)),
        }
    }

    /// A worker for questions that concern no one volume.
    pub fn any(self: &Arc<Self>) -> Result<Lease, Failure> {
        let number = self.enter();
        match self.take() {
            Ok(worker) => Ok(Lease { worker: Some(worker), pool: self.clone(), number, is_gone: false }),
            Err(error) => {
                self.leave(number);
                Err(Failure::new(Reason::WorkerLost, format!("could not start a worker: {error}")))
            }
        }
    }

    fn take(&self) -> std::io::Result<Worker> {
        loop {
            let idle = {
                let mut idle = self.idle();
                idle.collect();
                // To fork another takes longer than one that has nothing left to do takes to say so.
                while idle.workers.is_empty() && idle.has_one_that_just_left() {
                    drop(idle);
                    std::thread::sleep(MOMENT / 10);
                    idle = self.idle();
                    idle.collect();
                }
                idle.workers.pop()
            };
            match idle {
                Some(mut worker) => {
                    // It may have died while it waited; somebody killed it.
                    if !worker.process.has_ended() {
                        return Ok(worker);
                    }
                }
                None => return self.fork(),
            }
        }
    }

    /// Waits until there is room for another piece of work.
    fn enter(&self) -> u64 {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        while leases.since.values().filter(|since| since.elapsed() < SLOW).count() >= AT_ONCE {
            // Nobody says when a piece of work becomes a slow one: look again now and then.
            leases = self.returned.wait_timeout(leases, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
        }
        leases.next += 1;
        let number = leases.next;
        leases.since.insert(number, Instant::now());
        number
    }

    fn leave(&self, number: u64) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).since.remove(&number);
        self.returned.notify_one();
    }

    /// The workers that wait, by process id: for status and tests.
    pub fn idle_pids(&self) -> Vec<u32> {
        let mut idle = self.idle();
        idle.collect();
        idle.bury();
        idle.workers.iter().map(|worker| worker.process.id()).collect()
    }

    /// The workers that were asked to let their volume go longer than a moment ago and have not, with how long ago: the volume's device
    /// holds them.
    pub fn stuck_pids(&self) -> Vec<(u32, Duration)> {
        let mut idle = self.idle();
        idle.collect();
        idle.leaving.iter().map(|(worker, since)| (worker.process.id(), since.elapsed())).filter(|(_, age)| *age >= SLOW).collect()
    }

    /// Ends the workers that a burst left behind.
    pub fn end_idle(&self) {
        let mut idle = self.idle();
        idle.collect();
        idle.bury();
        if idle.workers.len() > IDLE && idle.last_use.is_none_or(|last| last.elapsed() >= SPARE) {
            let spare = idle.workers.split_off(IDLE);
            drop(idle);
            spare.into_iter().for_each(retire);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fork(&self) -> std::io::Result<Worker> {
        let (process, mut socket) = (self.launch)()?;
        frame::write(&mut socket, &self.setup).map_err(std::io::Error::other)?;
        Ok(Worker { process, socket })
    }

    fn put_back(&self, worker: Worker) {
        let mut idle = self.idle();
        idle.last_use = Some(Instant::now());
        if idle.workers.len() < AT_ONCE {
            idle.workers.push(worker);
        } else {
            drop(idle);
            retire(worker);
        }
    }
}

/// Lets a worker end by itself: its socket closes. The child is reaped by a thread, since it may take as long as the kernel does.
fn retire(worker: Worker) {
    let Worker { process, socket } = worker;
    drop(socket);
    let _ = std::thread::Builder::new().name("reap".into()).stack_size(64 << 10).spawn(move || process.wait());
}

/// A worker for the length of one piece of work. Dropped, it goes back to the pool; a lost one does not.
pub struct Lease {
    worker: Option<Worker>,
    pool: Arc<Pool>,
    number: u64,
    is_gone: bool,
}

impl Lease {
    fn ask(&mut self, ask: &Ask) -> Result<Answer, Failure> {
        let lost =
            |error: &frame::FrameError| Failure::new(Reason::WorkerLost, format!("the worker was lost while it worked on the volume ({error}); ask again"));
        let Some(worker) = self.worker.as_mut() else {
            return Err(Failure::new(Reason::WorkerLost, "the worker was lost before; ask again"));
        };
        let answer = frame::write(&mut worker.socket, ask).and_then(|()| frame::read(&mut worker.socket, frame::LIMIT));
        match answer {
            Ok(Answer::Failed(failure)) => Err(failure),
            Ok(answer) => Ok(answer),
            Err(error) => {
                let failure = lost(&error);
                if let Some(worker) = self.worker.take() {
                    retire(worker);
                }
                Err(failure)
            }
        }
    }

    /// The worker's process id; `None` once it is lost.
    pub fn pid(&self) -> Option<u32> {
        self.worker.as_ref().map(|worker| worker.process.id())
    }

    /// See [`Ask::Observe`].
    pub fn observe(&mut self, device: Option<String>) -> Result<Observed, Failure> {
        match self.ask(&Ask::Observe(Look { device }))? {
            Answer::Observed(observed) => Ok(observed),
            other => Err(unexpected("observe", &other)),
        }
    }

    /// See [`Ask::Key`].
    pub fn give_key(&mut self, key: Secret) -> Result<(), Failure> {
        match self.ask(&Ask::Key(Sealed::new(key)))? {
            Answer::Ok => Ok(()),
            other => Err(unexpected("a key", &other)),
        }
    }

    /// See [`Ask::Do`]. One outcome a step, fewer where the last is [`Outcome::NeedsPreen`]; or why one could not be done.
    pub fn apply(&mut self, steps: &[Step]) -> Result<Vec<Outcome>, Failure> {
        match self.ask(&Ask::Do(steps.to_vec()))? {
            Answer::Done(outcomes) if outcomes.len() == steps.len() || outcomes.last() == Some(&Outcome::NeedsPreen) => Ok(outcomes),
            other => Err(unexpected("steps", &other)),
        }
    }

    /// See [`Ask::Undo`]. One answer for each; where the worker is lost, it is the answer to all.
    pub fn undo(&mut self, undos: &[Undo]) -> Vec<Result<Outcome, Failure>> {
        let failed = |failure: Failure| undos.iter().map(|_| Err(failure.clone())).collect();
        match self.ask(&Ask::Undo(undos.to_vec())) {
            Ok(Answer::Undone(outcomes)) if outcomes.len() == undos.len() => outcomes,
            Ok(other) => failed(unexpected("undos", &other)),
            Err(failure) => failed(failure),
        }
    }

    /// See [`Ask::Usage`].
    pub fn usage(&mut self, place: Place) -> Result<Usage, Failure> {
        match self.ask(&Ask::Usage(place))? {
            Answer::Usage(usage) => Ok(usage),
            other => Err(unexpected("usage", &other)),
        }
    }

    /// See [`Ask::SourceExists`].
    pub fn source_exists(&mut self, folder: HostPath, name: String) -> Result<bool, Failure> {
        match self.ask(&Ask::SourceExists { folder, name })? {
            Answer::Exists(exists) => Ok(exists),
            other => Err(unexpected("a look at the source", &other)),
        }
    }

    /// See [`Ask::Survey`].
    pub fn survey(&mut self) -> Result<Vec<Surveyed>, Failure> {
        match self.ask(&Ask::Survey)? {
            Answer::Survey(found) => Ok(found),
            other => Err(unexpected("a survey", &other)),
        }
    }

    /// Is anything of the volume left on this node? Otherwise its lock file goes with the lease.
    pub fn volume_is_gone(&mut self, is_gone: bool) {
        self.is_gone = is_gone;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.worker.is_some() && self.is_gone {
            // Nothing of the volume is left when the call is answered, its lock's file included.
            let is_released = matches!(self.ask(&Ask::Release { is_gone: true }), Ok(Answer::Ok));
            if let Some(worker) = self.worker.take() {
                if is_released { self.pool.put_back(worker) } else { retire(worker) }
            }
        } else if let Some(mut worker) = self.worker.take() {
            // Nobody waits for it: the work is done, and who comes next waits for the lock.
            match frame::write(&mut worker.socket, &Ask::Release { is_gone: false }) {
                Ok(()) => {
                    let (mut idle, now) = (self.pool.idle(), Instant::now());
                    idle.last_use = Some(now);
                    idle.leaving.push((worker, now));
                }
                Err(_) => retire(worker),
            }
        }
        self.pool.leave(self.number);
    }
}

fn unexpected(asked: &str, answer: &Answer) -> Failure {
    tracing::error!(asked, ?answer, "a worker answered something else than it was asked");
    Failure::new(Reason::WorkerLost, format!("the worker answered something else than {asked}; ask again"))
}
