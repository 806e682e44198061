//! Between the daemon and an effects process, which talks to what is outside: granted folders, later clusters and HTTPS.

use serde::{Deserialize, Serialize};
use windlass_plan::effect::{EffectAnswer, EffectError, FilesVerb};
use windlass_plan::paths::HostPath;

/// The first frame: a folder that a driver was granted. The process shuts itself in to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The folder.
    pub folder: HostPath,
}

/// The answer to [`Setup`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// Why the folder cannot be used; the process ends then, and another may have more luck.
    pub problem: Option<String>,
    /// What the process runs without, for `windlass status`: empty where it is shut in fully.
    pub missing_walls: Vec<String>,
}

/// An effect that was checked and may be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The daemon's number for it.
    pub id: u64,
    /// What to do.
    pub verb: FilesVerb,
}

/// Its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// The number of the request.
    pub id: u64,
    /// What came of it.
    pub result: Result<EffectAnswer, EffectError>,
}
