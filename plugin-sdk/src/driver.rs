//! The traits that a driver implements. What has a default need not be written.

use crate::{
    AttachPlan, CapacityFacts, CapacityRange, CreateFacts, Description, Expanded, Files, Host, NodeFacts, NodeInfo, Page, Refusal, Room, ValidateFacts, Volume,
    VolumeFacts,
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

    /// At most `max_entries` volumes (never 0) from `token` on, which is empty or of an earlier page; [`Refusal::BadToken`]
    /// where it cannot be.
    fn list_volumes(host: &Host<'_>, files: &Files<'_>, max_entries: u32, token: &str) -> Result<Page, Refusal>;

    /// Room for new volumes.
    fn capacity(host: &Host<'_>, files: &Files<'_>, facts: &CapacityFacts) -> Result<Room, Refusal>;

    /// Grows a volume to the size that satisfies `capacity`; large enough is done already.
    fn expand(host: &Host<'_>, files: &Files<'_>, volume: &str, capacity: &CapacityRange) -> Result<Expanded, Refusal>;
}
