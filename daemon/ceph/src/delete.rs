//! Deleting: an image goes to the pool's trash while its caller waits, and from there piece by piece in the background.
//!
//! Which images in the trash are ours to remove is kept in an object of its own, whose keys are their ids: noted before an image is moved,
//! forgotten when it is gone, or when it is found outside the trash: then somebody took it out, and it is theirs.

use crate::cluster::{Cluster, Place};
use crate::encoding::Encoder;
use crate::error::{CephError, Errno};
use crate::header::{HEAD, header_of, rbd};
use crate::make::Half;
use std::thread::sleep;
use std::time::Duration;
use windlass_plan::rbd::{PoolAt, RbdName};

/// The object that names what is to be purged.
const NOTES: &str = "windlass.trash";

/// What the names of snapshots begin with that exist for their clones' sake alone, and go with their image.
pub const OUR_SNAPSHOTS: &str = "windlass.";

/// How long a move to the trash may take that somebody lives to end.
const MOVING_TAKES: Duration = Duration::from_secs(5);

/// What one round of purging came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Purged {
    /// Images that are gone for good.
    pub removed: usize,
    /// Images that have snapshots, clones or a watcher still: looked at again in a later round.
    pub kept: usize,
    /// Where the next round goes on; `None` when all were looked at.
    pub next: Option<String>,
}

impl Cluster {
    /// Deletes an image that nobody uses: at most 43 operations with the five features. Not there is as good. Its snapshots and clones live on.
    ///
    /// Errors: `Held` (our lock), `Watched` (anybody who has it open).
    pub fn delete(&self, at: &PoolAt, name: &RbdName) -> Result<(), CephError> {
        self.counted("delete", || {
            let place = self.place(at)?;
            let id = match place.id(name)?.map_or_else(|| place.half(name), |id| Ok(Half::Whole(id)))? {
                Half::Whole(id) => id,
                Half::Nothing => return Ok(()),
                Half::Begun(id) => return place.clear(name, &id),
                // librbd goes on from there.
                Half::Leaving(id) => return place.move_to_trash(name, &id),
            };
            let Some((ours, _)) = place.locks_soon(name, &id)? else { return place.clear(name, &id) };
            if !ours.lockers.is_empty() {
                return Err(CephError::Held { image: place.image(name), nodes: ours.lockers.into_iter().map(|locker| locker.cookie).collect() });
            }
            let failed = place.failed("delete", name);
            let image = place.io.open_to_look(&id).map_err(&failed)?;
            let watchers = place.others(&image).map_err(&failed)?;
            drop(image);
            if !watchers.is_empty() {
                return Err(CephError::Watched { image: place.image(name), addresses: watchers.into_iter().map(|watcher| watcher.address).collect() });
            }
            place.move_to_trash(name, &id)
        })
    }

    /// Removes images that were deleted: at most `limit` of them, after the one at which an earlier round stopped (empty: from the
    /// beginning). One that cannot go yet is passed over, and so is one that fails, once the others were seen to.
    ///
    /// Errors: the first failure, if nothing could be removed.
    pub fn purge(&self, at: &PoolAt, after: &str, limit: usize) -> Result<Purged, CephError> {
        self.counted("purge", || {
            let place = self.place(at)?;
            let subject = || format!("the trash of the pool {at}");
            let notes = match place.io.omap_after(NOTES, after, limit as u64) {
                Ok(notes) => notes,
                Err(Errno(libc::ENOENT)) => return Ok(Purged::default()),
                Err(errno) => return Err(CephError::of("read", subject(), errno)),
            };
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let notes: Vec<(String, String)> = notes.into_iter().map(|(id, name)| (text(id), text(name))).collect();
            let (mut purged, mut failure) = (Purged::default(), None);
            for (id, name) in &notes {
                match place.purge_one(id, name) {
                    Ok(true) => purged.removed += 1,
                    Ok(false) => purged.kept += 1,
                    Err(errno) => failure = failure.or(Some(CephError::of("remove", format!("{id} in {}", subject()), errno))),
                }
            }
            match failure {
                Some(failure) if purged.removed == 0 => return Err(failure),
                Some(failure) => tracing::warn!("purging goes on past a failure: {failure}"),
                None => {}
            }
            purged.next = notes.into_iter().nth(limit.saturating_sub(1)).map(|(id, _)| id);
            Ok(purged)
        })
    }
}

impl Place<'_> {
    /// Makes the objects of the trash while there is room for them: a full pool could not take them, and nothing in it could be deleted.
    /// Once for a pool and connection: 2 operations.
    pub(crate) fn prepare_trash(&self) {
        if !self.cluster.is_first_in(self.at) {
            return;
        }
        for object in [NOTES, "rbd_trash"] {
            if let Err(errno) = self.io.touch(object) {
                tracing::debug!(%errno, at = %self.at, object, "the trash was not prepared");
            }
        }
    }

    /// Notes an image as ours to remove, and moves it to the trash.
    pub(crate) fn move_to_trash(&self, name: &RbdName, id: &str) -> Result<(), CephError> {
        self.note(name, id)?;
        let moved = self.try_move(name, id);
        match &moved {
            // Written again: a round of purging that came in between found the image where it was, and took the note for an old one.
            Ok(()) => self.note(name, id)?,
            // Whether it was moved after all only time will tell.
            Err(CephError::TimedOut { .. } | CephError::Lost { .. }) => {}
            Err(_) => {
                if let Err(errno) = self.io.omap_remove(NOTES, &[id]) {
                    tracing::debug!(%errno, image = %name, "a note of an image that was not moved to the trash stays; the next round of purging takes it away");
                }
            }
        }
        moved
    }

    /// Is it noted as ours to remove?
    pub(crate) fn is_noted(&self, name: &RbdName, id: &str) -> Result<bool, CephError> {
        match self.io.omap(NOTES, &[id]) {
            Ok(found) => Ok(!found.is_empty()),
            Err(Errno(libc::ENOENT)) => Ok(false),
            Err(errno) => Err(self.failed("look for", name)(errno)),
        }
    }

    fn note(&self, name: &RbdName, id: &str) -> Result<(), CephError> {
        self.io.omap_set(NOTES, &[(id, name.as_str().as_bytes())]).map_err(self.failed("delete", name))
    }

    fn try_move(&self, name: &RbdName, id: &str) -> Result<(), CephError> {
        match self.unhindered(name, id, || self.io.trash_move(name.as_str())) {
            Ok(()) => Ok(()),
            Err(Errno(libc::ENOENT)) if self.id(name)?.as_deref() != Some(id) => Ok(()),
            Err(Errno(libc::ENOENT)) if !self.exists(id).map_err(self.failed("delete", name))? => self.clear(name, id),
            // librbd also says so where it has failed for want of room.
            Err(Errno(libc::ENOENT)) => {
                Err(CephError::Full { subject: format!("a trash, which is needed to delete {}", self.image(name)), errno: Errno(libc::ENOSPC) })
            }
            Err(errno @ Errno(libc::EBUSY)) => {
                tracing::debug!(%errno, image = %name, "an image was not moved to the trash");
                let why = "it is part of a group, of a mirror or of a migration, or was opened this moment; see `rbd status` and `rbd info`";
                Err(CephError::Precondition { deed: "delete", subject: self.image(name), why })
            }
            Err(errno) => Err(self.failed("delete", name)(errno)),
        }
    }

    /// Is the image of that id gone, which had that name?
    fn purge_one(&self, id: &str, noted: &str) -> Result<bool, Errno> {
        // As a name in a sentence, the id has to do.
        let Ok(name) = RbdName::parse(id) else { return Ok(false) };
        // A snapshot that was there for this copy alone. Where it cannot be deleted, its image takes it along one day.
        if let Ok(noted) = RbdName::parse(noted)
            && let Err(error) = self.release_own_snapshot(&noted, id)
        {
            tracing::warn!(image = %self.image(&noted), %error, "the snapshot from which a deleted copy was made stays");
        }
        let remove = || self.unhindered(&name, id, || self.io.trash_remove(id));
        let removed = match remove() {
            Err(Errno(libc::ENOTEMPTY)) if self.purge_snapshots(&name, id)? => remove(),
            // It is on its way to the trash. Whoever moves it is through in a moment, or has died.
            Err(Errno(libc::EUCLEAN)) => {
                sleep(MOVING_TAKES);
                match remove() {
                    Err(Errno(libc::EUCLEAN)) => {
                        self.finish_move(noted, id)?;
                        remove()
                    }
                    removed => removed,
                }
            }
            removed => removed,
        };
        match removed {
            Ok(()) => {}
            // Snapshots, clones, a watcher, or a time for which an operator wants it kept.
            Err(Errno(libc::ENOTEMPTY | libc::EBUSY | libc::EPERM)) => return Ok(false),
            // Not in the trash: gone, or taken out of it by an operator, whose it is from then on.
            Err(Errno(libc::ENOENT)) => {}
            Err(errno) => return Err(errno),
        }
        self.io.omap_remove(NOTES, &[id])?;
        Ok(true)
    }

    /// Ends a move to the trash whose mover died in the middle. By the image's id alone: another image may have the name by now.
    fn finish_move(&self, noted: &str, id: &str) -> Result<(), Errno> {
        // `cls::rbd::TrashImageState`: what it is to be, and what it has to be now.
        const NORMAL: u8 = 0;
        const MOVING: u8 = 1;
        if let Ok(name) = RbdName::parse(noted) {
            self.clear(&name, id).map_err(|error| error.errno())?;
        }
        self.io.exec("rbd_trash", &rbd(c"trash_state_set", &Encoder::default().text(id).u8(NORMAL).u8(MOVING).bytes()))
    }

    /// Deletes those snapshots of a deleted image that are named as ours are: was there one? A clone that still needs one keeps it alive,
    /// under no name. Snapshots that somebody else took stay, and the image with them.
    fn purge_snapshots(&self, name: &RbdName, id: &str) -> Result<bool, Errno> {
        let snapshots = self.snapshots(name, id).map_err(|error| error.errno())?;
        let ours: Vec<_> = snapshots.into_iter().filter(|snapshot| snapshot.name.as_str().starts_with(OUR_SNAPSHOTS)).collect();
        if ours.is_empty() {
            return Ok(false);
        }
        self.change(name, id, |image| ours.iter().try_for_each(|snapshot| image.remove_snapshot(snapshot.name.as_str())))?;
        Ok(true)
    }

    /// Is there an image of that id, wherever?
    fn exists(&self, id: &str) -> Result<bool, Errno> {
        let input = Encoder::default().u64(HEAD).bytes();
        match self.io.ask(&header_of(id), &[rbd(c"get_size", &input)]).and_then(|answers| answers.into_iter().collect::<Result<Vec<_>, _>>()) {
            Ok(_) => Ok(true),
            Err(Errno(libc::ENOENT)) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}
