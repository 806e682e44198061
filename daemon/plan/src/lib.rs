//! The vocabulary of Windlass, pure: what is asked for, what a plugin proposes, what is allowed, and the steps that follow.
//!
//! Nothing here does I/O. What is decided here is carried out by `windlass-engine` through the workers of `windlass-linux`.

pub mod attach;
pub mod capability;
pub mod check;
pub mod effect;
pub mod failure;
pub mod format;
pub mod grants;
pub mod ids;
pub mod lower;
pub mod paths;
pub mod plugin;
pub mod rbd;
pub mod request;
pub mod step;
