//! Ceph: clusters and their images, by librados and librbd, which are loaded when they are first needed; what the effects process does.
//!
//! Everything blocks; calls may be made from any number of threads. Nothing is read from /etc/ceph, nothing is written anywhere.
//!
//! ```no_run
//! use windlass_ceph::{ClusterAccess, ClusterKey, Clusters, Limits};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clusters = Clusters::new(Limits::default());
//! let user = windlass_plan::rbd::RbdName::parse("csi")?;
//! let cluster = clusters.connect(&ClusterAccess { monitors: vec!["10.0.0.1".into()], user, key: ClusterKey::new("AQ...".into()) })?;
//! println!("{}", cluster.fsid());
//! # Ok(()) }
//! ```

mod ancestry;
mod change;
mod claim;
mod cluster;
mod clusters;
mod copy;
mod delete;
mod encoding;
mod error;
mod ffi;
mod flatten;
mod header;
mod image;
mod journal;
mod lock;
mod make;
mod snapshot;
mod statistics;

pub use ancestry::MOST_ANCESTORS;
pub use cluster::Cluster;
pub use clusters::{ClusterAccess, ClusterKey, Clusters, Limits};
pub use copy::{COPY_OF, SnapshotAt};
pub use delete::{OUR_SNAPSHOTS, Purged};
pub use encoding::Malformed;
pub use error::{CephError, Errno, LoadError};
pub use statistics::{ABANDONED, Statistics, Tally};

/// Loads Ceph's libraries now, for those who shut themselves in before their first call.
///
/// Errors: which file or function is missing, and which package has it.
pub fn load() -> Result<(), LoadError> {
    ffi::libraries().map(drop)
}
