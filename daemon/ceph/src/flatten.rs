//! Making a copy independent of what it was made from, without believing its object map.
//!
//! librbd passes over objects that the map says are there. The map is written before the object: whoever dies in between, a node that writes or a process
//! that makes the copy independent, leaves a map that says so of an object which is still its source's alone, and with the source it would be lost
//! (<https://tracker.ceph.com/issues/68998>; librbd as of 2025 is mended, and older ones are in use). So every object is first made here, one after the
//! other, from what the objects themselves say. That takes no lock from a node that writes, and what is done stays done, whoever dies or comes in between.
//!
//! An image that has snapshots is left as it is. They have maps of their own, of which nobody is told when an object is there before it is written; and clones
//! of them may be open anywhere, with the chain that they began with, and would read what is no more (<https://github.com/ceph/ceph/pull/70143>). So it is
//! the leaves that are made independent, and none gets a snapshot while it is.

use crate::cluster::{Cluster, Place};
use crate::encoding::{Decoder, Encoder};
use crate::error::{CephError, Errno};
use crate::header::{HEAD, header_of, rbd};
use crate::lock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use windlass_plan::rbd::{ImageFacts, PoolAt, RbdName};

/// `RBD_FLAG_OBJECT_MAP_INVALID` and `RBD_FLAG_FAST_DIFF_INVALID`.
pub(crate) const INVALID_MAP: u64 = 1 << 0 | 1 << 1;

/// How long nobody else does the same, and nobody takes a snapshot, after this process was heard of last. It says so again each quarter of that, and what it
/// asked of an OSD then is done or given up (`cluster.rs`) before another may begin.
const LEASE: Duration = Duration::from_secs(40);

/// Zeros that are left out of an object, where so many lie together.
const GRAIN: usize = 64 << 10;

impl Cluster {
    /// Copies into an image what it still has from the snapshot that it was made from, so that it needs that no longer. As long as that
    /// takes: for the background, and may be begun again at any time. An image of its own already is as good.
    ///
    /// Errors: `NotFound`; `Precondition` where it has snapshots; `Flattened` where another process is at it.
    pub fn flatten(&self, at: &PoolAt, name: &RbdName) -> Result<(), CephError> {
        self.counted("flatten", || {
            let place = self.place(at)?;
            let id = place.id(name)?.ok_or_else(|| place.not_found(name))?;
            let header = header_of(&id);
            let lost = AtomicBool::new(false);
            let heard = |taken: Result<(), Errno>| match taken {
                Err(Errno(libc::EBUSY)) => Err(CephError::Flattened { image: place.image(name) }),
                other => other.map_err(place.failed("make independent", name)),
            };
            heard(lock::lease(&place.io, &header, LEASE))?;
            std::thread::scope(|scope| {
                let (end, ended) = channel::<()>();
                let (place, header, lost) = (&place, &header, &lost);
                let renew = move || {
                    while ended.recv_timeout(LEASE / 4) == Err(RecvTimeoutError::Timeout) {
                        lost.store(lock::lease(&place.io, header, LEASE).is_err(), Ordering::SeqCst);
                    }
                };
                std::thread::Builder::new()
                    .name("flatten lease".into())
                    .stack_size(256 << 10)
                    .spawn_scoped(scope, renew)
                    .map_err(|error| CephError::of("make independent", place.image(name), Errno(error.raw_os_error().unwrap_or(libc::EAGAIN))))?;
                let done = place.flatten(name, &id, lost);
                drop(end);
                done
            })
            .inspect(|()| lock::end_lease(&place.io, &header, self.rados.instance()))
        })
    }
}

impl Place<'_> {
    fn flatten(&self, name: &RbdName, id: &str, lost: &AtomicBool) -> Result<(), CephError> {
        if self.parent_of(name, id, HEAD)?.is_none() {
            return Ok(());
        }
        if self.has_snapshots(name, id)? {
            let why = "its snapshots need what it was made from as well; it is done once they are deleted";
            return Err(CephError::Precondition { deed: "make independent", subject: self.image(name), why });
        }
        let facts = self.facts(name, id)?.ok_or_else(|| self.not_found(name))?;
        self.make_objects(&facts, lost)?;
        match self.change(name, id, |image| image.flatten()) {
            // Without a parent: an earlier call that died before it was through may have got so far.
            Ok(()) | Err(Errno(libc::EINVAL)) => Ok(()),
            Err(errno) => Err(self.failed("make independent", name)(errno)),
        }
    }

    /// Is somebody making the image independent? It gets no snapshot then.
    pub(crate) fn refuse_while_flattened(&self, name: &RbdName, id: &str) -> Result<(), CephError> {
        let question = lock::question(lock::FLATTEN);
        let answers = self.io.ask(&header_of(id), &[lock::info(&question)]).map_err(self.failed("look at", name))?;
        let lock = answers.into_iter().next().unwrap_or(Err(Errno(libc::EIO))).map_err(self.failed("look at", name))?;
        let is_flattened = !lock::read(&lock).map_err(self.malformed(name))?.lockers.is_empty();
        if is_flattened { Err(CephError::Flattened { image: self.image(name) }) } else { Ok(()) }
    }

    /// Gives the image every object that holds something in its source, and that it has not yet. Nobody is in the way, and it is in nobody's way: the class
    /// makes an object only where there is none, whoever writes at the same time.
    fn make_objects(&self, facts: &ImageFacts, lost: &AtomicBool) -> Result<(), CephError> {
        let (name, id) = (&facts.name, &facts.identity.image);
        let failed = self.failed("make independent", name);
        // As one who has it open, so that it is not purged meanwhile, which would leave the objects that are made after.
        let image = self.io.open_by_id(id).map_err(&failed)?;
        let overlap = image.overlap().map_err(&failed)?;
        let answers = self.io.ask(&header_of(id), &[rbd(c"get_object_prefix", &[])]).map_err(&failed)?;
        let prefix = answers.into_iter().next().unwrap_or(Err(Errno(libc::EIO))).map_err(&failed)?;
        let prefix = Decoder::of(&prefix).text().map_err(self.malformed(name))?;
        let data_at = facts.data_pool.as_ref().map(|pool| PoolAt { pool: pool.clone(), namespace: self.at.namespace.clone() });
        let data = data_at.as_ref().map(|at| self.cluster.place(at)).transpose()?;
        let objects = data.as_ref().map_or(&self.io, |data| &data.io);
        let layout = Layout::of(facts);
        let mut bytes = vec![0; usize::try_from(facts.object_size).unwrap_or(0)];
        for number in 0..layout.objects(overlap) {
            if lost.load(Ordering::SeqCst) {
                return Err(CephError::Flattened { image: self.image(name) });
            }
            let object = format!("{prefix}.{number:016x}");
            if objects.exists(&object).map_err(&failed)? {
                continue;
            }
            for (at, part) in bytes.chunks_mut(layout.unit as usize).enumerate() {
                let from = layout.offset(number, at as u64);
                let (inside, beyond) = part.split_at_mut(overlap.saturating_sub(from).min(layout.unit) as usize);
                image.read(from, inside).map_err(&failed)?;
                beyond.fill(0);
            }
            if let Some(input) = sparse(&bytes) {
                objects.exec(&object, &rbd(c"sparse_copyup", &input)).map_err(&failed)?;
            }
        }
        Ok(())
    }
}

/// How an image is laid out in objects: stripe units go round a set of `count` objects until those are full.
struct Layout {
    unit: u64,
    count: u64,
    per_object: u64,
}

impl Layout {
    fn of(facts: &ImageFacts) -> Self {
        let (unit, count) = facts.striping.as_ref().map_or((facts.object_size, 1), |striping| (striping.unit, striping.count));
        let unit = unit.clamp(1, facts.object_size.max(1));
        Self { unit, count: count.max(1), per_object: facts.object_size / unit }
    }

    /// Objects that the first `size` bytes may be in.
    fn objects(&self, size: u64) -> u64 {
        size.div_ceil((self.unit * self.per_object * self.count).max(1)) * self.count
    }

    /// Where in the image the unit of that number of an object lies.
    fn offset(&self, object: u64, unit: u64) -> u64 {
        let (set, column) = (object / self.count, object % self.count);
        ((set * self.per_object + unit) * self.count + column) * self.unit
    }
}

/// The class's input for an object of these bytes: where there is something, and what. `None`: nothing but zeros.
fn sparse(bytes: &[u8]) -> Option<Vec<u8>> {
    let grains = || bytes.chunks(GRAIN).enumerate().filter(|(_, grain)| grain.iter().any(|byte| *byte != 0));
    let count = u32::try_from(grains().count()).ok().filter(|count| *count > 0)?;
    let encoder = grains().fold(Encoder::default().u32(count), |encoder, (at, grain)| encoder.u64((at * GRAIN) as u64).u64(grain.len() as u64));
    let data: Vec<u8> = grains().flat_map(|(_, grain)| grain).copied().collect();
    Some(encoder.buffer(&data).bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_of_an_image_is_in_one_object() {
        for (unit, count, per_object) in [(8, 1, 1), (2, 1, 4), (2, 3, 4), (4, 5, 1)] {
            let layout = Layout { unit, count, per_object };
            let size = 1000;
            let mut offsets: Vec<u64> = (0..layout.objects(size))
                .flat_map(|object| (0..per_object).map(move |at| (object, at)))
                .map(|(object, at)| layout.offset(object, at))
                .collect();
            offsets.sort_unstable();
            assert!(offsets.iter().enumerate().all(|(number, offset)| *offset == number as u64 * unit), "{offsets:?}");
            assert!(offsets.len() as u64 * unit >= size);
        }
    }

    #[test]
    fn zeros_are_left_out_of_an_object() {
        assert_eq!(sparse(&vec![0; 3 * GRAIN]), None);
        let mut bytes = vec![0; 2 * GRAIN + 10];
        bytes[2 * GRAIN + 3] = 7;
        let expected = Encoder::default().u32(1).u64(2 * GRAIN as u64).u64(10).buffer(&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0]).bytes();
        assert_eq!(sparse(&bytes), Some(expected));
    }
}
