//! The place of nodes that are in no place in particular: what NodeGetInfo adds is taken from requirements again, so that no plugin sees it.
//!
//! That places matter is advertised of every driver, and Kubernetes' provisioner makes no volume where a driver says so and its nodes have no
//! segment. It is the same on all nodes: the requirement of a thousand nodes is one term.

use windlass_plan::request::{Topology, TopologyRequirement};

const KEY: &str = "windlass.io/served";
const VALUE: &str = "true";

/// A node is somewhere at the least.
pub(crate) fn name(mut place: Topology) -> Topology {
    if place.is_empty() {
        place.insert(KEY.to_owned(), VALUE.to_owned());
    }
    place
}

/// Reachable from anywhere is no requirement.
pub(crate) fn forget(wanted: TopologyRequirement) -> TopologyRequirement {
    let somewhere = |places: Vec<Topology>| places.into_iter().filter_map(forget_place).collect();
    TopologyRequirement { requisite: somewhere(wanted.requisite), preferred: somewhere(wanted.preferred) }
}

/// The place without what was added; `None` where that was all.
pub(crate) fn forget_place(mut place: Topology) -> Option<Topology> {
    let was_added = place.remove(KEY).is_some();
    (!was_added || !place.is_empty()).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segments: &[(&str, &str)]) -> Topology {
        segments.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_was_added_is_taken_away_and_nothing_else() {
        let (nowhere, zone, added) = (place(&[]), place(&[("x/zone", "a")]), place(&[(KEY, VALUE)]));
        assert_eq!(name(nowhere.clone()), added);
        assert_eq!(name(zone.clone()), zone);
        let wanted = TopologyRequirement { requisite: vec![added.clone(), zone.clone(), nowhere.clone()], preferred: vec![added] };
        assert_eq!(forget(wanted), TopologyRequirement { requisite: vec![zone, nowhere], preferred: Vec::new() });
    }
}
