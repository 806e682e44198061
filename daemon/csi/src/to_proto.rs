//! The edge outwards: what a plugin or the kernel said becomes a message of the wire, within the limits that CSI sets to answers too.

mod capabilities;

pub use capabilities::{ControllerCapability, NodeCapability, PluginCapability, controller_capabilities, node_capabilities, plugin_capabilities};

use crate::limits::{self, MAX_NODE_ID, Problem};
use crate::v1;
use v1::validate_volume_capabilities_response::Confirmed;
use windlass_plan::ids::{MAX_STRING, parse_text};
use windlass_plan::plugin::{CallFailure, CapacityAnswer, ExpandAnswer, NodeInfo, SnapshotAnswer, VolumeAnswer};
use windlass_plan::request::{ContentSource, Context, Topology};
use windlass_plan::step::Usage;

/// A plugin's answer that CSI does not let pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("in the plugin's answer `{field}` {problem}")]
pub struct BadAnswer {
    /// The field's path in the message that would have been sent, such as `entries[3].volume.volume_id`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub problem: Problem,
}

impl From<BadAnswer> for CallFailure {
    fn from(bad: BadAnswer) -> Self {
        CallFailure::Limit(bad.to_string())
    }
}

/// GetPluginInfo.
pub fn plugin_info(name: &str, vendor_version: &str) -> Result<v1::GetPluginInfoResponse, BadAnswer> {
    let vendor_version = text("vendor_version", vendor_version)?;
    Ok(v1::GetPluginInfoResponse { name: name.to_owned(), vendor_version, manifest: Context::new() })
}

/// CreateVolume.
pub fn created(answer: VolumeAnswer) -> Result<v1::CreateVolumeResponse, BadAnswer> {
    Ok(v1::CreateVolumeResponse { volume: Some(volume("volume", answer)?) })
}

/// ListVolumes, for a controller that does not publish: no entry says where its volume is.
pub fn listed(entries: Vec<VolumeAnswer>, next_token: String) -> Result<v1::ListVolumesResponse, BadAnswer> {
    let entry = |(i, answer)| Ok(v1::list_volumes_response::Entry { volume: Some(volume(&format!("entries[{i}].volume"), answer)?), status: None });
    let entries = entries.into_iter().enumerate().map(entry).collect::<Result<_, _>>()?;
    limits::string(&next_token).map_err(|problem| bad("next_token", problem))?;
    Ok(v1::ListVolumesResponse { entries, next_token })
}

/// What ValidateVolumeCapabilities confirms: exactly what was asked, flags in their order and all. To be taken before the request is
/// given to `from_proto`, and sent by [`validated`].
pub fn confirmation(asked: &v1::ValidateVolumeCapabilitiesRequest) -> Confirmed {
    Confirmed {
        volume_context: asked.volume_context.clone(),
        volume_capabilities: asked.volume_capabilities.clone(),
        parameters: asked.parameters.clone(),
        mutable_parameters: asked.mutable_parameters.clone(),
    }
}

/// ValidateVolumeCapabilities: the confirmation, or why there is none (cut to what CSI allows). Both are answers, not errors.
pub fn validated(confirmed: Confirmed, refused: Option<String>) -> v1::ValidateVolumeCapabilitiesResponse {
    match refused {
        None => v1::ValidateVolumeCapabilitiesResponse { confirmed: Some(confirmed), message: String::new() },
        Some(why) if why.is_empty() => not_confirmed("the driver does not support this use of the volume and does not say why"),
        Some(why) => not_confirmed(&why),
    }
}

fn not_confirmed(why: &str) -> v1::ValidateVolumeCapabilitiesResponse {
    let message = if why.len() <= MAX_STRING { why.to_owned() } else { format!("{}...", &why[..why.floor_char_boundary(MAX_STRING - 3)]) };
    v1::ValidateVolumeCapabilitiesResponse { confirmed: None, message }
}

/// GetCapacity.
pub fn capacity(answer: CapacityAnswer) -> Result<v1::GetCapacityResponse, BadAnswer> {
    let known = |field, number| if number == 0 { Ok(None) } else { size(field, number).map(Some) };
    Ok(v1::GetCapacityResponse {
        available_capacity: size("available_capacity", answer.available)?,
        maximum_volume_size: known("maximum_volume_size", answer.largest)?,
        minimum_volume_size: known("minimum_volume_size", answer.smallest)?,
    })
}

/// ControllerPublishVolume.
pub fn published(publish_context: Context) -> Result<v1::ControllerPublishVolumeResponse, BadAnswer> {
    limits::map(&publish_context).map_err(|problem| bad("publish_context", problem))?;
    Ok(v1::ControllerPublishVolumeResponse { publish_context })
}

/// CreateSnapshot.
pub fn snapshot_created(answer: SnapshotAnswer) -> Result<v1::CreateSnapshotResponse, BadAnswer> {
    Ok(v1::CreateSnapshotResponse { snapshot: Some(snapshot("snapshot", answer)?) })
}

/// ListSnapshots.
pub fn snapshots_listed(entries: Vec<SnapshotAnswer>, next_token: String) -> Result<v1::ListSnapshotsResponse, BadAnswer> {
    let entry = |(i, answer)| Ok(v1::list_snapshots_response::Entry { snapshot: Some(snapshot(&format!("entries[{i}].snapshot"), answer)?) });
    let entries = entries.into_iter().enumerate().map(entry).collect::<Result<_, _>>()?;
    limits::string(&next_token).map_err(|problem| bad("next_token", problem))?;
    Ok(v1::ListSnapshotsResponse { entries, next_token })
}

/// ControllerExpandVolume.
pub fn expanded(answer: ExpandAnswer) -> Result<v1::ControllerExpandVolumeResponse, BadAnswer> {
    let capacity_bytes = size("capacity_bytes", answer.capacity)?;
    Ok(v1::ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required: answer.node_expansion })
}

/// NodeExpandVolume: the size reached, as the kernel says it.
pub fn node_expanded(capacity: u64) -> v1::NodeExpandVolumeResponse {
    v1::NodeExpandVolumeResponse { capacity_bytes: bounded(capacity) }
}

/// NodeGetInfo.
pub fn node_info(answer: NodeInfo) -> Result<v1::NodeGetInfoResponse, BadAnswer> {
    if answer.node_id.is_empty() {
        return Err(bad("node_id", Problem::Missing { right: "the name by which the driver knows the node" }));
    }
    limits::bytes(&answer.node_id, MAX_NODE_ID).map_err(|problem| bad("node_id", problem))?;
    let max_volumes_per_node = size("max_volumes_per_node", answer.max_volumes)?;
    let place = if answer.topology.is_empty() { None } else { Some(topology("accessible_topology", answer.topology)?) };
    Ok(v1::NodeGetInfoResponse { node_id: answer.node_id, max_volumes_per_node, accessible_topology: place })
}

/// NodeGetVolumeStats. A block device has a size and nothing else that could be known.
pub fn usage(usage: Usage) -> v1::NodeGetVolumeStatsResponse {
    use v1::volume_usage::Unit;
    let entry =
        |unit: Unit, total, used, available| v1::VolumeUsage { available: bounded(available), total: bounded(total), used: bounded(used), unit: unit.into() };
    let (used, available) = usage.bytes.unwrap_or_default();
    let inodes = usage.inodes.map(|(total, used, free)| entry(Unit::Inodes, total, used, free));
    v1::NodeGetVolumeStatsResponse { usage: [entry(Unit::Bytes, usage.total, used, available)].into_iter().chain(inodes).collect() }
}

fn snapshot(field: &str, answer: SnapshotAnswer) -> Result<v1::Snapshot, BadAnswer> {
    let at = |name: &str| format!("{field}.{name}");
    let (seconds, nanos) = answer.created;
    let too_large = || bad(at("creation_time"), Problem::TooLarge { number: nanos.into() });
    let nanos = i32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or_else(too_large)?;
    Ok(v1::Snapshot {
        size_bytes: size(&at("size_bytes"), answer.size)?,
        snapshot_id: text(&at("snapshot_id"), &answer.snapshot)?,
        source_volume_id: text(&at("source_volume_id"), &answer.volume)?,
        creation_time: Some(prost_types::Timestamp { seconds: size(&at("creation_time"), seconds)?, nanos }),
        ready_to_use: answer.is_ready,
        ..Default::default()
    })
}

fn volume(field: &str, answer: VolumeAnswer) -> Result<v1::Volume, BadAnswer> {
    let at = |name: &str| format!("{field}.{name}");
    limits::map(&answer.context).map_err(|problem| bad(at("volume_context"), problem))?;
    let places = answer.topology.into_iter().enumerate();
    Ok(v1::Volume {
        capacity_bytes: size(&at("capacity_bytes"), answer.capacity)?,
        volume_id: text(&at("volume_id"), &answer.volume)?,
        volume_context: answer.context,
        content_source: answer.source.map(|source| content_source(&at("content_source"), source)).transpose()?,
        accessible_topology: places.map(|(i, place)| topology(&at(&format!("accessible_topology[{i}]")), place)).collect::<Result<_, _>>()?,
    })
}

fn content_source(field: &str, source: ContentSource) -> Result<v1::VolumeContentSource, BadAnswer> {
    use v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
    let source = match source {
        ContentSource::Snapshot(id) => Type::Snapshot(SnapshotSource { snapshot_id: text(&format!("{field}.snapshot.snapshot_id"), &id)? }),
        ContentSource::Volume(id) => Type::Volume(VolumeSource { volume_id: text(&format!("{field}.volume.volume_id"), &id)? }),
    };
    Ok(v1::VolumeContentSource { r#type: Some(source) })
}

fn topology(field: &str, segments: Topology) -> Result<v1::Topology, BadAnswer> {
    limits::segments(&segments).map_err(|problem| bad(format!("{field}.segments"), problem))?;
    Ok(v1::Topology { segments })
}

/// A required string: not empty, not too long, no control characters.
fn text(field: &str, text: &str) -> Result<String, BadAnswer> {
    parse_text(text).map_err(|error| bad(field, limits::of_name(error, "what the specification asks for")))
}

fn size(field: &str, number: u64) -> Result<i64, BadAnswer> {
    i64::try_from(number).map_err(|_| bad(field, Problem::TooLarge { number }))
}

/// A number of the kernel's. None of them comes near 8 EiB.
fn bounded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn bad(field: impl Into<String>, problem: Problem) -> BadAnswer {
    BadAnswer { field: field.into(), problem }
}

#[cfg(test)]
mod tests;
