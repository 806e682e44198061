//! The reference driver in the SDK's harness: each row is a request and what comes of it.

use windlass_local::Local;
use windlass_plugin_sdk::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn harness() -> Harness {
    Harness::new().folder("volumes", 100 * GIB)
}

fn on_node_one() -> Harness {
    harness().config("node", "node-1")
}

fn place(node: &str) -> Topology {
    Topology::from([("windlass.io/node", node)])
}

fn range(required: u64, limit: u64) -> CapacityRange {
    CapacityRange { required, limit }
}

fn wish(name: &str) -> CreateFacts {
    CreateFacts::new(name, 0, Capability::mount(None))
}

/// The code of a refusal, or `OK`.
fn code<T>(result: &Result<T, Refusal>) -> &'static str {
    result.as_ref().err().map_or("OK", Refusal::code)
}

#[test]
fn it_describes_itself_and_is_ready() {
    let said = harness().describe::<Local>();
    assert_eq!((said.vendor.as_str(), said.version.as_str(), said.online_expansion), ("windlass.io", env!("CARGO_PKG_VERSION"), true));
    let keys: Vec<&str> = said.configuration.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(keys, ["folder", "node", "max_bytes"]);
    assert_eq!(harness().probe::<Local>(), Ok(true));
}

#[test]
fn a_wrong_configuration_is_named_by_its_key() {
    for (key, value) in [("folder", ""), ("node", ""), ("node", "-x"), ("node", "a/b"), ("max_bytes", "16T"), ("max_bytes", "4096"), ("max_bytes", "-1")] {
        let refusal = harness().config(key, value).probe::<Local>().unwrap_err();
        assert_eq!(refusal.code(), "FAILED_PRECONDITION", "{key}={value}");
        assert!(refusal.words().contains(&format!("`{key}`")), "{}", refusal.words());
    }
}

#[test]
fn sizes_are_rounded_up_but_never_past_the_limit() {
    let (ext4, xfs, block) = (Capability::mount(Some(FilesystemKind::Ext4)), Capability::mount(Some(FilesystemKind::Xfs)), Capability::block());
    for (capability, required, limit, want) in [
        (ext4, 0, 0, Ok(GIB)),
        (ext4, 0, 10 * MIB, Ok(10 * MIB)),
        (ext4, 0, 10 * MIB + 5000, Ok(10 * MIB + 4096)),
        (ext4, 0, 5 * GIB, Ok(GIB)),
        (ext4, 1, 0, Ok(MIB)),
        (ext4, MIB + 1, 0, Ok(MIB + 4096)),
        (ext4, MIB + 1, MIB + 4096, Ok(MIB + 4096)),
        (ext4, 10_000_000_000, 10_000_000_000, Ok(10_000_000_000)),
        (ext4, MIB + 1, MIB + 2, Err("OUT_OF_RANGE")),
        (ext4, 0, MIB - 1, Err("OUT_OF_RANGE")),
        (ext4, 2 * GIB, GIB, Err("OUT_OF_RANGE")),
        (ext4, 16 * TIB, 0, Ok(16 * TIB)),
        (ext4, 16 * TIB + 1, 0, Err("OUT_OF_RANGE")),
        (ext4, u64::MAX, 0, Err("OUT_OF_RANGE")),
        (ext4, u64::MAX, u64::MAX, Err("OUT_OF_RANGE")),
        (xfs, 0, 0, Ok(GIB)),
        (xfs, 1, 0, Ok(300 * MIB)),
        (xfs, 1, 299 * MIB, Err("OUT_OF_RANGE")),
        (block, 1, 0, Ok(MIB)),
        (block, 0, MIB, Ok(MIB)),
    ] {
        let facts = CreateFacts { capacity: range(required, limit), ..CreateFacts::new("a", 0, capability) };
        let made = harness().create_volume::<Local>(&facts).map(|volume| volume.capacity).map_err(|refusal| refusal.code());
        assert_eq!(made, want, "{capability:?} {required}..{limit}");
    }
    let small = harness().config("max_bytes", "2097152");
    assert_eq!(small.create_volume::<Local>(&wish("a")).unwrap().capacity, 2 * MIB);
    assert_eq!(code(&small.create_volume::<Local>(&CreateFacts::new("b", 3 * MIB, Capability::block()))), "OUT_OF_RANGE");
}

#[test]
fn a_volume_is_one_file_with_its_properties() {
    let harness = on_node_one();
    let volume = harness.create_volume::<Local>(&wish("pvc-1")).unwrap();
    let files = harness.files("volumes");
    assert_eq!((files.len(), files[0].name.as_str(), files[0].size), (1, volume.id.as_str(), GIB));
    let want = Context::from([("name", "pvc-1"), ("access", "mount"), ("filesystem", "ext4"), ("layout", "1")]);
    assert_eq!(files[0].properties, want);
    assert_eq!(volume.id.len(), 36);
    assert_eq!(volume.topology, [place("node-1")]);
    assert_eq!(volume.context, Context::from([("filesystem", "ext4")]));
    assert_eq!(harness.lines().len(), 1);

    let elsewhere = Harness::new().config("folder", "fast").folder("fast", GIB);
    let volume = elsewhere.create_volume::<Local>(&wish("pvc-1")).unwrap();
    assert_eq!((elsewhere.files("fast").len(), volume.topology.len()), (1, 0));
    assert_eq!(code(&Harness::new().create_volume::<Local>(&wish("a"))), "FAILED_PRECONDITION");
}

#[test]
fn the_same_wishes_twice_are_the_same_volume_and_others_are_refused() {
    let (raw, xfs) = (Capability::block(), Capability::mount(Some(FilesystemKind::Xfs)));
    let first = || CreateFacts::new("a", GIB, Capability::mount(None));
    for (second, want) in [
        (first(), "OK"),
        (CreateFacts::new("a", 1, Capability::mount(Some(FilesystemKind::Ext4))), "OK"),
        (CreateFacts { capacity: range(0, GIB), ..first() }, "OK"),
        (CreateFacts { capabilities: vec![Capability::mount(None).mode(AccessMode::SingleNodeReaderOnly)], ..first() }, "OK"),
        (CreateFacts { parameters: Context::from([("csi.storage.k8s.io/fstype", "ext4")]), ..first() }, "OK"),
        (CreateFacts::new("a", GIB + 1, Capability::mount(None)), "ALREADY_EXISTS"),
        (CreateFacts { capacity: range(0, GIB - 1), ..first() }, "ALREADY_EXISTS"),
        (CreateFacts::new("a", GIB, raw), "ALREADY_EXISTS"),
        (CreateFacts::new("a", GIB, xfs), "ALREADY_EXISTS"),
        (CreateFacts { parameters: Context::from([("csi.storage.k8s.io/fstype", "xfs")]), ..first() }, "ALREADY_EXISTS"),
        (CreateFacts { topology: TopologyRequirement { requisite: vec![place("node-2")], preferred: vec![] }, ..first() }, "ALREADY_EXISTS"),
    ] {
        let harness = on_node_one();
        let made = harness.create_volume::<Local>(&first()).unwrap();
        let again = harness.create_volume::<Local>(&second);
        assert_eq!(code(&again), want, "{second:?}: {again:?}");
        if want == "OK" {
            assert_eq!(again, Ok(made));
        }
        assert_eq!(harness.files("volumes").len(), 1);
    }
}

#[test]
fn wishes_that_cannot_be_fulfilled_are_refused_by_name() {
    let (ext4, xfs) = (Capability::mount(Some(FilesystemKind::Ext4)), Capability::mount(Some(FilesystemKind::Xfs)));
    let with = |key: &str, value: &str| CreateFacts { parameters: Context::from([(key, value)]), ..wish("a") };
    let used = |capabilities: &[Capability]| CreateFacts { capabilities: capabilities.to_vec(), ..wish("a") };
    let mode = |mode| used(&[Capability::mount(None).mode(mode)]);
    for (facts, word) in [
        (with("pool", "fast"), "`pool` is not known; known are: csi.storage.k8s.io/fstype, encrypted"),
        (with("encrypted", "true"), "`encrypted`"),
        (with("encrypted", ""), "`encrypted`"),
        (with("encrypted", "False"), "`encrypted`"),
        (with("Encrypted", "true"), "`Encrypted`"),
        (with("csi.storage.k8s.io/fstype", "btrfs"), "btrfs"),
        (mode(AccessMode::MultiNodeMultiWriter), "MULTI_NODE_MULTI_WRITER"),
        (mode(AccessMode::MultiNodeSingleWriter), "MULTI_NODE_SINGLE_WRITER"),
        (mode(AccessMode::MultiNodeReaderOnly), "MULTI_NODE_READER_ONLY"),
        (used(&[ext4, xfs]), "ext4 and for xfs"),
        (CreateFacts { parameters: Context::from([("csi.storage.k8s.io/fstype", "xfs")]), ..used(&[ext4]) }, "csi.storage.k8s.io/fstype"),
    ] {
        let harness = harness();
        let refusal = harness.create_volume::<Local>(&facts).unwrap_err();
        assert_eq!(refusal.code(), "INVALID_ARGUMENT", "{facts:?}");
        assert!(refusal.words().contains(word), "{facts:?}: {}", refusal.words());
        assert!(harness.files("volumes").is_empty());
    }
    for facts in [
        with("encrypted", "false"),
        with("csi.storage.k8s.io/pvc/name", "claim"),
        with("csi.storage.k8s.io/fstype", ""),
        mode(AccessMode::SingleNodeSingleWriter),
        mode(AccessMode::SingleNodeMultiWriter),
        mode(AccessMode::SingleNodeReaderOnly),
        used(&[Capability::block(), ext4]),
    ] {
        assert_eq!(code(&harness().create_volume::<Local>(&facts)), "OK", "{facts:?}");
    }
}

#[test]
fn a_topology_that_excludes_the_node_has_no_room() {
    let segment = |key: &str, value: &str| Topology::from([(key, value)]);
    for (requisite, want) in [
        (vec![], "OK"),
        (vec![place("node-1")], "OK"),
        (vec![place("node-2"), place("node-1")], "OK"),
        (vec![segment("WINDLASS.io/node", "node-1")], "OK"),
        (vec![Topology::new()], "OK"),
        (vec![place("node-2")], "RESOURCE_EXHAUSTED"),
        (vec![segment("zone", "a")], "RESOURCE_EXHAUSTED"),
    ] {
        let facts = CreateFacts { topology: TopologyRequirement { requisite: requisite.clone(), preferred: vec![] }, ..wish("a") };
        let harness = on_node_one();
        assert_eq!(code(&harness.create_volume::<Local>(&facts)), want, "{requisite:?}");
        assert_eq!(harness.files("volumes").len(), usize::from(want == "OK"));
    }
    let preferred = TopologyRequirement { requisite: vec![], preferred: vec![place("node-2")] };
    assert_eq!(code(&on_node_one().create_volume::<Local>(&CreateFacts { topology: preferred, ..wish("a") })), "OK");
}

#[test]
fn deleting_is_idempotent_and_leaves_what_is_not_ours() {
    let harness = harness();
    let id = harness.create_volume::<Local>(&wish("a")).unwrap().id;
    let foreign = "vol-00000000000000000000000000000000";
    harness.put("volumes", File { name: foreign.into(), size: 1, properties: Context::new() });
    for (id, want) in [
        (id.as_str(), "OK"),
        (id.as_str(), "OK"),
        ("vol-ffffffffffffffffffffffffffffffff", "OK"),
        ("some-other-drivers", "OK"),
        ("../../etc/passwd", "OK"),
        (foreign, "FAILED_PRECONDITION"),
    ] {
        assert_eq!(code(&harness.delete_volume::<Local>(id)), want, "{id}");
    }
    assert_eq!(harness.files("volumes").len(), 1);
}

#[test]
fn validating_says_why_not() {
    let harness = harness();
    let mounted = harness.create_volume::<Local>(&wish("mounted")).unwrap().id;
    let raw = harness.create_volume::<Local>(&CreateFacts::new("raw", 0, Capability::block())).unwrap().id;
    let facts = |volume: &str, capability| ValidateFacts {
        volume: volume.to_owned(),
        volume_context: Context::new(),
        capabilities: vec![capability],
        parameters: Context::new(),
        mutable_parameters: Context::new(),
    };
    for (volume, capability, word) in [
        (&mounted, Capability::mount(None), None),
        (&mounted, Capability::mount(Some(FilesystemKind::Ext4)), None),
        (&mounted, Capability::mount(Some(FilesystemKind::Xfs)), Some("made for ext4")),
        (&mounted, Capability::block(), Some("made to be mounted")),
        (&mounted, Capability::mount(None).mode(AccessMode::MultiNodeMultiWriter), Some("MULTI_NODE_MULTI_WRITER")),
        (&raw, Capability::block(), None),
        (&raw, Capability::mount(None), Some("raw block")),
    ] {
        let said = harness.validate::<Local>(&facts(volume, capability)).unwrap();
        assert_eq!(said.is_none(), word.is_none(), "{capability:?}: {said:?}");
        assert!(word.is_none_or(|word| said.as_ref().unwrap().contains(word)), "{said:?}");
    }
    let with_parameter = ValidateFacts { parameters: Context::from([("pool", "fast")]), ..facts(&mounted, Capability::mount(None)) };
    assert!(harness.validate::<Local>(&with_parameter).unwrap().unwrap().contains("`pool`"));
    for (key, value, is_fine) in
        [("filesystem", "ext4", true), ("filesystem", "xfs", false), ("layout", "2", false), ("storage.kubernetes.io/csiProvisionerIdentity", "x", true)]
    {
        let with_context = ValidateFacts { volume_context: Context::from([(key, value)]), ..facts(&mounted, Capability::mount(None)) };
        assert_eq!(harness.validate::<Local>(&with_context).unwrap().is_none(), is_fine, "{key}={value}");
    }
    for unknown in ["vol-ffffffffffffffffffffffffffffffff", "nonsense"] {
        assert_eq!(code(&harness.validate::<Local>(&facts(unknown, Capability::mount(None)))), "NOT_FOUND");
    }
}

#[test]
fn a_listing_is_paged_by_name_and_outlives_deletions() {
    let harness = harness();
    harness.put("volumes", File { name: "a-foreign-file".into(), size: 1, properties: Context::new() });
    harness.put("volumes", File { name: "vol-zzz".into(), size: 1, properties: Context::new() });
    let mut ids: Vec<String> = (0..600).map(|number| harness.create_volume::<Local>(&wish(&format!("v{number}"))).unwrap().id).collect();
    ids.sort();
    for max_entries in [1, 7, 256, 1000] {
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let page = harness.list_volumes::<Local>(max_entries, &token).unwrap();
            seen.extend(page.volumes.into_iter().map(|volume| volume.id));
            token = page.next_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ids, "{max_entries}");
    }
    let first = harness.list_volumes::<Local>(3, "").unwrap();
    assert_eq!(first.next_token, ids[2]);
    for deleted in &ids[2..4] {
        harness.delete_volume::<Local>(deleted).unwrap();
    }
    let second = harness.list_volumes::<Local>(1, &first.next_token).unwrap();
    assert_eq!(second.volumes[0].id, ids[4]);
    assert_eq!(harness.list_volumes::<Local>(3, &ids[599]).unwrap(), Page::default());
    for bad in ["vol-", "x", "../etc", "vol-FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"] {
        assert_eq!(code(&harness.list_volumes::<Local>(3, bad)), "ABORTED", "{bad}");
    }
}

#[test]
fn room_is_what_the_folder_has_free() {
    let harness = on_node_one().config("max_bytes", "1073741824");
    let facts = |capability: Capability| CapacityFacts { capabilities: vec![capability], ..CapacityFacts::default() };
    let room = |smallest| Room { available: 100 * GIB, largest: GIB, smallest };
    let none = Room::default();
    for (facts, want) in [
        (CapacityFacts::default(), room(MIB)),
        (facts(Capability::mount(Some(FilesystemKind::Xfs))), room(300 * MIB)),
        (facts(Capability::block().mode(AccessMode::MultiNodeMultiWriter)), none),
        (CapacityFacts { topology: Some(place("node-1")), ..CapacityFacts::default() }, room(MIB)),
        (CapacityFacts { topology: Some(place("node-2")), ..CapacityFacts::default() }, none),
    ] {
        assert_eq!(harness.capacity::<Local>(&facts), Ok(want), "{facts:?}");
    }
    let unknown = CapacityFacts { parameters: Context::from([("pool", "fast")]), ..CapacityFacts::default() };
    assert_eq!(code(&harness.capacity::<Local>(&unknown)), "INVALID_ARGUMENT");
}

#[test]
fn a_volume_grows_to_what_is_required_and_never_shrinks() {
    for (required, limit, want) in [
        (2 * GIB, 0, Ok(2 * GIB)),
        (GIB + 1, 0, Ok(GIB + 4096)),
        (GIB + 512, GIB + 512, Ok(GIB + 512)),
        (GIB, 0, Ok(GIB)),
        (1, 0, Ok(GIB)),
        (0, 5 * GIB, Ok(GIB)),
        (0, MIB, Err("OUT_OF_RANGE")),
        (MIB, 2 * MIB, Err("OUT_OF_RANGE")),
        (3 * GIB, 2 * GIB, Err("OUT_OF_RANGE")),
        (GIB + 1, GIB + 2, Err("OUT_OF_RANGE")),
        (17 * TIB, 0, Err("OUT_OF_RANGE")),
    ] {
        let harness = harness();
        let id = harness.create_volume::<Local>(&wish("a")).unwrap().id;
        let grown = harness.expand::<Local>(&id, required, limit);
        assert_eq!(grown.clone().map(|e| e.capacity).map_err(|r| r.code()), want, "{required}..{limit}");
        assert_eq!(harness.files("volumes")[0].size, want.unwrap_or(GIB));
        assert!(grown.is_err() || grown.unwrap().node_expansion);
    }
    for unknown in ["vol-ffffffffffffffffffffffffffffffff", "nonsense"] {
        assert_eq!(code(&harness().expand::<Local>(unknown, 3, 2)), "NOT_FOUND");
    }
}

#[test]
fn the_plan_is_the_file_and_the_file_system_that_is_wanted() {
    let id = "vol-0123456789abcdef0123456789abcdef";
    let harness = harness();
    let attach = |facts: &VolumeFacts| harness.attach::<Local>(facts);
    let kind = |plan: AttachPlan| plan.filesystem.map(|filesystem| filesystem.kind);
    let (none, xfs) = (Capability::mount(None), Capability::mount(Some(FilesystemKind::Xfs)));
    for (facts, want) in [
        (VolumeFacts::new(id, none), Some(FilesystemKind::Ext4)),
        (VolumeFacts::new(id, xfs), Some(FilesystemKind::Xfs)),
        (VolumeFacts::new(id, none).context("filesystem", "xfs"), Some(FilesystemKind::Xfs)),
        (VolumeFacts::new(id, none).context("layout", "1").context("of a later version", "1"), Some(FilesystemKind::Ext4)),
        (VolumeFacts::new(id, Capability::block()), None),
    ] {
        let plan = attach(&facts).unwrap();
        assert_eq!((&plan.source, plan.content), (&Source::file("volumes", id), Content::Blank));
        assert_eq!(kind(plan), want, "{facts:?}");
    }
    for (key, value) in [("layout", "2"), ("layout", ""), ("filesystem", "btrfs"), ("content", "thin")] {
        let refusal = attach(&VolumeFacts::new(id, none).context(key, value)).unwrap_err();
        assert!(matches!(&refusal, Refusal::Precondition(words) if words.contains(key) && words.contains("update")), "{refusal:?}");
    }
    for bad in ["", "../etc", "vol-", "vol-0123456789ABCDEF0123456789abcdef", "vol-0123456789abcdef0123456789abcdef0"] {
        assert_eq!(code(&attach(&VolumeFacts::new(bad, none))), "NOT_FOUND", "{bad:?}");
    }
    let info = harness.node_info::<Local>("node-1").unwrap();
    assert_eq!(info, NodeInfo::new("node-1").segment("windlass.io/node", "node-1"));
}
