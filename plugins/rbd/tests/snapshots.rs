//! Snapshots and copies of volumes: cut once, found again, made into volumes of the same size or larger; and what ceph-csi left.

use windlass_plugin_sdk::*;
use windlass_rbd::Rbd;

const GIB: u64 = 1 << 30;
const UUID: &str = "0f0a3c1e-64b5-4e5f-9d3a-5a8a7e2d1c0b";

fn harness() -> Harness {
    Harness::new().cluster("ceph", &["rbd", "fast"]).secret("userID", "csi").secret("userKey", "AQ==")
}

fn pool(name: &str) -> RbdPool {
    RbdPool { cluster: "ceph".into(), pool: name.into(), namespace: String::new() }
}

fn wish(name: &str) -> CreateFacts {
    CreateFacts { parameters: Context::from([("clusterID", "ceph"), ("pool", "rbd")]), ..CreateFacts::new(name, 0, Capability::mount(None)) }
}

fn from(name: &str, source: &ContentSource) -> CreateFacts {
    CreateFacts { source: Some(source.clone()), ..wish(name) }
}

fn code<T>(result: &Result<T, Refusal>) -> &'static str {
    result.as_ref().err().map_or("OK", Refusal::code)
}

fn create(harness: &Harness, facts: &CreateFacts) -> Result<Volume, Refusal> {
    harness.create_rbd_volume::<Rbd>(facts)
}

/// A volume of 1 GiB, and a snapshot of it.
fn cut(harness: &Harness) -> (Volume, Snapshot) {
    let volume = create(harness, &wish("source")).unwrap();
    let snapshot = harness.create_snapshot::<Rbd>(&SnapshotFacts::new("nightly", &volume.id)).unwrap();
    (volume, snapshot)
}

fn image(id: &str) -> &str {
    id.rsplit('/').next().unwrap()
}

#[test]
fn a_snapshot_is_an_image_of_its_own_and_cut_once() {
    let harness = harness();
    let (volume, snapshot) = cut(&harness);
    assert_eq!((snapshot.size, snapshot.ready, snapshot.created > 1_600_000_000), (GIB, true, true));
    assert!(snapshot.id.starts_with("s1/ceph/rbd//csi-snap-") && snapshot.id.len() <= 128, "{}", snapshot.id);
    harness.expand_rbd::<Rbd>(&volume.id, 2 * GIB, 0).unwrap();
    assert_eq!(harness.create_snapshot::<Rbd>(&SnapshotFacts::new("nightly", &volume.id)), Ok(snapshot.clone()), "it is as it was cut");
    let other = create(&harness, &wish("other")).unwrap();
    assert_eq!(code(&harness.create_snapshot::<Rbd>(&SnapshotFacts::new("nightly", &other.id))), "ALREADY_EXISTS");
    assert_eq!(harness.snapshots(&pool("rbd"), image(&other.id)), Vec::<String>::new(), "a refused call leaves nothing");
    assert_eq!(harness.images(&pool("rbd")).len(), 3);

    // Neither id does what the other is for.
    assert_eq!(harness.delete_rbd_volume::<Rbd>(&snapshot.id), Ok(()));
    assert_eq!(harness.delete_snapshot::<Rbd>(&volume.id), Ok(()));
    assert_eq!(harness.images(&pool("rbd")).len(), 3);
    for _ in 0..2 {
        assert_eq!(harness.delete_snapshot::<Rbd>(&snapshot.id), Ok(()));
    }
    assert_eq!(harness.snapshots(&pool("rbd"), image(&volume.id)), Vec::<String>::new());
    assert_eq!(harness.images(&pool("rbd")).len(), 2);
    for nothing in ["", "snap-1", "s1/ceph/rbd//somebody-elses-image"] {
        assert_eq!(harness.delete_snapshot::<Rbd>(nothing), Ok(()), "{nothing}");
        assert_eq!(code(&create(&harness, &from("b", &ContentSource::Snapshot(nothing.into())))), "NOT_FOUND", "{nothing}");
    }
}

#[test]
fn what_cannot_be_cut_is_refused_by_name() {
    let harness = harness();
    let (volume, _) = cut(&harness);
    let missing = format!("1/ceph/rbd//csi-vol-{UUID}");
    let facts = |volume: &str, key: &str, value: &str| SnapshotFacts { parameters: Context::from([(key, value)]), ..SnapshotFacts::new("a", volume) };
    for (facts, want, word) in [
        (SnapshotFacts::new("a", &missing), "NOT_FOUND", UUID),
        (SnapshotFacts::new("a", "nothing"), "NOT_FOUND", "nothing"),
        (facts(&volume.id, "pool", "fast"), "INVALID_ARGUMENT", "`pool`"),
        (facts(&volume.id, "clusterID", "other"), "INVALID_ARGUMENT", "`clusterID`"),
        (facts(&volume.id, "snapshotNamePrefix", "a/"), "INVALID_ARGUMENT", "`snapshotNamePrefix`"),
        (facts(&volume.id, "flavour", "x"), "INVALID_ARGUMENT", "`flavour`"),
        (facts(&volume.id, "snapshotNamePrefix", "k8s-"), "OK", ""),
        (facts(&volume.id, "csi.storage.k8s.io/volumesnapshot/name", "x"), "OK", ""),
    ] {
        let answer = harness.create_snapshot::<Rbd>(&facts);
        assert_eq!(code(&answer), want, "{facts:?}");
        assert!(answer.is_ok() || answer.unwrap_err().words().contains(word), "{facts:?}");
    }
}

#[test]
fn a_volume_from_a_source_is_as_large_or_larger_and_never_formatted() {
    for is_clone in [false, true] {
        let harness = harness();
        let (volume, snapshot) = cut(&harness);
        let source = if is_clone { ContentSource::Volume(volume.id.clone()) } else { ContentSource::Snapshot(snapshot.id.clone()) };
        let sized = |required, limit| CreateFacts { capacity: CapacityRange { required, limit }, ..from("copy", &source) };
        for (required, limit) in [(GIB / 2, 0), (0, GIB / 2), (GIB - 1, GIB - 1)] {
            assert_eq!(code(&create(&harness, &sized(required, limit))), "OUT_OF_RANGE", "{required}..{limit}");
        }
        let made = create(&harness, &sized(2 * GIB, 0)).unwrap();
        assert_eq!((made.capacity, made.context.get("content"), made.context.get("filesystem")), (2 * GIB, Some("copy"), Some("ext4")));
        let plan = harness.attach::<Rbd>(&VolumeFacts { volume_context: made.context.clone(), ..VolumeFacts::new(&made.id, Capability::mount(None)) }).unwrap();
        assert_eq!(plan.content, Content::Copy);

        assert_eq!(create(&harness, &sized(2 * GIB, 0)), Ok(made.clone()));
        assert_eq!(code(&create(&harness, &CreateFacts { capacity: CapacityRange { required: GIB, limit: GIB }, ..from("copy", &source) })), "ALREADY_EXISTS");
        assert_eq!(code(&create(&harness, &wish("copy"))), "ALREADY_EXISTS", "not the same as one that is blank");
        let other = if is_clone { ContentSource::Snapshot(snapshot.id.clone()) } else { ContentSource::Volume(volume.id.clone()) };
        assert_eq!(code(&create(&harness, &CreateFacts { capacity: CapacityRange { required: 2 * GIB, limit: 0 }, ..from("copy", &other) })), "ALREADY_EXISTS");
        assert_eq!(code(&create(&harness, &from("source", &source))), "ALREADY_EXISTS", "a volume that was made blank is no copy");

        // It outlives its source, and the same call finds it still.
        assert_eq!(harness.delete_snapshot::<Rbd>(&snapshot.id), Ok(()));
        assert_eq!(harness.delete_rbd_volume::<Rbd>(&volume.id), Ok(()));
        assert_eq!(create(&harness, &sized(2 * GIB, 0)), Ok(made.clone()));
        assert_eq!(code(&create(&harness, &from("later", &source))), "NOT_FOUND");
        assert_eq!(harness.delete_rbd_volume::<Rbd>(&made.id), Ok(()));
        assert_eq!(harness.images(&pool("rbd")), []);
    }
}

#[test]
fn a_copy_keeps_its_file_system() {
    let (xfs, ext4) = (Capability::mount(Some(FilesystemKind::Xfs)), Capability::mount(Some(FilesystemKind::Ext4)));
    let harness = harness();
    let volume = create(&harness, &CreateFacts { capabilities: vec![xfs], ..wish("source") }).unwrap();
    let source = ContentSource::Volume(volume.id.clone());
    let asked = |name: &str, capability: Capability| create(&harness, &CreateFacts { capabilities: vec![capability], ..from(name, &source) });
    let refused = asked("a", ext4).unwrap_err();
    assert_eq!((refused.code(), refused.words().contains("xfs")), ("INVALID_ARGUMENT", true), "{}", refused.words());
    assert_eq!(asked("b", Capability::mount(None)).unwrap().context.get("filesystem"), Some("xfs"));
    assert_eq!(asked("c", Capability::block()).unwrap().context.get("filesystem"), None);
    // What only its source had, a copy has not.
    let parameters = wish("x").parameters.with("mapOptions", "queue_depth=64");
    let first = create(&harness, &CreateFacts { parameters, ..wish("optioned") }).unwrap();
    let copy = from("d", &ContentSource::Volume(first.id));
    assert_eq!(create(&harness, &copy).unwrap().context.get("mapOptions"), None);
    assert_eq!(code(&create(&harness, &copy)), "OK");
}

#[test]
fn what_a_crash_left_is_gone_on_with() {
    let harness = harness();
    let (volume, _) = cut(&harness);
    let source = ContentSource::Volume(volume.id.clone());
    let facts = CreateFacts { capacity: CapacityRange { required: 2 * GIB, limit: 0 }, ..from("copy", &source) };
    let made = create(&harness, &facts).unwrap();
    // Between making it and growing it.
    let half = harness.images(&pool("rbd")).into_iter().find(|one| one.name == image(&made.id)).unwrap();
    harness.put_image(&pool("rbd"), Image { size: GIB, ..half });
    assert_eq!(create(&harness, &facts), Ok(made.clone()));
    assert_eq!(harness.images(&pool("rbd")).into_iter().find(|one| one.name == image(&made.id)).unwrap().size, 2 * GIB);
    // A snapshot that an earlier copy of this name left is not the one that is copied.
    assert_eq!(harness.delete_rbd_volume::<Rbd>(&made.id), Ok(()));
    harness.expand_rbd::<Rbd>(&volume.id, 3 * GIB, 0).unwrap();
    assert_eq!(create(&harness, &from("copy", &source)).unwrap().capacity, 3 * GIB);
}

#[test]
fn snapshots_of_ceph_csi_are_restored_and_deleted_with_their_journal() {
    let id = format!("0001-0004-ceph-0000000000000002-{UUID}");
    for prefix in ["csi-snap-", "other-"] {
        let harness = harness();
        let at = pool("fast");
        let name = format!("{prefix}{UUID}");
        let kept = Image { name: name.clone(), id: "1022".into(), size: GIB, features: Features::LAYERING, data_pool: None, metadata: Context::new() };
        harness.put_image(&at, kept);
        harness.put_snapshot(&at, &name, &name);
        harness.put_journal(&at, &format!("csi.snap.{UUID}"), Context::from([("csi.snapname", "snapshot-1"), ("csi.imagename", name.as_str())]));
        harness.put_journal(&at, "csi.snaps.default", Context::from([("csi.snap.snapshot-1", UUID), ("csi.snap.snapshot-2", "other")]));
        let restored = create(&harness, &from("restored", &ContentSource::Snapshot(id.clone()))).unwrap();
        assert_eq!((restored.capacity, restored.context.get("content")), (GIB, Some("copy")));
        for _ in 0..2 {
            assert_eq!(harness.delete_snapshot::<Rbd>(&id), Ok(()));
        }
        assert_eq!(harness.images(&at), []);
        assert_eq!(harness.journal_of(&at, &format!("csi.snap.{UUID}")), None);
        assert_eq!(harness.journal_of(&at, "csi.snaps.default"), Some(Context::from([("csi.snap.snapshot-2", "other")])));
    }
}

#[test]
fn a_deleted_volume_of_ceph_csi_leaves_no_journal() {
    let id = format!("0001-0004-ceph-0000000000000002-{UUID}");
    // The name was given again, to another volume, or it is in the journal of another instance.
    for (instance, value, want) in [("default", UUID, None), ("default", "another", Some("another")), ("blue", UUID, Some(UUID))] {
        let harness = harness();
        let at = pool("fast");
        harness.put_journal(&at, &format!("csi.volume.{UUID}"), Context::from([("csi.volname", "pvc-1")]));
        harness.put_journal(&at, &format!("csi.volumes.{instance}"), Context::from([("csi.volume.pvc-1", value)]));
        for _ in 0..2 {
            assert_eq!(harness.delete_rbd_volume::<Rbd>(&id), Ok(()));
        }
        assert_eq!(harness.journal_of(&at, &format!("csi.volume.{UUID}")), None);
        let left = harness.journal_of(&at, &format!("csi.volumes.{instance}")).unwrap();
        assert_eq!(left.get("csi.volume.pvc-1"), want, "{instance}");
    }
    assert_eq!(harness().config("ceph_csi_instance", "a b").probe::<Rbd>().unwrap_err().code(), "FAILED_PRECONDITION");
}

#[test]
fn a_copy_has_the_limits_that_it_was_asked_to_have_and_not_its_sources() {
    let harness = harness();
    let limited = CreateFacts { mutable_parameters: Context::from([("readIops", "50"), ("writeIops", "60")]), ..wish("a") };
    let volume = create(&harness, &limited).unwrap();
    let copy = CreateFacts { mutable_parameters: Context::from([("readIops", "70")]), ..from("b", &ContentSource::Volume(volume.id)) };
    let made = create(&harness, &copy).unwrap();
    assert_eq!(create(&harness, &copy).unwrap(), made);
    let image = harness.images(&pool("rbd")).into_iter().find(|kept| kept.name == image(&made.id)).unwrap();
    let kept = |key: &str| image.metadata.get(&format!("windlass.mutable.{key}")).map(str::to_owned);
    assert_eq!((kept("readIops").as_deref(), kept("writeIops").as_deref()), (Some("70"), Some("")));
}
