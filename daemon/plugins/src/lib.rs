//! The daemon's side of plugins: a component is read once, digested, its signature checked, compiled in a shut-in child, kept, started, proven and swapped in.
//!
//! No Wasm runs here and none is compiled here (law 1): both are done by child processes, reached over sockets.

pub mod cache;
pub mod child;
pub mod compile;
pub mod component;
pub mod conversation;
pub mod driver;
mod file;
pub mod floor;
pub mod generation;
mod lanes;
mod memory;
pub mod process;
pub mod signature;
pub mod watch;
