//! Answers arrive whole, and what CSI would not let pass is named.

use super::*;
use std::collections::BTreeMap;
use windlass_plan::ids::VolumeId;

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn answer() -> VolumeAnswer {
    VolumeAnswer {
        volume: "v".into(),
        capacity: 42,
        context: map(&[("k", "v")]),
        source: Some(ContentSource::Snapshot("s".into())),
        topology: vec![map(&[("zone", "a")])],
    }
}

/// The message with one change.
fn but<M>(mut message: M, change: impl FnOnce(&mut M)) -> M {
    change(&mut message);
    message
}

#[track_caller]
fn check<T>(result: Result<T, BadAnswer>, field: &str, words: &str) {
    let bad = result.err().unwrap_or_else(|| panic!("`{field}` was taken"));
    assert_eq!(bad.field, field);
    assert!(bad.to_string().starts_with(&format!("in the plugin's answer `{field}` ")) && bad.to_string().contains(words), "{bad}");
    assert!(matches!(CallFailure::from(bad), CallFailure::Limit(text) if text.contains(words)));
}

#[test]
fn a_volume_arrives_whole() {
    use v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
    let volume = created(answer()).unwrap().volume.unwrap();
    assert_eq!((volume.volume_id.as_str(), volume.capacity_bytes), ("v", 42));
    assert_eq!(volume.volume_context, map(&[("k", "v")]));
    assert_eq!(volume.content_source.unwrap().r#type, Some(Type::Snapshot(SnapshotSource { snapshot_id: "s".into() })));
    assert_eq!(volume.accessible_topology, vec![v1::Topology { segments: map(&[("zone", "a")]) }]);

    let cloned = but(answer(), |a| a.source = Some(ContentSource::Volume("w".into())));
    let plain = but(answer(), |a| a.source = None);
    let list = listed(vec![cloned, plain], "next".into()).unwrap();
    let sources: Vec<_> = list.entries.into_iter().map(|entry| entry.volume.unwrap().content_source).collect();
    let from_volume = v1::VolumeContentSource { r#type: Some(Type::Volume(VolumeSource { volume_id: "w".into() })) };
    assert_eq!((sources, list.next_token.as_str()), (vec![Some(from_volume), None], "next"));
}

#[test]
fn what_a_plugin_may_not_say_is_named() {
    let long = "x".repeat(129);
    check(created(but(answer(), |a| a.volume.clear())), "volume.volume_id", "required");
    check(created(but(answer(), |a| a.volume = long.clone())), "volume.volume_id", "give at most 128");
    check(created(but(answer(), |a| a.volume = "a\0".into())), "volume.volume_id", "character");
    check(created(but(answer(), |a| a.capacity = 1 << 63)), "volume.capacity_bytes", "is 9223372036854775808: give at most 9223372036854775807");
    check(created(but(answer(), |a| a.context = map(&[("k", &"x".repeat(4096))]))), "volume.volume_context", "4097 bytes");
    check(created(but(answer(), |a| a.source = Some(ContentSource::Volume(long.clone())))), "volume.content_source.volume.volume_id", "129");
    check(created(but(answer(), |a| a.topology.push(map(&[("a", "b"), ("A", "b")])))), "volume.accessible_topology[1].segments", "twice");
    check(listed(vec![answer(), but(answer(), |a| a.volume.clear())], String::new()), "entries[1].volume.volume_id", "required");
    check(listed(vec![], long.clone()), "next_token", "give at most 128");
    let info = || NodeInfo { node_id: "n".into(), max_volumes: 0, topology: BTreeMap::new() };
    check(node_info(but(info(), |i| i.node_id.clear())), "node_id", "required");
    check(node_info(but(info(), |i| i.node_id = "x".repeat(257))), "node_id", "give at most 256");
    check(node_info(but(info(), |i| i.max_volumes = u64::MAX)), "max_volumes_per_node", "give at most");
    check(node_info(but(info(), |i| i.topology = map(&[("zone", &"x".repeat(64))]))), "accessible_topology.segments", "63");
    check(capacity(CapacityAnswer { available: u64::MAX, largest: 0, smallest: 0 }), "available_capacity", "give at most");
    check(capacity(CapacityAnswer { available: 0, largest: u64::MAX, smallest: 0 }), "maximum_volume_size", "give at most");
    check(capacity(CapacityAnswer { available: 0, largest: 0, smallest: u64::MAX }), "minimum_volume_size", "give at most");
    check(expanded(ExpandAnswer { capacity: u64::MAX, node_expansion: true }), "capacity_bytes", "give at most");
    check(plugin_info("local.windlass.io", ""), "vendor_version", "required");
}

#[test]
fn sizes_that_are_unknown_are_absent() {
    let known = capacity(CapacityAnswer { available: 9, largest: 5, smallest: 1 }).unwrap();
    assert_eq!((known.available_capacity, known.maximum_volume_size, known.minimum_volume_size), (9, Some(5), Some(1)));
    let unknown = capacity(CapacityAnswer { available: 0, largest: 0, smallest: 0 }).unwrap();
    assert_eq!((unknown.available_capacity, unknown.maximum_volume_size, unknown.minimum_volume_size), (0, None, None));
    assert_eq!(
        expanded(ExpandAnswer { capacity: 7, node_expansion: true }).unwrap(),
        v1::ControllerExpandVolumeResponse { capacity_bytes: 7, node_expansion_required: true }
    );
    assert_eq!(node_expanded(7).capacity_bytes, 7);
}

#[test]
fn a_node_without_topology_says_none() {
    let info = node_info(NodeInfo { node_id: "x".repeat(256), max_volumes: 8, topology: BTreeMap::new() }).unwrap();
    assert_eq!((info.node_id.len(), info.max_volumes_per_node, info.accessible_topology), (256, 8, None));
    let info = node_info(NodeInfo { node_id: "n".into(), max_volumes: 0, topology: map(&[("zone", "a")]) }).unwrap();
    assert_eq!(info.accessible_topology, Some(v1::Topology { segments: map(&[("zone", "a")]) }));
}

#[test]
fn usage_has_one_entry_a_unit() {
    let entry = |unit: v1::volume_usage::Unit, total, used, available| v1::VolumeUsage { available, total, used, unit: unit.into() };
    let filesystem = usage(Usage { total: 100, bytes: Some((30, 60)), inodes: Some((10, 4, 6)) });
    assert_eq!(filesystem.usage, vec![entry(v1::volume_usage::Unit::Bytes, 100, 30, 60), entry(v1::volume_usage::Unit::Inodes, 10, 4, 6)]);
    let block = usage(Usage { total: 100, bytes: None, inodes: None });
    assert_eq!(block.usage, vec![entry(v1::volume_usage::Unit::Bytes, 100, 0, 0)]);
}

#[test]
fn a_confirmation_repeats_what_was_asked_and_no_secret() {
    let mount = v1::volume_capability::MountVolume { fs_type: "xfs".into(), mount_flags: vec!["ro".into(), "ro".into()], ..Default::default() };
    let capability = v1::VolumeCapability {
        access_mode: Some(v1::volume_capability::AccessMode { mode: 1 }),
        access_type: Some(v1::volume_capability::AccessType::Mount(mount)),
    };
    let asked = v1::ValidateVolumeCapabilitiesRequest {
        volume_id: VolumeId::parse("v").unwrap().to_string(),
        volume_context: map(&[("a", "b")]),
        volume_capabilities: vec![capability.clone()],
        parameters: map(&[("c", "d")]),
        secrets: map(&[("key", "hunter2")]),
        mutable_parameters: map(&[("e", "f")]),
    };
    let answer = validated(confirmation(&asked), None);
    let confirmed = answer.confirmed.unwrap();
    assert_eq!(
        (confirmed.volume_context, confirmed.parameters, confirmed.mutable_parameters),
        (asked.volume_context, asked.parameters, asked.mutable_parameters)
    );
    assert_eq!((confirmed.volume_capabilities, answer.message.as_str()), (vec![capability], ""));

    let refused = validated(Confirmed::default(), Some("block is not supported".into()));
    assert_eq!((refused.confirmed, refused.message.as_str()), (None, "block is not supported"));
    let cut = validated(Confirmed::default(), Some("é".repeat(100)));
    assert!(cut.message.ends_with("é...") && cut.message.len() <= 128, "{}", cut.message);
    assert!(!validated(Confirmed::default(), Some(String::new())).message.is_empty());
}

#[test]
fn capabilities_have_the_numbers_of_the_specification() {
    use v1::{controller_service_capability as controller, node_service_capability as node, plugin_capability as plugin};
    let all = [
        ControllerCapability::CreateDeleteVolume,
        ControllerCapability::ListVolumes,
        ControllerCapability::GetCapacity,
        ControllerCapability::ExpandVolume,
        ControllerCapability::SingleNodeMultiWriter,
    ];
    let number = |c: v1::ControllerServiceCapability| match c.r#type {
        Some(controller::Type::Rpc(rpc)) => rpc.r#type,
        None => -1,
    };
    let numbers: Vec<i32> = controller_capabilities(all).capabilities.into_iter().map(number).collect();
    assert_eq!(numbers, [1, 3, 4, 9, 13]);
    let all = [NodeCapability::StageUnstageVolume, NodeCapability::GetVolumeStats, NodeCapability::ExpandVolume, NodeCapability::SingleNodeMultiWriter];
    let number = |c: v1::NodeServiceCapability| match c.r#type {
        Some(node::Type::Rpc(rpc)) => rpc.r#type,
        None => -1,
    };
    let numbers: Vec<i32> = node_capabilities(all).capabilities.into_iter().map(number).collect();
    assert_eq!(numbers, [1, 2, 3, 5]);
    let all = [
        PluginCapability::ControllerService,
        PluginCapability::VolumeAccessibilityConstraints,
        PluginCapability::OnlineExpansion,
        PluginCapability::OfflineExpansion,
    ];
    let number = |c: v1::PluginCapability| match c.r#type {
        Some(plugin::Type::Service(service)) => ("service", service.r#type),
        Some(plugin::Type::VolumeExpansion(expansion)) => ("expansion", expansion.r#type),
        None => ("none", -1),
    };
    let numbers: Vec<_> = plugin_capabilities(all).capabilities.into_iter().map(number).collect();
    assert_eq!(numbers, [("service", 1), ("service", 2), ("expansion", 1), ("expansion", 2)]);
}

#[test]
fn a_snapshot_arrives_whole() {
    let cut = || SnapshotAnswer { snapshot: "s".into(), volume: "v".into(), size: 42, created: (1_700_000_000, 7), is_ready: true };
    let snapshot = snapshot_created(cut()).unwrap().snapshot.unwrap();
    assert_eq!((snapshot.snapshot_id.as_str(), snapshot.source_volume_id.as_str(), snapshot.size_bytes, snapshot.ready_to_use), ("s", "v", 42, true));
    assert_eq!(snapshot.creation_time, Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 7 }));
    check(snapshot_created(but(cut(), |m| m.snapshot.clear())), "snapshot.snapshot_id", "required");
    check(snapshot_created(but(cut(), |m| m.volume = "x".repeat(129))), "snapshot.source_volume_id", "129");
    check(snapshot_created(but(cut(), |m| m.size = u64::MAX)), "snapshot.size_bytes", "at most");
    check(snapshot_created(but(cut(), |m| m.created.1 = 1_000_000_000)), "snapshot.creation_time", "1000000000");
}

#[test]
fn a_list_of_snapshots_arrives_whole() {
    let cut = || SnapshotAnswer { snapshot: "s".into(), volume: "v".into(), size: 42, created: (1_700_000_000, 7), is_ready: true };
    let listed = snapshots_listed(vec![cut(), cut()], "next".into()).unwrap();
    assert_eq!((listed.entries.len(), listed.next_token.as_str()), (2, "next"));
    assert_eq!(listed.entries[1].snapshot, snapshot_created(cut()).unwrap().snapshot);
    check(snapshots_listed(vec![cut(), but(cut(), |m| m.volume.clear())], String::new()), "entries[1].snapshot.source_volume_id", "required");
    check(snapshots_listed(Vec::new(), "x".repeat(129)), "next_token", "129");
}
