//! Why a step failed, as a closed list of reasons. Each has one gRPC code, chosen in the daemon's `status.rs` and nowhere else.

use serde::{Deserialize, Serialize};

/// A failed step: the reason for programs, the words for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// The cause and the next step. Shown to users: no secret, no plugin's raw bytes.
    pub text: String,
}

impl Failure {
    /// A failure with its words.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

/// The reasons for which work on a node fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The volume's source (its file, its image) does not exist.
    SourceMissing,
    /// The source belongs to somebody else, or differs from what the controller made.
    NotOurs,
    /// The plan asks for what was not granted.
    NotGranted,
    /// Something else is on the device: it is not formatted, and not mounted as what it is not.
    HoldsOtherContent,
    /// The device could not be read well enough to say what is on it.
    CannotTell,
    /// No proof that the device is blank, or a note that it was formatted before.
    NoProof,
    /// The file system needs repair or replay that is not ours to do.
    NeedsRepair,
    /// The device, mount or target is in use by somebody.
    InUse,
    /// Staged or published in another way already.
    Incompatible,
    /// One writer has it, and a second was asked for.
    SecondWriter,
    /// The volume is not staged, or its staging path is not this volume's mount.
    NotStaged,
    /// Nothing of this volume is at the path.
    NotThere,
    /// The path is wrong: outside the roots, through a symlink, not the right kind, or its parent is missing.
    BadPath,
    /// A field of the request is missing or wrong, which only the plan could tell.
    BadArgument,
    /// The back end says that the credentials are wrong, or may not do this.
    Denied,
    /// Something that is not ours is at the path.
    ForeignMount,
    /// The daemon lacks a capability or a kernel feature.
    MissingPrivilege,
    /// The file system cannot be grown while it is used so.
    CannotGrow,
    /// The size cannot be had.
    OutOfRange,
    /// What is asked for does not exist in this version.
    Unsupported,
    /// No room for a device, a mount or a file.
    Exhausted,
    /// The device changed under our hands.
    IdentityChanged,
    /// The kernel or a program reported an error that may pass.
    Io,
    /// An external program ran out of time.
    ProgramTimedOut,
    /// The worker was lost, or an earlier one still holds the volume.
    WorkerLost,
    /// Unwinding left something behind: ask again, whatever the cause was.
    LeftBehind,
    /// A record could not be written or read.
    Journal,
}
