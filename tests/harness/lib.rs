//! Starts the real daemon in a folder of its own, calls it as an orchestrator does, and leaves nothing behind.

pub mod bench;
mod caller;
mod calls;
pub mod ceph;
mod clean;
mod daemon;
mod endpoint;
pub mod kubelet;
pub mod network;
pub mod orders;
mod over;
pub mod process;
pub mod rbd;
pub mod rows;
pub mod vm;
mod volume;

pub use caller::Caller;
pub use clean::{clean, devices_beneath, mounts_beneath};
pub use daemon::{DRIVER, Daemon, Setup, binary, component, eventually};
pub use endpoint::{Endpoint, Meddler};
pub use over::AtEnd;
pub use volume::{Volume, block, mount, mount_as};
