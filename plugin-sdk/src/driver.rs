//! The traits that a driver implements. What has a default need not be written, and a trait that is not needed neither.

use crate::{
    AttachPlan, CapacityFacts, CapacityRange, Clusters, Context, CreateFacts, Description, Expanded, Files, Host, NodeFacts, NodeInfo, Page, PublishFacts,
    Refusal, Room, Snapshot, SnapshotFacts, SnapshotFilter, SnapshotPage, ValidateFacts, Volume, VolumeFacts,
};

/// A driver for the node. All its functions are pure: the same facts and configuration give the same answer.
pub trait NodeDriver {
    /// Who the driver is.
    fn describe() -> Description;

    /// Is the configuration complete? Called before a new version serves, which it does after `true`.
    ///
    /// As it is: all keys that [`describe`](Self::describe) calls required are there.
    fn probe(host: &Host<'_>) -> Result<bool, Refusal> {
        for key in Self::describe().configuration.iter().filter(|key| key.required) {
            host.require(&key.name)?;
        }
        Ok(true)
    }

    /// What the volume is. The daemon checks the plan against the operator's grants, then does what it says.
    fn attach(host: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal>;

    /// Who the node is, in the driver's terms. As it is: its name, without limit and topology.
    fn node_info(host: &Host<'_>, facts: &NodeFacts) -> Result<NodeInfo, Refusal> {
        let _ = host;
        Ok(NodeInfo::new(&facts.node))
    }
}

/// A driver that makes its volumes as files in granted folders. Any call may come twice, or again after it was cut off.
pub trait FileDriver: NodeDriver {
    /// Makes a volume. The same name and wishes twice is the same volume; the same name and other wishes is
    /// [`Refusal::AlreadyExists`].
    fn create_volume(host: &Host<'_>, files: &Files<'_>, facts: &CreateFacts) -> Result<Volume, Refusal>;

    /// Deletes a volume. One that does not exist is deleted already.
    fn delete_volume(host: &Host<'_>, files: &Files<'_>, volume: &str) -> Result<(), Refusal>;

    /// Can the volume be used so? `None`: yes, in all these ways. `Some`: why not. [`Refusal::NotFound`] where there is none.
    fn validate(host: &Host<'_>, files: &Files<'_>, facts: &ValidateFacts) -> Result<Option<String>, Refusal>;

    /// Grows a volume to the size that satisfies `capacity`; large enough is done already.
    fn expand(host: &Host<'_>, files: &Files<'_>, volume: &str, capacity: &CapacityRange) -> Result<Expanded, Refusal>;
}

/// A [`FileDriver`] that can list its volumes.
pub trait FileListing: FileDriver {
    /// At most `max_entries` volumes (never 0) from `token` on, which is empty or of an earlier page; [`Refusal::BadToken`]
    /// where it cannot be.
    fn list_volumes(host: &Host<'_>, files: &Files<'_>, max_entries: u32, token: &str) -> Result<Page, Refusal>;
}

/// A [`FileDriver`] that knows how much room there is.
pub trait FileCapacity: FileDriver {
    /// Room for new volumes.
    fn capacity(host: &Host<'_>, files: &Files<'_>, facts: &CapacityFacts) -> Result<Room, Refusal>;
}

/// A [`FileDriver`] that has snapshots. It makes volumes from them, too: [`ContentSource::Snapshot`](crate::ContentSource).
pub trait FileSnapshots: FileDriver {
    /// Cuts a snapshot of a volume. The same name and volume twice is the same snapshot; the same name and another volume is
    /// [`Refusal::AlreadyExists`].
    fn create_snapshot(host: &Host<'_>, files: &Files<'_>, facts: &SnapshotFacts) -> Result<Snapshot, Refusal>;

    /// Deletes a snapshot. One that does not exist is deleted already; volumes that were made from it live on.
    fn delete_snapshot(host: &Host<'_>, files: &Files<'_>, snapshot: &str) -> Result<(), Refusal>;
}

/// A [`FileDriver`] that can list its snapshots.
pub trait FileSnapshotListing: FileSnapshots {
    /// At most `max_entries` snapshots (never 0) that the filter lets through, from `token` on, which is empty or of an earlier page;
    /// [`Refusal::BadToken`] where it cannot be. A filter by what does not exist lets none through.
    fn list_snapshots(host: &Host<'_>, files: &Files<'_>, filter: &SnapshotFilter, max_entries: u32, token: &str) -> Result<SnapshotPage, Refusal>;
}

/// A driver that makes its volumes as images of granted Ceph clusters. Any call may come twice, or again after it was cut off.
///
/// It says which of a call's secrets open a cluster ([`Credentials`](crate::Credentials)) and never sees them. Listing and room, whose calls have no
/// secrets, are not among its groups.
pub trait RbdDriver: NodeDriver {
    /// As [`FileDriver::create_volume`].
    fn create_volume(host: &Host<'_>, clusters: &Clusters<'_>, facts: &CreateFacts) -> Result<Volume, Refusal>;

    /// As [`FileDriver::delete_volume`].
    fn delete_volume(host: &Host<'_>, clusters: &Clusters<'_>, volume: &str) -> Result<(), Refusal>;

    /// As [`FileDriver::validate`].
    fn validate(host: &Host<'_>, clusters: &Clusters<'_>, facts: &ValidateFacts) -> Result<Option<String>, Refusal>;

    /// As [`FileDriver::expand`].
    fn expand(host: &Host<'_>, clusters: &Clusters<'_>, volume: &str, capacity: &CapacityRange) -> Result<Expanded, Refusal>;

    /// Gives a volume to a node: claims its image ([`Images::claim`](crate::Images::claim), which tells what is kept with it). What is returned is told to the node besides what the
    /// claim proved, which the daemon adds.
    fn publish(host: &Host<'_>, clusters: &Clusters<'_>, facts: &PublishFacts) -> Result<Context, Refusal>;

    /// Takes it back. A volume that does not exist, or that the node does not have, is taken back already. No node: from all.
    fn unpublish(host: &Host<'_>, clusters: &Clusters<'_>, volume: &str, node: Option<&str>) -> Result<(), Refusal>;
}

/// An [`RbdDriver`] whose volumes have parameters that may change while they live. It is told of them when a volume is made, too
/// ([`CreateFacts::mutable_parameters`]).
pub trait RbdModification: RbdDriver {
    /// Changes the parameters that are named, and no other: kept with the image, told to the node by the next `publish`. [`Refusal::Invalid`]
    /// where one is not known or has a wrong value: nothing is changed then. The same again is done already.
    fn modify_volume(host: &Host<'_>, clusters: &Clusters<'_>, volume: &str, parameters: &Context) -> Result<(), Refusal>;
}

/// An [`RbdDriver`] that has snapshots. It makes volumes from them, too: [`ContentSource::Snapshot`](crate::ContentSource).
pub trait RbdSnapshots: RbdDriver {
    /// Cuts a snapshot of a volume. The same name and volume twice is the same snapshot; the same name and another volume is
    /// [`Refusal::AlreadyExists`].
    fn create_snapshot(host: &Host<'_>, clusters: &Clusters<'_>, facts: &SnapshotFacts) -> Result<Snapshot, Refusal>;

    /// Deletes a snapshot. One that does not exist is deleted already; volumes that were made from it live on.
    fn delete_snapshot(host: &Host<'_>, clusters: &Clusters<'_>, snapshot: &str) -> Result<(), Refusal>;
}
