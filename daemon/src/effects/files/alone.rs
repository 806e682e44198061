//! A file that nobody has open, kept so while it is copied: all copies of it that are made at the same time share one lease.
//!
//! The lease is the kernel's: whoever opens the file, on whatever way, waits until it is let go, and it shows that somebody waits. So a file
//! is either copied as it stands or given to who wants to use it, and never both.

use super::{Folder, LETTING_GO, failed, how, identity, refuse_other_kinds};
use crate::effects::refuse;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat2};
use nix::sys::stat::fstat;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use windlass_plan::effect::EffectError;
use windlass_plan::plugin::RefusalKind;

/// The files of a folder that are being copied, by device and inode.
#[derive(Default)]
pub(super) struct Copied(Mutex<HashMap<(u64, u64), Weak<Alone>>>);

/// A file under a lease, which goes with the last who copies it.
pub(super) struct Alone(File);

impl Alone {
    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Has nobody tried to open it?
    pub(super) fn is_still(&self) -> io::Result<bool> {
        windlass_linux::is_still_alone(&self.0)
    }
}

/// What came of asking for a file alone.
enum Tried {
    Alone(Arc<Alone>),
    /// Somebody wants it who is not waited for any more: the copy that holds it ends within a stretch.
    Disturbed,
    /// Somebody has it open.
    Open,
}

/// The words for it.
pub(super) const DISTURBED: &str = "somebody began to use the volume while it was copied, and the copy is thrown away; ask again, when it is unstaged";

impl Folder {
    /// The file, alone; `precondition` where somebody has it open and does not let go of it.
    pub(super) fn alone(&self, name: &str) -> Result<Arc<Alone>, EffectError> {
        let until = Instant::now() + LETTING_GO;
        loop {
            let is_copied = match self.try_alone(name)? {
                Tried::Alone(alone) => return Ok(alone),
                Tried::Disturbed => true,
                Tried::Open => false,
            };
            if Instant::now() >= until {
                return Err(if is_copied { refuse(RefusalKind::Unavailable, DISTURBED.to_owned()) } else { in_use() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn try_alone(&self, name: &str) -> Result<Tried, EffectError> {
        let mut copied = self.copied.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Without opening it, which would end the lease that is looked for.
        let (_, seen) = self.look(name)?.ok_or_else(not_there)?;
        if let Some(alone) = copied.get(&identity(&seen)).and_then(Weak::upgrade) {
            let is_still = alone.is_still().is_ok_and(|is_still| is_still);
            return Ok(if is_still { Tried::Alone(alone) } else { Tried::Disturbed });
        }
        let file: File = match openat2(&self.fd, name, how(OFlag::O_RDWR | OFlag::O_NONBLOCK)) {
            Ok(file) => file.into(),
            Err(Errno::ENOENT) => return Err(not_there()),
            // Its lease is somebody else's: it is being deleted, or copied by another process.
            Err(Errno::EWOULDBLOCK) => return Ok(Tried::Open),
            Err(errno) => return Err(failed("open a file", errno.into())),
        };
        let seen = fstat(&file).map_err(|errno| failed("look at a file", errno.into()))?;
        refuse_other_kinds(&seen)?;
        match windlass_linux::is_open_elsewhere(&file) {
            Ok(true) => return Ok(Tried::Open),
            Ok(false) => {}
            Err(error) if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => return Err(unknowable()),
            Err(error) => return Err(failed("see whether a file is in use", error)),
        }
        copied.retain(|_, alone| alone.strong_count() > 0);
        let alone = Arc::new(Alone(file));
        copied.insert(identity(&seen), Arc::downgrade(&alone));
        Ok(Tried::Alone(alone))
    }
}

pub(super) fn not_there() -> EffectError {
    refuse(RefusalKind::NotFound, "there is no such file".to_owned())
}

fn in_use() -> EffectError {
    let words = "the volume is in use on this node, and its folder's file system, or this file, cannot share blocks with another, so that a copy would be \
                 torn: unstage the volume first, or keep the volumes in a folder on xfs (made with reflink=1, as it is by default) or btrfs";
    refuse(RefusalKind::Precondition, words.to_owned())
}

fn unknowable() -> EffectError {
    let words = "the folder's file system can neither share blocks between files nor tell whether a file is open elsewhere, so that a copy might be \
                 torn: keep the volumes in a folder on xfs or btrfs, or on ext4";
    refuse(RefusalKind::Precondition, words.to_owned())
}
