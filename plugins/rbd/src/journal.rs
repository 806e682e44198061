//! The journal that ceph-csi keeps in a pool: where it says what a snapshot's image is called, and what is left of it when a volume or snapshot is deleted.
//!
//! An object for each UUID says what it belongs to; one directory leads from the caller's names to the UUIDs.

use crate::id::Place;
use crate::names::is_name;
use crate::settings::Settings;
use crate::snapshot::{self, PREFIX};
use crate::volume::credentials;
use windlass_plugin_sdk::*;

/// The names of one kind of things in the journal.
pub(crate) struct Kind {
    /// The directory is this and the instance's name.
    directory: &'static str,
    /// The object of a UUID is this and the UUID; the key of a name in the directory is this and the name.
    prefix: &'static str,
    /// The key of the caller's name in the object.
    name: &'static str,
}

pub(crate) const VOLUMES: &Kind = &Kind { directory: "csi.volumes.", prefix: "csi.volume.", name: "csi.volname" };
pub(crate) const SNAPSHOTS: &Kind = &Kind { directory: "csi.snaps.", prefix: "csi.snap.", name: "csi.snapname" };

const IMAGE: &str = "csi.imagename";

/// Where the image of a snapshot of ceph-csi's is: as the journal says, or as it is where nobody says otherwise.
pub(crate) fn snapshot(clusters: &Clusters<'_>, cluster: &str, pool: u64, uuid: &str, settings: &Settings) -> Result<Place, Refusal> {
    let pool = snapshot::pool_of(clusters, cluster, pool, settings)?;
    let said = clusters.images(pool.clone(), credentials()).journal(&format!("{}{uuid}", SNAPSHOTS.prefix), &[IMAGE])?;
    let image = said.get(IMAGE).filter(|image| is_name(image) && image.ends_with(uuid)).map_or_else(|| format!("{PREFIX}{uuid}"), str::to_owned);
    Ok(Place { pool, image })
}

/// Removes what the journal has of a UUID whose image is gone. The object goes last: it is what leads to the name.
pub(crate) fn forget(images: &Images<'_>, kind: &Kind, settings: &Settings, uuid: &str) -> Result<(), Refusal> {
    let object = format!("{}{uuid}", kind.prefix);
    if let Some(name) = images.journal(&object, &[kind.name])?.get(kind.name) {
        let (directory, key) = (format!("{}{}", kind.directory, settings.instance), format!("{}{name}", kind.prefix));
        // The name may be another volume's by now. Where the journal is in another pool, the number of that comes first.
        if images.journal(&directory, &[&key])?.get(&key).is_some_and(|found| found.ends_with(uuid)) {
            images.remove_from_journal(&directory, &[&key])?;
        }
    }
    images.remove_from_journal(&object, &[])
}
