//! Effects in a Ceph cluster: each asks the crate that talks to librados and librbd, and what nobody waits for is done behind the caller's back.

use super::sweep::Sweeps;
use std::net::SocketAddr;
use std::sync::Arc;
use windlass_ceph::{CephError, Cluster, ClusterAccess, ClusterKey, Clusters, Limits, SnapshotAt};
use windlass_plan::effect::{Background, EffectAnswer, EffectError, ImageVerb, PoolVerb, RbdAnswer, RbdVerb};
use windlass_plan::rbd::{PoolAt, RbdName};
use windlass_plan::request::Secret;

/// The images of one cluster, as every user of it sees them.
pub(super) struct Images {
    monitors: Vec<String>,
    clusters: Arc<Clusters>,
    sweeps: Sweeps,
}

impl Images {
    /// Loads the libraries; connects to nothing.
    pub(super) fn load(monitors: &[SocketAddr]) -> Result<Self, String> {
        windlass_ceph::load().map_err(|error| error.to_string())?;
        let clusters = Arc::new(Clusters::new(Limits::default()));
        Ok(Self { monitors: monitors.iter().map(ToString::to_string).collect(), sweeps: Sweeps::new(clusters.clone()), clusters })
    }

    /// What is done behind the callers' backs.
    pub(super) fn background(&self) -> Vec<Background> {
        self.sweeps.board.list()
    }

    /// Does one effect, as `user`.
    pub(super) fn perform(&self, user: &RbdName, key: Secret, verb: RbdVerb) -> Result<EffectAnswer, EffectError> {
        let access = ClusterAccess { monitors: self.monitors.clone(), user: user.clone(), key: ClusterKey::new(key.reveal().to_owned()) };
        let cluster = self.clusters.connect(&access)?;
        let answer = match verb {
            RbdVerb::PoolName { number } => RbdAnswer::PoolName(pool_name(&cluster, number)?),
            RbdVerb::Pool { at, verb: PoolVerb::Room } => RbdAnswer::Room(cluster.room(&at.pool)?),
            RbdVerb::Pool { at, verb: PoolVerb::List { after, limit } } => RbdAnswer::Names(cluster.names(&at, &after, limit as usize)?),
            RbdVerb::Pool { at, verb: PoolVerb::Journal { object, keys } } => RbdAnswer::Journal(cluster.journal(&at, &object, &texts(&keys))?),
            RbdVerb::Pool { at, verb: PoolVerb::RemoveFromJournal { object, keys } } => {
                cluster.remove_from_journal(&at, &object, &texts(&keys))?;
                RbdAnswer::Done
            }
            RbdVerb::Image { at, image, verb } => self.image(&cluster, access, at, &image, verb)?,
        };
        Ok(EffectAnswer::Rbd(answer))
    }

    fn image(&self, cluster: &Cluster, access: ClusterAccess, at: PoolAt, image: &RbdName, verb: ImageVerb) -> Result<RbdAnswer, CephError> {
        Ok(match verb {
            ImageVerb::Create(wish) => {
                let (image, is_new) = cluster.create(&at, image, &wish)?;
                self.sweeps.look(access, at);
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
                self.sweeps.purge(access, at);
                RbdAnswer::Done
            }
            ImageVerb::Claim { hold, holder } => {
                let claimed = cluster.claim(&at, image, hold, &holder)?;
                // What an earlier process left in the trash is gone on with.
                self.sweeps.look(access, at);
                RbdAnswer::Claimed(claimed)
            }
            ImageVerb::Release { holder } => {
                cluster.release(&at, image, holder.as_ref())?;
                RbdAnswer::Done
            }
            ImageVerb::TakeSnapshot { snapshot } => {
                let (snapshot, is_new) = cluster.snapshot(&at, image, &snapshot)?;
                RbdAnswer::Snapshot { snapshot, is_new }
            }
            ImageVerb::DeleteSnapshot { snapshot } => {
                cluster.delete_snapshot(&at, image, &snapshot)?;
                RbdAnswer::Done
            }
            ImageVerb::Copy { snapshot, to, copy, wish, ancestors } => {
                let source = SnapshotAt { at: &at, image, snapshot: &snapshot };
                let (image, is_new) = cluster.copy(source, &to, &copy, &wish, ancestors)?;
                self.sweeps.flatten(access, to);
                RbdAnswer::Created { image, is_new }
            }
        })
    }
}

fn texts(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

/// A pool that does not exist has no name, which is an answer.
fn pool_name(cluster: &Cluster, number: u64) -> Result<Option<RbdName>, CephError> {
    match cluster.pool_name(number) {
        Ok(name) => Ok(RbdName::parse(&name).ok()),
        Err(CephError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
