//! What the operator allows one driver: deny by default, each thing by a name that the plugin can speak and a value that it never sees.

use crate::paths::HostPath;
use crate::rbd::{PoolAt, RbdName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The grants of one driver, resolved from `drivers.d/NAME.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grants {
    /// Folders for the interface `files` and for `file` sources, by grant name.
    pub files: BTreeMap<String, HostPath>,
    /// Ceph clusters for the interface `rbd` and for `rbd` sources, by grant name.
    pub rbd: BTreeMap<RbdName, ClusterGrant>,
    /// Volumes that this driver's controller did not make may be attached.
    pub is_static_allowed: bool,
}

/// A Ceph cluster, and what of it a driver may use. Keys come with the calls, as secrets, or from the operator's own file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterGrant {
    /// Addresses of its monitors. The kernel resolves no names.
    pub monitors: Vec<SocketAddr>,
    /// Its pools that may be used; empty is all that the user's own capabilities allow.
    pub pools: Vec<RbdName>,
    /// For calls that come without secrets.
    pub own: Option<OwnUser>,
}

/// A user of a cluster whose key the operator keeps on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnUser {
    /// Without `client.`.
    pub user: RbdName,
    /// The file that holds the key and nothing else.
    pub key_file: HostPath,
}

/// Why a cluster or a pool cannot be had. The words name what can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ungranted {
    /// No such grant.
    #[error("the cluster {cluster:?} was not granted to this driver; granted: {}", list(known))]
    Cluster {
        /// What was asked for, bounded.
        cluster: String,
        /// What there is.
        known: Vec<RbdName>,
    },
    /// The grant leaves the pool out.
    #[error("the pool {pool:?} of the cluster {cluster} was not granted to this driver; granted: {}", list(known))]
    Pool {
        /// The cluster.
        cluster: RbdName,
        /// What was asked for.
        pool: RbdName,
        /// What there is.
        known: Vec<RbdName>,
    },
}

fn list(names: &[RbdName]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.iter().map(RbdName::as_str).collect::<Vec<_>>().join(", ") }
}

impl Grants {
    /// The grant of a cluster.
    pub fn cluster(&self, cluster: &RbdName) -> Result<&ClusterGrant, Ungranted> {
        let ungranted = || Ungranted::Cluster { cluster: cluster.to_string(), known: self.rbd.keys().cloned().collect() };
        self.rbd.get(cluster).ok_or_else(ungranted)
    }

    /// The grant of a cluster that has this pool.
    pub fn pool(&self, cluster: &RbdName, at: &PoolAt) -> Result<&ClusterGrant, Ungranted> {
        let grant = self.cluster(cluster)?;
        self.data_pool(cluster, &at.pool)?;
        Ok(grant)
    }

    /// Is the pool among those of the grant?
    pub fn data_pool(&self, cluster: &RbdName, pool: &RbdName) -> Result<(), Ungranted> {
        let known = &self.cluster(cluster)?.pools;
        if known.is_empty() || known.contains(pool) {
            return Ok(());
        }
        Err(Ungranted::Pool { cluster: cluster.clone(), pool: pool.clone(), known: known.clone() })
    }
}
