//! Messages between the four roles of the daemon, and how they travel: frames of postcard over a socketpair.
//!
//! `worker` speaks strictly in turn: one question, one answer. A plugin process has as many sockets as it runs calls at once, and each
//! carries one call at a time (`lane`). The messages of `effects` carry call ids, so that many threads share one socket; `mux` sorts the
//! answers out.

pub mod effects;
pub mod frame;
pub mod lane;
pub mod mux;
pub mod plugin;
pub mod sealed;
pub mod worker;
