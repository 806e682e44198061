//! One row a rule: what is wrong with a message, and the field, the kind and the words of the answer.

use super::*;
use crate::v1::volume_capability::access_mode::Mode;
use crate::v1::volume_capability::{AccessMode as AccessModeMessage, AccessType, BlockVolume, MountVolume};
use std::collections::BTreeMap;
use windlass_plan::capability::{Access, AccessMode, FilesystemKind, MountFlag};
use windlass_plan::request::{CapacityRange, ContentSource};

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A map of exactly `size` bytes.
fn map_of(size: usize) -> BTreeMap<String, String> {
    map(&[("key", &"x".repeat(size - 3))])
}

fn with_mode(access_type: AccessType, mode: i32) -> v1::VolumeCapability {
    v1::VolumeCapability { access_mode: Some(AccessModeMessage { mode }), access_type: Some(access_type) }
}

fn mount(fs_type: &str, flags: &[&str]) -> MountVolume {
    MountVolume { fs_type: fs_type.into(), mount_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), volume_mount_group: String::new() }
}

fn mounted(fs_type: &str, flags: &[&str]) -> v1::VolumeCapability {
    with_mode(AccessType::Mount(mount(fs_type, flags)), Mode::SingleNodeWriter.into())
}

fn range(required_bytes: i64, limit_bytes: i64) -> Option<v1::CapacityRange> {
    Some(v1::CapacityRange { required_bytes, limit_bytes })
}

fn place(segments: &[(&str, &str)]) -> v1::Topology {
    v1::Topology { segments: map(segments) }
}

fn create() -> v1::CreateVolumeRequest {
    v1::CreateVolumeRequest { name: "pvc-1".into(), volume_capabilities: vec![mounted("", &[])], ..Default::default() }
}

fn validate() -> v1::ValidateVolumeCapabilitiesRequest {
    v1::ValidateVolumeCapabilitiesRequest { volume_id: "v".into(), volume_capabilities: vec![mounted("", &[])], ..Default::default() }
}

/// As of a driver that has nothing to modify.
fn create_volume(message: v1::CreateVolumeRequest) -> Result<Call<CreateVolume>, BadRequest> {
    super::create_volume(message, false)
}

fn grow() -> v1::ControllerExpandVolumeRequest {
    v1::ControllerExpandVolumeRequest { volume_id: "v".into(), capacity_range: range(1, 0), ..Default::default() }
}

fn stage() -> v1::NodeStageVolumeRequest {
    v1::NodeStageVolumeRequest { volume_id: "v".into(), staging_target_path: "/s".into(), volume_capability: Some(mounted("", &[])), ..Default::default() }
}

fn unstage() -> v1::NodeUnstageVolumeRequest {
    v1::NodeUnstageVolumeRequest { volume_id: "v".into(), staging_target_path: "/s".into() }
}

fn publish() -> v1::NodePublishVolumeRequest {
    v1::NodePublishVolumeRequest { volume_id: "v".into(), target_path: "/t".into(), volume_capability: Some(mounted("", &[])), ..Default::default() }
}

fn unpublish() -> v1::NodeUnpublishVolumeRequest {
    v1::NodeUnpublishVolumeRequest { volume_id: "v".into(), target_path: "/t".into() }
}

fn stats() -> v1::NodeGetVolumeStatsRequest {
    v1::NodeGetVolumeStatsRequest { volume_id: "v".into(), volume_path: "/t".into(), staging_target_path: String::new() }
}

fn grow_node() -> v1::NodeExpandVolumeRequest {
    v1::NodeExpandVolumeRequest { volume_id: "v".into(), volume_path: "/t".into(), ..Default::default() }
}

/// The message with one change.
fn but<M>(mut message: M, change: impl FnOnce(&mut M)) -> M {
    change(&mut message);
    message
}

/// The call was refused for `field`, as `kind`, in words that hold `words`.
#[track_caller]
fn check<T>(result: Result<T, BadRequest>, field: &str, kind: Kind, words: &str) {
    let bad = result.err().unwrap_or_else(|| panic!("`{field}` was taken"));
    let text = bad.to_string();
    assert_eq!((bad.field.as_str(), bad.kind()), (field, kind), "{text}");
    assert!(text.contains(words) && text.starts_with(&format!("`{field}` ")), "{text}");
}

#[track_caller]
fn taken<T>(result: Result<Call<T>, BadRequest>) -> T {
    result.unwrap_or_else(|bad| panic!("{bad}")).request
}

#[test]
fn what_is_required_is_missed_by_name() {
    let missing = |result, field| check(result, field, Kind::Missing, "is required and not set: give ");
    let id = "volume_id";
    missing(create_volume(but(create(), |m| m.name.clear())).map(drop), "name");
    missing(create_volume(but(create(), |m| m.volume_capabilities.clear())).map(drop), "volume_capabilities");
    missing(create_volume(but(create(), |m| m.volume_capabilities.push(Default::default()))).map(drop), "volume_capabilities[1].access_type");
    missing(create_volume(but(create(), |m| m.volume_capabilities[0].access_mode = None)).map(drop), "volume_capabilities[0].access_mode");
    missing(delete_volume(Default::default()).map(drop), id);
    missing(validate_volume(but(validate(), |m| m.volume_id.clear())).map(drop), id);
    missing(validate_volume(but(validate(), |m| m.volume_capabilities.clear())).map(drop), "volume_capabilities");
    missing(
        capacity(v1::GetCapacityRequest { volume_capabilities: vec![Default::default()], ..Default::default() }).map(drop),
        "volume_capabilities[0].access_type",
    );
    missing(expand_volume(but(grow(), |m| m.volume_id.clear())).map(drop), id);
    missing(expand_volume(but(grow(), |m| m.capacity_range = None)).map(drop), "capacity_range");
    missing(expand_volume(but(grow(), |m| m.volume_capability = Some(Default::default()))).map(drop), "volume_capability.access_type");
    missing(stage_volume(but(stage(), |m| m.volume_id.clear())).map(drop), id);
    missing(stage_volume(but(stage(), |m| m.staging_target_path.clear())).map(drop), "staging_target_path");
    missing(stage_volume(but(stage(), |m| m.volume_capability = None)).map(drop), "volume_capability");
    missing(unstage_volume(but(unstage(), |m| m.volume_id.clear())).map(drop), id);
    missing(unstage_volume(but(unstage(), |m| m.staging_target_path.clear())).map(drop), "staging_target_path");
    missing(publish_volume(but(publish(), |m| m.volume_id.clear())).map(drop), id);
    missing(publish_volume(but(publish(), |m| m.target_path.clear())).map(drop), "target_path");
    missing(publish_volume(but(publish(), |m| m.volume_capability = None)).map(drop), "volume_capability");
    missing(unpublish_volume(but(unpublish(), |m| m.volume_id.clear())).map(drop), id);
    missing(unpublish_volume(but(unpublish(), |m| m.target_path.clear())).map(drop), "target_path");
    missing(volume_stats(but(stats(), |m| m.volume_id.clear())).map(drop), id);
    missing(volume_stats(but(stats(), |m| m.volume_path.clear())).map(drop), "volume_path");
    missing(expand_node(but(grow_node(), |m| m.volume_id.clear())).map(drop), id);
    missing(expand_node(but(grow_node(), |m| m.volume_path.clear())).map(drop), "volume_path");
}

#[test]
fn what_is_required_comes_before_what_is_wrong() {
    let wrong = but(create(), |m| {
        m.name = "x".repeat(129);
        m.volume_capabilities.push(v1::VolumeCapability { access_mode: None, ..mounted("ntfs", &[]) });
    });
    check(create_volume(wrong), "volume_capabilities[1].access_mode", Kind::Missing, "SINGLE_NODE_WRITER");
    let wrong = but(stage(), |m| {
        m.volume_id = "x".repeat(129);
        m.staging_target_path.clear();
    });
    check(stage_volume(wrong), "staging_target_path", Kind::Missing, "an absolute path");
}

#[test]
fn strings_have_limits_and_no_control_characters() {
    let (fits, long) = ("x".repeat(128), "x".repeat(129));
    let too_long = "is 129 bytes long: give at most 128";
    assert_eq!(taken(create_volume(but(create(), |m| m.name = fits.clone()))).name, fits);
    check(create_volume(but(create(), |m| m.name = long.clone())), "name", Kind::Invalid, too_long);
    for id in [&long, &"é".repeat(65)] {
        check(delete_volume(v1::DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() }), "volume_id", Kind::NoSuchVolume, "128 are allowed");
    }
    let forbidden = (0..=8).chain([0xB, 0xC]).chain(0xE..=0x1F).chain(0x7F..=0x9F).filter_map(char::from_u32);
    for character in forbidden {
        let name = format!("a{character}b");
        check(create_volume(but(create(), |m| m.name = name.clone())), "name", Kind::Invalid, &format!("the character {character:?}"));
        check(unstage_volume(but(unstage(), |m| m.volume_id = name.clone())), "volume_id", Kind::NoSuchVolume, "not allowed there");
    }
    for name in ["tab\tand\nline\r", "a/../b", "\u{1F6A2}", "\u{A0}"] {
        assert_eq!(taken(create_volume(but(create(), |m| m.name = name.into()))).name, name);
    }
    // A path may be longer; what else is wrong with it is not for this crate to say.
    let path = format!("/{}", "p".repeat(4095));
    assert_eq!(taken(unstage_volume(but(unstage(), |m| m.staging_target_path = path.clone()))).staging_path, path);
    assert_eq!(taken(unstage_volume(but(unstage(), |m| m.staging_target_path = "../x".into()))).staging_path, "../x");
    let path = path + "p";
    let too_long = "is 4097 bytes long: give at most 4096";
    check(stage_volume(but(stage(), |m| m.staging_target_path = path.clone())), "staging_target_path", Kind::Invalid, too_long);
    check(unstage_volume(but(unstage(), |m| m.staging_target_path = path.clone())), "staging_target_path", Kind::Invalid, too_long);
    check(publish_volume(but(publish(), |m| m.staging_target_path = path.clone())), "staging_target_path", Kind::Invalid, too_long);
    check(publish_volume(but(publish(), |m| m.target_path = path.clone())), "target_path", Kind::Invalid, too_long);
    check(unpublish_volume(but(unpublish(), |m| m.target_path = path.clone())), "target_path", Kind::Invalid, too_long);
    check(volume_stats(but(stats(), |m| m.volume_path = path.clone())), "volume_path", Kind::Invalid, too_long);
    check(volume_stats(but(stats(), |m| m.staging_target_path = path.clone())), "staging_target_path", Kind::Invalid, too_long);
    check(expand_node(but(grow_node(), |m| m.volume_path = path.clone())), "volume_path", Kind::Invalid, too_long);
    check(expand_node(but(grow_node(), |m| m.staging_target_path = path.clone())), "staging_target_path", Kind::Invalid, too_long);
}

#[test]
fn maps_have_four_kibibytes_keys_and_values_together() {
    assert_eq!(taken(create_volume(but(create(), |m| m.parameters = map_of(4096)))).parameters, map_of(4096));
    let much = |result, field| check(result, field, Kind::Invalid, "holds 4097 bytes in all: give at most 4096");
    much(create_volume(but(create(), |m| m.parameters = map_of(4097))).map(drop), "parameters");
    much(create_volume(but(create(), |m| m.secrets = map_of(4097))).map(drop), "secrets");
    much(delete_volume(v1::DeleteVolumeRequest { volume_id: "v".into(), secrets: map_of(4097) }).map(drop), "secrets");
    much(validate_volume(but(validate(), |m| m.volume_context = map_of(4097))).map(drop), "volume_context");
    much(validate_volume(but(validate(), |m| m.parameters = map_of(4097))).map(drop), "parameters");
    much(validate_volume(but(validate(), |m| m.mutable_parameters = map_of(4097))).map(drop), "mutable_parameters");
    much(validate_volume(but(validate(), |m| m.secrets = map_of(4097))).map(drop), "secrets");
    much(capacity(v1::GetCapacityRequest { parameters: map_of(4097), ..Default::default() }).map(drop), "parameters");
    much(expand_volume(but(grow(), |m| m.secrets = map_of(4097))).map(drop), "secrets");
    much(stage_volume(but(stage(), |m| m.publish_context = map_of(4097))).map(drop), "publish_context");
    much(stage_volume(but(stage(), |m| m.volume_context = map_of(4097))).map(drop), "volume_context");
    much(stage_volume(but(stage(), |m| m.secrets = map_of(4097))).map(drop), "secrets");
    much(publish_volume(but(publish(), |m| m.publish_context = map_of(4097))).map(drop), "publish_context");
    much(publish_volume(but(publish(), |m| m.volume_context = map_of(4097))).map(drop), "volume_context");
    much(publish_volume(but(publish(), |m| m.secrets = map_of(4097))).map(drop), "secrets");
    much(expand_node(but(grow_node(), |m| m.secrets = map_of(4097))).map(drop), "secrets");
}

#[test]
fn a_capability_is_understood_wholly_or_refused() {
    let kinds = [("", None), ("ext4", Some(FilesystemKind::Ext4)), ("xfs", Some(FilesystemKind::Xfs))];
    for (name, kind) in kinds {
        let Access::Mount(wish) = taken(stage_volume(but(stage(), |m| m.volume_capability = Some(mounted(name, &["ro", "noatime,nosuid"]))))).capability.access
        else {
            panic!("{name} became a block device")
        };
        assert_eq!(wish.filesystem, kind);
        assert_eq!(wish.flags.flags, [MountFlag::ReadOnly, MountFlag::NoSuid, MountFlag::NoAtime].into());
    }
    let modes = [
        AccessMode::SingleNodeWriter,
        AccessMode::SingleNodeReaderOnly,
        AccessMode::MultiNodeReaderOnly,
        AccessMode::MultiNodeSingleWriter,
        AccessMode::MultiNodeMultiWriter,
        AccessMode::SingleNodeSingleWriter,
        AccessMode::SingleNodeMultiWriter,
    ];
    for (number, mode) in (1..).zip(modes) {
        assert_eq!(Mode::try_from(number).unwrap().as_str_name(), mode.name());
        let block = with_mode(AccessType::Block(BlockVolume {}), number);
        let capability = taken(stage_volume(but(stage(), |m| m.volume_capability = Some(block)))).capability;
        assert_eq!((capability.access, capability.mode), (Access::Block, mode));
    }

    let refuse = |wrong: v1::VolumeCapability, below: &str, words: &str| {
        let field = format!("volume_capabilities[1].{below}");
        check(create_volume(but(create(), |m| m.volume_capabilities.push(wrong.clone()))), &field, Kind::Invalid, words);
        check(validate_volume(but(validate(), |m| m.volume_capabilities.push(wrong.clone()))), &field, Kind::Invalid, words);
        let asked = v1::GetCapacityRequest { volume_capabilities: vec![mounted("", &[]), wrong.clone()], ..Default::default() };
        check(capacity(asked), &field, Kind::Invalid, words);
        let field = format!("volume_capability.{below}");
        check(stage_volume(but(stage(), |m| m.volume_capability = Some(wrong.clone()))), &field, Kind::Invalid, words);
        check(publish_volume(but(publish(), |m| m.volume_capability = Some(wrong.clone()))), &field, Kind::Invalid, words);
        check(expand_volume(but(grow(), |m| m.volume_capability = Some(wrong.clone()))), &field, Kind::Invalid, words);
        check(expand_node(but(grow_node(), |m| m.volume_capability = Some(wrong.clone()))), &field, Kind::Invalid, words);
    };
    for number in [0, 8, -1, i32::MAX] {
        refuse(with_mode(AccessType::Block(BlockVolume {}), number), "access_mode.mode", "give SINGLE_NODE_WRITER (1), ");
    }
    for name in ["ntfs", "EXT4", "ext4 ", "ext3", "/etc"] {
        refuse(mounted(name, &[]), "mount.fs_type", "give ext4 or xfs, or nothing");
    }
    for flag in ["suid", "bind", "nosuid,loop", "context=a b"] {
        refuse(mounted("", &["ro", flag]), "mount.mount_flags", "is not allowed; allowed are: ro, nosuid");
    }
    refuse(mounted("", &["ro,"; 1366]), "mount.mount_flags", "holds 4098 bytes in all");
    let group = MountVolume { volume_mount_group: "1000".into(), ..mount("", &[]) };
    refuse(with_mode(AccessType::Mount(group), 1), "mount.volume_mount_group", "VOLUME_MOUNT_GROUP");
}

/// What external-provisioner asked until 2024.
#[test]
fn room_may_be_asked_for_with_a_capability_that_says_nothing_and_with_no_other_of_its_kind() {
    let asked = |capabilities: &[v1::VolumeCapability]| capacity(v1::GetCapacityRequest { volume_capabilities: capabilities.to_vec(), ..Default::default() });
    let nothing = with_mode(AccessType::Mount(mount("", &[])), 0);
    assert_eq!(taken(asked(std::slice::from_ref(&nothing))).capabilities, []);
    for (wrong, place) in [
        (vec![with_mode(AccessType::Mount(mount("ext4", &[])), 0)], 0),
        (vec![with_mode(AccessType::Block(BlockVolume {}), 0)], 0),
        (vec![mounted("", &[]), nothing], 1),
    ] {
        check(asked(&wrong), &format!("volume_capabilities[{place}].access_mode.mode"), Kind::Invalid, "give SINGLE_NODE_WRITER (1), ");
    }
}

#[test]
fn sizes_are_positive_and_at_least_one_is_given() {
    let sizes = [(1, 0), (0, 1), (5, 5), (i64::MAX, i64::MAX), (2, 1)];
    for (required, limit) in sizes {
        let expected = CapacityRange { required: required as u64, limit: limit as u64 };
        assert_eq!(taken(create_volume(but(create(), |m| m.capacity_range = range(required, limit)))).capacity, expected);
        assert_eq!(taken(expand_volume(but(grow(), |m| m.capacity_range = range(required, limit)))).capacity, expected);
        assert_eq!(taken(expand_node(but(grow_node(), |m| m.capacity_range = range(required, limit)))).capacity, expected);
    }
    assert_eq!(taken(create_volume(create())).capacity, CapacityRange::default());
    assert_eq!(taken(expand_node(grow_node())).capacity, CapacityRange::default());
    let wrong = [
        (range(-1, 0), "capacity_range.required_bytes", "is -1: give a positive number"),
        (range(1, i64::MIN), "capacity_range.limit_bytes", "is -9223372036854775808: "),
        (range(0, 0), "capacity_range", "neither required_bytes nor limit_bytes"),
    ];
    for (range, field, words) in wrong {
        check(create_volume(but(create(), |m| m.capacity_range = range)), field, Kind::Invalid, words);
        check(expand_volume(but(grow(), |m| m.capacity_range = range)), field, Kind::Invalid, words);
        check(expand_node(but(grow_node(), |m| m.capacity_range = range)), field, Kind::Invalid, words);
    }
}

#[test]
fn a_token_that_cannot_be_ours_is_an_error_of_its_own_kind() {
    let list = |max_entries, token: &str| list_volumes(v1::ListVolumesRequest { max_entries, starting_token: token.into() });
    assert_eq!(taken(list(0, "")).max_entries, 0);
    let asked = taken(list(7, "opaque \u{1}"));
    assert_eq!((asked.max_entries, asked.starting_token.as_str()), (7, "opaque \u{1}"));
    check(list(-1, &"x".repeat(129)), "max_entries", Kind::Invalid, "is -1");
    check(list(1, &"x".repeat(129)), "starting_token", Kind::BadToken, "none of ours");
}

#[test]
fn a_source_of_content_names_what_it_is() {
    use v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
    let create_from = |r#type| create_volume(but(create(), |m| m.volume_content_source = Some(v1::VolumeContentSource { r#type })));
    let snapshot = |id: &str| Some(Type::Snapshot(SnapshotSource { snapshot_id: id.into() }));
    let volume = |id: &str| Some(Type::Volume(VolumeSource { volume_id: id.into() }));
    assert_eq!(taken(create_from(snapshot("s"))).source, Some(ContentSource::Snapshot("s".into())));
    assert_eq!(taken(create_from(volume("v"))).source, Some(ContentSource::Volume("v".into())));
    assert_eq!(taken(create_volume(create())).source, None);
    check(create_from(None), "volume_content_source", Kind::Missing, "`snapshot` or `volume`");
    check(create_from(snapshot("")), "volume_content_source.snapshot.snapshot_id", Kind::Missing, "the id of a snapshot");
    check(create_from(volume("")), "volume_content_source.volume.volume_id", Kind::Missing, "the id of a volume");
    check(create_from(volume(&"x".repeat(129))), "volume_content_source.volume.volume_id", Kind::Invalid, "129 bytes");
}

#[test]
fn places_are_checked_wherever_they_are_given() {
    let good = place(&[("topology.windlass.io/zone", "a"), ("rack", "")]);
    let long = "x".repeat(64);
    let wrong = [
        (place(&[("Rack", "a"), ("rack", "b")]), "twice"),
        (place(&[(&format!("{long}/zone"), "a")]), "longer than 63"),
        (place(&[(&long, "a")]), "longer than 63"),
        (place(&[("zone", &long)]), "longer than 63"),
        (v1::Topology { segments: map_of(4097) }, "4097 bytes in all"),
    ];
    let require =
        |requisite, preferred| create_volume(but(create(), |m| m.accessibility_requirements = Some(v1::TopologyRequirement { requisite, preferred })));
    let taken_in = taken(require(vec![good.clone()], vec![good.clone()])).topology;
    assert_eq!((taken_in.requisite, taken_in.preferred), (vec![good.segments.clone()], vec![good.segments.clone()]));
    let room = |place: v1::Topology| capacity(v1::GetCapacityRequest { accessible_topology: Some(place), ..Default::default() });
    assert_eq!(taken(room(good.clone())).topology, Some(good.segments.clone()));
    for (place, words) in wrong {
        let (requisite, preferred) = ("accessibility_requirements.requisite[1].segments", "accessibility_requirements.preferred[0].segments");
        check(require(vec![good.clone(), place.clone()], vec![]), requisite, Kind::Invalid, words);
        check(require(vec![], vec![place.clone()]), preferred, Kind::Invalid, words);
        check(room(place), "accessible_topology.segments", Kind::Invalid, words);
    }
}

#[test]
fn parameters_that_could_change_later_are_refused_at_creation() {
    let wrong = but(create(), |m| m.mutable_parameters = map(&[("iops", "1")]));
    check(create_volume(wrong.clone()), "mutable_parameters", Kind::Invalid, "MODIFY_VOLUME");
    assert_eq!(taken(super::create_volume(wrong.clone(), true)).mutable_parameters, wrong.mutable_parameters);
    check(super::create_volume(but(wrong, |m| m.mutable_parameters = map_of(4097)), true), "mutable_parameters", Kind::Invalid, "4097");
    let modify = |volume: &str, parameters| {
        modify_volume(v1::ControllerModifyVolumeRequest { volume_id: volume.into(), mutable_parameters: parameters, ..Default::default() })
    };
    let asked = taken(modify("v", map(&[("iops", "1")])));
    assert_eq!((asked.volume.to_string().as_str(), asked.parameters), ("v", map(&[("iops", "1")])));
    check(modify("", map(&[("iops", "1")])), "volume_id", Kind::Missing, "");
    check(modify("v", map(&[])), "mutable_parameters", Kind::Missing, "to change");
    check(modify("v", map_of(4097)), "mutable_parameters", Kind::Invalid, "4097");
    let asked = taken(validate_volume(but(validate(), |m| m.mutable_parameters = map(&[("iops", "1")]))));
    assert_eq!(asked.mutable_parameters, map(&[("iops", "1")]));
}

#[test]
fn secrets_have_plain_keys_and_stay_out_of_errors() {
    let good = map(&[("userKey", "hunter2"), ("a-b_c.0", "")]);
    let call = stage_volume(but(stage(), |m| m.secrets = good.clone())).unwrap_or_else(|bad| panic!("{bad}"));
    assert!(call.secrets == Secrets::new(good));
    for key in ["", "a b", "hunter2=", "é", "a/b"] {
        let bad = stage_volume(but(stage(), |m| m.secrets = map(&[(key, "hunter3")]))).err().unwrap();
        assert_eq!((bad.field.as_str(), bad.kind()), ("secrets", Kind::Invalid));
        assert!(!format!("{bad} {bad:?}").contains("hunter"), "{bad}");
    }
}

#[test]
fn service_account_tokens_become_secrets_wherever_kubelet_puts_them() {
    let token = (limits::SERVICE_ACCOUNT_TOKENS, "hunter2");
    let expected = Secrets::new(map(&[token, ("k", "v")]));
    let in_context = but(publish(), |m| {
        m.volume_context = map(&[token, ("pool", "p")]);
        m.secrets = map(&[("k", "v")]);
    });
    let in_secrets = but(publish(), |m| {
        m.volume_context = map(&[("pool", "p")]);
        m.secrets = map(&[token, ("k", "v")]);
    });
    for message in [in_context, in_secrets] {
        let call = publish_volume(message).unwrap_or_else(|bad| panic!("{bad}"));
        assert_eq!(call.request.volume_context, map(&[("pool", "p")]));
        assert!(call.secrets == expected);
    }
    let staged = stage_volume(but(stage(), |m| m.volume_context = map(&[token]))).unwrap_or_else(|bad| panic!("{bad}"));
    assert!(staged.request.volume_context.is_empty() && staged.secrets == Secrets::new(map(&[token])));
    // Tokens are long. They have a limit of their own, and what else is in the map keeps its own.
    let long = (limits::SERVICE_ACCOUNT_TOKENS, "x".repeat(16 * 1024));
    let message = but(publish(), |m| m.volume_context = map(&[(long.0, &long.1), ("k", &"v".repeat(4095))]));
    assert!(publish_volume(message).is_ok());
    let message = but(publish(), |m| m.volume_context = map(&[(long.0, &format!("{}x", long.1))]));
    check(publish_volume(message), limits::SERVICE_ACCOUNT_TOKENS, Kind::Invalid, "give at most 16384");
}

#[test]
fn what_is_good_arrives_whole() {
    let context = map(&[("windlass.io/source", "file:x")]);
    let message = but(publish(), |m| {
        m.staging_target_path = "/s".into();
        m.readonly = true;
        m.volume_context = context.clone();
        m.publish_context = map(&[("p", "q")]);
    });
    let asked = taken(publish_volume(message));
    assert_eq!((asked.volume.as_str(), asked.staging_path.as_str(), asked.target_path.as_str(), asked.readonly), ("v", "/s", "/t", true));
    assert_eq!((asked.volume_context, asked.publish_context), (context, map(&[("p", "q")])));
    // Required only where volumes are staged, which is another code's matter.
    assert_eq!(taken(publish_volume(publish())).staging_path, "");
    let asked = taken(expand_node(but(grow_node(), |m| m.volume_capability = Some(mounted("xfs", &[])))));
    assert_eq!((asked.volume.as_str(), asked.volume_path.as_str()), ("v", "/t"));
    assert!(asked.capability.is_some());
    assert!(taken(expand_volume(grow())).capability.is_none());
    assert_eq!(taken(unpublish_volume(unpublish())).target_path, "/t");
    assert_eq!(taken(volume_stats(stats())).volume_path, "/t");
    assert_eq!(taken(delete_volume(v1::DeleteVolumeRequest { volume_id: "v".into(), ..Default::default() })).volume.as_str(), "v");
}

#[test]
fn a_snapshot_has_a_name_and_a_volume_and_no_place() {
    let cut = || v1::CreateSnapshotRequest { name: "s".into(), source_volume_id: "v".into(), ..Default::default() };
    check(create_snapshot(but(cut(), |m| m.name.clear())), "name", Kind::Missing, "found again");
    check(create_snapshot(but(cut(), |m| m.source_volume_id.clear())), "source_volume_id", Kind::Missing, "volume_id");
    check(create_snapshot(but(cut(), |m| m.name = "a\u{1}".into())), "name", Kind::Invalid, "control characters");
    check(create_snapshot(but(cut(), |m| m.source_volume_id = "x".repeat(129))), "source_volume_id", Kind::NoSuchVolume, "129");
    check(create_snapshot(but(cut(), |m| m.parameters = map_of(4097))), "parameters", Kind::Invalid, "4096");
    let placed = but(cut(), |m| m.accessibility_requirements = Some(v1::TopologyRequirement::default()));
    check(create_snapshot(placed), "accessibility_requirements", Kind::Invalid, "SNAPSHOT_ACCESSIBILITY_CONSTRAINTS");
    let read = taken(create_snapshot(but(cut(), |m| m.parameters = map(&[("clusterID", "c")]))));
    assert_eq!((read.name.as_str(), read.volume.as_str(), read.parameters), ("s", "v", map(&[("clusterID", "c")])));

    let delete = |id: &str| delete_snapshot(v1::DeleteSnapshotRequest { snapshot_id: id.into(), ..Default::default() });
    check(delete(""), "snapshot_id", Kind::Missing, "CreateSnapshot");
    check(delete("a\u{7f}"), "snapshot_id", Kind::NoSuchVolume, "nothing");
    assert_eq!(taken(delete("s1")).snapshot.to_string(), "s1");
}

#[test]
fn snapshots_are_listed_by_what_could_be_an_id() {
    let ask = |snapshot: &str, volume: &str, token: &str| {
        let (snapshot_id, source_volume_id, starting_token) = (snapshot.into(), volume.into(), token.into());
        list_snapshots(v1::ListSnapshotsRequest { max_entries: 7, starting_token, snapshot_id, source_volume_id, ..Default::default() })
    };
    let all = taken(ask("", "", "t"));
    assert_eq!((all.max_entries, all.starting_token.as_str(), all.snapshot, all.volume), (7, "t", None, None));
    let read = taken(ask("s", "v", ""));
    assert_eq!((read.snapshot.unwrap().to_string(), read.volume.unwrap().to_string()), ("s".to_owned(), "v".to_owned()));
    check(ask("s\u{7f}", "", ""), "snapshot_id", Kind::NoSuchVolume, "nothing");
    check(ask("", &"v".repeat(129), ""), "source_volume_id", Kind::NoSuchVolume, "nothing");
    check(ask("s\u{7f}", "", &"x".repeat(129)), "starting_token", Kind::BadToken, "none of ours");
    let secret = |key: String| list_snapshots(v1::ListSnapshotsRequest { secrets: [(key, "v".to_owned())].into(), ..Default::default() });
    assert!(secret("user".into()).is_ok() && secret("x".repeat(5000)).is_err());
}
