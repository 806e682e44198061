//! Why a file cannot be attached, in words and as a reason.

use super::TRIES;
use crate::device::DeviceError;
use crate::words;
use std::io;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::paths::HostPath;

/// A file that cannot be attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("the granted folder {folder} cannot be opened")]
    Folder {
        folder: HostPath,
        #[source]
        source: io::Error,
    },
    #[error("the volume's file {folder}/{file} does not exist")]
    Missing { folder: HostPath, file: String },
    #[error("{folder}/{file} is not a plain file of one name on the folder's own file system")]
    NotPlain { folder: HostPath, file: String },
    #[error("cannot open {folder}/{file}")]
    Open {
        folder: HostPath,
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot flush {folder}/{file} to its disk")]
    Flush {
        folder: HostPath,
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("{folder}/{file} is {size} bytes long, which is not a positive multiple of 512")]
    Size { folder: HostPath, file: String, size: u64 },
    #[error("{folder}/{file} is attached already, by {device}, which is not this volume's")]
    Attached { folder: HostPath, file: String, device: String },
    #[error("{folder}/{file} is being attached by somebody else, or locked; ask again when that has ended")]
    Locked { folder: HostPath, file: String },
    #[error("cannot lock {folder}/{file}")]
    Lock {
        folder: HostPath,
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("the volume is attached as {device} from another file")]
    OtherFile { device: String },
    #[error("the volume is attached as {device}, {is}, and is wanted {wanted}; unstage it first")]
    OtherMode { device: String, is: &'static str, wanted: &'static str },
    #[error("no loop devices: cannot open /dev/loop-control")]
    Control {
        #[source]
        source: io::Error,
    },
    #[error("no loop device is free")]
    NoneFree {
        #[source]
        source: io::Error,
    },
    #[error("every loop device that was free was taken by somebody else, {TRIES} times")]
    Outrun,
    #[error("cannot bind {device} to {folder}/{file}")]
    Bind {
        device: String,
        folder: HostPath,
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {deed} {device}")]
    Prepare {
        deed: &'static str,
        device: String,
        #[source]
        source: io::Error,
    },
    #[error("{device} is {found} bytes large, and its file {expected}")]
    OtherSize { device: String, found: u64, expected: u64 },
    #[error("the step is for another volume than the worker's")]
    OtherVolume,
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        let reason = match error {
            AttachError::Device(error) => return error.into(),
            AttachError::Missing { .. } => Reason::SourceMissing,
            AttachError::Folder { ref source, .. } if source.kind() == io::ErrorKind::NotFound => Reason::SourceMissing,
            AttachError::NotPlain { .. } | AttachError::OtherVolume => Reason::NotOurs,
            AttachError::Size { .. } => Reason::OutOfRange,
            AttachError::Attached { .. } | AttachError::Locked { .. } => Reason::InUse,
            AttachError::OtherFile { .. } | AttachError::OtherMode { .. } => Reason::Incompatible,
            AttachError::OtherSize { .. } => Reason::IdentityChanged,
            AttachError::Control { .. } => Reason::MissingPrivilege,
            AttachError::NoneFree { .. } | AttachError::Outrun => Reason::Exhausted,
            AttachError::Folder { ref source, .. }
            | AttachError::Open { ref source, .. }
            | AttachError::Lock { ref source, .. }
            | AttachError::Flush { ref source, .. }
            | AttachError::Bind { ref source, .. }
            | AttachError::Prepare { ref source, .. } => words::reason(source),
        };
        words::failure(reason, &error)
    }
}
