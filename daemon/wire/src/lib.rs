//! Messages between the four roles of the daemon, and how they travel: frames of postcard over a socketpair.
//!
//! `worker` speaks strictly in turn: one question, one answer. `plugin` and `effects` carry call ids, so that many threads share one
//! socket; `mux` sorts the answers out.

pub mod effects;
pub mod frame;
pub mod mux;
pub mod plugin;
pub mod sealed;
pub mod worker;
