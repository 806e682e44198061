//! Making a copy independent of what it was made from, without believing its object map.
//!
//! librbd passes over objects that the map says are there. The map is written before the object: whoever dies in between, a node that writes or a process
//! that makes the copy independent, leaves a map that says so of an object which is still its source's alone, and with the source it would be lost
//! (<https://tracker.ceph.com/issues/68998>; librbd as of 2025 is mended, and older ones are in use). So the map is declared invalid first, which librbd
//! heeds, and built anew when all is copied.

use crate::cluster::{Cluster, Place};
use crate::encoding::{Decoder, Encoder};
use crate::error::{CephError, Errno};
use crate::header::{HEAD, header_of, rbd};
use windlass_plan::rbd::{Feature, PoolAt, RbdName};

/// `RBD_FLAG_OBJECT_MAP_INVALID` and `RBD_FLAG_FAST_DIFF_INVALID`.
pub(crate) const INVALID_MAP: u64 = 1 << 0 | 1 << 1;

impl Cluster {
    /// Copies into an image what it still has from the snapshot that it was made from, so that it needs that no longer. As long as that
    /// takes: for the background, and may be begun again at any time. An image of its own already is as good.
    ///
    /// Errors: `NotFound`.
    pub fn flatten(&self, at: &PoolAt, name: &RbdName) -> Result<(), CephError> {
        self.counted("flatten", || {
            let place = self.place(at)?;
            let id = place.id(name)?.ok_or_else(|| place.not_found(name))?;
            let failed = place.failed("make independent", name);
            let has_map = place.has_map(name, &id)?;
            if has_map {
                place.distrust_map(&id).map_err(&failed)?;
            }
            match place.change(name, &id, |image| image.flatten()) {
                // Without a parent: an earlier call that died before it was through may have got so far.
                Ok(()) | Err(Errno(libc::EINVAL)) => {}
                Err(errno) => return Err(failed(errno)),
            }
            if has_map {
                place.change(name, &id, |image| image.rebuild_object_map()).map_err(&failed)?;
            }
            Ok(())
        })
    }
}

impl Place<'_> {
    /// Has the image an object map? 1 operation.
    fn has_map(&self, name: &RbdName, id: &str) -> Result<bool, CephError> {
        let input = Encoder::default().u64(HEAD).u8(1).bytes();
        let failed = self.failed("look at", name);
        let answers = self.io.ask(&header_of(id), &[rbd(c"get_features", &input)]).map_err(&failed)?;
        let answer = answers.into_iter().next().unwrap_or(Err(Errno(libc::EIO))).map_err(&failed)?;
        let features = Decoder::of(&answer).u64().map_err(self.malformed(name))?;
        Ok(features & Feature::ObjectMap.bit() != 0)
    }

    /// Declares the map invalid: whoever opens the image from now on asks for the objects themselves, until it was built anew.
    fn distrust_map(&self, id: &str) -> Result<(), Errno> {
        let input = Encoder::default().u64(INVALID_MAP).u64(INVALID_MAP).u64(HEAD).bytes();
        self.io.exec(&header_of(id), &rbd(c"set_flags", &input))
    }
}
