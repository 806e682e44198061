//! The reference driver's snapshots and copies in the SDK's harness: ids, idempotency, sizes, pages.

use std::collections::BTreeSet;
use windlass_local::Local;
use windlass_plugin_sdk::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn harness() -> Harness {
    Harness::new().folder("volumes", 100 * GIB)
}

fn volume(harness: &Harness, name: &str, kind: Option<FilesystemKind>) -> Volume {
    harness.create_volume::<Local>(&CreateFacts::new(name, 0, Capability::mount(kind))).unwrap()
}

fn cut(harness: &Harness, name: &str, volume: &str) -> Result<Snapshot, Refusal> {
    harness.create_file_snapshot::<Local>(&SnapshotFacts::new(name, volume))
}

fn from(name: &str, required: u64, source: ContentSource) -> CreateFacts {
    CreateFacts { source: Some(source), ..CreateFacts::new(name, required, Capability::mount(None)) }
}

/// The code of a refusal, or `OK`.
fn code<T>(result: &Result<T, Refusal>) -> &'static str {
    result.as_ref().err().map_or("OK", Refusal::code)
}

fn list(harness: &Harness, snapshot: Option<&str>, volume: Option<&str>) -> Vec<String> {
    let filter = SnapshotFilter { snapshot: snapshot.map(str::to_owned), volume: volume.map(str::to_owned) };
    harness.list_snapshots::<Local>(&filter, 500, "").unwrap().snapshots.into_iter().map(|snapshot| snapshot.id).collect()
}

#[test]
fn a_snapshot_is_found_by_its_name_and_outlives_its_volume() {
    let harness = harness();
    assert!(harness.describe::<Local>().clones);
    let (a, b) = (volume(&harness, "a", None), volume(&harness, "b", None));
    let first = cut(&harness, "s", &a.id).unwrap();
    assert!(first.ready && first.created > 1_600_000_000 && first.size == GIB && first.volume == a.id, "{first:?}");
    assert_eq!(cut(&harness, "s", &a.id), Ok(first.clone()));
    assert_eq!(code(&cut(&harness, "s", &b.id)), "ALREADY_EXISTS");
    for nothing in ["vol-00000000000000000000000000000000", "x", "../etc/passwd", &first.id] {
        assert_eq!(code(&cut(&harness, "t", nothing)), "NOT_FOUND", "{nothing}");
    }
    let facts = SnapshotFacts { parameters: Context::from([("speed", "fast")]), ..SnapshotFacts::new("t", &*a.id) };
    assert_eq!(code(&harness.create_file_snapshot::<Local>(&facts)), "INVALID_ARGUMENT");
    harness.delete_volume::<Local>(&a.id).unwrap();
    assert_eq!(cut(&harness, "s", &a.id), Ok(first.clone()));
    for _ in 0..2 {
        harness.delete_file_snapshot::<Local>(&first.id).unwrap();
    }
    assert_eq!(code(&cut(&harness, "s", &a.id)), "NOT_FOUND");
}

#[test]
fn neither_passes_for_the_other() {
    let harness = harness();
    let a = volume(&harness, "same", None);
    let s = cut(&harness, "same", &a.id).unwrap();
    assert_eq!(a.id[4..], s.id[5..], "one name, two ids that differ in what they begin with");
    for hostile in [&*s.id, "snap-", "vol-", "snap-/../vol-", "vol-snap-00000000000000000000000000000000", "", "."] {
        assert_eq!(harness.delete_volume::<Local>(hostile), Ok(()), "{hostile}");
        assert_eq!(code(&harness.expand::<Local>(hostile, GIB, 0)), "NOT_FOUND", "{hostile}");
        assert_eq!(code(&harness.create_volume::<Local>(&from("c", 0, ContentSource::Volume(hostile.into())))), "NOT_FOUND", "{hostile}");
        assert_eq!(code(&harness.attach::<Local>(&VolumeFacts::new(hostile, Capability::mount(None)))), "NOT_FOUND", "{hostile}");
    }
    for hostile in [&*a.id, "snap-", "vol-", "snap-../../../../etc/shadow", ""] {
        assert_eq!(harness.delete_file_snapshot::<Local>(hostile), Ok(()), "{hostile}");
        assert_eq!(code(&harness.create_volume::<Local>(&from("c", 0, ContentSource::Snapshot(hostile.into())))), "NOT_FOUND", "{hostile}");
    }
    assert_eq!(harness.files("volumes").len(), 2);
    let listed: Vec<String> = harness.list_volumes::<Local>(500, "").unwrap().volumes.into_iter().map(|volume| volume.id).collect();
    assert_eq!((listed, list(&harness, None, None)), (vec![a.id.clone()], vec![s.id.clone()]));
    assert_eq!(code(&harness.list_volumes::<Local>(1, &s.id)), "ABORTED");
    assert_eq!(code(&harness.list_snapshots::<Local>(&SnapshotFilter::default(), 1, &a.id)), "ABORTED");
    // What somebody else put there is nobody's, and stays.
    for name in ["vol-00000000000000000000000000000000", "snap-00000000000000000000000000000000"] {
        harness.put("volumes", File { name: name.into(), size: MIB, properties: Context::new() });
    }
    assert_eq!(list(&harness, None, None), [&*s.id]);
    assert_eq!(code(&harness.delete_file_snapshot::<Local>("snap-00000000000000000000000000000000")), "FAILED_PRECONDITION");
}

#[test]
fn a_copy_has_its_sources_file_system_and_at_least_its_size() {
    let harness = harness();
    let xfs = volume(&harness, "xfs", Some(FilesystemKind::Xfs));
    let snapshot = cut(&harness, "s", &xfs.id).unwrap();
    for (n, source) in [ContentSource::Volume(xfs.id.clone()), ContentSource::Snapshot(snapshot.id.clone())].into_iter().enumerate() {
        let range = |required, limit| CreateFacts { capacity: CapacityRange { required, limit }, ..from(&format!("c{n}"), 0, source.clone()) };
        for (required, limit, want) in [(MIB, 0, "OUT_OF_RANGE"), (0, GIB - 1, "OUT_OF_RANGE"), (2 * GIB, GIB, "OUT_OF_RANGE"), (1 << 60, 0, "OUT_OF_RANGE")] {
            assert_eq!(code(&harness.create_volume::<Local>(&range(required, limit))), want, "{required}..{limit}");
        }
        let ext4 = CreateFacts { capabilities: vec![Capability::mount(Some(FilesystemKind::Ext4))], ..range(0, 0) };
        assert_eq!(code(&harness.create_volume::<Local>(&ext4)), "INVALID_ARGUMENT");
        let larger = harness.create_volume::<Local>(&CreateFacts { name: format!("large-{n}"), ..range(2 * GIB, 0) }).unwrap();
        assert_eq!(larger.capacity, 2 * GIB);
        let made = harness.create_volume::<Local>(&range(0, 0)).unwrap();
        assert_eq!((made.capacity, &made.source), (GIB, &Some(source.clone())));
        assert_eq!(made.context, Context::from([("filesystem", "xfs"), ("content", "copy")]));
        let facts = VolumeFacts { volume_context: made.context.clone(), ..VolumeFacts::new(&*made.id, Capability::mount(None)) };
        let plan = harness.attach::<Local>(&facts).unwrap();
        assert_eq!((plan.content, plan.filesystem.unwrap().kind), (Content::Copy, FilesystemKind::Xfs));
        let facts = ValidateFacts {
            volume: made.id.clone(),
            volume_context: made.context.clone(),
            capabilities: vec![Capability::mount(None)],
            parameters: Context::from([("csi.storage.k8s.io/fstype", "xfs")]),
            mutable_parameters: Context::new(),
        };
        assert_eq!(harness.validate::<Local>(&facts), Ok(None));
        let blank = ValidateFacts { volume: xfs.id.clone(), ..facts };
        assert!(harness.validate::<Local>(&blank).unwrap().unwrap().contains("`content`"));
    }
}

#[test]
fn a_copys_name_is_taken_by_its_source_too() {
    let harness = harness();
    let (a, b) = (volume(&harness, "a", None), volume(&harness, "b", None));
    let s = cut(&harness, "s", &a.id).unwrap();
    let of_snapshot = || from("copy", 0, ContentSource::Snapshot(s.id.clone()));
    let made = harness.create_volume::<Local>(&of_snapshot()).unwrap();
    for (source, want) in [
        (None, "ALREADY_EXISTS"),
        (Some(ContentSource::Volume(a.id.clone())), "ALREADY_EXISTS"),
        (Some(ContentSource::Volume(b.id.clone())), "ALREADY_EXISTS"),
        (Some(ContentSource::Volume(s.id.clone())), "ALREADY_EXISTS"),
        (Some(ContentSource::Snapshot("../x".into())), "ALREADY_EXISTS"),
        (Some(ContentSource::Snapshot(s.id.clone())), "OK"),
    ] {
        assert_eq!(code(&harness.create_volume::<Local>(&CreateFacts { source, ..of_snapshot() })), want);
    }
    assert_eq!(code(&harness.create_volume::<Local>(&from("a", 0, ContentSource::Snapshot(s.id.clone())))), "ALREADY_EXISTS", "one that was made blank");
    // The source may be gone: the volume is what it is.
    harness.delete_volume::<Local>(&a.id).unwrap();
    harness.delete_file_snapshot::<Local>(&s.id).unwrap();
    assert_eq!(harness.create_volume::<Local>(&of_snapshot()), Ok(made));
    assert_eq!(code(&harness.create_volume::<Local>(&from("late", 0, ContentSource::Snapshot(s.id.clone())))), "NOT_FOUND");
}

#[test]
fn snapshots_are_listed_by_id_and_by_volume_and_pages_outlive_deletions() {
    let harness = harness();
    let (a, b) = (volume(&harness, "a", None), volume(&harness, "b", None));
    let of_a: BTreeSet<String> = (0..7).map(|n| cut(&harness, &format!("a{n}"), &a.id).unwrap().id).collect();
    let of_b: BTreeSet<String> = (0..5).map(|n| cut(&harness, &format!("b{n}"), &b.id).unwrap().id).collect();
    let one = of_b.first().unwrap();
    assert_eq!(list(&harness, None, Some(&a.id)).into_iter().collect::<BTreeSet<_>>(), of_a);
    assert_eq!((list(&harness, Some(one), None), list(&harness, Some(one), Some(&b.id))), (vec![one.clone()], vec![one.clone()]));
    for (snapshot, volume) in [(Some(&**one), Some(&*a.id)), (Some("none"), None), (None, Some("none")), (Some(&*a.id), None), (None, Some(&**one))] {
        assert_eq!(list(&harness, snapshot, volume), Vec::<String>::new(), "{snapshot:?} {volume:?}");
    }
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let page = harness.list_snapshots::<Local>(&SnapshotFilter::default(), 2, &token).unwrap();
        seen.extend(page.snapshots.iter().map(|snapshot| snapshot.id.clone()));
        // The one that the token names.
        page.snapshots.iter().for_each(|snapshot| harness.delete_file_snapshot::<Local>(&snapshot.id).unwrap());
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 12);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), of_a.union(&of_b).cloned().collect());
    for token in ["x", "snap-", "../..", "snap-zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"] {
        assert_eq!(code(&harness.list_snapshots::<Local>(&SnapshotFilter::default(), 1, token)), "ABORTED", "{token}");
    }
}
