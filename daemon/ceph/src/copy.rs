//! Images made from a snapshot of another, which outlive it: clones, in the format that needs no protected snapshot.
//!
//! librbd makes the new image first and ties it to its parent after. One that was left in between looks like any blank image, and would be
//! formatted; so a copy counts as made only once it says, in its metadata, of what.

use crate::ancestry::MOST_ANCESTORS;
use crate::cluster::{Cluster, Place};
use crate::delete::OUR_SNAPSHOTS;
use crate::error::{CephError, Errno};
use crate::ffi::ImageOptions;
use crate::header::header_of;
use crate::image;
use windlass_plan::rbd::{ImageFacts, ImageWish, PoolAt, RbdName};

/// The key of a copy's metadata that says of what it is one: `POOL/IMAGE@SNAPSHOT`, the first two by their ids. Set last.
pub const COPY_OF: &str = "windlass.copy-of";

/// A snapshot by its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotAt<'a> {
    /// The pool.
    pub at: &'a PoolAt,
    /// The image.
    pub image: &'a RbdName,
    /// The snapshot.
    pub snapshot: &'a RbdName,
}

impl Cluster {
    /// Makes an image from a snapshot, and says whether this call did: a copy that exists, be it of something else, is returned as it is
    /// (see [`COPY_OF`]), and one that was left half made is made anew. It has the snapshot's size, and the source's metadata, over which
    /// that of the wish is written; the wish's size is not looked at. A snapshot whose name is `windlass.` and an ending of the copy's name is the copy's
    /// own: it is deleted when the copy is purged or made independent. That is noted to be done ([`Cluster::flatten_noted`]) where more than `ancestors`
    /// images are behind it.
    ///
    /// Errors: `TooDeep`; `NotFound` (the image or the snapshot); `Precondition` where there is an image of that name that is no copy; those of
    /// [`Cluster::create`].
    pub fn copy(&self, source: SnapshotAt<'_>, at: &PoolAt, name: &RbdName, wish: &ImageWish, ancestors: Option<u32>) -> Result<(ImageFacts, bool), CephError> {
        self.counted("copy", || {
            image::check(wish)?;
            let (from, place) = (self.place(source.at)?, self.place(at)?);
            place.check_namespace()?;
            place.prepare_trash();
            let no_snapshot = || from.no_snapshot(source.image, source.snapshot);
            let source_id = from.id(source.image)?.ok_or_else(no_snapshot)?;
            let behind = from.ancestors(source.image, &source_id)? + 1;
            if behind > MOST_ANCESTORS {
                // With a snapshot it would stay as it is.
                if is_own(source.snapshot, name) {
                    self.delete_snapshot(source.at, source.image, source.snapshot)?;
                }
                from.note_whole_to_flatten(source.image)?;
                return Err(CephError::TooDeep { image: from.image(source.image), most: MOST_ANCESTORS });
            }
            let is_noted = ancestors.is_some_and(|most| behind > most);
            let note = |made: (ImageFacts, bool)| if is_noted { place.note_to_flatten(name).map(|()| made) } else { Ok(made) };
            // Again when it is made: a round that comes in between finds no image, and takes the note for an old one.
            if is_noted {
                place.note_to_flatten(name)?;
            }
            let mark = format!("{}/{source_id}@{}", from.io.id(), source.snapshot);
            let mut metadata = wish.metadata.clone();
            metadata.insert(COPY_OF.to_owned(), mark.clone());

            let options = ImageOptions { clone_format: Some(2), ..image::options(wish) };
            let failed = |errno| if errno == Errno(libc::ENOENT) { no_snapshot() } else { place.failed("make", name)(errno) };
            let make = || from.io.clone_to(source.image.as_str(), source.snapshot.as_str(), &place.io, name.as_str(), &options);
            let (made, is_new) = place.make(name, &metadata, failed, make)?;
            if is_new || made.metadata.get(COPY_OF) == Some(&mark) {
                return note((made, is_new));
            }
            // A copy takes its source's metadata over before it gets its own.
            let inherited = from.facts(source.image, &source_id)?.ok_or_else(no_snapshot)?.metadata.remove(COPY_OF);
            if made.metadata.get(COPY_OF) != inherited.as_ref() {
                return Ok((made, false));
            }
            place.discard_half_made(&made)?;
            place.make(name, &metadata, failed, make).and_then(note)
        })
    }
}

/// Is this a snapshot for the copy of that name alone?
pub(crate) fn is_own(snapshot: &RbdName, copy: &RbdName) -> bool {
    snapshot.as_str().strip_prefix(OUR_SNAPSHOTS).is_some_and(|rest| !rest.is_empty() && copy.as_str().ends_with(rest))
}

impl Place<'_> {
    /// Takes away what a copy that was not finished has left: nobody uses it, and nothing was written to it.
    fn discard_half_made(&self, half: &ImageFacts) -> Result<(), CephError> {
        let (name, id) = (&half.name, &half.identity.image);
        let failed = self.failed("look at", name);
        let is_held = self.locks(name, &header_of(id))?.is_some_and(|(ours, _)| !ours.lockers.is_empty());
        let image = self.io.open_to_look(id).map_err(&failed)?;
        let is_in_use = is_held || !self.others(&image).map_err(&failed)?.is_empty();
        if is_in_use || image.has_objects_of_its_own(half.size).map_err(&failed)? {
            let why = "there is an image of that name that is no copy; give that one another name, or delete it";
            return Err(CephError::Precondition { deed: "make", subject: self.image(name), why });
        }
        drop(image);
        self.move_to_trash(name, id)
    }
}
