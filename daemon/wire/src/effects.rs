//! Between the daemon and its effects process, which talks to what is outside: granted folders, later clusters and HTTPS.

use serde::{Deserialize, Serialize};
use windlass_plan::effect::{EffectAnswer, EffectError, FilesVerb};
use windlass_plan::paths::HostPath;

/// The first frame: every folder that any driver was granted. The process shuts itself in to these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Folders; a request names one by its number.
    pub folders: Vec<HostPath>,
}

/// The answer to [`Setup`]. No folder has been touched yet: one that hangs, or cannot be opened, is the business of those who use it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ready {
    /// What the process runs without, for `windlass status`: empty where it is shut in fully.
    pub missing_walls: Vec<String>,
}

/// An effect that was checked and may be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The daemon's number for it.
    pub id: u64,
    /// Which of the folders.
    pub folder: usize,
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
