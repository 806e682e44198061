//! Makes a file system on the attached device. Whether it may be made was decided long before (law 5).

use crate::device::{DeviceError, Held};
use crate::program::{self, ProgramError, Tools};
use crate::words;
use std::fs::File;
use std::io;
use std::time::Duration;
use windlass_plan::attach::Filesystem;
use windlass_plan::capability::FilesystemKind;
use windlass_plan::failure::{Failure, Reason};

const DEADLINE: Duration = Duration::from_secs(600);

/// mkfs writes little to a blank device. `nodiscard` and `-K`: discarding would punch holes into a file that is one hole. ext4 stops
/// writing at its first error, as xfs does.
const EXT4: [&str; 8] = ["-F", "-q", "-m", "0", "-e", "remount-ro", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"];
const XFS: [&str; 3] = ["-q", "-f", "-K"];

/// A device that cannot be formatted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("/dev/{device} is read-only, so it cannot be formatted")]
    ReadOnly { device: String },
    #[error("{size} bytes are too few for {kind}, which needs {}", kind.smallest())]
    TooSmall { size: u64, kind: FilesystemKind },
    #[error("the new file system does not reach its file")]
    Flush {
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        let reason = match error {
            FormatError::Program(error) => return error.into(),
            FormatError::Device(error) => return error.into(),
            FormatError::ReadOnly { .. } => Reason::Incompatible,
            FormatError::TooSmall { .. } => Reason::OutOfRange,
            FormatError::Flush { .. } => Reason::Io,
        };
        words::failure(reason, &error)
    }
}

/// Runs mkfs. The device's name is safe in its argv: as long as we hold the device open, the name means it.
pub(crate) fn format(held: &mut Held, filesystem: &Filesystem, tools: &Tools, lock: &File) -> Result<(), FormatError> {
    let kind = filesystem.kind;
    if held.device.is_read_only {
        return Err(FormatError::ReadOnly { device: held.device.name.clone() });
    }
    if held.device.size < kind.smallest() {
        return Err(FormatError::TooSmall { size: held.device.size, kind });
    }
    let path = held.path();
    let (tool, fixed): (_, &[&str]) = match kind {
        FilesystemKind::Ext4 => (&tools.mkfs_ext4, &EXT4),
        FilesystemKind::Xfs => (&tools.mkfs_xfs, &XFS),
    };
    let mut arguments = fixed.to_vec();
    if let Some(label) = &filesystem.label {
        arguments.extend(["-L", label]);
    }
    arguments.push(&path);
    held.will_change();
    program::run(tool, &arguments, &tools.cgroups, lock, DEADLINE)?.expect(|code| code == 0)?;
    held.node.sync_all().map_err(|source| FormatError::Flush { source })?;
    Ok(held.compare()?)
}
