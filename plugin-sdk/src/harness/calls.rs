//! The calls of a driver, each followed by the checks that the daemon makes.

use super::Harness;
use super::clusters::is_name;
use super::folders::is_file_name;
use crate::{
    AttachPlan, CapacityFacts, CapacityRange, Context, CreateFacts, Description, Expanded, FileCapacity, FileDriver, FileListing, FileSnapshotListing,
    FileSnapshots, MapOptions, NodeDriver, NodeFacts, NodeInfo, Page, PublishFacts, RbdDriver, RbdModification, RbdPool, RbdSnapshots, Refusal, Room, Snapshot,
    SnapshotFacts, SnapshotFilter, SnapshotPage, Source, Topology, ValidateFacts, Volume, VolumeFacts,
};

/// Bytes that a string may have, a node's id, and a map, as CSI says.
const STRING_LIMIT: usize = 128;
const NODE_LIMIT: usize = 256;
const MAP_LIMIT: usize = 4 << 10;

/// What every driver has.
impl Harness {
    /// `driver.describe`
    pub fn describe<D: NodeDriver>(&self) -> Description {
        let said = D::describe();
        assert_eq!(said, D::describe(), "describe is pure: the same answer each time");
        assert!((1..=STRING_LIMIT).contains(&said.version.len()), "the version is {} bytes long; 1 to {STRING_LIMIT} are allowed", said.version.len());
        said
    }

    /// `driver.probe`
    pub fn probe<D: NodeDriver>(&self) -> Result<bool, Refusal> {
        D::probe(&self.host())
    }

    /// `node.attach`, twice: the plans must be equal, and name what was granted.
    pub fn attach<D: NodeDriver>(&self, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        let plan = D::attach(&self.host(), facts);
        assert_eq!(plan, D::attach(&self.host(), facts), "attach is pure: the same plan each time");
        let plan = plan?;
        match &plan.source {
            Source::File { folder, name } => {
                assert!(self.folders.borrow().contains_key(folder), "the plan names the folder {folder:?}, which was not granted");
                assert!(is_file_name(name), "the plan names the file {name:?}, which is not one plain component");
            }
            Source::Rbd { pool, image, options, .. } => self.check_image(pool, image, options),
        }
        if let Some(label) = plan.filesystem.as_ref().and_then(|filesystem| filesystem.label.as_ref()) {
            assert!(is_label(label), "the label {label:?} is not 1 to 12 letters, digits, `-` and `_`");
        }
        Ok(plan)
    }

    fn check_image(&self, pool: &RbdPool, image: &str, options: &MapOptions) {
        assert!(self.clusters.borrow().contains_key(&pool.cluster), "the plan names the cluster {:?}, which was not granted", pool.cluster);
        assert!(is_name(&pool.pool) && (pool.namespace.is_empty() || is_name(&pool.namespace)), "the plan names the pool {pool:?}, which cannot be one");
        assert!(is_name(image), "the plan names the image {image:?}, which cannot be one");
        let MapOptions { crush_location, osd_request_timeout, queue_depth, alloc_size, .. } = options;
        let is_location = crush_location.len() <= 8 && crush_location.iter().all(|(kind, place)| is_name(kind) && is_name(place));
        let is_size = *alloc_size == 0 || (alloc_size.is_power_of_two() && (512..=32 << 20).contains(alloc_size));
        let is_depth = *queue_depth == 0 || (2..=4096).contains(queue_depth);
        assert!(is_location && is_size && is_depth && *osd_request_timeout <= 86_400, "the plan's options are out of their ranges: {options:?}");
    }

    /// `node.node-info`, for a node of this name.
    pub fn node_info<D: NodeDriver>(&self, node: &str) -> Result<NodeInfo, Refusal> {
        let facts = NodeFacts { node: node.to_owned(), topology: Topology::new(), addresses: self.addresses.clone() };
        let info = D::node_info(&self.host(), &facts)?;
        assert_eq!(Ok(&info), D::node_info(&self.host(), &facts).as_ref(), "node-info is pure: the same answer each time");
        assert!((1..=NODE_LIMIT).contains(&info.node_id.len()), "the node's id is {} bytes long; 1 to {NODE_LIMIT} are allowed", info.node_id.len());
        Ok(info)
    }
}

/// What drivers of files have.
impl Harness {
    /// `controller.create-volume`
    pub fn create_volume<D: FileDriver>(&self, facts: &CreateFacts) -> Result<Volume, Refusal> {
        check_created(facts, D::create_volume(&self.host(), &self.granted_files(), facts))
    }

    /// `controller.delete-volume`
    pub fn delete_volume<D: FileDriver>(&self, volume: &str) -> Result<(), Refusal> {
        D::delete_volume(&self.host(), &self.granted_files(), volume)
    }

    /// `controller.validate`
    pub fn validate<D: FileDriver>(&self, facts: &ValidateFacts) -> Result<Option<String>, Refusal> {
        D::validate(&self.host(), &self.granted_files(), facts)
    }

    /// `controller.expand`
    pub fn expand<D: FileDriver>(&self, volume: &str, required: u64, limit: u64) -> Result<Expanded, Refusal> {
        let range = CapacityRange { required, limit };
        check_expanded(range, D::expand(&self.host(), &self.granted_files(), volume, &range))
    }

    /// `listing.list-volumes`
    pub fn list_volumes<D: FileListing>(&self, max_entries: u32, token: &str) -> Result<Page, Refusal> {
        let page = D::list_volumes(&self.host(), &self.granted_files(), max_entries, token)?;
        assert!(page.volumes.len() <= max_entries as usize, "{} entries, and {max_entries} were asked for at most", page.volumes.len());
        page.volumes.iter().for_each(check_volume);
        Ok(page)
    }

    /// `snapshots.create-snapshot`
    pub fn create_file_snapshot<D: FileSnapshots>(&self, facts: &SnapshotFacts) -> Result<Snapshot, Refusal> {
        let snapshot = D::create_snapshot(&self.host(), &self.granted_files(), facts)?;
        check_snapshot(&snapshot);
        assert_eq!(snapshot.volume, facts.volume, "the snapshot is of the volume that was asked for");
        Ok(snapshot)
    }

    /// `snapshots.delete-snapshot`
    pub fn delete_file_snapshot<D: FileSnapshots>(&self, snapshot: &str) -> Result<(), Refusal> {
        D::delete_snapshot(&self.host(), &self.granted_files(), snapshot)
    }

    /// `snapshot-listing.list-snapshots`
    pub fn list_snapshots<D: FileSnapshotListing>(&self, filter: &SnapshotFilter, max_entries: u32, token: &str) -> Result<SnapshotPage, Refusal> {
        let page = D::list_snapshots(&self.host(), &self.granted_files(), filter, max_entries, token)?;
        assert!(page.snapshots.len() <= max_entries as usize, "{} entries, and {max_entries} were asked for at most", page.snapshots.len());
        page.snapshots.iter().for_each(check_snapshot);
        assert!(page.snapshots.iter().all(|snapshot| filter.admits(snapshot)), "a page has snapshots that the filter excludes");
        Ok(page)
    }

    /// `capacity.room-for`
    pub fn capacity<D: FileCapacity>(&self, facts: &CapacityFacts) -> Result<Room, Refusal> {
        D::capacity(&self.host(), &self.granted_files(), facts)
    }
}

/// What drivers of images have.
impl Harness {
    /// `controller.create-volume`
    pub fn create_rbd_volume<D: RbdDriver>(&self, facts: &CreateFacts) -> Result<Volume, Refusal> {
        check_created(facts, D::create_volume(&self.host(), &self.granted_clusters(), facts))
    }

    /// `controller.delete-volume`
    pub fn delete_rbd_volume<D: RbdDriver>(&self, volume: &str) -> Result<(), Refusal> {
        D::delete_volume(&self.host(), &self.granted_clusters(), volume)
    }

    /// `controller.validate`
    pub fn validate_rbd<D: RbdDriver>(&self, facts: &ValidateFacts) -> Result<Option<String>, Refusal> {
        D::validate(&self.host(), &self.granted_clusters(), facts)
    }

    /// `controller.expand`
    pub fn expand_rbd<D: RbdDriver>(&self, volume: &str, required: u64, limit: u64) -> Result<Expanded, Refusal> {
        let range = CapacityRange { required, limit };
        check_expanded(range, D::expand(&self.host(), &self.granted_clusters(), volume, &range))
    }

    /// `snapshots.create-snapshot`
    pub fn create_snapshot<D: RbdSnapshots>(&self, facts: &SnapshotFacts) -> Result<Snapshot, Refusal> {
        let snapshot = D::create_snapshot(&self.host(), &self.granted_clusters(), facts)?;
        check_snapshot(&snapshot);
        assert_eq!(snapshot.volume, facts.volume, "the snapshot is of the volume that was asked for");
        Ok(snapshot)
    }

    /// `snapshots.delete-snapshot`
    pub fn delete_snapshot<D: RbdSnapshots>(&self, snapshot: &str) -> Result<(), Refusal> {
        D::delete_snapshot(&self.host(), &self.granted_clusters(), snapshot)
    }

    /// `modification.modify-volume`
    pub fn modify<D: RbdModification>(&self, volume: &str, parameters: &Context) -> Result<(), Refusal> {
        D::modify_volume(&self.host(), &self.granted_clusters(), volume, parameters)
    }

    /// `publishing.publish`
    pub fn publish<D: RbdDriver>(&self, facts: &PublishFacts) -> Result<Context, Refusal> {
        let told = D::publish(&self.host(), &self.granted_clusters(), facts)?;
        check_context("the publish_context", &told);
        Ok(told)
    }

    /// `publishing.unpublish`
    pub fn unpublish<D: RbdDriver>(&self, volume: &str, node: Option<&str>) -> Result<(), Refusal> {
        D::unpublish(&self.host(), &self.granted_clusters(), volume, node)
    }
}

fn check_created(facts: &CreateFacts, answer: Result<Volume, Refusal>) -> Result<Volume, Refusal> {
    let volume = answer?;
    check_volume(&volume);
    assert!(facts.capacity.admits(volume.capacity), "{} bytes are not in the range that was asked for", volume.capacity);
    assert_eq!(volume.source, facts.source, "the volume names the source that it was asked to have");
    Ok(volume)
}

fn check_expanded(range: CapacityRange, answer: Result<Expanded, Refusal>) -> Result<Expanded, Refusal> {
    let expanded = answer?;
    assert!(range.admits(expanded.capacity), "{} bytes are not in the range that was asked for", expanded.capacity);
    Ok(expanded)
}

/// What the daemon asks of every volume that a driver describes.
fn check_volume(volume: &Volume) {
    assert!((1..=STRING_LIMIT).contains(&volume.id.len()), "the id is {} bytes long; 1 to {STRING_LIMIT} are allowed", volume.id.len());
    check_context("the volume's context", &volume.context);
}

fn check_snapshot(snapshot: &Snapshot) {
    for (what, id) in [("id", &snapshot.id), ("volume", &snapshot.volume)] {
        assert!((1..=STRING_LIMIT).contains(&id.len()), "the snapshot's {what} is {} bytes long; 1 to {STRING_LIMIT} are allowed", id.len());
    }
}

fn check_context(what: &str, context: &Context) {
    assert!(context.bytes() <= MAP_LIMIT, "{what} has {} bytes; {MAP_LIMIT} are allowed", context.bytes());
    if let Some((key, _)) = context.iter().find(|(key, _)| key.starts_with("windlass.io/")) {
        panic!("{what} has the key {key:?}; those with this prefix are the daemon's");
    }
}

fn is_label(label: &str) -> bool {
    (1..=12).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
