//! Parameters that may change while a volume lives (a VolumeAttributesClass of Kubernetes): kept with the image, one key of its metadata each, and told
//! to the node by the publish_context. A node takes them up when it stages the volume the next time.

use crate::names::shown;
use crate::options;
use windlass_plugin_sdk::{Context, MapOptions, ORCHESTRATOR_PREFIX, Refusal};

/// What the keys of the metadata begin with. An empty value is as good as none.
const KEPT: &str = "windlass.mutable.";

/// The daemon takes no smaller limits: with less a volume is not taken down in anybody's time.
const LEAST_COUNT: u64 = 10;
const LEAST_BYTES: u64 = 64 << 10;

/// How a value is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A count a second.
    Count,
    /// Bytes a second.
    Bytes,
    /// An option of the kernel client, by its name in `mapOptions`.
    Option(&'static str),
}

/// The parameters. 0 is no limit; the options take what `mapOptions` takes.
const KNOWN: [(&str, Kind); 6] = [
    ("readIops", Kind::Count),
    ("writeIops", Kind::Count),
    ("readBytesPerSecond", Kind::Bytes),
    ("writeBytesPerSecond", Kind::Bytes),
    ("readFromReplica", Kind::Option("read_from_replica")),
    ("queueDepth", Kind::Option("queue_depth")),
];

/// Checks all that are given, and says what is kept of them. What the orchestrator adds is passed over.
pub(crate) fn metadata(parameters: &Context) -> Result<Context, Refusal> {
    let given = parameters.iter().filter(|(key, _)| !key.starts_with(ORCHESTRATOR_PREFIX));
    given.map(|(key, value)| Ok((format!("{KEPT}{key}"), canonical(key, value)?))).collect()
}

/// The keys under which they are kept.
pub(crate) fn keys() -> impl Iterator<Item = String> {
    KNOWN.iter().map(|(name, _)| format!("{KEPT}{name}"))
}

/// What the node is told: those that have a value.
pub(crate) fn told(metadata: &Context) -> Context {
    let value = |name: &str| metadata.get(&format!("{KEPT}{name}")).filter(|value| !value.is_empty());
    KNOWN.iter().filter_map(|(name, _)| Some((*name, value(name)?))).collect()
}

/// Puts what the node was told over what the storage class says. A value that this version does not understand is refused, by name.
pub(crate) fn apply(to: &mut MapOptions, publish_context: &Context) -> Result<(), Refusal> {
    for (name, kind) in KNOWN {
        let Some(value) = publish_context.get(name).filter(|value| !value.is_empty()) else { continue };
        let limit = |value: &str| number(name, kind, value);
        match (name, kind) {
            (_, Kind::Option(option)) => options::set(to, option, value)?,
            ("readIops", _) => to.limits.read_iops = limit(value)?,
            ("writeIops", _) => to.limits.write_iops = limit(value)?,
            ("readBytesPerSecond", _) => to.limits.read_rate = limit(value)?,
            _ => to.limits.write_rate = limit(value)?,
        }
    }
    Ok(())
}

/// The value as it is kept: a plain number, or the option's word. Empty: what there is without it.
fn canonical(name: &str, value: &str) -> Result<String, Refusal> {
    let Some((_, kind)) = KNOWN.iter().find(|(known, _)| *known == name) else {
        let known = KNOWN.map(|(name, _)| name).join(", ");
        return Err(Refusal::invalid(format!("the mutable parameter {:?} is not known; known are: {known}", shown(name))));
    };
    match kind {
        _ if value.is_empty() => Ok(String::new()),
        Kind::Option(option) => options::set(&mut MapOptions::default(), option, value).map(|()| value.to_owned()),
        Kind::Count | Kind::Bytes => number(name, *kind, value).map(|number| if number == 0 { String::new() } else { number.to_string() }),
    }
}

fn number(name: &str, kind: Kind, value: &str) -> Result<u64, Refusal> {
    let (digits, unit) = match (kind, value.find(|c: char| !c.is_ascii_digit())) {
        (_, None) => (value, 1),
        (Kind::Bytes, Some(at)) => {
            (&value[..at], [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)].iter().find(|(unit, _)| *unit == &value[at..]).map_or(0, |(_, bytes)| *bytes))
        }
        (_, Some(_)) => ("", 0),
    };
    let (least, right) = match kind {
        Kind::Bytes => (LEAST_BYTES, "65536 bytes or more, such as 1048576 or 100Mi; 0 is no limit"),
        _ => (LEAST_COUNT, "10 or more; 0 is no limit"),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|number| unit != 0 && (*number == 0 || *number >= least));
    number.ok_or_else(|| Refusal::invalid(format!("the mutable parameter `{name}` is {:?}; possible: {right}", shown(value))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_plugin_sdk::{IoLimits, ReadFrom};

    fn context(pairs: &[(&str, &str)]) -> Context {
        pairs.iter().copied().collect()
    }

    #[test]
    fn what_is_set_reaches_the_node_and_only_what_is_named_changes() {
        let first = metadata(&context(&[("readIops", "500"), ("writeBytesPerSecond", "10Mi"), ("csi.storage.k8s.io/pvc/name", "a")])).unwrap();
        assert_eq!(first.iter().count(), 2);
        let second = metadata(&context(&[("readIops", "0"), ("queueDepth", "64"), ("readFromReplica", "balance")])).unwrap();
        let kept: Context = first.iter().chain(second.iter()).collect();
        let told = told(&kept);
        assert_eq!(told, context(&[("writeBytesPerSecond", "10485760"), ("queueDepth", "64"), ("readFromReplica", "balance")]));
        let mut options = MapOptions::default();
        apply(&mut options, &told).unwrap();
        assert_eq!((options.queue_depth, options.limits), (64, IoLimits { write_rate: 10 << 20, ..MapOptions::default().limits }));
        assert_eq!(options.read_from, Some(ReadFrom::Balance));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (key, value, names) in [
            ("iops", "1", "readIops, writeIops"),
            ("readIops", "1Ki", "10 or more"),
            ("readIops", "9", "10 or more"),
            ("writeBytesPerSecond", "1000", "65536"),
            ("readIops", "-1", "10 or more"),
            ("writeBytesPerSecond", "1MB", "100Mi"),
            ("writeBytesPerSecond", "99999999999Gi", "100Mi"),
            ("readFromReplica", "nearest", "balance"),
            ("queueDepth", "1", "2 to 4096"),
        ] {
            let refusal = metadata(&context(&[(key, value)])).unwrap_err();
            assert!(matches!(refusal, Refusal::Invalid(_)) && refusal.words().contains(names), "{refusal:?}");
        }
    }
}
