//! The plugin process and the compile child: each shuts itself in, and only then looks at what a stranger wrote.
//!
//! The one crate that uses wasmtime. [`plugin_host`] and [`compile`] are entry points of processes of their own, started by exec with
//! a cleared environment; nothing of either runs in the daemon, which calls [`engine_key`] at most. `floor` is the inert WASI that
//! every component gets; what a plugin can really do is in `host`, as messages to the daemon.

mod bindings;
mod call;
mod compile;
mod engine;
mod exports;
mod floor;
mod from_wit;
mod host;
mod link;
mod linker;
mod plugin_host;
mod serve;
mod sys;
mod text;
mod to_wit;
pub mod walls;

pub use compile::{CompileLimits, compile, death_words};
pub use engine::engine_key;
pub use plugin_host::plugin_host;
