//! The operator's configuration, read and checked: which folder, which node, how large.

use windlass_plugin_sdk::{Host, Refusal, Sizes, Topology};

/// The segment of the topology that names the node.
pub(crate) const NODE_SEGMENT: &str = "windlass.io/node";

const DEFAULT_FOLDER: &str = "volumes";
const DEFAULT_LARGEST: u64 = 16 << 40;
const DEFAULT_SIZE: u64 = 1 << 30;

/// The smallest volume whatever is made of it, in bytes.
pub(crate) const SMALLEST: u64 = 1 << 20;

/// What the operator configured.
pub(crate) struct Settings {
    /// The granted folder that holds the volumes.
    pub(crate) folder: String,
    /// The node from which alone they are reachable.
    node: Option<String>,
    /// The largest volume, in bytes.
    largest: u64,
}

impl Settings {
    /// Reads them, or says which key is wrong.
    pub(crate) fn read(host: &Host<'_>) -> Result<Self, Refusal> {
        let folder = host.config("folder").unwrap_or_else(|| DEFAULT_FOLDER.to_owned());
        if folder.is_empty() {
            return Err(Refusal::precondition("`folder` in the driver's [config] is empty; leave it out or name a granted folder"));
        }
        let node = host.config("node");
        if node.as_ref().is_some_and(|node| !is_segment_value(node)) {
            return Err(Refusal::precondition("`node` in the driver's [config] is not 1 to 63 letters, digits, `-`, `_`, `.`, alphanumeric at both ends"));
        }
        let largest = host.parse("max_bytes")?.unwrap_or(DEFAULT_LARGEST);
        if largest < SMALLEST {
            return Err(Refusal::precondition(format!("`max_bytes` in the driver's [config] is {largest}; {SMALLEST} is the least")));
        }
        Ok(Self { folder, node, largest })
    }

    /// The sizes that a volume of at least `smallest` bytes can have.
    pub(crate) fn sizes(&self, smallest: u64) -> Sizes {
        Sizes { smallest, largest: self.largest, default: DEFAULT_SIZE, unit: 4096, sector: 512 }
    }

    /// Where volumes are reachable from; `None` is everywhere.
    pub(crate) fn place(&self) -> Option<Topology> {
        self.node.as_ref().map(|node| Topology::from([(NODE_SEGMENT, node.as_str())]))
    }

    /// Does `place` include our node? One without our segment says nothing of us, unless it is empty and says everything.
    pub(crate) fn is_here(&self, place: &Topology) -> bool {
        let Some(node) = &self.node else { return true };
        place.is_empty() || place.iter().any(|(key, value)| key.eq_ignore_ascii_case(NODE_SEGMENT) && value == node)
    }

    /// Is any of the places that are required ours?
    pub(crate) fn is_reachable(&self, requisite: &[Topology]) -> bool {
        requisite.is_empty() || requisite.iter().any(|place| self.is_here(place))
    }
}

/// As CSI wants the value of a topology segment.
fn is_segment_value(value: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let bytes = value.as_bytes();
    (1..=63).contains(&bytes.len()) && bytes.iter().all(|byte| is_inner(*byte)) && [bytes[0], bytes[bytes.len() - 1]].iter().all(u8::is_ascii_alphanumeric)
}
