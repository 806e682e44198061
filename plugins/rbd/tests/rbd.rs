//! The driver in the SDK's harness: volumes of its own, from making to deleting.

use windlass_plugin_sdk::*;
use windlass_rbd::Rbd;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn harness() -> Harness {
    Harness::new().cluster("ceph", &["rbd", "fast", "data"]).secret("userID", "csi").secret("userKey", "AQ==").address("10.0.0.7")
}

fn pool(name: &str, namespace: &str) -> RbdPool {
    RbdPool { cluster: "ceph".into(), pool: name.into(), namespace: namespace.into() }
}

fn class() -> Context {
    Context::from([("clusterID", "ceph"), ("pool", "rbd")])
}

fn wish(name: &str) -> CreateFacts {
    CreateFacts { parameters: class(), ..CreateFacts::new(name, 0, Capability::mount(None)) }
}

fn with(key: &str, value: &str) -> CreateFacts {
    CreateFacts { parameters: class().with(key, value), ..wish("a") }
}

fn used(capability: Capability) -> CreateFacts {
    CreateFacts { capabilities: vec![capability], ..wish("a") }
}

/// The code of a refusal, or `OK`.
fn code<T>(result: &Result<T, Refusal>) -> &'static str {
    result.as_ref().err().map_or("OK", Refusal::code)
}

fn create(harness: &Harness, facts: &CreateFacts) -> Result<Volume, Refusal> {
    harness.create_rbd_volume::<Rbd>(facts)
}

#[test]
fn it_describes_itself_and_names_its_secrets() {
    let said = harness().describe::<Rbd>();
    assert_eq!((said.vendor.as_str(), said.version.as_str(), said.online_expansion), ("windlass.io", env!("CARGO_PKG_VERSION"), true));
    assert_eq!(said.secrets.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["userID", "userKey"]);
    assert!(said.clones);
    assert_eq!(harness().probe::<Rbd>(), Ok(true));
    for (key, value) in [("rados_namespaces", "ceph"), ("rados_namespaces", "ceph=a b"), ("ceph_csi_prefixes", "csi-vol-,../")] {
        let refusal = harness().config(key, value).probe::<Rbd>().unwrap_err();
        assert_eq!(refusal.code(), "FAILED_PRECONDITION");
        assert!(refusal.words().contains(&format!("`{key}`")), "{}", refusal.words());
    }
}

#[test]
fn a_volume_is_one_image_that_its_id_leads_to() {
    let harness = harness();
    let facts = CreateFacts {
        parameters: class()
            .with("csi.storage.k8s.io/pvc/name", "claim")
            .with("csi.storage.k8s.io/fstype", "xfs")
            .with("mapOptions", "krbd:queue_depth=64")
            .with("imageFormat", "2")
            .with("mounter", "rbd")
            .with("encrypted", "false")
            .with("mkfsOptions", ""),
        ..CreateFacts::new("pvc-1", GIB + 1, Capability::mount(None))
    };
    let volume = create(&harness, &facts).unwrap();
    let images = harness.images(&pool("rbd", ""));
    assert_eq!((images.len(), images[0].size, images[0].features), (1, GIB + MIB, Features::all()));
    assert_eq!(volume.id, format!("1/ceph/rbd//{}", images[0].name));
    assert_eq!((images[0].name.len(), images[0].name.starts_with("csi-vol-")), (44, true));
    let want = Context::from([
        ("windlass.name", "pvc-1"),
        ("windlass.access", "mount"),
        ("windlass.filesystem", "xfs"),
        ("windlass.layout", "1"),
        ("windlass.map-options", "krbd:queue_depth=64"),
        ("csi.storage.k8s.io/pvc/name", "claim"),
    ]);
    assert_eq!(images[0].metadata, want);
    assert_eq!(volume.context, Context::from([("filesystem", "xfs"), ("mapOptions", "krbd:queue_depth=64")]));
    assert!(volume.topology.is_empty());

    let plan = harness.attach::<Rbd>(&VolumeFacts { volume_context: volume.context, ..VolumeFacts::new(&volume.id, Capability::mount(None)) }).unwrap();
    let credentials = Credentials { user: "userID".into(), key: "userKey".into() };
    let source = AttachPlan::rbd(pool("rbd", ""), &images[0].name, credentials).options(MapOptions { queue_depth: 64, ..MapOptions::default() });
    assert_eq!(plan, source.formatted_for(&Capability::mount(None), FilesystemKind::Xfs));
}

#[test]
fn the_class_decides_where_and_how_an_image_is_made() {
    let harness = harness().config("rados_namespaces", "other=x,ceph=tenant");
    let parameters = Context::from([
        ("clusterID", "ceph"),
        ("pool", "fast"),
        ("dataPool", "data"),
        ("imageFeatures", "layering, exclusive-lock"),
        ("objectSize", "8388608"),
        ("stripeUnit", "65536"),
        ("stripeCount", "16"),
        ("volumeNamePrefix", "k8s-"),
    ]);
    let facts = CreateFacts { parameters: parameters.clone(), ..wish("a") };
    let volume = create(&harness, &facts).unwrap();
    let image = &harness.images(&pool("fast", "tenant"))[0];
    assert_eq!((image.features, image.data_pool.as_deref()), (Features::LAYERING | Features::EXCLUSIVE_LOCK, Some("data")));
    assert_eq!((image.metadata.get("windlass.object-size"), image.metadata.get("windlass.striping")), (Some("8388608"), Some("65536 x 16")));
    assert_eq!(volume.id, format!("1/ceph/fast/tenant/{}", image.name));
    assert!(image.name.starts_with("k8s-"));
    // The class says more than the configuration.
    let facts = CreateFacts { parameters: parameters.with("radosNamespace", "mine"), ..wish("a") };
    assert!(create(&harness, &facts).unwrap().id.starts_with("1/ceph/fast/mine/"));
}

#[test]
fn parameters_that_cannot_be_fulfilled_are_refused_by_name() {
    let only = |parameters: Context| CreateFacts { parameters, ..wish("a") };
    let (ext4, xfs) = (Capability::mount(Some(FilesystemKind::Ext4)), Capability::mount(Some(FilesystemKind::Xfs)));
    for (facts, word) in [
        (only(Context::new()), "`clusterID` is required"),
        (only(Context::from([("clusterID", "ceph")])), "`pool` is required"),
        (only(Context::from([("clusterID", ""), ("pool", "rbd")])), "`clusterID` is \"\""),
        (with("clusterID", "other"), "granted: ceph"),
        (with("pool", "rdb"), "there are: data, fast, rbd"),
        (with("pool", "a b"), "`pool` is \"a b\""),
        (with("dataPool", "ec"), "no pool \"ec\""),
        (with("dataPool", "a/b"), "`dataPool`"),
        (with("radosNamespace", "a/b"), "`radosNamespace`"),
        (with("pol", "rbd"), "`pol` is not known; known are: clusterID, pool, topologyConstrainedPools"),
        (with("Encrypted", "true"), "`Encrypted` is not known"),
        (with("encrypted", "true"), "cannot encrypt"),
        (with("encrypted", ""), "cannot encrypt"),
        (with("encrypted", "False"), "cannot encrypt"),
        (with("encryptionKMSID", "vault"), "`encryptionKMSID` is not known"),
        (with("imageFormat", "1"), "`imageFormat` is \"1\""),
        (with("mounter", "rbd-nbd"), "`mounter` is \"rbd-nbd\""),
        (with("thickProvision", "true"), "`thickProvision`"),
        (with("mkfsOptions", "-m0 -O^has_journal"), "`mkfsOptions`"),
        (with("mapOptions", "lock_on_read"), "\"lock_on_read\", which is not known"),
        (with("imageFeatures", "layering,journaling"), "\"journaling\""),
        (with("imageFeatures", "layering,object-map"), "`object-map`, which needs `exclusive-lock`"),
        (with("imageFeatures", "exclusive-lock,fast-diff"), "`fast-diff`, which needs `object-map`"),
        (with("objectSize", "1000"), "`objectSize` is 1000"),
        (with("objectSize", "4M"), "`objectSize` is \"4M\""),
        (with("objectSize", "67108864"), "`objectSize`"),
        (with("stripeUnit", "4096"), "belong together"),
        (with("stripeCount", "2"), "belong together"),
        (CreateFacts { parameters: class().with("stripeUnit", "3000").with("stripeCount", "2"), ..wish("a") }, "`stripeUnit` is 3000"),
        (CreateFacts { parameters: class().with("stripeUnit", "4096").with("stripeCount", "0"), ..wish("a") }, "`stripeCount` is 0"),
        (with("volumeNamePrefix", "a/"), "`volumeNamePrefix`"),
        (with("volumeNamePrefix", &"p".repeat(61)), "1 to 60"),
        (with("radosNamespace", &"n".repeat(90)), "`radosNamespace` 90"),
        (with("csi.storage.k8s.io/fstype", "btrfs"), "btrfs"),
        (CreateFacts { capabilities: vec![ext4, xfs], ..wish("a") }, "ext4 and for xfs"),
        (CreateFacts { capabilities: vec![ext4], ..with("csi.storage.k8s.io/fstype", "xfs") }, "csi.storage.k8s.io/fstype"),
        (used(Capability::mount(None).mode(AccessMode::MultiNodeMultiWriter)), "raw block volumes alone"),
        (used(Capability::block().mode(AccessMode::MultiNodeSingleWriter)), "MULTI_NODE_SINGLE_WRITER"),
    ] {
        let harness = harness();
        let refusal = create(&harness, &facts).unwrap_err();
        assert_eq!(refusal.code(), "INVALID_ARGUMENT", "{facts:?}");
        assert!(refusal.words().contains(word), "{word}: {}", refusal.words());
        assert!(["rbd", "fast", "data"].iter().all(|name| harness.images(&pool(name, "")).is_empty()), "{facts:?}");
    }
    let without_secret = Harness::new().cluster("ceph", &["rbd"]).secret("userID", "csi");
    let refusal = create(&without_secret, &wish("a")).unwrap_err();
    assert!(refusal.words().contains("`userKey`"), "{}", refusal.words());
}

#[test]
fn the_topology_chooses_the_pool() {
    let pools = r#"[{"poolName": "rbd", "domainSegments": [{"domainLabel": "zone", "value": "a"}]},
        {"poolName": "fast", "dataPool": "data", "domainSegments": [{"domainLabel": "zone", "value": "b"}]}]"#;
    let place = |zone: &str| Topology::from([("topology.example/zone", zone), ("topology.example/host", "h")]);
    let wanted = |preferred: &[&str], requisite: &[&str]| {
        let places = |zones: &[&str]| zones.iter().map(|zone| place(zone)).collect();
        let topology = TopologyRequirement { requisite: places(requisite), preferred: places(preferred) };
        CreateFacts { topology, parameters: Context::from([("clusterID", "ceph"), ("topologyConstrainedPools", pools)]), ..wish("a") }
    };
    let harness = harness();
    let made = create(&harness, &wanted(&["b", "a"], &["a", "b"])).unwrap();
    assert!(made.id.starts_with("1/ceph/fast//"), "{}", made.id);
    assert_eq!(made.topology, [Topology::from([("topology.example/zone", "b")])]);
    assert_eq!(harness.images(&pool("fast", ""))[0].data_pool.as_deref(), Some("data"));
    assert_eq!(create(&harness, &wanted(&["a", "b"], &["a", "b"])), Ok(made), "a later preference moves nothing");
    assert_eq!(code(&create(&harness, &wanted(&["a"], &["a"]))), "ALREADY_EXISTS");
    assert!(harness.images(&pool("rbd", "")).is_empty());

    let other = |facts: CreateFacts| create(&harness, &CreateFacts { name: "b".into(), ..facts });
    assert_eq!(code(&other(wanted(&[], &["c"]))), "RESOURCE_EXHAUSTED");
    assert!(other(wanted(&[], &[])).unwrap_err().words().contains("`pool` is required"));
    let everywhere = CreateFacts { parameters: class().with("topologyConstrainedPools", pools), name: "b".into(), ..wish("b") };
    assert_eq!(create(&harness, &everywhere).unwrap().topology, []);
    assert!(other(CreateFacts { parameters: class().with("topologyConstrainedPools", "x"), ..wish("b") }).unwrap_err().words().contains("is not JSON"));
}

#[test]
fn sizes_are_whole_mebibytes_where_the_limit_allows_it() {
    let (ext4, xfs, block) = (Capability::mount(None), Capability::mount(Some(FilesystemKind::Xfs)), Capability::block());
    for (capability, required, limit, want) in [
        (ext4, 0, 0, Ok(GIB)),
        (ext4, 1, 0, Ok(MIB)),
        (ext4, GIB + 1, 0, Ok(GIB + MIB)),
        (ext4, 10_000_000_000, 10_000_000_000, Ok(10_000_000_000)),
        (ext4, MIB + 1, MIB + 2, Err("OUT_OF_RANGE")),
        (ext4, 2 * GIB, GIB, Err("OUT_OF_RANGE")),
        (ext4, 512 * TIB, 0, Ok(512 * TIB)),
        (ext4, 512 * TIB + 1, 0, Err("OUT_OF_RANGE")),
        (ext4, u64::MAX, 0, Err("OUT_OF_RANGE")),
        (xfs, 1, 0, Ok(300 * MIB)),
        (xfs, 1, 299 * MIB, Err("OUT_OF_RANGE")),
        (block, 1, 0, Ok(MIB)),
    ] {
        let facts = CreateFacts { capacity: CapacityRange { required, limit }, ..used(capability) };
        assert_eq!(create(&harness(), &facts).map(|volume| volume.capacity).map_err(|refusal| refusal.code()), want, "{capability:?} {required}..{limit}");
    }
}

#[test]
fn the_same_wishes_twice_are_the_same_volume_and_others_are_refused() {
    let first = || CreateFacts { parameters: class(), ..CreateFacts::new("a", GIB, Capability::mount(None)) };
    for (second, want) in [
        (first(), "OK"),
        (CreateFacts { capacity: CapacityRange { required: 1, limit: GIB }, ..first() }, "OK"),
        (CreateFacts { capabilities: vec![Capability::mount(None).mode(AccessMode::MultiNodeReaderOnly)], ..first() }, "OK"),
        (CreateFacts { parameters: class().with("csi.storage.k8s.io/pvc/name", "claim"), ..first() }, "OK"),
        (CreateFacts { capacity: CapacityRange { required: GIB + 1, limit: 0 }, ..first() }, "ALREADY_EXISTS"),
        (CreateFacts { capacity: CapacityRange { required: 0, limit: GIB - MIB }, ..first() }, "ALREADY_EXISTS"),
        (CreateFacts { capabilities: vec![Capability::block()], ..first() }, "ALREADY_EXISTS"),
        (CreateFacts { capabilities: vec![Capability::mount(Some(FilesystemKind::Xfs))], ..first() }, "ALREADY_EXISTS"),
        (CreateFacts { parameters: class().with("imageFeatures", "layering"), ..first() }, "ALREADY_EXISTS"),
        (CreateFacts { parameters: class().with("dataPool", "data"), ..first() }, "ALREADY_EXISTS"),
        (CreateFacts { parameters: class().with("objectSize", "8388608"), ..first() }, "ALREADY_EXISTS"),
        (CreateFacts { parameters: class().with("mapOptions", "queue_depth=64"), ..first() }, "ALREADY_EXISTS"),
    ] {
        let harness = harness();
        let made = create(&harness, &first()).unwrap();
        let again = create(&harness, &second);
        assert_eq!(code(&again), want, "{second:?}: {again:?}");
        if want == "OK" {
            assert_eq!(again, Ok(made));
        }
        assert_eq!(harness.images(&pool("rbd", "")).len(), 1);
    }
}

#[test]
fn an_image_that_a_crash_left_undescribed_is_made_good() {
    let harness = harness();
    let made = create(&harness, &wish("a")).unwrap();
    let image = harness.images(&pool("rbd", "")).remove(0);
    for (left, want) in [
        (Image { metadata: Context::new(), ..image.clone() }, "OK"),
        (Image { metadata: Context::new(), size: image.size / 2, ..image.clone() }, "OK"),
        (Image { metadata: Context::new(), features: Features::LAYERING, ..image.clone() }, "ALREADY_EXISTS"),
        (Image { metadata: Context::from([("somebody", "else")]), ..image.clone() }, "ALREADY_EXISTS"),
        (Image { metadata: image.metadata.clone().with("windlass.name", "b"), ..image.clone() }, "ALREADY_EXISTS"),
    ] {
        harness.put_image(&pool("rbd", ""), left.clone());
        let again = create(&harness, &wish("a"));
        assert_eq!(code(&again), want, "{left:?}");
        let now = harness.images(&pool("rbd", "")).remove(0);
        if want == "OK" {
            assert_eq!((&again.unwrap().id, &now.metadata), (&made.id, &image.metadata));
        } else {
            assert_eq!(now, left, "what is not ours is left alone");
        }
    }
}

#[test]
fn a_volume_is_given_to_a_node_and_taken_back() {
    use AccessMode::{MultiNodeMultiWriter, MultiNodeReaderOnly, SingleNodeMultiWriter, SingleNodeReaderOnly, SingleNodeSingleWriter, SingleNodeWriter};
    let harness = harness();
    let node = |name: &str| format!("{name}/10.0.0.7,fd00::7");
    let id = create(&harness, &wish("a")).unwrap().id;
    let image = harness.images(&pool("rbd", "")).remove(0).name;
    let publish = |node: &str, capability: Capability| harness.publish::<Rbd>(&PublishFacts::new(&id, node, capability));
    let (mount, block) = (Capability::mount(None), Capability::block());
    for (capability, hold) in [
        (mount.mode(SingleNodeWriter), Hold::Writer),
        (mount.mode(SingleNodeSingleWriter), Hold::Writer),
        (mount.mode(SingleNodeMultiWriter), Hold::Writer),
        (mount.mode(SingleNodeReaderOnly), Hold::Reader),
        (mount.mode(MultiNodeReaderOnly), Hold::Reader),
        (block.mode(SingleNodeWriter), Hold::Writer),
        (block.mode(MultiNodeMultiWriter), Hold::SharedWriter),
    ] {
        for _ in 0..2 {
            assert_eq!(publish(&node("node-1"), capability), Ok(Context::new()), "{capability:?}");
        }
        let holder = Holder { node: "node-1".into(), addresses: vec!["10.0.0.7".into(), "fd00::7".into()] };
        assert_eq!(harness.holders(&pool("rbd", ""), &image), [(hold, holder)]);
        let second = publish(&node("node-2"), capability);
        assert_eq!(code(&second), if hold == Hold::Writer { "FAILED_PRECONDITION" } else { "OK" }, "{capability:?}");
        assert!(second.is_ok() || second.unwrap_err().words().contains("node-1"));
        assert_eq!(code(&harness.delete_rbd_volume::<Rbd>(&id)), "FAILED_PRECONDITION", "nobody's volume is deleted under them");
        for _ in 0..2 {
            assert_eq!(harness.unpublish::<Rbd>(&id, Some(&node("node-1"))), Ok(()));
            assert_eq!(harness.unpublish::<Rbd>(&id, Some(&node("node-2"))), Ok(()));
        }
        assert_eq!(harness.holders(&pool("rbd", ""), &image), []);
    }
    assert_eq!(code(&publish(&node("node-1"), mount.mode(MultiNodeMultiWriter))), "INVALID_ARGUMENT");
    for foreign in ["node-1", "", "node-1/somewhere"] {
        assert_eq!(code(&publish(foreign, mount)), "NOT_FOUND", "{foreign:?}");
        assert_eq!(code(&harness.unpublish::<Rbd>(&id, Some(foreign))), "NOT_FOUND", "{foreign:?}");
    }
    assert_eq!(publish(&node("node-1"), mount), Ok(Context::new()));
    assert_eq!(code(&publish(&node("node-1"), mount.mode(SingleNodeReaderOnly))), "ALREADY_EXISTS");
    assert_eq!(harness.unpublish::<Rbd>(&id, None), Ok(()));
    assert_eq!(harness.holders(&pool("rbd", ""), &image), []);
    let encrypted = PublishFacts { volume_context: Context::from([("encrypted", "true")]), ..PublishFacts::new(&id, node("node-1"), mount) };
    assert_eq!(code(&harness.publish::<Rbd>(&encrypted)), "INVALID_ARGUMENT");
}

#[test]
fn a_node_says_by_what_it_is_known() {
    let info = harness().address("fd00::7").node_info::<Rbd>("node-1").unwrap();
    assert_eq!(info.node_id, "node-1/10.0.0.7,fd00::7");
    assert_eq!(code(&Harness::new().node_info::<Rbd>("node-1")), "UNAVAILABLE");
}

#[test]
fn ids_of_nothing_are_unknown_to_all_but_those_that_take_away() {
    let harness = harness();
    let missing = format!("1/ceph/rbd//csi-vol-{}", "0f0a3c1e-64b5-8e5f-9d3a-5a8a7e2d1c0b");
    for (id, is_id) in [("", false), ("vol-1", false), ("1/ceph/rbd//somebody-elses-image", false), (missing.as_str(), true)] {
        let mount = Capability::mount(None);
        assert_eq!(harness.delete_rbd_volume::<Rbd>(id), Ok(()), "{id}");
        assert_eq!(harness.unpublish::<Rbd>(id, Some("node-1/10.0.0.7")), Ok(()), "{id}");
        assert_eq!(code(&harness.publish::<Rbd>(&PublishFacts::new(id, "node-1/10.0.0.7", mount))), "NOT_FOUND", "{id}");
        assert_eq!(code(&harness.expand_rbd::<Rbd>(id, 1, 0)), "NOT_FOUND", "{id}");
        let facts = ValidateFacts {
            volume: id.into(),
            volume_context: Context::new(),
            capabilities: vec![mount],
            parameters: Context::new(),
            mutable_parameters: Context::new(),
        };
        assert_eq!(code(&harness.validate_rbd::<Rbd>(&facts)), "NOT_FOUND", "{id}");
        assert_eq!(code(&harness.attach::<Rbd>(&VolumeFacts::new(id, mount))), if is_id { "OK" } else { "NOT_FOUND" }, "{id}");
    }
}

#[test]
fn a_volume_grows_to_what_is_required_and_never_shrinks() {
    for (required, limit, want) in [
        (2 * GIB, 0, Ok(2 * GIB)),
        (GIB + 1, 0, Ok(GIB + MIB)),
        (GIB + 512, GIB + 512, Ok(GIB + 512)),
        (1, 0, Ok(GIB)),
        (0, 5 * GIB, Ok(GIB)),
        (0, MIB, Err("OUT_OF_RANGE")),
        (3 * GIB, 2 * GIB, Err("OUT_OF_RANGE")),
        (513 * TIB, 0, Err("OUT_OF_RANGE")),
    ] {
        let harness = harness();
        let id = create(&harness, &wish("a")).unwrap().id;
        let grown = harness.expand_rbd::<Rbd>(&id, required, limit);
        assert_eq!(grown.clone().map(|e| e.capacity).map_err(|r| r.code()), want, "{required}..{limit}");
        assert_eq!(harness.images(&pool("rbd", ""))[0].size, want.unwrap_or(GIB));
        assert!(grown.is_err() || grown.unwrap().node_expansion);
    }
}

#[test]
fn validating_says_why_not() {
    let harness = harness();
    let mounted = create(&harness, &wish("mounted")).unwrap();
    let raw = create(&harness, &CreateFacts { name: "raw".into(), ..used(Capability::block()) }).unwrap();
    let facts = |volume: &Volume, capability| ValidateFacts {
        volume: volume.id.clone(),
        volume_context: volume.context.clone(),
        capabilities: vec![capability],
        parameters: Context::new(),
        mutable_parameters: Context::new(),
    };
    for (volume, capability, word) in [
        (&mounted, Capability::mount(None), None),
        (&mounted, Capability::mount(Some(FilesystemKind::Xfs)), Some("for ext4")),
        (&mounted, Capability::block(), Some("made to be mounted")),
        (&mounted, Capability::mount(None).mode(AccessMode::MultiNodeMultiWriter), Some("MULTI_NODE_MULTI_WRITER")),
        (&raw, Capability::block().mode(AccessMode::MultiNodeMultiWriter), None),
        (&raw, Capability::mount(None), Some("raw block")),
    ] {
        let said = harness.validate_rbd::<Rbd>(&facts(volume, capability)).unwrap();
        assert_eq!(said.is_none(), word.is_none(), "{capability:?}: {said:?}");
        assert!(word.is_none_or(|word| said.as_ref().unwrap().contains(word)), "{said:?}");
    }
    for (parameters, word) in [(class(), None), (class().with("pool", "fast"), Some("another place")), (class().with("pol", "x"), Some("`pol`"))] {
        let said = harness.validate_rbd::<Rbd>(&ValidateFacts { parameters, ..facts(&mounted, Capability::mount(None)) }).unwrap();
        assert!(said.is_none() == word.is_none() && word.is_none_or(|word| said.as_ref().unwrap().contains(word)), "{said:?}");
    }
}

#[test]
fn what_may_change_is_kept_with_the_image_and_told_to_the_node_that_gets_it_next() {
    let harness = harness();
    let mutable = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Context>();
    let made = CreateFacts { mutable_parameters: mutable(&[("readIops", "500"), ("queueDepth", "64")]), ..wish("a") };
    let volume = create(&harness, &made).unwrap();
    assert_eq!(create(&harness, &made).unwrap(), volume);
    assert_eq!(code(&create(&harness, &CreateFacts { mutable_parameters: mutable(&[("iops", "1")]), ..made.clone() })), "INVALID_ARGUMENT");
    let node = harness.node_info::<Rbd>("node-1").unwrap().node_id;
    let published = || {
        let facts = PublishFacts {
            volume: volume.id.clone(),
            node: node.clone(),
            capability: Capability::mount(None),
            readonly: false,
            volume_context: volume.context.clone(),
        };
        let told = harness.publish::<Rbd>(&facts).unwrap();
        harness.unpublish::<Rbd>(&volume.id, Some(&node)).unwrap();
        told
    };
    assert_eq!(published(), mutable(&[("readIops", "500"), ("queueDepth", "64")]));
    // The claim got another class before the answer came: it is asked for again, with that.
    assert_eq!(create(&harness, &CreateFacts { mutable_parameters: mutable(&[("readIops", "501")]), ..made.clone() }), Ok(volume.clone()));
    assert_eq!(published(), mutable(&[("readIops", "501"), ("queueDepth", "64")]));

    for _ in 0..10 {
        harness.modify::<Rbd>(&volume.id, &mutable(&[("readIops", "0"), ("writeBytesPerSecond", "100Mi"), ("csi.storage.k8s.io/pvc/name", "claim")])).unwrap();
    }
    let told = published();
    assert_eq!(told, mutable(&[("queueDepth", "64"), ("writeBytesPerSecond", "104857600")]));
    // Of several that are asked for one is wrong: none is set.
    let refusal = harness.modify::<Rbd>(&volume.id, &mutable(&[("readIops", "90"), ("writeIops", "many")])).unwrap_err();
    assert!(refusal.code() == "INVALID_ARGUMENT" && refusal.words().contains("`writeIops`"), "{refusal:?}");
    assert_eq!(published(), told);
    assert_eq!(code(&harness.modify::<Rbd>(&volume.id.replace("csi-vol-", "csi-vul-"), &mutable(&[("readIops", "90")]))), "NOT_FOUND");

    let facts = VolumeFacts {
        publish_context: told,
        volume_context: volume.context.with("mapOptions", "queue_depth=128,alloc_size=4096"),
        ..VolumeFacts::new(&volume.id, Capability::block())
    };
    let Source::Rbd { options, .. } = harness.attach::<Rbd>(&facts).unwrap().source else { panic!() };
    assert_eq!((options.queue_depth, options.alloc_size, options.limits.write_rate, options.limits.read_iops), (64, 4096, 100 * MIB, 0));
    // Of a later version, or of somebody else's making.
    let odd = VolumeFacts { publish_context: mutable(&[("readIops", "1 per day")]), ..facts };
    assert_eq!(code(&harness.attach::<Rbd>(&odd)), "INVALID_ARGUMENT");
}
