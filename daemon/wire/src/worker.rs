//! Between the engine and a worker: one question, one answer, for one volume a lease.

use crate::sealed::Sealed;
use serde::{Deserialize, Serialize};
use windlass_plan::failure::Failure;
use windlass_plan::ids::VolumeKey;
use windlass_plan::paths::{HostPath, Place, Roots};
use windlass_plan::step::{Device, Observed, Outcome, Step, Undo, Usage};

/// The first frame to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// The folders that it may mount beneath; it opens each once.
    pub roots: Roots,
    /// Where the volumes' lock files are.
    pub locks: HostPath,
    /// The control groups in which I/O is limited, where a volume has limits; empty: those that Kubernetes has.
    pub limited_groups: Vec<HostPath>,
}

/// Where to look first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Where the volume was seen last, by the kernel's name.
    pub device: Option<String>,
}

/// A question to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    /// Take the volume's lock, waiting so long at the most.
    Lease {
        /// The volume.
        volume: VolumeKey,
        /// Milliseconds to wait for an earlier worker that still holds it.
        patience_ms: u64,
        /// Look at once what the kernel shows of it, first at the device of this name.
        look: Option<Look>,
    },
    /// Look what the kernel shows of the leased volume.
    Observe(Look),
    /// Take this key for the next `MapImage`: the one frame to a worker that holds a secret.
    Key(Sealed),
    /// Do these steps, one after the other, up to one that fails or finds that the next cannot be done yet ([`Outcome::NeedsPreen`]):
    /// steps between which nobody has to decide anything.
    Do(Vec<Step>),
    /// Undo these steps, one after the other, and go on past one that cannot be undone.
    Undo(Vec<Undo>),
    /// Look how full it is.
    Usage(Place),
    /// Is there a file of this name in this folder?
    SourceExists {
        /// The folder.
        folder: HostPath,
        /// The file.
        name: String,
    },
    /// Let the volume go.
    Release {
        /// Nothing of it is left on this node: its lock file goes as well.
        is_gone: bool,
    },
    /// Every loop device and mapped image on this node. Needs no lease.
    Survey,
}

/// A worker's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// To `Lease`, `Key` and `Release`.
    Ok,
    /// To `Observe`, and to `Lease` with a look.
    Observed(Observed),
    /// To `Do`: what came of the steps, in their order. Of a step that failed, why, in the place of all of them.
    Done(Vec<Outcome>),
    /// To `Undo`: one for each.
    Undone(Vec<Result<Outcome, Failure>>),
    /// To `Usage`.
    Usage(Usage),
    /// To `SourceExists`.
    Exists(bool),
    /// To `Survey`.
    Survey(Vec<Surveyed>),
    /// To anything.
    Failed(Failure),
}

/// A loop device that shows a file or the device of a mapped image, whoever made it, as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// The first bits of its volume's key ([`VolumeKey::short`]), where it carries a mark.
    pub short_key: Option<u64>,
    /// The kernel's name.
    pub device: String,
    /// The id of the cluster that its image is in.
    pub cluster: Option<String>,
    /// The backing file's path, as the kernel knows it, or the image.
    pub backing: String,
    /// Bytes.
    pub size: u64,
    /// It refuses writes.
    pub is_read_only: bool,
    /// Where it is mounted, or its node is shown.
    pub mounted_at: Vec<String>,
    /// Other devices that were made of it.
    pub below: Vec<String>,
}

/// A device, for answers to people.
pub type AttachedDevice = Device;
