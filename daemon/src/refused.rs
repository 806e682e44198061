//! Why a call is not answered with OK: every reason that the daemon has, in one list.

use std::time::Duration;
use windlass_csi::from_proto::BadRequest;
use windlass_csi::to_proto::BadAnswer;
use windlass_plan::failure::Failure;
use windlass_plan::ids::VolumeId;
use windlass_plan::paths::PathError;
use windlass_plugins::process::PluginError;

/// A refused call. Its text is the status message: what is wrong, and the way out.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refused {
    /// The message is wrong.
    #[error(transparent)]
    Request(#[from] BadRequest),
    /// A path is wrong.
    #[error("`{field}` {problem}")]
    Path {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: PathError,
    },
    /// A step failed.
    #[error(transparent)]
    Step(#[from] Failure),
    /// The plugin said no, or failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The plugin answered what CSI or the daemon does not let pass.
    #[error(transparent)]
    Answer(#[from] BadAnswer),
    /// The plugin answered something that the daemon keeps for itself, or something else than it was asked.
    #[error("the plugin's answer cannot be used: {0}")]
    Contract(&'static str),
    /// No such volume.
    #[error("there is no volume {0}")]
    NoVolume(VolumeId),
    /// Nothing of the volume is at the path.
    #[error("volume {volume} is not at `volume_path`{}", .problem.as_ref().map(|problem| format!(", which {problem}")).unwrap_or_default())]
    NotAtPath {
        /// The volume.
        volume: VolumeId,
        /// Why nothing of it can be there, whatever is.
        problem: Option<PathError>,
    },
    /// The size that is asked for is not there.
    #[error("{0}")]
    Size(String),
    /// Another call holds the volume for longer than this one may wait.
    #[error("{verb} has been working on it for {} s; ask again", .age.as_secs())]
    Busy {
        /// What holds it.
        verb: &'static str,
        /// For how long.
        age: Duration,
    },
    /// The caller's deadline came first. The work goes on; the same call again joins it.
    #[error("not done within the deadline; the work goes on, and the same call again waits for it ({verb} for {} s)", .age.as_secs())]
    Deadline {
        /// What goes on.
        verb: &'static str,
        /// For how long.
        age: Duration,
    },
    /// The volume is in use on this node.
    #[error("volume {0} is staged on this node; unpublish and unstage it first")]
    InUse(VolumeId),
    /// The driver's plugin does not have what the call needs.
    #[error("this driver does not offer {0}")]
    NotOffered(&'static str),
    /// gRPC's health checking was asked for a service that this driver does not have.
    #[error("this driver has no such service; ask for csi.v1.Identity, csi.v1.Controller, csi.v1.Node, or for none by name")]
    NoSuchService,
    /// The driver is not loaded yet.
    #[error("the driver is not ready: {0}")]
    NotReady(String),
    /// The work itself was lost: its thread panicked.
    #[error("the work on it was lost; ask again")]
    Lost,
}
