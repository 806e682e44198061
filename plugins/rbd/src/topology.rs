//! `topologyConstrainedPools` as users of ceph-csi write it: pools that are reachable from a part of the nodes, and the choice among them.

use crate::names::{checked, shown};
use serde_json::Value;
use windlass_plugin_sdk::{Refusal, Topology, TopologyRequirement};

/// The parameter.
pub(crate) const KEY: &str = "topologyConstrainedPools";

/// A pool, and where it is reachable from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Constrained {
    /// Its name.
    pub(crate) pool: String,
    /// A pool for the data alone.
    pub(crate) data_pool: Option<String>,
    /// Labels and values. A label is the part of a segment's name behind the `/`.
    domain: Vec<(String, String)>,
}

/// Reads `[{"poolName": "p", "dataPool": "d", "domainSegments": [{"domainLabel": "zone", "value": "a"}]}]`.
pub(crate) fn parse(text: &str) -> Result<Vec<Constrained>, Refusal> {
    let wrong = |what: String| Refusal::invalid(format!("`{KEY}` {what}"));
    let Value::Array(entries) = serde_json::from_str(text).map_err(|error| wrong(format!("is not JSON: {error}")))? else {
        return Err(wrong("is not a list of pools in JSON".to_owned()));
    };
    entries.iter().map(|entry| constrained(entry).map_err(wrong)).collect()
}

fn constrained(entry: &Value) -> Result<Constrained, String> {
    let entry = members(entry, &["poolName", "dataPool", "domainSegments"])?;
    let name = |key: &str| match entry.get(key).map(Value::as_str) {
        None => Ok(None),
        Some(Some("")) => Ok(None),
        Some(Some(name)) => checked(key, name).map(Some).map_err(|refusal| format!("has a pool whose {}", refusal.words())),
        Some(None) => Err(format!("has a pool whose `{key}` is no text")),
    };
    let pool = name("poolName")?.ok_or("has a pool without `poolName`")?;
    let segments = entry.get("domainSegments").and_then(Value::as_array).filter(|segments| !segments.is_empty());
    let segments = segments.ok_or_else(|| format!("has no list of `domainSegments` for the pool {pool}"))?;
    Ok(Constrained { data_pool: name("dataPool")?, domain: segments.iter().map(segment).collect::<Result<_, _>>()?, pool })
}

fn segment(segment: &Value) -> Result<(String, String), String> {
    let segment = members(segment, &["domainLabel", "value"])?;
    let text = |key: &str| segment.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("has a segment without `{key}`"));
    Ok((text("domainLabel")?, text("value")?))
}

/// An object that has no other keys than these.
fn members<'a>(value: &'a Value, known: &[&str]) -> Result<&'a serde_json::Map<String, Value>, String> {
    let members = value.as_object().ok_or_else(|| format!("has an entry that is not an object with {}", known.join(", ")))?;
    match members.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(format!("has the key {:?}, which is not known; known are: {}", shown(unknown), known.join(", "))),
        None => Ok(members),
    }
}

impl Constrained {
    /// The segments of `place` that make the pool reachable from there, if it is.
    fn reachable_from(&self, place: &Topology) -> Option<Topology> {
        let segment = |(label, value): &(String, String)| {
            let is_it = |(key, found): &(&str, &str)| key.rsplit('/').next() == Some(label) && found == value;
            place.iter().find(is_it).map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        self.domain.iter().map(segment).collect()
    }
}

/// The pools that can be had where the volume is wanted, the preferred ones first, each with the place from which it is reachable then.
pub(crate) fn choices<'a>(pools: &'a [Constrained], wanted: &TopologyRequirement) -> Vec<(&'a Constrained, Topology)> {
    let mut choices: Vec<(&Constrained, Topology)> = Vec::new();
    for place in wanted.preferred.iter().chain(&wanted.requisite) {
        for pool in pools {
            let is_new = !choices.iter().any(|(chosen, _)| chosen.pool == pool.pool);
            choices.extend(pool.reachable_from(place).filter(|_| is_new).map(|segments| (pool, segments)));
        }
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"[
        {"poolName": "east", "dataPool": "east-data", "domainSegments": [{"domainLabel": "region", "value": "r1"}, {"domainLabel": "zone", "value": "a"}]},
        {"poolName": "west", "domainSegments": [{"domainLabel": "zone", "value": "b"}]}
    ]"#;

    fn place(zone: &str) -> Topology {
        Topology::from([("topology.example/region", "r1"), ("topology.example/zone", zone), ("topology.example/host", "h")])
    }

    #[test]
    fn the_preferred_place_decides_among_the_pools() {
        let pools = parse(TWO).unwrap();
        assert_eq!((pools.len(), pools[0].data_pool.as_deref(), pools[1].data_pool.as_deref()), (2, Some("east-data"), None));
        let chosen = |preferred: &[&str], requisite: &[&str]| {
            let places = |zones: &[&str]| zones.iter().map(|zone| place(zone)).collect();
            let wanted = TopologyRequirement { requisite: places(requisite), preferred: places(preferred) };
            choices(&pools, &wanted).into_iter().map(|(pool, _)| pool.pool.clone()).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&["b", "a"], &["a", "b"]), ["west", "east"]);
        assert_eq!(chosen(&[], &["a", "b", "c"]), ["east", "west"]);
        assert_eq!(chosen(&["c"], &["c", "b"]), ["west"]);
        assert_eq!(chosen(&["c"], &["c"]), Vec::<String>::new());
        assert_eq!(pools[0].reachable_from(&Topology::from([("x/zone", "a")])), None, "all of a pool's segments count");
        let segments = Topology::from([("topology.example/region", "r1"), ("topology.example/zone", "a")]);
        assert_eq!(pools[0].reachable_from(&place("a")), Some(segments));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (text, word) in [
            ("", "is not JSON"),
            ("{}", "not a list"),
            ("[1]", "not an object"),
            ("[{}]", "without `poolName`"),
            (r#"[{"poolName": 1}]"#, "`poolName` is no text"),
            (r#"[{"poolName": "a b"}]"#, "`poolName` is \"a b\""),
            (r#"[{"poolName": "p"}]"#, "`domainSegments`"),
            (r#"[{"poolName": "p", "domainSegments": []}]"#, "`domainSegments`"),
            (r#"[{"poolName": "p", "domainSegments": [{"domainLabel": "zone"}]}]"#, "`value`"),
            (r#"[{"poolName": "p", "pool": "q", "domainSegments": []}]"#, "\"pool\", which is not known"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.words().contains(word) && refusal.words().contains(KEY), "{text}: {}", refusal.words());
        }
    }
}
