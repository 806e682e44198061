//! Snapshots: each is an image of its own, made from a snapshot of the volume's image, so that it outlives the volume. And those of ceph-csi.

use crate::copy::fresh_snapshot;
use crate::id::{self, Id, Place, UUID, unknown_snapshot};
use crate::journal;
use crate::names::{LONGEST, is_name, shown};
use crate::settings::Settings;
use crate::volume::{self, credentials, images};
use windlass_plugin_sdk::*;

/// What the names of snapshots' images begin with, as ceph-csi has it where nobody says otherwise.
pub(crate) const PREFIX: &str = "csi-snap-";

const PREFIX_KEY: &str = "snapshotNamePrefix";

/// The metadata of a snapshot's image: its name, the id of its volume, and when it was taken.
const NAME: &str = "windlass.snapshot-name";
const OF: &str = "windlass.snapshot-of";
const CREATED: &str = "windlass.snapshot-created";

/// They are no part of a volume that is made from a snapshot.
pub(crate) const KEYS: [&str; 3] = [NAME, OF, CREATED];

/// CreateSnapshot. One monitor commit: the snapshot of the volume's image stays until that of the caller is deleted.
pub(crate) fn create(clusters: &Clusters<'_>, facts: &SnapshotFacts, settings: &Settings) -> Result<Snapshot, Refusal> {
    let of = match Id::parse(&facts.volume).ok_or_else(|| id::unknown(&facts.volume))? {
        Id::Ours(place) => place,
        Id::CephCsi { .. } => volume::find(clusters, &facts.volume, settings)?.0,
    };
    let prefix = prefix(&facts.parameters, &of)?;
    let place = Place { pool: of.pool.clone(), image: id::image_name(prefix, &facts.name) };
    let id = place.snapshot_id()?;
    let there = images(clusters, &place);
    let made = there.stat(&place.image)?.filter(|image| image.metadata.get(NAME) == Some(&facts.name));
    let image = match made {
        Some(image) => image,
        None => {
            // A character more than that of a volume of the same name, which may be copied from the same image.
            let own = format!("windlass.{}", &place.image[place.image.len() - UUID - 1..]);
            let taken = fresh_snapshot(&there, &of.image, &own)?;
            let said = [(NAME, facts.name.clone()), (OF, facts.volume.clone()), (CREATED, taken.created.to_string())];
            let wish = ImageWish { metadata: said.into(), ..ImageWish::new(taken.size, Features::all()) };
            there.copy((&of.image, &own), (&place.pool, &place.image), wish, None)?.0
        }
    };
    match (image.metadata.get(NAME), image.metadata.get(OF)) {
        (Some(name), Some(of)) if name == facts.name && of == facts.volume => {}
        (Some(name), Some(of)) if name == facts.name => {
            return Err(Refusal::already_exists(format!("a snapshot of this name exists, of the volume {:?}", shown(of))));
        }
        _ => return Err(Refusal::already_exists(format!("an image {} exists that is no snapshot of this name", place.image))),
    }
    let created = image.metadata.parse(CREATED)?.unwrap_or(0);
    Ok(Snapshot { id, volume: facts.volume.clone(), size: image.size, created, ready: true })
}

/// The image of a snapshot, and where it is.
pub(crate) fn find(clusters: &Clusters<'_>, id: &str, settings: &Settings) -> Result<(Place, Image), Refusal> {
    let place = match Id::parse_snapshot(id).ok_or_else(|| unknown_snapshot(id))? {
        Id::Ours(place) => place,
        Id::CephCsi { cluster, pool, uuid } => journal::snapshot(clusters, &cluster, pool, &uuid, settings)?,
    };
    let image = images(clusters, &place).stat(&place.image)?.ok_or_else(|| unknown_snapshot(id))?;
    Ok((place, image))
}

/// DeleteSnapshot. What ceph-csi wrote of one of its own goes last, so that a call that is cut off is gone on with.
pub(crate) fn delete(clusters: &Clusters<'_>, id: &str, settings: &Settings) -> Result<(), Refusal> {
    let place = match Id::parse_snapshot(id) {
        None => return Ok(()),
        Some(Id::Ours(place)) => return images(clusters, &place).delete(&place.image),
        Some(Id::CephCsi { cluster, pool, uuid }) => match journal::snapshot(clusters, &cluster, pool, &uuid, settings) {
            // Its pool is gone, and the image with it.
            Err(Refusal::NotFound(_)) => return Ok(()),
            place => (place?, uuid),
        },
    };
    let (place, uuid) = place;
    let images = images(clusters, &place);
    // ceph-csi gives the image of a snapshot a snapshot of the same name.
    images.delete_snapshot(&place.image, &place.image)?;
    images.delete(&place.image)?;
    journal::forget(&images, journal::SNAPSHOTS, settings, &uuid)
}

/// The prefix of a snapshot class. What else is there has to be true of the volume.
fn prefix<'a>(parameters: &'a Context, of: &Place) -> Result<&'a str, Refusal> {
    parameters.only(&["clusterID", "pool", PREFIX_KEY])?;
    for (key, has) in [("clusterID", &of.pool.cluster), ("pool", &of.pool.pool)] {
        if let Some(said) = parameters.get(key).filter(|said| !said.is_empty() && said != has) {
            return Err(Refusal::invalid(format!("`{key}` is {:?}, and the volume is in {has}: a snapshot is where its volume is", shown(said))));
        }
    }
    let prefix = parameters.get(PREFIX_KEY).filter(|prefix| !prefix.is_empty()).unwrap_or(PREFIX);
    if is_name(prefix) && prefix.len() + UUID <= LONGEST {
        return Ok(prefix);
    }
    let longest = LONGEST - UUID;
    Err(Refusal::invalid(format!("`{PREFIX_KEY}` is {:?}; it has 1 to {longest} letters, digits, `-`, `_`, `.`, `:` or `+`", shown(prefix))))
}

/// The pool that an id of ceph-csi names by its number.
pub(crate) fn pool_of(clusters: &Clusters<'_>, cluster: &str, number: u64, settings: &Settings) -> Result<RbdPool, Refusal> {
    match clusters.pool_name(cluster, &credentials(), number)? {
        Some(pool) => Ok(RbdPool { cluster: cluster.to_owned(), pool, namespace: settings.namespace(cluster).to_owned() }),
        None => Err(Refusal::not_found(format!("the cluster {cluster} has no pool of the number {number}, which the id names"))),
    }
}
