//! What the admin socket answers, as it is printed with `-o json`.

use serde::{Deserialize, Serialize};
use windlass_plan::effect::Background;
use windlass_plan::step::{Step, Undo};

/// The daemon, its drivers and its volumes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: u64,
    pub(crate) instance: String,
    pub(crate) node: String,
    pub(crate) roles: Vec<crate::config::Role>,
    /// Must components be signed?
    pub(crate) signatures: crate::config::Signatures,
    pub(crate) workers_idle: Vec<u32>,
    /// Workers whose call is answered and whose volume's device does not let go of them.
    pub(crate) workers_stuck: Vec<StuckWorker>,
    pub(crate) effects: Vec<Effects>,
    pub(crate) drivers: Vec<Driver>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) going: Vec<Going>,
    pub(crate) unowned: Vec<Unowned>,
}

/// A worker that a device holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StuckWorker {
    pub(crate) pid: u32,
    pub(crate) seconds: f64,
}

/// The effects process of one back end: a granted folder, or a cluster.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Effects {
    pub(crate) back_end: String,
    pub(crate) pid: u32,
    pub(crate) missing_walls: Vec<String>,
}

/// A driver.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) state: DriverState,
    pub(crate) vendor: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) generation: Option<u64>,
    pub(crate) digest: Option<String>,
    /// Who vouches for the component: `embedded`, `unchecked`, or `key ID`.
    pub(crate) origin: Option<String>,
    /// What the signature says of it, signed as well.
    pub(crate) comment: Option<String>,
    pub(crate) exports: Vec<String>,
    pub(crate) refused: Option<String>,
    pub(crate) load_ms: Option<f64>,
    pub(crate) pid: Option<u32>,
    pub(crate) starts: u64,
    pub(crate) uid: Option<u32>,
    pub(crate) missing_walls: Vec<String>,
    /// Why it does not serve, though it has a plugin: its process keeps failing, or its socket could not be made.
    pub(crate) unready: Option<String>,
    pub(crate) volumes: usize,
    pub(crate) socket: String,
    /// Its registration with kubelet: `shown`, `registered`, `refused: WHY` or `not shown: WHY`; nothing where there is no kubelet.
    pub(crate) kubelet: Option<String>,
}

/// How a driver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DriverState {
    /// Its plugin serves.
    Serving,
    /// Its plugin serves; a newer one was refused.
    ServingOld,
    /// Its plugin is being loaded.
    Loading,
    /// It has no plugin: what is here can be taken down, nothing else.
    TeardownOnly,
}

/// A volume on this node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) driver: String,
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) state: String,
    pub(crate) device: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) filesystem: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) staged_at: Option<String>,
    pub(crate) published_at: Vec<String>,
}

/// A call that runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Going {
    pub(crate) driver: String,
    pub(crate) on: String,
    pub(crate) verb: String,
    pub(crate) seconds: f64,
}

/// What is going on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ops {
    /// Calls, also those whose callers have hung up.
    pub(crate) calls: Vec<Going>,
    /// What nobody waits for, a back end each.
    pub(crate) background: Vec<BackEndWork>,
}

/// What is done in a back end while nobody waits for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackEndWork {
    pub(crate) back_end: String,
    pub(crate) work: Vec<Background>,
    /// Why its process does not say.
    pub(crate) problem: Option<String>,
}

/// A device that carries a mark and has no record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unowned {
    pub(crate) device: String,
    pub(crate) backing: String,
}

/// A loop device that shows a file, or the device of a mapped image, whoever made it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) device: String,
    pub(crate) state: DeviceState,
    pub(crate) driver: Option<String>,
    pub(crate) volume: Option<String>,
    /// The cluster's id, of an image.
    pub(crate) cluster: Option<String>,
    pub(crate) backing: String,
    pub(crate) size: u64,
    pub(crate) is_read_only: bool,
    pub(crate) mounted_at: Vec<String>,
    /// Devices that the kernel made of it.
    pub(crate) below: Vec<String>,
}

/// Whose a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeviceState {
    /// Of a volume of this daemon.
    Ours,
    /// It carries a mark, and this daemon has no record of it: the record was lost, or another daemon made it.
    OursWithoutRecord,
    /// It carries no mark: somebody else made it.
    Nobodys,
}

/// What a stage would do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Explanation {
    pub(crate) driver: String,
    pub(crate) volume: String,
    pub(crate) plugin: String,
    pub(crate) source: String,
    pub(crate) is_ours: bool,
    pub(crate) steps: Vec<ExplainedStep>,
}

/// A step and how it would be undone.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExplainedStep {
    pub(crate) name: String,
    pub(crate) step: Step,
    pub(crate) undo: Option<Undo>,
}
