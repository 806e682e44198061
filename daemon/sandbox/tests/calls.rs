//! Every call of the reference driver, through compile child and plugin process.

use crate::stage::{Plugin, code, context};
use windlass_plan::attach::{Content, Source};
use windlass_plan::capability::{Access, AccessMode, Capability, FilesystemKind, MountWish};
use windlass_plan::plugin::{CallFailure, CapacityFacts, CreateFacts, NodeFacts, PluginAnswer, PluginCall, RefusalKind, ValidateFacts, VolumeFacts};
use windlass_plan::request::{CapacityRange, TopologyRequirement};

const LOCAL: &str = "plugins/local";

pub(crate) fn mount() -> Capability {
    Capability { access: Access::Mount(MountWish { filesystem: Some(FilesystemKind::Xfs), ..MountWish::default() }), mode: AccessMode::SingleNodeWriter }
}

pub(crate) fn create(name: &str, required: u64) -> PluginCall {
    PluginCall::CreateVolume(CreateFacts {
        name: name.to_owned(),
        capacity: CapacityRange { required, limit: 0 },
        capabilities: vec![mount()],
        parameters: context(&[]),
        mutable_parameters: context(&[]),
        source: None,
        topology: TopologyRequirement::default(),
    })
}

pub(crate) fn attach(volume: &str) -> PluginCall {
    PluginCall::Attach(VolumeFacts { volume: volume.to_owned(), volume_context: context(&[]), publish_context: context(&[]), capability: mount() })
}

fn id_of(plugin: &mut Plugin, name: &str) -> String {
    match plugin.call(create(name, 1 << 30)) {
        Ok(PluginAnswer::Volume(volume)) => volume.volume,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugin_inspection_names_exports_and_imports() {
    let (_, inspection) = code(LOCAL);
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    assert_eq!(sorted(&inspection.exports), ["capacity", "controller", "driver", "listing", "node", "snapshot-listing", "snapshots"]);
    assert!(inspection.imports.iter().all(|import| ["log", "config", "files"].contains(&import.as_str())), "{inspection:?}");
    assert!(inspection.imports.contains(&"files".to_owned()));
    assert!(inspection.code_size > 10_000);
}

#[test]
fn plugin_answers_every_call_of_the_local_driver() {
    let mut plugin = Plugin::of(LOCAL);
    assert!(matches!(plugin.call(PluginCall::Describe), Ok(PluginAnswer::Described(said)) if said.vendor == "windlass.io" && said.online_expansion));
    assert_eq!(plugin.call(PluginCall::Probe), Ok(PluginAnswer::Ready(true)));

    let volume = id_of(&mut plugin, "pvc-1");
    assert_eq!(id_of(&mut plugin, "pvc-1"), volume, "the same name is the same volume");
    assert_eq!(plugin.files.len(), 1);
    match plugin.call(attach(&volume)) {
        Ok(PluginAnswer::Plan(plan)) => {
            assert_eq!(plan.source, Source::File { folder: "volumes".to_owned(), name: volume.clone() });
            assert_eq!(plan.content, Content::Blank);
            assert_eq!(plan.filesystem.unwrap().kind, FilesystemKind::Xfs);
        }
        other => panic!("{other:?}"),
    }
    let facts = NodeFacts { node: "node-a".to_owned(), topology: context(&[]), addresses: vec![] };
    assert!(matches!(plugin.call(PluginCall::NodeInfo(facts)), Ok(PluginAnswer::NodeInfo(info)) if info.node_id == "node-a"));

    let validate = |volume: &str| {
        PluginCall::Validate(ValidateFacts {
            volume: volume.to_owned(),
            volume_context: context(&[]),
            capabilities: vec![mount()],
            parameters: context(&[]),
            mutable_parameters: context(&[]),
        })
    };
    assert!(matches!(plugin.call(validate(&volume)), Ok(PluginAnswer::Validated(_))));
    assert!(matches!(plugin.call(validate("nobody")), Err(CallFailure::Refused(no)) if no.kind == RefusalKind::NotFound));
    let list = |token: &str| PluginCall::ListVolumes { max_entries: 10, starting_token: token.to_owned() };
    assert!(matches!(plugin.call(list("")), Ok(PluginAnswer::Volumes { entries, next_token }) if entries.len() == 1 && next_token.is_empty()));
    let capacity = PluginCall::Capacity(CapacityFacts { capabilities: vec![mount()], parameters: context(&[]), topology: None });
    assert!(matches!(plugin.call(capacity), Ok(PluginAnswer::Capacity(room)) if room.available > 0));
    let expand = PluginCall::Expand { volume: volume.clone(), capacity: CapacityRange { required: 2 << 30, limit: 0 } };
    assert!(matches!(plugin.call(expand), Ok(PluginAnswer::Expanded(grown)) if grown.capacity == 2 << 30));

    for _ in 0..2 {
        assert_eq!(plugin.call(PluginCall::DeleteVolume { volume: volume.clone() }), Ok(PluginAnswer::Deleted));
    }
    assert!(plugin.files.is_empty());
}

#[test]
fn plugin_reads_the_operators_configuration() {
    let mut plugin = Plugin::start(&code(LOCAL).0, windlass_wire::plugin::Limits::default(), &[("folder", "elsewhere")]).unwrap();
    match plugin.call(create("pvc-1", 1 << 30)) {
        Err(CallFailure::Refused(no)) => assert_eq!(no.kind, RefusalKind::PermissionDenied, "{no:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugin_serves_a_call_on_each_lane_at_once() {
    let mut plugin = Plugin::start(&code(LOCAL).0, windlass_wire::plugin::Limits { concurrency: 64, ..Default::default() }, &[]).unwrap();
    for _ in 0..3 {
        let open: Vec<u64> = (0..64).map(|_| plugin.send(PluginCall::Describe)).collect();
        assert!(open.into_iter().all(|call| matches!(plugin.finish(call), Ok(PluginAnswer::Described(_)))));
    }
}

#[test]
fn plugin_process_ends_with_the_daemons_socket() {
    let mut plugin = Plugin::of(LOCAL);
    assert_eq!(plugin.call(PluginCall::Probe), Ok(PluginAnswer::Ready(true)));
    assert!(plugin.hang_up().success());
}
