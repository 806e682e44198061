//! From the WIT's words to the daemon's: what a plugin answered, written by a stranger. Shapes are checked here, meaning is not.

pub(crate) mod rbd;

use crate::bindings::exports::windlass::plugin::{capacity as room, controller, driver, node, snapshot_listing, snapshots};
use crate::bindings::windlass::plugin::types as wit;
use crate::text;
use windlass_plan::attach::{AttachPlan, Content, Filesystem, Source};
use windlass_plan::capability::FilesystemKind;
use windlass_plan::plugin::{CapacityAnswer, Description, ExpandAnswer, Key, NodeInfo, Refusal, RefusalKind, SnapshotAnswer, VolumeAnswer};
use windlass_plan::rbd::BadName;
use windlass_plan::request::{ContentSource, Context};

/// An answer that is typed right and still not what the WIT says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// A list of keys and values has a key twice.
    #[error("{place} has the key {key:?} twice")]
    Twice {
        /// Where.
        place: &'static str,
        /// Which key, bounded.
        key: String,
    },
    /// `source.other` of a later version.
    #[error("the plan's source is of the kind {kind:?}, which this daemon does not know; it knows `file` and `rbd`")]
    Source {
        /// Its kind, bounded.
        kind: String,
    },
    /// `extras` of a later version.
    #[error("the plan's {of} has `extras`, which this version keeps empty")]
    Extras {
        /// Whose.
        of: &'static str,
    },
    /// A name that is passed on to Ceph, and cannot be.
    #[error("`{field}` is {name:?}: {problem}")]
    Name {
        /// Where.
        field: &'static str,
        /// It, bounded.
        name: String,
        /// The rule.
        problem: BadName,
    },
    /// A copy in another cluster.
    #[error("`to` is in another cluster than the image that is copied")]
    OtherCluster,
    /// Not the address of a node.
    #[error("`holder.addresses` has {address:?}, which is not an IP address without a port, as `node-facts` gave it")]
    Address {
        /// It, bounded.
        address: String,
    },
}

pub(crate) fn description(said: driver::Description) -> Description {
    let keys = |keys: Vec<driver::Key>| keys.into_iter().map(|key| Key { name: key.name, help: key.help, required: key.required }).collect();
    Description {
        vendor: said.vendor,
        version: said.version,
        configuration: keys(said.configuration),
        secrets: keys(said.secrets),
        online_expansion: said.online_expansion,
        clones: said.clones,
    }
}

pub(crate) fn plan(said: node::AttachPlan) -> Result<AttachPlan, Malformed> {
    let source = match said.source {
        node::Source::File(file) => Source::File { folder: file.folder, name: file.name },
        node::Source::Rbd(image) => Source::Rbd(rbd::source(image)?),
        node::Source::Other((kind, _)) => return Err(Malformed::Source { kind: text::line(&kind, 64) }),
    };
    let content = match said.content {
        node::Content::Blank => Content::Blank,
        node::Content::Copy => Content::Copy,
    };
    Ok(AttachPlan { source, content, filesystem: said.filesystem.map(filesystem).transpose()? })
}

fn filesystem(said: node::Filesystem) -> Result<Filesystem, Malformed> {
    if !said.extras.is_empty() {
        return Err(Malformed::Extras { of: "`filesystem`" });
    }
    let kind = match said.kind {
        wit::FilesystemKind::Ext4 => FilesystemKind::Ext4,
        wit::FilesystemKind::Xfs => FilesystemKind::Xfs,
    };
    Ok(Filesystem { kind, label: said.label })
}

pub(crate) fn node_info(said: node::Info) -> Result<NodeInfo, Malformed> {
    Ok(NodeInfo { node_id: said.node_id, max_volumes: said.max_volumes, topology: context(said.topology, "`topology`")? })
}

pub(crate) fn volume(said: wit::Volume) -> Result<VolumeAnswer, Malformed> {
    let source = said.source.map(|source| match source {
        wit::ContentSource::Snapshot(id) => ContentSource::Snapshot(id),
        wit::ContentSource::Volume(id) => ContentSource::Volume(id),
    });
    let topology = said.topology.into_iter().map(|place| context(place, "`topology`")).collect::<Result<_, _>>()?;
    Ok(VolumeAnswer { volume: said.id, capacity: said.capacity, context: context(said.context, "`context`")?, source, topology })
}

pub(crate) fn snapshot(said: snapshots::Snapshot) -> SnapshotAnswer {
    let created = (said.created.seconds, said.created.nanoseconds);
    SnapshotAnswer { snapshot: said.id, volume: said.volume, size: said.size, created, is_ready: said.ready }
}

pub(crate) fn listed_snapshot(said: snapshot_listing::Snapshot) -> SnapshotAnswer {
    let created = (said.created.seconds, said.created.nanoseconds);
    SnapshotAnswer { snapshot: said.id, volume: said.volume, size: said.size, created, is_ready: said.ready }
}

pub(crate) fn room(said: room::Room) -> CapacityAnswer {
    CapacityAnswer { available: said.available, largest: said.largest, smallest: said.smallest }
}

pub(crate) fn expanded(said: controller::Expanded) -> ExpandAnswer {
    ExpandAnswer { capacity: said.capacity, node_expansion: said.node_expansion }
}

pub(crate) fn context(pairs: Vec<(String, String)>, place: &'static str) -> Result<Context, Malformed> {
    let mut context = Context::new();
    for (key, value) in pairs {
        if context.contains_key(&key) {
            return Err(Malformed::Twice { place, key: text::line(&key, 64) });
        }
        context.insert(key, value);
    }
    Ok(context)
}

pub(crate) fn refusal(said: wit::Refusal) -> Refusal {
    let (kind, message) = match said {
        wit::Refusal::Invalid(message) => (RefusalKind::Invalid, message),
        wit::Refusal::NotFound(message) => (RefusalKind::NotFound, message),
        wit::Refusal::AlreadyExists(message) => (RefusalKind::AlreadyExists, message),
        wit::Refusal::Exhausted(message) => (RefusalKind::Exhausted, message),
        wit::Refusal::Precondition(message) => (RefusalKind::Precondition, message),
        wit::Refusal::OutOfRange(message) => (RefusalKind::OutOfRange, message),
        wit::Refusal::BadToken(message) => (RefusalKind::BadToken, message),
        wit::Refusal::PermissionDenied(message) => (RefusalKind::PermissionDenied, message),
        wit::Refusal::Unauthenticated(message) => (RefusalKind::Unauthenticated, message),
        wit::Refusal::Unavailable(message) => (RefusalKind::Unavailable, message),
        wit::Refusal::Unsupported(message) => (RefusalKind::Unsupported, message),
    };
    Refusal { kind, message: text::line(&message, text::LINE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_a_later_version_is_refused_by_name() {
        let other = node::AttachPlan { source: node::Source::Other(("nfs".into(), vec![])), content: node::Content::Blank, filesystem: None };
        assert_eq!(plan(other), Err(Malformed::Source { kind: "nfs".into() }));
        let pairs = vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        assert!(matches!(context(pairs, "`context`"), Err(Malformed::Twice { .. })));
    }
}
