//! CreateVolume from a snapshot or from another volume: a copy that shares what nobody has changed, and is never formatted.

use crate::class::Class;
use crate::id::{self, Place};
use crate::settings::Settings;
use crate::snapshot;
use crate::usage::{FILESYSTEM, Usage};
use crate::volume::{self, Existing};
use windlass_plugin_sdk::*;

/// Images behind a copy before it is made independent of them. The kernel maps 16, and each snapshot and volume from it adds two.
const ANCESTORS: u32 = 4;

/// What a volume is made from.
pub(crate) struct Source {
    place: Place,
    image: Image,
    /// The snapshot of this image that is copied.
    snapshot: String,
}

impl Source {
    /// Finds it. A volume is copied as it is now, by a snapshot that belongs to the copy of that UUID; a snapshot never changes, so that all its copies
    /// share one.
    fn find(clusters: &Clusters<'_>, source: &ContentSource, settings: &Settings, uuid: &str) -> Result<Self, Refusal> {
        let ((place, image), snapshot) = match source {
            ContentSource::Volume(id) => (volume::find(clusters, id, settings)?, format!("windlass.{uuid}")),
            ContentSource::Snapshot(id) => (snapshot::find(clusters, id, settings)?, "windlass.base".to_owned()),
        };
        if !image.features.contains(Features::LAYERING) {
            return Err(Refusal::invalid(format!(
                "volume_content_source: its image {} has no `layering`, without which nothing can be made from it",
                image.name
            )));
        }
        Ok(Self { place, image, snapshot })
    }
}

/// The id that a source has.
fn source_id(source: &ContentSource) -> &str {
    match source {
        ContentSource::Snapshot(id) | ContentSource::Volume(id) => id,
    }
}

/// Makes the volume, or finds it.
pub(crate) fn create(clusters: &Clusters<'_>, facts: &CreateFacts, class: &Class, settings: &Settings, source: &ContentSource) -> Result<Volume, Refusal> {
    let name = id::image_name(&class.prefix, &facts.name);
    let site = volume::site(clusters, class, facts, &name)?;
    let place = Place { pool: site.pool.clone(), image: name };
    let id = place.id()?;
    let images = volume::images(clusters, &place);

    // Name and source are written together, and last: where both are there, the copy is whole but for its size. It outlives its source.
    let made = images.stat(&place.image)?.filter(|image| volume::is_called(image, &facts.name));
    let (image, usage, wanted) = match made {
        Some(image) => {
            let usage = Usage::read(&facts.capabilities, class.filesystem.or(filesystem_of(&image)))?;
            let wanted = volume::copy_metadata(facts, class, &usage, source_id(source))?;
            (image, usage, wanted)
        }
        None => {
            let source_ = Source::find(clusters, source, settings, place.uuid())?;
            if source_.place.pool.cluster != class.cluster {
                let words = format!("volume_content_source is in the cluster {}, and the parameters name {}", source_.place.pool.cluster, class.cluster);
                return Err(Refusal::invalid(words));
            }
            refuse_other_filesystem(&source_.image, facts, class)?;
            let usage = Usage::read(&facts.capabilities, class.filesystem.or(filesystem_of(&source_.image)))?;
            let size = size(&usage, &facts.capacity, source_.image.size)?;
            let wanted = volume::copy_metadata(facts, class, &usage, source_id(source))?;
            let wish = ImageWish {
                object_size: class.object_size,
                striping: class.striping,
                data_pool: site.data_pool.clone(),
                metadata: volume::with_owner(&wanted, &facts.parameters).with(volume::SIZE, size.to_string()),
                ..ImageWish::new(size, class.features)
            };
            let of = volume::images(clusters, &source_.place);
            match source {
                ContentSource::Volume(_) => drop(fresh_snapshot(&of, &source_.place.image, &source_.snapshot)?),
                ContentSource::Snapshot(_) => drop(of.take_snapshot(&source_.place.image, &source_.snapshot)?),
            }
            let (image, _) = of.copy((&source_.place.image, &source_.snapshot), (&place.pool, &place.image), wish, Some(ANCESTORS))?;
            (image, usage, wanted)
        }
    };
    let size = image.metadata.parse::<u64>(volume::SIZE)?.unwrap_or(0).max(image.size);
    if volume::compare(&image, size, facts, class, &site, &wanted)? == Existing::Undescribed {
        return Err(Refusal::already_exists("an image of this name exists that is no copy"));
    }
    volume::modify(&images, &image, facts)?;
    // Also where it has that size: the daemon takes the image for the volume's by what this call did with it.
    images.resize(&place.image, size)?;
    let context = volume::context(class, &usage).with(volume::CONTENT, volume::COPY);
    let topology = site.topology.into_iter().collect();
    Ok(Volume { context, topology, source: Some(source.clone()), ..Volume::new(id, size) })
}

/// A snapshot of now. One that is there was left by a copy of this name that was not finished, or is being purged.
pub(crate) fn fresh_snapshot(images: &Images<'_>, image: &str, snapshot: &str) -> Result<ImageSnapshot, Refusal> {
    match images.take_snapshot(image, snapshot)? {
        (taken, true) => Ok(taken),
        (_, false) => {
            images.delete_snapshot(image, snapshot)?;
            images.take_snapshot(image, snapshot).map(|(taken, _)| taken)
        }
    }
}

/// As large as its source, or larger where that is asked for.
fn size(usage: &Usage, capacity: &CapacityRange, source: u64) -> Result<u64, Refusal> {
    let is_too_small = capacity.required != 0 && capacity.required < source;
    if is_too_small || (capacity.limit != 0 && capacity.limit < source) {
        let words = format!("volume_content_source has {source} bytes; a volume from it cannot have {} to {}", capacity.required, capacity.limit);
        return Err(Refusal::out_of_range(words));
    }
    if capacity.required <= source { Ok(source) } else { usage.sizes().choose(capacity) }
}

/// The file system that an image of ours was made for.
fn filesystem_of(image: &Image) -> Option<FilesystemKind> {
    image.metadata.get(FILESYSTEM).and_then(FilesystemKind::named)
}

/// A copy has its source's file system, whatever is asked for.
fn refuse_other_filesystem(source: &Image, facts: &CreateFacts, class: &Class) -> Result<(), Refusal> {
    let Some(has) = filesystem_of(source) else { return Ok(()) };
    let of_capability = |capability: &Capability| if let Access::Mount(asked) = capability.access { asked } else { None };
    match class.filesystem.into_iter().chain(facts.capabilities.iter().filter_map(of_capability)).find(|wanted| *wanted != has) {
        Some(wanted) => Err(Refusal::invalid(format!("volume_content_source has {has}, and the volume is to have {wanted}; a copy keeps its file system"))),
        None => Ok(()),
    }
}
