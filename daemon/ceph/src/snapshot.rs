//! Snapshots of an image; and cutting the tie of a copy to the one that it was made from.

use crate::cluster::{Cluster, Place};
use crate::encoding::{Decoder, Encoder, Malformed};
use crate::error::{CephError, Errno};
use crate::ffi::Exec;
use crate::header::{header_of, rbd};
use windlass_plan::rbd::{PoolAt, RbdName, SnapshotFacts};

/// Snapshots of one image: the kernel maps no image with more than 510, those that only live on for their clones among them.
const MOST: usize = 450;

/// Snapshots that are asked about in one operation.
const AT_ONCE: usize = 64;

impl Cluster {
    /// Takes a snapshot, and says whether this call did: one of that name is returned as it is. Waits for one commit of the monitors.
    ///
    /// Errors: `NotFound` (the image); `TooManySnapshots`.
    pub fn snapshot(&self, at: &PoolAt, image: &RbdName, snapshot: &RbdName) -> Result<(SnapshotFacts, bool), CephError> {
        self.counted("snapshot", || {
            let place = self.place(at)?;
            let id = place.id(image)?.ok_or_else(|| place.not_found(image))?;
            let failed = place.failed("take a snapshot of", image);
            place.refuse_while_flattened(image, &id)?;
            let is_new = match place.change(image, &id, |open| open.snapshot(snapshot.as_str())) {
                Ok(()) => true,
                Err(Errno(libc::EEXIST)) => false,
                Err(errno) => return Err(failed(errno)),
            };
            // Whoever began meanwhile may have looked for snapshots before this one was there.
            if is_new && let Err(error) = place.refuse_while_flattened(image, &id) {
                place.change(image, &id, |open| open.remove_snapshot(snapshot.as_str())).map_err(place.failed("delete a snapshot of", image))?;
                return Err(error);
            }
            let (all, count) = place.counted_snapshots(image, &id)?;
            if is_new && count > MOST {
                place.change(image, &id, |open| open.remove_snapshot(snapshot.as_str())).map_err(place.failed("delete a snapshot of", image))?;
                return Err(CephError::TooManySnapshots { image: place.image(image), most: MOST });
            }
            let found = all.into_iter().find(|one| &one.name == snapshot);
            found.map(|facts| (facts, is_new)).ok_or_else(|| place.no_snapshot(image, snapshot))
        })
    }

    /// An image's snapshots, oldest first: 3 operations, and 1 more for each 64 of them. Those that only live on for their clones, and
    /// those with names that cannot be ours, are left out.
    ///
    /// Errors: `NotFound` (the image).
    pub fn snapshots(&self, at: &PoolAt, image: &RbdName) -> Result<Vec<SnapshotFacts>, CephError> {
        self.counted("snapshots", || {
            let place = self.place(at)?;
            let id = place.id(image)?.ok_or_else(|| place.not_found(image))?;
            place.snapshots(image, &id)
        })
    }

    /// Deletes a snapshot; not there is as good, and so is no image. Its clones live on. Waits for one commit of the monitors.
    ///
    /// Errors: `Precondition` where an operator protected it.
    pub fn delete_snapshot(&self, at: &PoolAt, image: &RbdName, snapshot: &RbdName) -> Result<(), CephError> {
        self.counted("delete-snapshot", || {
            let place = self.place(at)?;
            let Some(id) = place.id(image)? else { return Ok(()) };
            if !place.snapshots(image, &id)?.iter().any(|one| &one.name == snapshot) {
                return Ok(());
            }
            let failed = place.failed("delete a snapshot of", image);
            match place.change(image, &id, |open| open.remove_snapshot(snapshot.as_str())) {
                Ok(()) | Err(Errno(libc::ENOENT)) => Ok(()),
                Err(Errno(libc::EBUSY)) => {
                    let why = "it is protected: `rbd snap unprotect` when its clones are gone";
                    Err(CephError::Precondition { deed: "delete", subject: place.snapshot_of(image, snapshot), why })
                }
                Err(errno) => Err(failed(errno)),
            }
        })
    }
}

impl Place<'_> {
    fn snapshot_of(&self, image: &RbdName, snapshot: &RbdName) -> String {
        format!("the snapshot {}/{image}@{snapshot}", self.at)
    }

    pub(crate) fn no_snapshot(&self, image: &RbdName, snapshot: &RbdName) -> CephError {
        CephError::NotFound { subject: self.snapshot_of(image, snapshot).trim_start_matches("the ").to_owned() }
    }

    /// The snapshots of the image of that id that were taken by name.
    pub(crate) fn snapshots(&self, image: &RbdName, id: &str) -> Result<Vec<SnapshotFacts>, CephError> {
        self.counted_snapshots(image, id).map(|(snapshots, _)| snapshots)
    }

    /// Has it any snapshot, of whatever kind?
    pub(crate) fn has_snapshots(&self, image: &RbdName, id: &str) -> Result<bool, CephError> {
        Ok(self.counted_snapshots(image, id)?.1 > 0)
    }

    /// The same, and how many snapshots of all kinds it has.
    fn counted_snapshots(&self, image: &RbdName, id: &str) -> Result<(Vec<SnapshotFacts>, usize), CephError> {
        let (failed, malformed) = (self.failed("look at", image), self.malformed(image));
        let header = header_of(id);
        let ask = |calls: &[Exec<'_>]| match self.io.ask(&header, calls) {
            Err(Errno(libc::ENOENT)) => Ok(Vec::new()),
            answers => answers.map_err(&failed),
        };
        let Some(context) = ask(&[rbd(c"get_snapcontext", &[])])?.into_iter().next() else { return Ok((Vec::new(), 0)) };
        let mut ids = read_context(&context.map_err(&failed)?).map_err(&malformed)?;
        ids.sort_unstable();
        let mut found = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            let inputs: Vec<_> = some.iter().map(|id| Encoder::default().u64(*id).bytes()).collect();
            let calls: Vec<_> = inputs.iter().map(|input| rbd(c"snapshot_get", input)).collect();
            for answer in ask(&calls)? {
                match answer {
                    Ok(bytes) => found.extend(read_snapshot(&bytes).map_err(&malformed)?),
                    // Deleted meanwhile.
                    Err(Errno(libc::ENOENT)) => {}
                    Err(errno) => return Err(failed(errno)),
                }
            }
        }
        Ok((found, ids.len()))
    }
}

/// `SnapContext`: the newest number, then all.
fn read_context(bytes: &[u8]) -> Result<Vec<u64>, Malformed> {
    let mut decoder = Decoder::of(bytes);
    let _newest = decoder.u64()?;
    (0..decoder.u32()?).map(|_| decoder.u64()).collect()
}

/// `cls::rbd::SnapshotInfo`. `None` for one that was not taken by name, but by a group, a mirror, or the trash of snapshots.
fn read_snapshot(bytes: &[u8]) -> Result<Option<SnapshotFacts>, Malformed> {
    let mut inside = Decoder::of(bytes).versioned()?;
    let id = inside.u64()?;
    let is_by_name = inside.versioned()?.u32()? == 0;
    let (name, size, created) = (inside.text()?, inside.u64()?, u64::from(inside.u32()?));
    Ok(RbdName::parse(&name).ok().filter(|_| is_by_name).map(|name| SnapshotFacts { name, id, size, created }))
}
