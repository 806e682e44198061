//! What is behind a copy: the snapshot that it was made from, the chain of images that its data come from, and copies that are to be cut off from theirs.
//!
//! Which copies are to be cut off is kept in an object of the pool, whose keys are their names: noted before a copy is made and after, forgotten when
//! it is done. One that is not finished yet is left alone, with its note. So whoever comes next goes on where another died.

use crate::cluster::{Cluster, Place};
use crate::copy::{COPY_OF, is_own};
use crate::encoding::{Decoder, Encoder, Malformed};
use crate::error::{CephError, Errno};
use crate::header::{HEAD, header_of, rbd};
use windlass_plan::rbd::{ImageFacts, PoolAt, RbdName};

/// The object that names what is to be cut off.
const NOTES: &str = "windlass.flatten";

/// What is noted with an image that is no half-made copy.
const WHOLE: &[u8] = b"whole";

/// Images behind one: the kernel maps 16, and a chain may grow while it is being cut.
pub const MOST_ANCESTORS: u32 = 14;

/// The snapshot that a copy was made from.
pub(crate) struct Parent {
    at: PoolAt,
    /// The image's id.
    image: String,
    /// The snapshot's number.
    snapshot: u64,
}

impl Cluster {
    /// Makes copies independent that were noted for it: at most `limit`, after the one at which an earlier round stopped. As long as that takes:
    /// for the background. Returns where the next round goes on, `None` when all were looked at; and the first failure, which keeps none of the others
    /// from being seen to.
    pub fn flatten_noted(&self, at: &PoolAt, after: &str, limit: usize) -> Result<(Option<String>, Option<CephError>), CephError> {
        let place = self.place(at)?;
        let failed = |errno| CephError::of("read", format!("the list of copies to be made independent in the pool {at}"), errno);
        let notes = match place.io.omap_after(NOTES, after, limit as u64) {
            Ok(notes) => notes,
            Err(Errno(libc::ENOENT)) => return Ok((None, None)),
            Err(errno) => return Err(failed(errno)),
        };
        let notes: Vec<(String, Vec<u8>)> = notes.into_iter().map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value)).collect();
        let mut first = None;
        for (name, value) in &notes {
            if let Err(error) = place.flatten_one(name, value == WHOLE) {
                first.get_or_insert(error);
            }
        }
        Ok((notes.into_iter().nth(limit.saturating_sub(1)).map(|(name, _)| name), first))
    }
}

impl Place<'_> {
    fn flatten_one(&self, note: &str, is_whole: bool) -> Result<(), CephError> {
        if let Ok(name) = RbdName::parse(note)
            && let Some(id) = self.id(&name)?
        {
            if !is_whole && self.is_half_made(&name, &id)? {
                return Ok(());
            }
            self.release_own_snapshot(&name, &id)?;
            match self.cluster.flatten(self.at, &name) {
                Ok(()) | Err(CephError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.io.omap_remove(NOTES, &[note]).map_err(|errno| CephError::of("forget", format!("the note on {note} in the pool {}", self.at), errno))
    }

    /// Is the copy one that is not finished yet, and may be thrown away by who goes on with it? It says nothing of itself, or what its source says.
    fn is_half_made(&self, name: &RbdName, id: &str) -> Result<bool, CephError> {
        let Some(Parent { at, image, .. }) = self.parent(name, id)? else { return Ok(false) };
        let says = |facts: Option<ImageFacts>| facts.and_then(|mut facts| facts.metadata.remove(COPY_OF));
        let (its, source) = (says(self.facts(name, id)?), says(self.cluster.place(&at)?.facts(name, &image)?));
        Ok(its.is_none() || its == source)
    }

    /// Notes a copy to be made independent once it is finished.
    pub(crate) fn note_to_flatten(&self, name: &RbdName) -> Result<(), CephError> {
        self.io.omap_set(NOTES, &[(name.as_str(), b"")]).map_err(self.failed("note something of", name))
    }

    /// The same of an image that somebody else may have made, and that is whole whatever it says of itself.
    pub(crate) fn note_whole_to_flatten(&self, name: &RbdName) -> Result<(), CephError> {
        self.io.omap_set(NOTES, &[(name.as_str(), WHOLE)]).map_err(self.failed("note something of", name))
    }

    /// Deletes the snapshot that belongs to a copy alone (see [`Cluster::copy`]). The copy needs no name of it any more: Ceph keeps it, under none, until
    /// the copy is gone or independent.
    pub(crate) fn release_own_snapshot(&self, name: &RbdName, id: &str) -> Result<(), CephError> {
        let Some(parent) = self.parent(name, id)? else { return Ok(()) };
        let source = self.cluster.place(&parent.at)?;
        // As a name in a sentence, the id has to do.
        let Ok(shown) = RbdName::parse(&parent.image) else { return Ok(()) };
        let snapshots = source.snapshots(&shown, &parent.image)?;
        let Some(own) = snapshots.iter().find(|snapshot| snapshot.id == parent.snapshot && is_own(&snapshot.name, name)) else { return Ok(()) };
        match source.change(&shown, &parent.image, |image| image.remove_snapshot(own.name.as_str())) {
            Ok(()) | Err(Errno(libc::ENOENT)) => Ok(()),
            Err(errno) => Err(source.failed("delete a snapshot of", &shown)(errno)),
        }
    }

    /// How many images are behind this one: 1 operation each, and 1 more.
    pub(crate) fn ancestors(&self, name: &RbdName, id: &str) -> Result<u32, CephError> {
        let (mut count, mut next) = (0, self.parent_of(name, id, HEAD)?);
        while let Some(Parent { at, image, snapshot }) = next.take().filter(|_| count <= MOST_ANCESTORS) {
            count += 1;
            next = self.cluster.place(&at)?.parent_of(name, &image, snapshot)?;
        }
        Ok(count)
    }

    /// The snapshot that an image or snapshots of it read through to: 1 operation.
    fn parent(&self, name: &RbdName, id: &str) -> Result<Option<Parent>, CephError> {
        Ok(self.parent_with_overlap(name, id, HEAD)?.map(|(parent, _)| parent))
    }

    /// The snapshot that an image, or this snapshot of it, reads through to: 1 operation. What was made independent has none, though its snapshots may.
    pub(crate) fn parent_of(&self, name: &RbdName, id: &str, snapshot: u64) -> Result<Option<Parent>, CephError> {
        Ok(self.parent_with_overlap(name, id, snapshot)?.filter(|(_, overlaps)| *overlaps).map(|(parent, _)| parent))
    }

    /// The parent, and whether this snapshot of the image has anything of it.
    fn parent_with_overlap(&self, name: &RbdName, id: &str, snapshot: u64) -> Result<Option<(Parent, bool)>, CephError> {
        let (failed, malformed) = (self.failed("look at", name), self.malformed(name));
        let of = Encoder::default().u64(snapshot).bytes();
        let answers = match self.io.ask(&header_of(id), &[rbd(c"parent_get", &[]), rbd(c"parent_overlap_get", &of)]) {
            Ok(answers) => answers,
            Err(Errno(libc::ENOENT)) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let [parent, overlap] = <[_; 2]>::try_from(answers).map_err(|_| malformed(Malformed))?;
        let overlaps = match overlap {
            Ok(bytes) => Decoder::of(&bytes).u8().map_err(&malformed)? != 0,
            // A snapshot that is gone, or an image without layering.
            Err(Errno(libc::ENOENT | libc::EOPNOTSUPP | libc::ENOEXEC)) => false,
            Err(errno) => return Err(failed(errno)),
        };
        let bytes = match Some(parent) {
            Some(Ok(bytes)) => bytes,
            // Gone, or without layering.
            None | Some(Err(Errno(libc::ENOENT | libc::EOPNOTSUPP | libc::ENOEXEC))) => return Ok(None),
            Some(Err(errno)) => return Err(failed(errno)),
        };
        let Some((pool, namespace, image, read)) = read_parent(&bytes).map_err(&malformed)? else { return Ok(None) };
        let pool = self.cluster.rados.pool_name(pool).map_err(&failed)?;
        let parse = |name: &str| RbdName::parse(name).map_err(|_| malformed(Malformed));
        let namespace = if namespace.is_empty() { None } else { Some(parse(&namespace)?) };
        Ok(Some((Parent { at: PoolAt { pool: parse(&pool)?, namespace }, image, snapshot: read }, overlaps)))
    }
}

/// `cls::rbd::ParentImageSpec`; a pool below zero is none.
fn read_parent(bytes: &[u8]) -> Result<Option<(i64, String, String, u64)>, Malformed> {
    let mut inside = Decoder::of(bytes).versioned()?;
    let spec = (inside.i64()?, inside.text()?, inside.text()?, inside.u64()?);
    Ok(Some(spec).filter(|(pool, _, image, _)| *pool >= 0 && !image.is_empty()))
}
