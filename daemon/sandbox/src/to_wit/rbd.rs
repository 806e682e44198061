//! Answers of the interface `rbd` to the WIT's words.

use crate::bindings::windlass::plugin::rbd;
use crate::from_wit::rbd::flag;
use windlass_plan::rbd::{Feature, ImageFacts, PoolRoom, SnapshotFacts};
use windlass_plan::request::Context;

/// Features that no version of the WIT names are left out: a plugin could do nothing with them.
pub(crate) fn image(facts: ImageFacts) -> rbd::Image {
    let known = Feature::ALL.into_iter().filter(|feature| facts.features & feature.bit() != 0);
    rbd::Image {
        name: facts.name.into(),
        id: facts.identity.image,
        size: facts.size,
        features: known.fold(rbd::Features::empty(), |all, feature| all | flag(feature)),
        data_pool: facts.data_pool.map(String::from),
        metadata: super::context(facts.metadata),
    }
}

pub(crate) fn snapshot(facts: SnapshotFacts) -> rbd::Snapshot {
    rbd::Snapshot { name: facts.name.into(), size: facts.size, created: facts.created }
}

pub(crate) fn journal(values: Context) -> Vec<(String, String)> {
    super::context(values)
}

pub(crate) fn room(room: PoolRoom) -> rbd::Room {
    rbd::Room { available: room.available, used: room.used }
}
