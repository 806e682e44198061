//! What is done in a cluster while nobody waits: trashes are emptied, and copies with a long chain of images behind them are made independent.
//!
//! What there is to do is found in the cluster, so that a new process goes on where one died.

use super::board::Board;
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use windlass_ceph::{ClusterAccess, Clusters, Purged};
use windlass_plan::effect::BackgroundState;
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
    /// What there is to do, for those who ask.
    pub(super) board: Arc<Board>,
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
        Self { clusters, board: Arc::default(), state: Mutex::default() }
    }

    /// Has everything looked at that an earlier process may have left: once in the process's life.
    pub(super) fn look(&self, access: ClusterAccess, at: PoolAt) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.told.insert((access.user.clone(), at.clone())) {
            self.hand(&mut state.flatten, FLATTEN, Sweep { access: access.clone(), at: at.clone() });
            self.hand(&mut state.purge, PURGE, Sweep { access, at });
        }
    }

    /// Has the trash emptied, after something went into it.
    pub(super) fn purge(&self, access: ClusterAccess, at: PoolAt) {
        self.look(access.clone(), at.clone());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What was deleted before in another pool may have waited for this one.
        let pools: Vec<PoolAt> = state.told.iter().filter(|(user, other)| *user == access.user && *other != at).map(|(_, other)| other.clone()).collect();
        for at in std::iter::once(at).chain(pools) {
            self.hand(&mut state.purge, PURGE, Sweep { access: access.clone(), at });
        }
    }

    /// Has copies made independent, after one was made.
    pub(super) fn flatten(&self, access: ClusterAccess, at: PoolAt) {
        self.look(access.clone(), at.clone());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.hand(&mut state.flatten, FLATTEN, Sweep { access, at });
    }

    /// Hands a pool to a thread, which is started with the first.
    fn hand(&self, to: &mut Option<Sender<Sweep>>, kind: Kind, sweep: Sweep) {
        let name = kind.name;
        if to.is_none() {
            let (sender, sweeps) = channel();
            let (clusters, board) = (self.clusters.clone(), self.board.clone());
            let work = move || in_turn(&sweeps, kind, &clusters, &board);
            match std::thread::Builder::new().name(name.into()).stack_size(1 << 20).spawn(work) {
                Ok(_) => *to = Some(sender),
                Err(error) => return tracing::warn!(%error, "no thread to {name} with; what there is to do waits for the next call"),
            }
        }
        if let Some(Err(_)) = to.as_ref().map(|to| to.send(sweep)) {
            // The thread is gone, by a panic: the next call starts another.
            *to = None;
        }
    }
}

/// What a thread does, and what it is called.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    round: fn(&Clusters, &Sweep, &str) -> Round,
}

const PURGE: Kind = Kind { name: "purge", round: purge };
const FLATTEN: Kind = Kind { name: "flatten", round: flatten };

/// A pool that a thread is at.
struct Pending {
    sweep: Sweep,
    after: String,
    fruitless: usize,
    /// Why something was not done since the beginning of the list.
    failed: Option<String>,
}

/// What a round in a pool came to.
enum Round {
    /// There is nothing more to do.
    Done,
    /// There may be more, after this one; and why something of these was not done.
    On(String, Option<String>),
    /// There is something that cannot be done yet, and why.
    Later(String),
}

/// Takes the pools in turn, a round each, until there is nothing more to do in them or nothing can be done.
fn in_turn(sweeps: &Receiver<Sweep>, kind: Kind, clusters: &Clusters, board: &Board) {
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
                None => {
                    board.write(kind.name, &sweep.at, BackgroundState::Waiting, None);
                    pending.push(Pending { sweep, after: String::new(), fruitless: 0, failed: None });
                }
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        is_idle = true;
        pending.retain_mut(|one| {
            let at = &one.sweep.at;
            board.write(kind.name, at, BackgroundState::Working, None);
            let round = match (kind.round)(clusters, &one.sweep, &one.after) {
                Round::Done => one.failed.take().map_or(Round::Done, Round::Later),
                round => round,
            };
            match round {
                Round::Done => {
                    board.wipe(kind.name, at);
                    false
                }
                Round::On(after, failed) => {
                    board.write(kind.name, at, BackgroundState::Waiting, None);
                    (one.after, is_idle) = (after, false);
                    one.failed = one.failed.take().or(failed);
                    if one.failed.is_none() {
                        one.fruitless = 0;
                    }
                    true
                }
                Round::Later(why) => {
                    one.after.clear();
                    one.failed = None;
                    one.fruitless += 1;
                    let is_tried_again = one.fruitless < FRUITLESS;
                    board.write(kind.name, at, if is_tried_again { BackgroundState::Waiting } else { BackgroundState::Left }, Some(why));
                    is_tried_again
                }
            }
        });
    }
}

/// Removes what is in the trash, a few images a round.
fn purge(clusters: &Clusters, Sweep { access, at }: &Sweep, after: &str) -> Round {
    match clusters.connect(access).and_then(|cluster| cluster.purge(at, after, ROUND)) {
        Ok(Purged { next: None, kept: 0, .. }) => Round::Done,
        Ok(Purged { next: None, removed: 0, kept }) => Round::Later(format!("{kept} deleted images are still needed by their copies, or open somewhere")),
        Ok(Purged { next, .. }) => Round::On(next.unwrap_or_default(), None),
        Err(error) => {
            tracing::warn!(pool = %at, %error, "the trash is not emptied; it is tried again");
            Round::Later(error.to_string())
        }
    }
}

/// Makes copies independent, one after the other.
fn flatten(clusters: &Clusters, Sweep { access, at }: &Sweep, after: &str) -> Round {
    match clusters.connect(access).and_then(|cluster| cluster.flatten_noted(at, after, ROUND)) {
        Ok((next, failed)) => {
            if let Some(error) = &failed {
                tracing::warn!(pool = %at, %error, "a copy is not made independent; it is tried again");
            }
            let failed = failed.map(|error| error.to_string());
            match (next, failed) {
                (Some(after), failed) => Round::On(after, failed),
                (None, Some(why)) => Round::Later(why),
                (None, None) => Round::Done,
            }
        }
        Err(error) => {
            tracing::warn!(pool = %at, %error, "copies are not made independent; it is tried again");
            Round::Later(error.to_string())
        }
    }
}
