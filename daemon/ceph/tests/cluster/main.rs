//! The crate on a real cluster. Each name begins with `ceph_`; needs Ceph's packages and root.

mod claims;
mod connections;
mod fixture;
mod flatten;
mod life;
mod outages;
mod snapshots;
