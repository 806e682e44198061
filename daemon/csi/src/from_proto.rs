//! The edge inwards: a message of the wire becomes a request of `windlass-plan`, or an error that names its field.
//!
//! Each function looks at what is required first, then at the rest in the order of the message. Paths are not judged here: whether one
//! is plain and beneath a root is asked once the volume is known.

mod fields;

use crate::limits::{self, Problem};
use crate::v1;
use windlass_plan::request::{
    Call, Capacity, CreateSnapshot, CreateVolume, DeleteSnapshot, DeleteVolume, ExpandNode, ExpandVolume, ListSnapshots, ListVolumes, ModifyVolume,
    PublishToNode, PublishVolume, Secrets, StageVolume, UnpublishFromNode, UnpublishVolume, UnstageVolume, ValidateVolume, VolumeStats,
};

/// A request that cannot be understood, or that CSI forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct BadRequest {
    /// The field's path, such as `volume_capabilities[1].access_mode.mode`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub problem: Problem,
}

/// What kind of error it is. The daemon chooses the gRPC code by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A required field is not set.
    Missing,
    /// A field holds what it cannot hold, or what is not supported.
    Invalid,
    /// The id of nothing: there is no such volume or snapshot, and nothing to take away of it.
    NoSuchVolume,
    /// A token for the next page is none of ours, which has a code of its own.
    BadToken,
}

impl BadRequest {
    /// The kind of error.
    pub fn kind(&self) -> Kind {
        match self.problem {
            Problem::Missing { .. } => Kind::Missing,
            Problem::NobodysId { .. } => Kind::NoSuchVolume,
            Problem::Token { .. } => Kind::BadToken,
            _ => Kind::Invalid,
        }
    }
}

/// CreateVolume. `mutable_parameters` are refused where the driver does not advertise that it can change them.
pub fn create_volume(message: v1::CreateVolumeRequest, can_modify: bool) -> Result<Call<CreateVolume>, BadRequest> {
    fields::given("name", &message.name, "the name by which the volume is to be found again")?;
    fields::all_given("volume_capabilities", &message.volume_capabilities)?;
    let request = CreateVolume {
        name: fields::name("name", &message.name)?,
        capacity: fields::capacity("capacity_range", message.capacity_range)?,
        capabilities: fields::capabilities("volume_capabilities", message.volume_capabilities)?,
        parameters: fields::context("parameters", message.parameters)?,
        mutable_parameters: fields::mutable_parameters("mutable_parameters", message.mutable_parameters, can_modify)?,
        source: fields::content_source("volume_content_source", message.volume_content_source)?,
        topology: fields::requirement("accessibility_requirements", message.accessibility_requirements)?,
    };
    Ok(Call { request, secrets: fields::secrets(message.secrets, None)? })
}

/// DeleteVolume.
pub fn delete_volume(message: v1::DeleteVolumeRequest) -> Result<Call<DeleteVolume>, BadRequest> {
    let request = DeleteVolume { volume: fields::volume_id(&message.volume_id)? };
    Ok(Call { request, secrets: fields::secrets(message.secrets, None)? })
}

/// CreateSnapshot. Where a snapshot has to be reachable from is alpha, and not advertised.
pub fn create_snapshot(message: v1::CreateSnapshotRequest) -> Result<Call<CreateSnapshot>, BadRequest> {
    fields::given("source_volume_id", &message.source_volume_id, "the volume_id of the volume that is to be cut")?;
    fields::given("name", &message.name, "the name by which the snapshot is to be found again")?;
    if message.accessibility_requirements.is_some() {
        return Err(fields::bad("accessibility_requirements", Problem::NotAdvertised { capability: "SNAPSHOT_ACCESSIBILITY_CONSTRAINTS" }));
    }
    let request = CreateSnapshot {
        volume: fields::source_volume_id(&message.source_volume_id)?,
        name: fields::name("name", &message.name)?,
        parameters: fields::context("parameters", message.parameters)?,
    };
    Ok(Call { request, secrets: fields::secrets(message.secrets, None)? })
}

/// DeleteSnapshot.
pub fn delete_snapshot(message: v1::DeleteSnapshotRequest) -> Result<Call<DeleteSnapshot>, BadRequest> {
    let request = DeleteSnapshot { snapshot: fields::snapshot_id(&message.snapshot_id)? };
    Ok(Call { request, secrets: fields::secrets(message.secrets, None)? })
}

/// ListSnapshots. It may come with secrets, and no driver that lists needs any: they are looked at and let go.
pub fn list_snapshots(message: v1::ListSnapshotsRequest) -> Result<Call<ListSnapshots>, BadRequest> {
    let max_entries = fields::count("max_entries", message.max_entries)?;
    let starting_token = fields::token("starting_token", message.starting_token)?;
    fields::secrets(message.secrets, None)?;
    let (snapshot, volume) = (message.snapshot_id, message.source_volume_id);
    Ok(without_secrets(ListSnapshots {
        snapshot: (!snapshot.is_empty()).then(|| fields::snapshot_id(&snapshot)).transpose()?,
        volume: (!volume.is_empty()).then(|| fields::source_volume_id(&volume)).transpose()?,
        max_entries,
        starting_token,
    }))
}

/// ControllerPublishVolume.
pub fn publish_to_node(mut message: v1::ControllerPublishVolumeRequest) -> Result<Call<PublishToNode>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    fields::given("node_id", &message.node_id, "the node_id that NodeGetInfo answered")?;
    fields::capability_given("volume_capability", message.volume_capability.as_ref())?;
    let tokens = message.volume_context.remove(limits::SERVICE_ACCOUNT_TOKENS);
    let request = PublishToNode {
        volume: fields::volume_id(&message.volume_id)?,
        node: fields::node_id("node_id", message.node_id)?,
        capability: fields::required_capability("volume_capability", message.volume_capability)?,
        readonly: message.readonly,
        volume_context: fields::context("volume_context", message.volume_context)?,
    };
    Ok(Call { request, secrets: fields::secrets(message.secrets, tokens)? })
}

/// ControllerUnpublishVolume. Without a node it is taken from all that have it.
pub fn unpublish_from_node(message: v1::ControllerUnpublishVolumeRequest) -> Result<Call<UnpublishFromNode>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    let node = fields::node_id("node_id", message.node_id)?;
    let request = UnpublishFromNode { volume: fields::volume_id(&message.volume_id)?, node: (!node.is_empty()).then_some(node) };
    Ok(Call { request, secrets: fields::secrets(message.secrets, None)? })
}

/// ValidateVolumeCapabilities.
pub fn validate_volume(message: v1::ValidateVolumeCapabilitiesRequest) -> Result<Call<ValidateVolume>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    fields::all_given("volume_capabilities", &message.volume_capabilities)?;
    let request = ValidateVolume {
        volume: fields::volume_id(&message.volume_id)?,
        volume_context: fields::context("volume_context", message.volume_context)?,
        capabilities: fields::capabilities("volume_capabilities", message.volume_capabilities)?,
        parameters: fields::context("parameters", message.parameters)?,
        mutable_parameters: fields::context("mutable_parameters", message.mutable_parameters)?,
    };
    Ok(Call { request, secrets: fields::secrets(message.secrets, None)? })
}

/// ListVolumes.
pub fn list_volumes(message: v1::ListVolumesRequest) -> Result<Call<ListVolumes>, BadRequest> {
    let max_entries = fields::count("max_entries", message.max_entries)?;
    let starting_token = fields::token("starting_token", message.starting_token)?;
    Ok(without_secrets(ListVolumes { max_entries, starting_token }))
}

/// GetCapacity.
pub fn capacity(mut message: v1::GetCapacityRequest) -> Result<Call<Capacity>, BadRequest> {
    if message.volume_capabilities == [fields::no_use_in_particular()] {
        message.volume_capabilities.clear();
    }
    if !message.volume_capabilities.is_empty() {
        fields::all_given("volume_capabilities", &message.volume_capabilities)?;
    }
    Ok(without_secrets(Capacity {
        capabilities: fields::capabilities("volume_capabilities", message.volume_capabilities)?,
        parameters: fields::context("parameters", message.parameters)?,
        topology: message.accessible_topology.map(|topology| fields::topology("accessible_topology", topology)).transpose()?,
    }))
}

/// ControllerExpandVolume.
pub fn expand_volume(message: v1::ControllerExpandVolumeRequest) -> Result<Call<ExpandVolume>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    if message.capacity_range.is_none() {
        return Err(fields::bad("capacity_range", Problem::Missing { right: "the size that the volume is to have" }));
    }
    let request = ExpandVolume {
        volume: fields::volume_id(&message.volume_id)?,
        capacity: fields::capacity("capacity_range", message.capacity_range)?,
        capability: fields::optional_capability("volume_capability", message.volume_capability)?,
    };
    Ok(Call { request, secrets: fields::secrets(message.secrets, None)? })
}

/// ControllerModifyVolume.
pub fn modify_volume(message: v1::ControllerModifyVolumeRequest) -> Result<Call<ModifyVolume>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    if message.mutable_parameters.is_empty() {
        return Err(fields::bad("mutable_parameters", Problem::Missing { right: "the parameters that are to change" }));
    }
    let request =
        ModifyVolume { volume: fields::volume_id(&message.volume_id)?, parameters: fields::context("mutable_parameters", message.mutable_parameters)? };
    Ok(Call { request, secrets: fields::secrets(message.secrets, None)? })
}

/// NodeStageVolume.
pub fn stage_volume(mut message: v1::NodeStageVolumeRequest) -> Result<Call<StageVolume>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    fields::path_given("staging_target_path", &message.staging_target_path)?;
    fields::capability_given("volume_capability", message.volume_capability.as_ref())?;
    let tokens = message.volume_context.remove(limits::SERVICE_ACCOUNT_TOKENS);
    let request = StageVolume {
        volume: fields::volume_id(&message.volume_id)?,
        staging_path: fields::path("staging_target_path", message.staging_target_path)?,
        capability: fields::required_capability("volume_capability", message.volume_capability)?,
        publish_context: fields::context("publish_context", message.publish_context)?,
        volume_context: fields::context("volume_context", message.volume_context)?,
    };
    Ok(Call { request, secrets: fields::secrets(message.secrets, tokens)? })
}

/// NodeUnstageVolume.
pub fn unstage_volume(message: v1::NodeUnstageVolumeRequest) -> Result<Call<UnstageVolume>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    fields::path_given("staging_target_path", &message.staging_target_path)?;
    Ok(without_secrets(UnstageVolume {
        volume: fields::volume_id(&message.volume_id)?,
        staging_path: fields::path("staging_target_path", message.staging_target_path)?,
    }))
}

/// NodePublishVolume. Without a staging path it is not refused here: that has a code of its own.
pub fn publish_volume(mut message: v1::NodePublishVolumeRequest) -> Result<Call<PublishVolume>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    fields::path_given("target_path", &message.target_path)?;
    fields::capability_given("volume_capability", message.volume_capability.as_ref())?;
    let tokens = message.volume_context.remove(limits::SERVICE_ACCOUNT_TOKENS);
    let request = PublishVolume {
        volume: fields::volume_id(&message.volume_id)?,
        staging_path: fields::path("staging_target_path", message.staging_target_path)?,
        target_path: fields::path("target_path", message.target_path)?,
        capability: fields::required_capability("volume_capability", message.volume_capability)?,
        readonly: message.readonly,
        publish_context: fields::context("publish_context", message.publish_context)?,
        volume_context: fields::context("volume_context", message.volume_context)?,
    };
    Ok(Call { request, secrets: fields::secrets(message.secrets, tokens)? })
}

/// NodeUnpublishVolume.
pub fn unpublish_volume(message: v1::NodeUnpublishVolumeRequest) -> Result<Call<UnpublishVolume>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    fields::path_given("target_path", &message.target_path)?;
    Ok(without_secrets(UnpublishVolume { volume: fields::volume_id(&message.volume_id)?, target_path: fields::path("target_path", message.target_path)? }))
}

/// NodeGetVolumeStats. The staging path, which is optional, only has to fit: the kernel knows where the volume is.
pub fn volume_stats(message: v1::NodeGetVolumeStatsRequest) -> Result<Call<VolumeStats>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    fields::path_given("volume_path", &message.volume_path)?;
    let volume = fields::volume_id(&message.volume_id)?;
    let volume_path = fields::path("volume_path", message.volume_path)?;
    fields::path("staging_target_path", message.staging_target_path)?;
    Ok(without_secrets(VolumeStats { volume, volume_path }))
}

/// NodeExpandVolume. The staging path, which is optional, only has to fit: the kernel knows where the volume is.
pub fn expand_node(message: v1::NodeExpandVolumeRequest) -> Result<Call<ExpandNode>, BadRequest> {
    fields::id_given(&message.volume_id)?;
    fields::path_given("volume_path", &message.volume_path)?;
    let request = ExpandNode {
        volume: fields::volume_id(&message.volume_id)?,
        volume_path: fields::path("volume_path", message.volume_path)?,
        capacity: fields::capacity("capacity_range", message.capacity_range)?,
        capability: fields::optional_capability("volume_capability", message.volume_capability)?,
    };
    fields::path("staging_target_path", message.staging_target_path)?;
    Ok(Call { request, secrets: fields::secrets(message.secrets, None)? })
}

fn without_secrets<T>(request: T) -> Call<T> {
    Call { request, secrets: Secrets::default() }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
