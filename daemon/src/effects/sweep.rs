//! What is done in a cluster while nobody waits: trashes are emptied, and copies with a long chain of images behind them are made independent.
//!
//! What there is to do is found in the cluster, so that a new process goes on where one died.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use windlass_ceph::{ClusterAccess, Clusters, Purged};
use windlass_plan::rbd::{PoolAt, RbdName};

/// Images of one round, before other pools have their turn.
const ROUND: usize = 8;

/// Between two rounds of which one came to nothing.
const PAUSE: Duration = Duration::from_secs(5);

/// Rounds that came to nothing, before a pool is left until the next call.
const FRUITLESS: usize = 12;

/// The two threads, each of which takes one pool after the other.
pub(super) struct Sweeps {
    clusters: Arc<Clusters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Pools that the threads were told of since the process began.
    told: HashSet<(RbdName, PoolAt)>,
    purge: Option<Sender<Sweep>>,
    flatten: Option<Sender<Sweep>>,
}

/// A pool in which there may be something to do.
struct Sweep {
    access: ClusterAccess,
    at: PoolAt,
}

impl Sweeps {
    pub(super) fn new(clusters: Arc<Clusters>) -> Self {
        Self { clusters, state: Mutex::default() }
    }

    /// Has everything looked at that an earlier process may have left: once in the process's life.
    pub(super) fn look(&self, access: ClusterAccess, at: PoolAt) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.told.insert((access.user.clone(), at.clone())) {
            hand(&mut state.flatten, "flatten", &self.clusters, flatten, Sweep { access: access.clone(), at: at.clone() });
            hand(&mut state.purge, "purge", &self.clusters, purge, Sweep { access, at });
        }
    }

    /// Has the trash emptied, after something went into it.
    pub(super) fn purge(&self, access: ClusterAccess, at: PoolAt) {
        self.look(access.clone(), at.clone());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What was deleted before in another pool may have waited for this one.
        let pools: Vec<PoolAt> = state.told.iter().filter(|(user, other)| *user == access.user && *other != at).map(|(_, other)| other.clone()).collect();
        for at in std::iter::once(at).chain(pools) {
            hand(&mut state.purge, "purge", &self.clusters, purge, Sweep { access: access.clone(), at });
        }
    }

    /// Has copies made independent, after one was made.
    pub(super) fn flatten(&self, access: ClusterAccess, at: PoolAt) {
        self.look(access.clone(), at.clone());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        hand(&mut state.flatten, "flatten", &self.clusters, flatten, Sweep { access, at });
    }
}

/// Hands a pool to a thread, which is started with the first.
fn hand(to: &mut Option<Sender<Sweep>>, name: &'static str, clusters: &Arc<Clusters>, work: fn(&Clusters, &Receiver<Sweep>), sweep: Sweep) {
    if to.is_none() {
        let (sender, sweeps) = channel();
        let clusters = clusters.clone();
        match std::thread::Builder::new().name(name.into()).stack_size(1 << 20).spawn(move || work(&clusters, &sweeps)) {
            Ok(_) => *to = Some(sender),
            Err(error) => return tracing::warn!(%error, "no thread to {name} with; what there is to do waits for the next call"),
        }
    }
    if let Some(Err(_)) = to.as_ref().map(|to| to.send(sweep)) {
        // The thread is gone, by a panic: the next call starts another.
        *to = None;
    }
}

/// A pool that a thread is at.
struct Pending {
    sweep: Sweep,
    after: String,
    fruitless: usize,
}

/// What a round in a pool came to.
enum Round {
    /// There is nothing more to do.
    Done,
    /// Something was done, and there may be more, after this one.
    On(String),
    /// There is something that cannot be done yet.
    Later,
}

/// Takes the pools in turn, a round each, until there is nothing more to do in them or nothing can be done.
fn in_turn(sweeps: &Receiver<Sweep>, round: impl Fn(&Sweep, &str) -> Round) {
    let mut pending: Vec<Pending> = Vec::new();
    let mut is_idle = true;
    loop {
        let next = match (pending.is_empty(), is_idle) {
            (true, _) => sweeps.recv().map_err(|_| RecvTimeoutError::Disconnected),
            (false, true) => sweeps.recv_timeout(PAUSE),
            (false, false) => sweeps.recv_timeout(Duration::ZERO),
        };
        match next {
            Ok(sweep) => match pending.iter_mut().find(|one| one.sweep.at == sweep.at && one.sweep.access == sweep.access) {
                Some(known) => known.fruitless = 0,
                None => pending.push(Pending { sweep, after: String::new(), fruitless: 0 }),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        is_idle = true;
        pending.retain_mut(|one| match round(&one.sweep, &one.after) {
            Round::Done => false,
            Round::On(after) => {
                (one.after, one.fruitless, is_idle) = (after, 0, false);
                true
            }
            Round::Later => {
                one.after.clear();
                one.fruitless += 1;
                one.fruitless < FRUITLESS
            }
        });
    }
}

/// Removes what is in the trash, a few images a round.
fn purge(clusters: &Clusters, sweeps: &Receiver<Sweep>) {
    in_turn(sweeps, |Sweep { access, at }, after| match clusters.connect(access).and_then(|cluster| cluster.purge(at, after, ROUND)) {
        Ok(Purged { next: None, kept: 0, .. }) => Round::Done,
        Ok(Purged { next: None, removed: 0, .. }) => Round::Later,
        Ok(Purged { next, .. }) => Round::On(next.unwrap_or_default()),
        Err(error) => {
            tracing::warn!(pool = %at, %error, "the trash is not emptied; it is tried again");
            Round::Later
        }
    });
}

/// Makes copies independent, one after the other.
fn flatten(clusters: &Clusters, sweeps: &Receiver<Sweep>) {
    in_turn(sweeps, |Sweep { access, at }, after| match clusters.connect(access).and_then(|cluster| cluster.flatten_noted(at, after, ROUND)) {
        Ok(None) => Round::Done,
        Ok(Some(after)) => Round::On(after),
        Err(error) => {
            tracing::warn!(pool = %at, %error, "a copy is not made independent; it is tried again");
            Round::Later
        }
    });
}
