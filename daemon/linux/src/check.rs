//! Looks whether a file system is clean before it is mounted, and has repaired what may be repaired without asking (law 14).
//!
//! | found | writable | read-only (law 11) |
//! |---|---|---|
//! | clean | nothing to do | nothing to do |
//! | a journal to replay | nothing to do: the kernel replays it at the mount | refused: what one would see is not consistent |
//! | ext4's error flag; no journal and not unmounted | `e2fsck -p`; more than status 1 is refused | refused |
//! | xfs that demands repair | refused | refused |
//!
//! `e2fsck -p` status 2 ("mended, reboot") is refused too: it is meant for a root file system and never happens on ours.

use crate::device::{DeviceError, Held};
use crate::probe::superblock::{Ext, Implausible, Xfs};
use crate::probe::{Direct, Unread};
use crate::program::{self, ProgramError, Tools};
use crate::words;
use crate::xfs_log::{self, LogState};
use std::fs::File;
use std::time::Duration;
use windlass_plan::capability::FilesystemKind;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::step::{Outcome, Writable};

const DEADLINE: Duration = Duration::from_secs(3600);

/// Enough for any sector that holds a superblock.
const HEAD: u64 = 64 << 10;

/// A file system that is not fit to be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("the superblock cannot be read")]
    Unread(#[from] Unread),
    #[error("the device has no {0} file system")]
    Absent(FilesystemKind),
    #[error("the file system is not what it should be")]
    Implausible(#[from] Implausible),
    #[error("the {0} file system was not unmounted cleanly, and a read-only volume's journal is not replayed; use it writable once")]
    Dirty(FilesystemKind),
    #[error("the ext4 file system has errors, and a read-only volume is not repaired; use it writable once, or run e2fsck")]
    ErrorsReadOnly,
    #[error("the xfs file system demands repair; run xfs_repair")]
    XfsDemandsRepair,
    #[error("the xfs file system's journal cannot be understood ({0}), so it cannot be mounted read-only; use it writable once")]
    XfsLog(&'static str),
    #[error("the ext4 file system needs repair that is not ours to do; run e2fsck")]
    Preen(#[source] ProgramError),
    #[error(transparent)]
    Program(ProgramError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        let reason = match error {
            CheckError::Device(error) => return error.into(),
            CheckError::Program(error) => return error.into(),
            CheckError::Unread(_) => Reason::Io,
            CheckError::Absent(_) => Reason::HoldsOtherContent,
            CheckError::Implausible(_) => Reason::CannotTell,
            CheckError::Dirty(_) | CheckError::ErrorsReadOnly | CheckError::XfsDemandsRepair | CheckError::XfsLog(_) | CheckError::Preen(_) => {
                Reason::NeedsRepair
            }
        };
        words::failure(reason, &error)
    }
}

/// `Already`: it is clean, or the mount will make it so.
pub(crate) fn check(held: &mut Held, kind: FilesystemKind, writable: Writable) -> Result<Outcome, CheckError> {
    let size = held.device.size;
    // Once: a check that does not follow a probe reads for itself.
    let head = match held.head.take() {
        Some(head) => head,
        None => Direct::open(held)?.read(0, size.min(HEAD))?,
    };
    match kind {
        FilesystemKind::Ext4 => check_ext4(&Ext::read(&head, size).ok_or(CheckError::Absent(kind))??, writable),
        FilesystemKind::Xfs => check_xfs(&Xfs::read(&head, size).ok_or(CheckError::Absent(kind))??, held, writable),
    }
}

fn check_ext4(ext: &Ext, writable: Writable) -> Result<Outcome, CheckError> {
    if ext.name != "ext4" {
        return Err(CheckError::Absent(FilesystemKind::Ext4));
    }
    let is_suspect = ext.has_error || (!ext.has_journal && !ext.is_clean);
    match writable {
        Writable::ReadOnly if is_suspect => Err(CheckError::ErrorsReadOnly),
        Writable::ReadOnly if ext.needs_replay => Err(CheckError::Dirty(FilesystemKind::Ext4)),
        Writable::ReadWrite if is_suspect => Ok(Outcome::NeedsPreen),
        _ => Ok(Outcome::Already),
    }
}

/// Has e2fsck repair what it may repair without asking.
pub(crate) fn preen(held: &mut Held, tools: &Tools, lock: &File) -> Result<(), CheckError> {
    held.will_change();
    let finished = program::run(&tools.e2fsck, &["-p", &held.path()], &tools.cgroups, lock, DEADLINE).map_err(CheckError::Program)?;
    let status = finished.expect(|code| matches!(code, 0 | 1)).map_err(CheckError::Preen)?;
    tracing::info!(device = held.device.name, status, "e2fsck -p");
    Ok(held.compare()?)
}

fn check_xfs(xfs: &Xfs, held: &Held, writable: Writable) -> Result<Outcome, CheckError> {
    if xfs.needs_repair {
        return Err(CheckError::XfsDemandsRepair);
    }
    if writable == Writable::ReadOnly {
        let node = Direct::open(held)?;
        match xfs_log::state(xfs, |from, to| node.read(from, to))? {
            LogState::Clean => {}
            LogState::Dirty => return Err(CheckError::Dirty(FilesystemKind::Xfs)),
            LogState::Unclear(why) => return Err(CheckError::XfsLog(why)),
        }
    }
    Ok(Outcome::Already)
}
