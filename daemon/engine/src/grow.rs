//! Grows a volume on this node: the device takes up the size of what is behind it, the file system the size of the device.

use crate::record::Line;
use crate::work::Work;
use windlass_plan::capability::FilesystemKind;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::paths::Place;
use windlass_plan::step::{Outcome, Shows, Step};

impl Work<'_> {
    /// Grows the volume that is seen at the place. Returns the device's size in bytes.
    pub fn grow(&mut self, place: &Place) -> Result<u64, Failure> {
        let observed = self.observe()?;
        let (Some(device), Some(seen)) = (observed.devices.first(), self.seen_at(&observed, place).first().map(|seen| seen.shows.clone())) else {
            return Err(Failure::new(Reason::NotThere, "the volume is not to be seen at the path"));
        };
        let refreshed = self.lease.apply(&[Step::Refresh])?;
        let [Outcome::Size(size)] = refreshed[..] else {
            return Err(Failure::new(Reason::WorkerLost, "the worker did not say how large the device is; ask again"));
        };
        let strand = self.writer.record().standing_stage().map(|(strand, _)| strand.number);
        if let Some(strand) = strand
            && size != device.size
        {
            let device = windlass_plan::step::Device { size, ..device.clone() };
            self.writer.write(&Line::Device { strand, device })?;
        }
        if let Shows::Filesystem(name) = seen
            && let Some(kind) = FilesystemKind::parse(&name)
        {
            // Through the staging mount, if there is one: the path that the caller names may be a read-only target of a writable volume.
            let staged = self.writer.record().standing_stage().map(|(_, facts)| facts.staging.clone());
            self.lease.apply(&[Step::Grow { place: staged.unwrap_or_else(|| place.clone()), kind }])?;
        }
        Ok(size)
    }
}
