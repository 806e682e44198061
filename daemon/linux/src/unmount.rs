//! Takes away every mount of a volume at a place, by the parent's descriptor and a name, and then the target that a step made.

use crate::bind;
use crate::holders;
use crate::mark;
use crate::mountinfo::{Line, Shown, Table};
use crate::roots::{OpenRoots, Parent, PlaceError, Sight};
use crate::sys;
use crate::target::{self, TargetError};
use crate::words;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::lower::NODE_NAME;
use windlass_plan::paths::Place;
use windlass_plan::step::{Outcome, TargetKind};

/// Mounts of one volume at one place that are taken away before we think that somebody mounts as fast as we unmount.
const MOST: usize = 100;

/// How long a mount may be busy before it counts as in use.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(5);

/// A mount that cannot be taken away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnmountError {
    #[error("{path} is in use{holders}")]
    InUse { path: String, holders: String },
    #[error("something else ({kind}) is mounted over this volume at {path}; unmount it first")]
    Covered { path: String, kind: String },
    #[error("cannot unmount {path}")]
    Unmount {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{path} is mounted again and again")]
    Endless { path: String },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl From<UnmountError> for Failure {
    fn from(error: UnmountError) -> Self {
        let reason = match error {
            UnmountError::Target(error) => return error.into(),
            UnmountError::Place(error) => return error.into(),
            UnmountError::InUse { .. } | UnmountError::Endless { .. } => Reason::InUse,
            UnmountError::Covered { .. } => Reason::ForeignMount,
            UnmountError::Unmount { ref source, .. } => words::reason(source),
        };
        words::failure(reason, &error)
    }
}

/// Whose a mount is.
enum Owner {
    Ours,
    /// A node of a device that shows nothing any more. Somebody unbound the device below the mount; to take a node away that
    /// leads nowhere harms nothing, and leaving it would let it show the next volume that gets the number.
    Nobody,
    Another,
}

/// Unmounts. What shows another device is left as it is: then there is nothing of ours to take away.
pub(crate) fn unmount(roots: &OpenRoots, volume: VolumeKey, place: &Place, made: Option<TargetKind>) -> Result<Outcome, UnmountError> {
    let parent = match roots.parent(place) {
        Ok(parent) => parent,
        Err(PlaceError::ParentMissing { .. }) => return Ok(Outcome::Already),
        Err(error) => return Err(error.into()),
    };
    let mut outcome = Outcome::Already;
    for _ in 0..MOST {
        match parent.look()? {
            Sight::Nothing => return Ok(outcome),
            // A node's file is made in a plain folder alone: this one is in a volume that is mounted there, and its user's.
            Sight::Plain(_) if place.split().1 == NODE_NAME && bind::mounted_folder(roots, place)?.is_some() => return Ok(outcome),
            Sight::Plain(_) => {
                let is_removed = made.map(|kind| target::remove(&parent, kind)).transpose()?;
                return Ok(if is_removed == Some(true) { Outcome::Done } else { outcome });
            }
            Sight::Mounted(there, line, table) => {
                match owner(volume, &line, there.as_fd()) {
                    Owner::Ours => {}
                    Owner::Nobody if matches!(made, Some(TargetKind::File | TargetKind::Either)) => {}
                    Owner::Nobody | Owner::Another => return leave(volume, &parent, line, &table, outcome),
                }
                // A descriptor of the mount would keep it busy.
                drop(there);
                take_away(&parent, &line)?;
                outcome = Outcome::Done;
            }
        }
    }
    Err(UnmountError::Endless { path: parent.path })
}

fn owner(volume: VolumeKey, line: &Line, there: std::os::fd::BorrowedFd<'_>) -> Owner {
    let Some((kind, number)) = bind::shows(line, there) else { return Owner::Another };
    match mark::of_number(number) {
        Some(short) if short == volume.short() => Owner::Ours,
        None if kind == TargetKind::File && mark::is_dead(number) => Owner::Nobody,
        _ => Owner::Another,
    }
}

/// The uppermost mount is not ours. One of ours below it would be lost from sight if we called that done.
fn leave(volume: VolumeKey, parent: &Parent, upper: Line, table: &Table, outcome: Outcome) -> Result<Outcome, UnmountError> {
    let is_ours = |line: &&Line| {
        let mark = || match line.shows()? {
            Shown::Filesystem(number) => mark::of_number(number),
            Shown::Node(name) => mark::of_name(&name),
        };
        line.point == upper.point && line.id != upper.id && mark() == Some(volume.short())
    };
    if table.lines().find(is_ours).is_some() {
        return Err(UnmountError::Covered { path: parent.path.clone(), kind: upper.kind });
    }
    Ok(outcome)
}

/// Somebody may have a look around in it just now (statistics, an indexer): busy for a moment is not in use.
fn take_away(parent: &Parent, line: &Line) -> Result<(), UnmountError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match sys::unmount(&parent.by_descriptor()) {
            Ok(()) => return Ok(()),
            // Somebody was quicker: the next look shows how it is.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(UnmountError::InUse { path: parent.path.clone(), holders: holders::of_mount(&line.point) });
            }
            Err(source) => return Err(UnmountError::Unmount { path: parent.path.clone(), source }),
        }
    }
}
