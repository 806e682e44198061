//! Between the daemon and a plugin process, and between the daemon and the compile child.

use serde::{Deserialize, Serialize};
use windlass_plan::effect::{Effect, EffectAnswer, EffectError};
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall};
use windlass_plan::request::Context;

/// Limits of one plugin process and of each call in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// A guest's linear memories together, in bytes.
    pub memory: u64,
    /// Elements of a guest's tables together.
    pub table_elements: u32,
    /// CPU and waiting time of one call, in milliseconds.
    pub call_ms: u64,
    /// Host calls (`log`, `config`, effects) of one call.
    pub host_calls: u32,
    /// Bytes that one call may return, or hand to the host in one host call.
    pub message: u32,
    /// Calls that run at once; further ones wait their turn.
    pub concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 32 << 20, table_elements: 20_000, call_ms: 10_000, host_calls: 10_000, message: 256 << 10, concurrency: 4 }
    }
}

/// The first frame to a plugin process, sent when it has shut itself in; the compiled code comes as a descriptor inherited at start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// The driver, for log lines.
    pub driver: String,
    /// Its limits.
    pub limits: Limits,
    /// The operator's `[config]` table.
    pub config: Context,
}

/// From the daemon to a plugin process, after [`Setup`], on one of its lanes: a call, and then one answer to each effect that it asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToPlugin {
    /// Call an export in a fresh instance.
    Call {
        /// The daemon's number for the call.
        id: u64,
        /// Which export, with its arguments.
        call: PluginCall,
    },
    /// The answer to an effect that the call asked for.
    EffectDone {
        /// The call.
        id: u64,
        /// What came of it.
        result: Result<EffectAnswer, EffectError>,
    },
}

/// From a plugin process to the daemon: [`Ready`](FromPlugin::Ready) or [`Unusable`](FromPlugin::Unusable) on the socket that it was
/// started with, all others on the lane of their call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromPlugin {
    /// The component was loaded and instantiated once. The walls that stand, for `windlass status`.
    Ready {
        /// What could not be had on this kernel or without root: empty where the process is shut in fully.
        missing_walls: Vec<String>,
    },
    /// It could not be loaded; the process ends.
    Unusable {
        /// Why.
        reason: String,
    },
    /// The call asks for an effect and waits for [`ToPlugin::EffectDone`].
    Effect {
        /// The call.
        id: u64,
        /// What it asks for.
        effect: Effect,
    },
    /// A line for the log: cut to 1 KiB, control characters replaced.
    Log {
        /// The call.
        id: u64,
        /// How grave.
        level: Level,
        /// The line.
        message: String,
    },
    /// The call is over.
    Return {
        /// The call.
        id: u64,
        /// What came of it.
        result: Result<PluginAnswer, CallFailure>,
    },
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// For the curious.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

/// What the compile child reports. The component comes on one inherited descriptor and the code goes to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compiled {
    /// Done.
    Ok(Inspection),
    /// Not a component, or not one of ours: the words are for people.
    Refused {
        /// Why, and what would be right.
        reason: String,
    },
}

/// What a component's type says, read by the compile child: what decides which capabilities are advertised (law 18).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Names of the interfaces of `windlass:plugin` that it exports, without package and version: `driver`, `node`,
    /// `controller`, `listing`, `capacity`, `publishing`.
    pub exports: Vec<String>,
    /// Names of the interfaces of `windlass:plugin` that it imports: `log`, `config`, `files`, `rbd`.
    pub imports: Vec<String>,
    /// Bytes of compiled code.
    pub code_size: u64,
}
