//! Carries out what `windlass-plan` decided: leases a worker, writes down each undo before its deed, unwinds, recovers.
//!
//! Everything here is ordinary synchronous code. It makes no kernel call of its own: what touches a device or a mount is asked of a
//! worker, a process that may hang in its stead.

pub mod engine;
pub mod grow;
pub mod journal;
pub mod notes;
pub mod pool;
pub mod process;
pub mod publish;
pub mod record;
pub mod recover;
pub mod stage;
pub mod work;

pub use engine::{Engine, Settings};
pub use work::Work;
