//! Effects in a Ceph cluster: each asks the crate that talks to librados and librbd, and what is in the trash is removed behind the caller's back.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use windlass_ceph::{CephError, Cluster, ClusterAccess, ClusterKey, Clusters, Limits};
use windlass_plan::effect::{EffectAnswer, EffectError, ImageVerb, PoolVerb, RbdAnswer, RbdVerb};
use windlass_plan::rbd::{PoolAt, RbdName};
use windlass_plan::request::Secret;

/// Images that one round removes before others have their turn.
const ROUND: usize = 8;

/// Between two rounds in a trash of which a round removed nothing.
const PAUSE: Duration = Duration::from_secs(5);

/// Rounds in which nothing could be removed, before the trash is left until the next delete.
const FRUITLESS: usize = 12;

/// The images of one cluster, as every user of it sees them.
pub(super) struct Images {
    monitors: Vec<String>,
    clusters: Arc<Clusters>,
    trash: Mutex<Trash>,
}

/// Which pools the purging thread was told of since the process began.
struct Trash {
    told: HashSet<(RbdName, PoolAt)>,
    to: Option<Sender<Sweep>>,
}

/// A trash that may have something of ours in it.
struct Sweep {
    access: ClusterAccess,
    at: PoolAt,
}

impl Images {
    /// Loads the libraries; connects to nothing.
    pub(super) fn load(monitors: &[SocketAddr]) -> Result<Self, String> {
        windlass_ceph::load().map_err(|error| error.to_string())?;
        let trash = Mutex::new(Trash { told: HashSet::new(), to: None });
        Ok(Self { monitors: monitors.iter().map(ToString::to_string).collect(), clusters: Arc::new(Clusters::new(Limits::default())), trash })
    }

    /// Does one effect, as `user`.
    pub(super) fn perform(&self, user: &RbdName, key: Secret, verb: RbdVerb) -> Result<EffectAnswer, EffectError> {
        let access = ClusterAccess { monitors: self.monitors.clone(), user: user.clone(), key: ClusterKey::new(key.reveal().to_owned()) };
        let cluster = self.clusters.connect(&access)?;
        let answer = match verb {
            RbdVerb::PoolName { number } => RbdAnswer::PoolName(pool_name(&cluster, number)?),
            RbdVerb::Pool { at, verb: PoolVerb::Room } => RbdAnswer::Room(cluster.room(&at.pool)?),
            RbdVerb::Pool { at, verb: PoolVerb::List { after, limit } } => RbdAnswer::Names(cluster.names(&at, &after, limit as usize)?),
            RbdVerb::Image { at, image, verb } => self.image(&cluster, access, at, &image, verb)?,
        };
        Ok(EffectAnswer::Rbd(answer))
    }

    fn image(&self, cluster: &Cluster, access: ClusterAccess, at: PoolAt, image: &RbdName, verb: ImageVerb) -> Result<RbdAnswer, CephError> {
        Ok(match verb {
            ImageVerb::Create(wish) => {
                let (image, is_new) = cluster.create(&at, image, &wish)?;
                RbdAnswer::Created { image, is_new }
            }
            ImageVerb::Stat => RbdAnswer::Image(cluster.stat(&at, image)?),
            ImageVerb::SetMetadata(metadata) => {
                cluster.set_metadata(&at, image, &metadata)?;
                RbdAnswer::Done
            }
            ImageVerb::Resize { size } => RbdAnswer::Resized(cluster.resize(&at, image, size)?),
            ImageVerb::Delete => {
                cluster.delete(&at, image)?;
                self.sweep(access, at, true);
                RbdAnswer::Done
            }
            ImageVerb::Claim { hold, holder } => {
                let claimed = cluster.claim(&at, image, hold, &holder)?;
                // What an earlier process left in the trash is gone on with.
                self.sweep(access, at, false);
                RbdAnswer::Claimed(claimed)
            }
            ImageVerb::Release { holder } => {
                cluster.release(&at, image, holder.as_ref())?;
                RbdAnswer::Done
            }
        })
    }

    /// Has the trash looked at in the background: after a delete, and once in the process's life.
    fn sweep(&self, access: ClusterAccess, at: PoolAt, is_new: bool) {
        let mut trash = self.trash.lock().unwrap_or_else(PoisonError::into_inner);
        if !trash.told.insert((access.user.clone(), at.clone())) && !is_new {
            return;
        }
        if trash.to.is_none() {
            let (to, sweeps) = channel();
            let clusters = self.clusters.clone();
            match std::thread::Builder::new().name("purge".into()).stack_size(1 << 20).spawn(move || purge(&clusters, &sweeps)) {
                Ok(_) => trash.to = Some(to),
                Err(error) => return tracing::warn!(%error, "no thread to purge with; the trash waits for the next delete"),
            }
        }
        let sent = trash.to.as_ref().map(|to| to.send(Sweep { access, at }));
        if let Some(Err(_)) = sent {
            // The thread is gone, by a panic: the next one starts another.
            trash.to = None;
        }
    }
}

/// A pool that does not exist has no name, which is an answer.
fn pool_name(cluster: &Cluster, number: u64) -> Result<Option<RbdName>, CephError> {
    match cluster.pool_name(number) {
        Ok(name) => Ok(RbdName::parse(&name).ok()),
        Err(CephError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what is in the trash, one pool after the other, a few images a round.
fn purge(clusters: &Clusters, sweeps: &Receiver<Sweep>) {
    while let Ok(Sweep { access, at }) = sweeps.recv() {
        let (mut after, mut fruitless) = (String::new(), 0);
        while fruitless < FRUITLESS {
            match clusters.connect(&access).and_then(|cluster| cluster.purge(&at, &after, ROUND)) {
                Ok(purged) => {
                    fruitless = if purged.removed > 0 { 0 } else { fruitless + 1 };
                    match purged.next {
                        Some(next) => after = next,
                        None if purged.kept == 0 => break,
                        None => after.clear(),
                    }
                }
                Err(error) => {
                    tracing::warn!(pool = %at, %error, "the trash is not emptied; it is tried again");
                    fruitless += 1;
                }
            }
            if fruitless > 0 {
                std::thread::sleep(PAUSE);
            }
        }
    }
}
