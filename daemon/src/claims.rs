//! One piece of work at a time on a volume or a name: the same call joins it, another waits its turn, and a deadline ends the wait but
//! never the work.
//!
//! The claim is owned by the thread that works, not by the caller's future: a caller that hangs up frees nothing.

use crate::refused::Refused;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use windlass_plan::ids::DriverName;
use windlass_plan::plugin::{SnapshotAnswer, VolumeAnswer};
use windlass_plan::request::Context;
use windlass_plan::step::Usage;

/// How long a call waits for its turn while another works on the same volume.
pub(crate) const TURN: Duration = Duration::from_secs(30);

/// What is claimed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Claimed {
    /// A volume, by id.
    Volume(DriverName, String),
    /// A name that a volume is being made for.
    Name(DriverName, String),
    /// A snapshot, by id.
    Snapshot(DriverName, String),
    /// A name that a snapshot is being cut for.
    SnapshotName(DriverName, String),
}

impl Claimed {
    /// Whose it is, and what: an id or a name.
    pub(crate) fn into_parts(self) -> (DriverName, String) {
        match self {
            Self::Volume(driver, on) | Self::Name(driver, on) | Self::Snapshot(driver, on) | Self::SnapshotName(driver, on) => (driver, on),
        }
    }
}

/// What a claimed piece of work answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Nothing but OK.
    Done,
    /// A volume.
    Volume(VolumeAnswer),
    /// A snapshot.
    Snapshot(SnapshotAnswer),
    /// A publish_context.
    Context(Context),
    /// A size in bytes.
    Size(u64),
    /// A size in bytes, and whether the node has to do something.
    Expanded(u64, bool),
    /// How full a volume is.
    Usage(Usage),
}

type Outcome = Result<Answer, Refused>;

/// Who calls, what for, and until when it waits.
pub(crate) struct Caller {
    /// The RPC, for messages.
    pub(crate) verb: &'static str,
    /// Equal for calls that are equal in every field, secrets too ([`Claims::fingerprint`]).
    pub(crate) fingerprint: [u64; 2],
    /// Until when the caller waits.
    pub(crate) until: Instant,
}

/// All claims of a daemon.
pub(crate) struct Claims {
    table: Mutex<HashMap<Claimed, Place>>,
    keys: [RandomState; 2],
}

/// A claim's place in the table: one holder, or several who share it. Never none.
struct Place {
    form: Form,
    holders: Vec<Holder>,
}

/// Whether others may hold the same at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Nobody.
    Alone,
    /// Whoever only reads from it, too.
    Shared,
}

#[derive(Clone)]
struct Holder {
    verb: &'static str,
    fingerprint: [u64; 2],
    since: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// A claim, held by the thread that works; more can be added to it.
pub(crate) struct Claim {
    claims: Arc<Claims>,
    held: Vec<Claimed>,
    holder: Holder,
    sender: Option<watch::Sender<Option<Outcome>>>,
}

/// What is going on, for status.
pub(crate) struct Going {
    /// What is claimed.
    pub(crate) claimed: Claimed,
    /// By which RPC.
    pub(crate) verb: &'static str,
    /// For how long.
    pub(crate) age: Duration,
}

impl Claims {
    /// Nothing is claimed.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), keys: [RandomState::new(), RandomState::new()] })
    }

    /// A keyed digest of a call: secrets go in, and nothing of them can be got out.
    pub(crate) fn fingerprint<T: Hash>(&self, verb: &'static str, call: &T) -> [u64; 2] {
        [0, 1].map(|n: usize| self.keys[n].hash_one((verb, call)))
    }

    /// Has `work` done on a thread of its own under the claim, joins the same call that runs already, or waits for a turn.
    pub(crate) async fn run(self: &Arc<Self>, key: Claimed, caller: Caller, work: impl FnOnce(&mut Claim) -> Outcome + Send + 'static) -> Outcome {
        let turn_ends = Instant::now() + TURN;
        loop {
            let holder = match self.enter(&key, &caller) {
                Ok(claim) => {
                    let holder = claim.holder.clone();
                    blocking(claim, work);
                    return wait(holder, caller.until).await;
                }
                Err(holder) => holder,
            };
            if holder.fingerprint == caller.fingerprint && holder.verb == caller.verb {
                return wait(holder, caller.until).await;
            }
            let busy = Refused::Busy { verb: holder.verb, age: holder.since.elapsed() };
            let limit = turn_ends.min(caller.until);
            let mut outcome = holder.outcome.clone();
            let is_over = tokio::time::timeout_at(limit.into(), outcome.wait_for(Option::is_some)).await.is_ok();
            if !is_over {
                return Err(if limit == caller.until { Refused::Deadline { verb: holder.verb, age: holder.since.elapsed() } } else { busy });
            }
        }
    }

    /// Claims for work of the daemon's own, without a caller. `None` where the volume is claimed already.
    pub(crate) fn claim_own(self: &Arc<Self>, key: &Claimed, verb: &'static str) -> Option<Claim> {
        self.enter(key, &Caller { verb, fingerprint: [0, 0], until: Instant::now() }).ok()
    }

    fn enter(self: &Arc<Self>, key: &Claimed, caller: &Caller) -> Result<Claim, Holder> {
        let mut table = self.lock();
        if let Some(holder) = table.get(key).and_then(|place| place.holders.first()) {
            return Err(holder.clone());
        }
        let (sender, outcome) = watch::channel(None);
        let holder = Holder { verb: caller.verb, fingerprint: caller.fingerprint, since: Instant::now(), outcome };
        table.insert(key.clone(), Place { form: Form::Alone, holders: vec![holder.clone()] });
        Ok(Claim { claims: self.clone(), held: vec![key.clone()], holder, sender: Some(sender) })
    }

    /// What is going on now.
    pub(crate) fn going(&self) -> Vec<Going> {
        let table = self.lock();
        let mut going: Vec<Going> = (table.iter().flat_map(|(claimed, place)| place.holders.iter().map(move |holder| (claimed, holder))))
            .map(|(claimed, holder)| Going { claimed: claimed.clone(), verb: holder.verb, age: holder.since.elapsed() })
            .collect();
        going.sort_by(|a, b| a.claimed.cmp(&b.claimed));
        going
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Claimed, Place>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one hop from the async world to a thread (nobody else calls `spawn_blocking`).
pub(crate) fn on_a_thread(work: impl FnOnce() + Send + 'static) {
    let span = tracing::Span::current();
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    tokio::task::spawn_blocking(move || span.in_scope(work));
}

/// Work under a claim: the thread owns it.
fn blocking(mut claim: Claim, work: impl FnOnce(&mut Claim) -> Outcome + Send + 'static) {
    on_a_thread(move || {
        let outcome = work(&mut claim);
        claim.finish(outcome);
    });
}

async fn wait(mut holder: Holder, until: Instant) -> Outcome {
    let finished = tokio::time::timeout_at(until.into(), holder.outcome.wait_for(Option::is_some)).await;
    match finished {
        Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(Refused::Lost)),
        // The sender is dropped without an outcome when the work panicked.
        Ok(Err(_)) => Err(Refused::Lost),
        Err(_) => Err(Refused::Deadline { verb: holder.verb, age: holder.since.elapsed() }),
    }
}

impl Claim {
    /// Adds a claim, waiting for whoever has it. True if somebody had it meanwhile, so that what was learned before may be stale.
    ///
    /// Order: a name, then what is read from, then a new volume or snapshot. Who reads from what another makes from what he makes would wait in a
    /// circle: so nobody waits longer than for a turn.
    pub(crate) fn add(&mut self, key: Claimed) -> Result<bool, Refused> {
        self.take(key, Form::Alone)
    }

    /// Adds a claim on what is only read from: others may read from it, too, and nobody may change or delete it meanwhile.
    pub(crate) fn share(&mut self, key: Claimed) -> Result<(), Refused> {
        self.take(key, Form::Shared).map(drop)
    }

    fn take(&mut self, key: Claimed, form: Form) -> Result<bool, Refused> {
        let until = Instant::now() + TURN;
        let mut has_waited = false;
        loop {
            let mut other = {
                let mut table = self.claims.lock();
                match table.get_mut(&key) {
                    None => {
                        table.insert(key.clone(), Place { form, holders: vec![self.holder.clone()] });
                        self.held.push(key);
                        return Ok(has_waited);
                    }
                    Some(place) if (place.form, form) == (Form::Shared, Form::Shared) => {
                        place.holders.push(self.holder.clone());
                        self.held.push(key);
                        return Ok(has_waited);
                    }
                    Some(place) => place.holders[0].clone(),
                }
            };
            has_waited = true;
            let over = async { tokio::time::timeout_at(until.into(), other.outcome.wait_for(Option::is_some)).await.is_ok() };
            if !tokio::runtime::Handle::current().block_on(over) {
                return Err(Refused::Busy { verb: other.verb, age: other.since.elapsed() });
            }
        }
    }

    /// Is it held?
    pub(crate) fn holds(&self, key: &Claimed) -> bool {
        self.held.contains(key)
    }

    fn finish(mut self, outcome: Outcome) {
        self.free();
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(Some(outcome));
        }
    }

    fn free(&mut self) {
        let mut table = self.claims.lock();
        for key in self.held.drain(..) {
            let Some(place) = table.get_mut(&key) else { continue };
            place.holders.retain(|holder| !holder.outcome.same_channel(&self.holder.outcome));
            if place.holders.is_empty() {
                table.remove(&key);
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // After a panic, and for the daemon's own work: whoever waits finds the place free, and no outcome.
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key() -> Claimed {
        Claimed::Volume(DriverName::parse("d").unwrap(), "v".into())
    }
    fn caller(verb: &'static str, fingerprint: u64, within: Duration) -> Caller {
        Caller { verb, fingerprint: [fingerprint, 0], until: Instant::now() + within }
    }
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "multi_thread")]
    async fn the_same_call_sixty_four_times_is_done_once_whoever_hangs_up() {
        let (claims, count) = (Claims::new(), Arc::new(AtomicUsize::new(0)));
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let tasks: Vec<_> = (0..64)
            .map(|n| {
                let (claims, count, gate) = (claims.clone(), count.clone(), gate.clone());
                tokio::spawn(async move {
                    let within = if n % 3 == 0 { Duration::from_millis(30) } else { LONG };
                    let work = move |_: &mut Claim| {
                        count.fetch_add(1, Ordering::SeqCst);
                        let _ = gate.lock().unwrap().recv();
                        Ok(Answer::Size(7))
                    };
                    claims.run(key(), caller("Stage", 1, within), work).await
                })
            })
            .collect();
        // Those with a short deadline give up while the work still stands at the gate.
        let mut late = 0;
        let mut others = Vec::new();
        for (n, task) in tasks.into_iter().enumerate() {
            if n % 3 == 0 {
                late += usize::from(matches!(task.await.unwrap(), Err(Refused::Deadline { .. })));
            } else {
                others.push(task);
            }
        }
        assert_eq!(late, 22);
        go.send(()).unwrap();
        for task in others {
            assert!(matches!(task.await.unwrap(), Ok(Answer::Size(7))));
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(claims.going().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_call_waits_its_turn_and_names_who_holds_it_when_time_is_up() {
        let claims = Claims::new();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let held = {
            let claims = claims.clone();
            tokio::spawn(async move {
                let work = move |_: &mut Claim| {
                    let _ = gate.recv();
                    Ok(Answer::Done)
                };
                claims.run(key(), caller("Stage", 1, LONG), work).await
            })
        };
        while claims.going().is_empty() {
            tokio::task::yield_now().await;
        }
        let refused = claims.run(key(), caller("Unstage", 2, Duration::from_millis(30)), |_| Ok(Answer::Done)).await.unwrap_err();
        assert!(refused.to_string().contains("Stage"), "{refused}");
        let waiting = {
            let claims = claims.clone();
            tokio::spawn(async move { claims.run(key(), caller("Unstage", 2, LONG), |_| Ok(Answer::Size(2))).await })
        };
        go.send(()).unwrap();
        assert!(matches!(waiting.await.unwrap(), Ok(Answer::Size(2))));
        assert!(held.await.unwrap().is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_read_from_is_shared_and_kept_from_those_who_change_it() {
        let claims = Claims::new();
        let name = |n: u64| Claimed::Name(DriverName::parse("d").unwrap(), n.to_string());
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let readers: Vec<_> = (0..3)
            .map(|n| {
                let (claims, gate) = (claims.clone(), gate.clone());
                tokio::spawn(async move {
                    let work = move |claim: &mut Claim| {
                        claim.share(key())?;
                        let _ = gate.lock().unwrap().recv();
                        Ok(Answer::Done)
                    };
                    claims.run(name(n), caller("Create", n, LONG), work).await
                })
            })
            .collect();
        while claims.going().iter().filter(|going| going.claimed == key()).count() < 3 {
            tokio::task::yield_now().await;
        }
        let refused = claims.run(key(), caller("Delete", 9, Duration::from_millis(30)), |_| Ok(Answer::Done)).await.unwrap_err();
        assert!(refused.to_string().contains("Create"), "{refused}");
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        for reader in readers {
            assert!(reader.await.unwrap().is_ok());
        }
        assert!(claims.run(key(), caller("Delete", 9, LONG), |_| Ok(Answer::Done)).await.is_ok());
        assert!(claims.going().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_panics_frees_its_claim() {
        let claims = Claims::new();
        let lost = claims.run(key(), caller("Stage", 1, LONG), |_| panic!("on purpose")).await;
        assert!(matches!(lost, Err(Refused::Lost)));
        assert!(claims.run(key(), caller("Stage", 1, LONG), |_| Ok(Answer::Done)).await.is_ok());
    }
}
