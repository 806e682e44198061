//! The fields that several requests share, each checked in one place.

use super::BadRequest;
use crate::limits::{self, MAX_NODE_ID, MAX_PATH, MAX_TOKENS, Problem, SERVICE_ACCOUNT_TOKENS};
use crate::v1;
use std::collections::BTreeMap;
use v1::volume_capability::AccessType;
use v1::volume_capability::access_mode::Mode;
use windlass_plan::capability::{Access, AccessMode, Capability, FilesystemKind, MountFlags, MountWish};
use windlass_plan::ids::{SnapshotId, VolumeId, parse_text};
use windlass_plan::request::{CapacityRange, ContentSource, Context, Secrets, Topology, TopologyRequirement};

const VOLUME_ID: &str = "the volume_id that CreateVolume answered";
const MODES: &str = "SINGLE_NODE_WRITER (1), SINGLE_NODE_READER_ONLY (2), MULTI_NODE_READER_ONLY (3), MULTI_NODE_SINGLE_WRITER (4), \
                     MULTI_NODE_MULTI_WRITER (5), SINGLE_NODE_SINGLE_WRITER (6) or SINGLE_NODE_MULTI_WRITER (7)";

pub(super) fn bad(field: impl Into<String>, problem: Problem) -> BadRequest {
    BadRequest { field: field.into(), problem }
}

/// A required string is there.
pub(super) fn given(field: &str, value: &str, right: &'static str) -> Result<(), BadRequest> {
    if value.is_empty() {
        return Err(bad(field, Problem::Missing { right }));
    }
    Ok(())
}

pub(super) fn id_given(id: &str) -> Result<(), BadRequest> {
    given("volume_id", id, VOLUME_ID)
}

pub(super) fn path_given(field: &str, path: &str) -> Result<(), BadRequest> {
    given(field, path, "an absolute path")
}

/// At least one capability is there, and whole.
pub(super) fn all_given(field: &str, capabilities: &[v1::VolumeCapability]) -> Result<(), BadRequest> {
    if capabilities.is_empty() {
        return Err(bad(field, Problem::Missing { right: "at least one way in which the volume is to be used" }));
    }
    capabilities.iter().enumerate().try_for_each(|(i, capability)| capability_given(&format!("{field}[{i}]"), Some(capability)))
}

/// A capability is there, with both of its parts.
pub(super) fn capability_given(field: &str, capability: Option<&v1::VolumeCapability>) -> Result<(), BadRequest> {
    let capability = capability.ok_or_else(|| bad(field, Problem::Missing { right: "the way in which the volume is to be used" }))?;
    if capability.access_type.is_none() {
        return Err(bad(format!("{field}.access_type"), Problem::Missing { right: "`mount` or `block`" }));
    }
    if capability.access_mode.is_none() {
        return Err(bad(format!("{field}.access_mode"), Problem::Missing { right: MODES }));
    }
    Ok(())
}

/// An id that nobody can have given is not a malformed one but the id of nothing, which has a code of its own.
pub(super) fn volume_id(id: &str) -> Result<VolumeId, BadRequest> {
    id_given(id)?;
    VolumeId::parse(id).map_err(|why| bad("volume_id", Problem::NobodysId { why }))
}

pub(super) fn source_volume_id(id: &str) -> Result<VolumeId, BadRequest> {
    VolumeId::parse(id).map_err(|why| bad("source_volume_id", Problem::NobodysId { why }))
}

/// As with volumes: what nobody can have given is the id of nothing.
pub(super) fn snapshot_id(id: &str) -> Result<SnapshotId, BadRequest> {
    given("snapshot_id", id, "the snapshot_id that CreateSnapshot answered")?;
    SnapshotId::parse(id).map_err(|why| bad("snapshot_id", Problem::NobodysId { why }))
}

pub(super) fn name(field: &str, name: &str) -> Result<String, BadRequest> {
    parse_text(name).map_err(|error| bad(field, limits::of_name(error, "a name")))
}

pub(super) fn path(field: &str, path: String) -> Result<String, BadRequest> {
    limits::bytes(&path, MAX_PATH).map_err(|problem| bad(field, problem))?;
    Ok(path)
}

pub(super) fn node_id(field: &str, id: String) -> Result<String, BadRequest> {
    limits::bytes(&id, MAX_NODE_ID).map_err(|problem| bad(field, problem))?;
    Ok(id)
}

pub(super) fn context(field: &str, context: BTreeMap<String, String>) -> Result<Context, BadRequest> {
    limits::map(&context).map_err(|problem| bad(field, problem))?;
    Ok(context)
}

pub(super) fn mutable_parameters(field: &str, parameters: BTreeMap<String, String>, can_modify: bool) -> Result<Context, BadRequest> {
    if !parameters.is_empty() && !can_modify {
        return Err(bad(field, Problem::NotAdvertised { capability: "MODIFY_VOLUME" }));
    }
    context(field, parameters)
}

/// The secrets, and with them kubelet's tokens, wherever it put them: they change at each call, so they are no part of what makes two
/// calls the same, and they are nothing for a plugin to see.
pub(super) fn secrets(mut given: BTreeMap<String, String>, tokens_in_context: Option<String>) -> Result<Secrets, BadRequest> {
    let tokens = given.remove(SERVICE_ACCOUNT_TOKENS).or(tokens_in_context);
    limits::map(&given).map_err(|problem| bad("secrets", problem))?;
    let is_plain = |key: &String| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !given.keys().all(is_plain) {
        return Err(bad("secrets", Problem::SecretKey));
    }
    if let Some(tokens) = tokens {
        limits::bytes(&tokens, MAX_TOKENS).map_err(|problem| bad(SERVICE_ACCOUNT_TOKENS, problem))?;
        given.insert(SERVICE_ACCOUNT_TOKENS.to_owned(), tokens);
    }
    Ok(Secrets::new(given))
}

/// A range of sizes. `limit_bytes` below `required_bytes` passes: that no size will do is said by OUT_OF_RANGE, where sizes are known.
pub(super) fn capacity(field: &str, range: Option<v1::CapacityRange>) -> Result<CapacityRange, BadRequest> {
    let Some(range) = range else { return Ok(CapacityRange::default()) };
    let size = |name: &str, number: i64| u64::try_from(number).map_err(|_| bad(format!("{field}.{name}"), Problem::Negative { number }));
    let range = CapacityRange { required: size("required_bytes", range.required_bytes)?, limit: size("limit_bytes", range.limit_bytes)? };
    if range == CapacityRange::default() {
        return Err(bad(field, Problem::EmptyRange));
    }
    Ok(range)
}

pub(super) fn count(field: &str, number: i32) -> Result<u32, BadRequest> {
    u32::try_from(number).map_err(|_| bad(field, Problem::Negative { number: number.into() }))
}

pub(super) fn token(field: &str, token: String) -> Result<String, BadRequest> {
    limits::string(&token).map_err(|_| bad(field, Problem::Token { length: token.len() }))?;
    Ok(token)
}

pub(super) fn capabilities(field: &str, given: Vec<v1::VolumeCapability>) -> Result<Vec<Capability>, BadRequest> {
    given.into_iter().enumerate().map(|(i, given)| capability(&format!("{field}[{i}]"), given)).collect()
}

/// What external-provisioner sent with GetCapacity until 2024, since the field had been required: it says nothing of how volumes are used.
pub(super) fn no_use_in_particular() -> v1::VolumeCapability {
    let mode = v1::volume_capability::AccessMode { mode: Mode::Unknown.into() };
    v1::VolumeCapability { access_mode: Some(mode), access_type: Some(AccessType::Mount(v1::volume_capability::MountVolume::default())) }
}

pub(super) fn optional_capability(field: &str, given: Option<v1::VolumeCapability>) -> Result<Option<Capability>, BadRequest> {
    given.map(|given| capability(field, given)).transpose()
}

pub(super) fn required_capability(field: &str, given: Option<v1::VolumeCapability>) -> Result<Capability, BadRequest> {
    capability(field, given.unwrap_or_default())
}

fn capability(field: &str, given: v1::VolumeCapability) -> Result<Capability, BadRequest> {
    capability_given(field, Some(&given))?;
    let access = match given.access_type {
        Some(AccessType::Mount(mount)) => Access::Mount(mount_wish(&format!("{field}.mount"), mount)?),
        // That there is a type was looked at above.
        Some(AccessType::Block(_)) | None => Access::Block,
    };
    let number = given.access_mode.unwrap_or_default().mode;
    let mode = mode(number).ok_or_else(|| bad(format!("{field}.access_mode.mode"), Problem::UnknownValue { number, known: MODES }))?;
    Ok(Capability { access, mode })
}

fn mode(number: i32) -> Option<AccessMode> {
    match Mode::try_from(number).ok()? {
        Mode::Unknown => None,
        Mode::SingleNodeWriter => Some(AccessMode::SingleNodeWriter),
        Mode::SingleNodeReaderOnly => Some(AccessMode::SingleNodeReaderOnly),
        Mode::MultiNodeReaderOnly => Some(AccessMode::MultiNodeReaderOnly),
        Mode::MultiNodeSingleWriter => Some(AccessMode::MultiNodeSingleWriter),
        Mode::MultiNodeMultiWriter => Some(AccessMode::MultiNodeMultiWriter),
        Mode::SingleNodeSingleWriter => Some(AccessMode::SingleNodeSingleWriter),
        Mode::SingleNodeMultiWriter => Some(AccessMode::SingleNodeMultiWriter),
    }
}

fn mount_wish(field: &str, mount: v1::volume_capability::MountVolume) -> Result<MountWish, BadRequest> {
    let filesystem = match mount.fs_type.as_str() {
        "" => None,
        name => Some(FilesystemKind::parse(name).ok_or_else(|| bad(format!("{field}.fs_type"), unknown_filesystem(name)))?),
    };
    let flags = format!("{field}.mount_flags");
    limits::total(mount.mount_flags.iter().map(String::len).sum()).map_err(|problem| bad(&flags, problem))?;
    let flags = MountFlags::parse(mount.mount_flags.iter().map(String::as_str)).map_err(|flag| bad(flags, Problem::Flag(flag)))?;
    if !mount.volume_mount_group.is_empty() {
        return Err(bad(format!("{field}.volume_mount_group"), Problem::NotAdvertised { capability: "VOLUME_MOUNT_GROUP" }));
    }
    Ok(MountWish { filesystem, flags })
}

fn unknown_filesystem(given: &str) -> Problem {
    let known: Vec<&str> = FilesystemKind::ALL.into_iter().map(FilesystemKind::name).collect();
    Problem::UnknownFilesystem { given: given.chars().take(64).collect(), known: known.join(" or ") }
}

/// What a new volume is filled with. A source that is there without a kind is an error: the volume would come out empty.
pub(super) fn content_source(field: &str, source: Option<v1::VolumeContentSource>) -> Result<Option<ContentSource>, BadRequest> {
    use v1::volume_content_source::Type;
    let Some(source) = source else { return Ok(None) };
    let id = |below: &str, id: &str, right| parse_text(id).map_err(|error| bad(format!("{field}.{below}"), limits::of_name(error, right)));
    match source.r#type {
        Some(Type::Snapshot(source)) => Ok(Some(ContentSource::Snapshot(id("snapshot.snapshot_id", &source.snapshot_id, "the id of a snapshot")?))),
        Some(Type::Volume(source)) => Ok(Some(ContentSource::Volume(id("volume.volume_id", &source.volume_id, "the id of a volume")?))),
        None => Err(bad(field, Problem::Missing { right: "`snapshot` or `volume` in it, or leave it out" })),
    }
}

pub(super) fn requirement(field: &str, requirement: Option<v1::TopologyRequirement>) -> Result<TopologyRequirement, BadRequest> {
    let Some(requirement) = requirement else { return Ok(TopologyRequirement::default()) };
    let all = |name: &str, given: Vec<v1::Topology>| {
        given.into_iter().enumerate().map(|(i, given)| topology(&format!("{field}.{name}[{i}]"), given)).collect::<Result<Vec<_>, _>>()
    };
    Ok(TopologyRequirement { requisite: all("requisite", requirement.requisite)?, preferred: all("preferred", requirement.preferred)? })
}

pub(super) fn topology(field: &str, topology: v1::Topology) -> Result<Topology, BadRequest> {
    limits::segments(&topology.segments).map_err(|problem| bad(format!("{field}.segments"), problem))?;
    Ok(topology.segments)
}
