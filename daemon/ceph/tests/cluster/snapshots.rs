//! Snapshots, images made from them, and what becomes of both when their source goes.

use crate::fixture::{Shared, alone, ceph, name, operations_of, wish};
use std::collections::BTreeMap;
use windlass_ceph::{COPY_OF, CephError, MOST_ANCESTORS, SnapshotAt};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::rbd::{Feature, Hold, Holder, ImageWish, RbdName};

const GIB: u64 = 1 << 30;

fn node() -> Holder {
    Holder { node: name("n1"), addresses: vec!["10.9.8.7".parse().unwrap()] }
}

fn names(snapshots: &[windlass_plan::rbd::SnapshotFacts]) -> Vec<&str> {
    snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect()
}

#[test]
fn ceph_snapshots_are_taken_once_listed_and_deleted() {
    let _alone = alone();
    let (at, cluster, image) = (ceph().pool("snaps"), ceph().cluster(), name("a"));
    cluster.create(&at, &image, &wish(GIB)).unwrap();
    assert_eq!(cluster.snapshots(&at, &image).unwrap(), []);
    let (first, is_new) = cluster.snapshot(&at, &image, &name("s1")).unwrap();
    assert!(is_new && first.size == GIB && first.created > 1_600_000_000, "{first:?}");
    cluster.resize(&at, &image, 2 * GIB).unwrap();
    assert_eq!(cluster.snapshot(&at, &image, &name("s1")).unwrap(), (first.clone(), false));
    let (second, _) = cluster.snapshot(&at, &image, &name("s2")).unwrap();
    assert_eq!(second.size, 2 * GIB);
    assert_eq!(operations_of(|_| assert_eq!(cluster.snapshots(&at, &image).unwrap(), [first.clone(), second.clone()])), 3);

    ceph().rbd(&["snap", "protect", "snaps/a@s2"]).unwrap();
    let error = cluster.delete_snapshot(&at, &image, &name("s2")).unwrap_err();
    assert!(error.kind() == RefusalKind::Precondition && error.to_string().contains("snaps/a@s2"), "{error}");
    for _ in 0..2 {
        cluster.delete_snapshot(&at, &image, &name("s1")).unwrap();
    }
    assert_eq!(cluster.snapshots(&at, &image).unwrap(), [second]);
    cluster.delete_snapshot(&at, &name("none"), &name("s1")).unwrap();
    for missing in [cluster.snapshots(&at, &name("none")).map(drop), cluster.snapshot(&at, &name("none"), &name("s1")).map(drop)] {
        assert!(matches!(missing, Err(CephError::NotFound { .. })), "{missing:?}");
    }
}

#[test]
fn ceph_a_snapshot_and_an_image_of_its_own_cost_no_more_than_eighty_operations() {
    let _alone = alone();
    let (at, cluster, image) = (ceph().pool("cost"), ceph().cluster(), name("a"));
    cluster.create(&at, &image, &wish(GIB)).unwrap();
    let metadata = BTreeMap::from([("windlass.snapshot".to_owned(), "nightly".to_owned())]);
    let operations = operations_of(|round| {
        let (snapshot, clone) = (name(&format!("windlass.{round}")), name(&format!("copy-{round}")));
        cluster.snapshot(&at, &image, &snapshot).unwrap();
        let (copy, is_new) = cluster
            .copy(SnapshotAt { at: &at, image: &image, snapshot: &snapshot }, &at, &clone, &ImageWish { metadata: metadata.clone(), ..wish(GIB) }, None)
            .unwrap();
        assert!(is_new && copy.size == GIB && copy.features & Feature::FastDiff.bit() != 0);
        assert_eq!(copy.metadata["windlass.snapshot"], "nightly");
        assert_eq!(copy.metadata["windlass.driver"], "rbd", "what the source had comes along");
    });
    assert!(operations <= 80, "{operations}");
    println!("snapshot and clone: {operations} operations");
}

#[test]
fn ceph_a_copy_has_its_sources_bytes_and_outlives_it() {
    let _shared = Shared::take();
    let (at, other, cluster) = (ceph().pool("copies"), ceph().pool("copies-other"), ceph().cluster());
    let (source, snapshot) = (name("source"), name("windlass.1"));
    cluster.create(&at, &source, &wish(GIB)).unwrap();
    ceph().rbd(&["bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", "copies/source"]).unwrap();
    cluster.snapshot(&at, &source, &snapshot).unwrap();
    let from = SnapshotAt { at: &at, image: &source, snapshot: &snapshot };
    for (to, copy) in [(&at, "near"), (&other, "far")] {
        let (made, is_new) = cluster.copy(from, to, &name(copy), &wish(GIB), None).unwrap();
        assert!(is_new);
        assert_eq!(cluster.copy(from, to, &name(copy), &wish(GIB), None).unwrap(), (made, false));
        // A copy was written to, by its source.
        assert!(!cluster.claim(to, &name(copy), Hold::Writer, &node()).unwrap().is_never_written);
        cluster.release(to, &name(copy), Some(&node())).unwrap();
    }
    let missing = cluster.copy(SnapshotAt { snapshot: &name("none"), ..from }, &at, &name("c"), &wish(GIB), None).unwrap_err();
    assert!(matches!(missing, CephError::NotFound { .. }) && missing.to_string().contains("copies/source@none"), "{missing}");

    cluster.delete_snapshot(&at, &source, &snapshot).unwrap();
    assert_eq!(names(&cluster.snapshots(&at, &source).unwrap()), Vec::<&str>::new(), "it lives on under no name");
    cluster.delete(&at, &source).unwrap();
    assert_eq!(cluster.purge(&at, "", 10).unwrap().kept, 1);
    let written = |image: &str| ceph().rbd(&["diff", "--whole-object", image]).unwrap().lines().count();
    assert!(written("copies-other/far") > 1, "it reads through to what was deleted");

    for (to, copy) in [(&at, "near"), (&other, "far")] {
        for _ in 0..2 {
            cluster.flatten(to, &name(copy)).unwrap();
        }
        assert!(!ceph().rbd(&["info", &format!("{}/{copy}", to.pool)]).unwrap().contains("parent"));
    }
    assert!(matches!(cluster.flatten(&at, &name("none")), Err(CephError::NotFound { .. })));
    assert!(written("copies-other/far") > 1);
    assert_eq!(cluster.purge(&at, "", 10).unwrap().removed, 1);
    assert_eq!(ceph().rbd(&["trash", "ls", "--all", "copies"]).unwrap(), "");
}

#[test]
fn ceph_a_copy_that_was_left_half_made_is_never_taken_for_one() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("half-copy"), ceph().cluster());
    let (source, snapshot) = (name("source"), name("windlass.1"));
    cluster.create(&at, &source, &wish(GIB)).unwrap();
    ceph().rbd(&["bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", "half-copy/source"]).unwrap();
    cluster.snapshot(&at, &source, &snapshot).unwrap();
    let from = SnapshotAt { at: &at, image: &source, snapshot: &snapshot };

    // Blank, and without a parent: as a clone is before it is tied to one.
    cluster.create(&at, &name("a"), &ImageWish { metadata: BTreeMap::new(), ..wish(GIB) }).unwrap();
    let (made, is_new) = cluster.copy(from, &at, &name("a"), &wish(GIB), None).unwrap();
    assert!(is_new && made.metadata[COPY_OF].ends_with("@windlass.1"));
    assert!(ceph().rbd(&["info", "half-copy/a"]).unwrap().contains("parent: half-copy/source@windlass.1"));

    // The copy of a copy inherits the mark, and is not finished by that.
    cluster.snapshot(&at, &name("a"), &snapshot).unwrap();
    ceph().rbd(&["clone", "--rbd-default-clone-format", "2", "half-copy/a@windlass.1", "half-copy/b"]).unwrap();
    let (copied, is_new) = cluster.copy(SnapshotAt { image: &name("a"), ..from }, &at, &name("b"), &wish(GIB), None).unwrap();
    assert!(is_new && copied.metadata[COPY_OF] != made.metadata[COPY_OF]);
    // A finished copy of something else is returned as it is.
    assert_eq!(cluster.copy(from, &at, &name("b"), &wish(GIB), None).unwrap(), (copied, false));

    // What somebody wrote to, or uses, is nobody's leftover.
    for image in ["written", "held"] {
        ceph().rbd(&["create", "--size", "1G", &format!("half-copy/{image}")]).unwrap();
    }
    ceph().rbd(&["bench", "--io-type", "write", "--io-size", "4K", "--io-total", "4K", "half-copy/written"]).unwrap();
    cluster.claim(&at, &name("held"), Hold::Writer, &node()).unwrap();
    for image in ["written", "held"] {
        assert_eq!(cluster.copy(from, &at, &name(image), &wish(GIB), None).unwrap_err().kind(), RefusalKind::Precondition, "{image}");
        assert!(cluster.stat(&at, &name(image)).unwrap().is_some());
    }
}

#[test]
fn ceph_snapshots_of_ours_go_with_their_image_and_others_stay() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("leftover"), ceph().cluster());
    for image in ["a", "b"] {
        cluster.create(&at, &name(image), &wish(GIB)).unwrap();
        // What a crash between a snapshot, its copy and its end leaves.
        cluster.snapshot(&at, &name(image), &name("windlass.left")).unwrap();
    }
    cluster.snapshot(&at, &name("b"), &name("backup")).unwrap();
    for image in ["a", "b"] {
        cluster.delete(&at, &name(image)).unwrap();
    }
    let purged = cluster.purge(&at, "", 10).unwrap();
    assert_eq!((purged.removed, purged.kept), (1, 1));
    let trash = ceph().rbd(&["trash", "ls", "leftover"]).unwrap();
    let id = trash.split_whitespace().next().unwrap();
    assert!(ceph().rbd(&["snap", "ls", "--pool", "leftover", "--image-id", id]).unwrap().contains("backup"));
}

#[test]
fn ceph_ten_snapshots_at_once_are_all_taken() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("ten"), ceph().cluster());
    let images: Vec<RbdName> = (0..10).map(|number| name(&format!("image-{number}"))).collect();
    for image in &images {
        cluster.create(&at, image, &wish(GIB)).unwrap();
    }
    std::thread::scope(|scope| {
        for image in &images {
            scope.spawn(|| assert!(cluster.snapshot(&at, image, &name("s")).unwrap().1));
        }
    });
    assert!(images.iter().all(|image| names(&cluster.snapshots(&at, image).unwrap()) == ["s"]));
}

#[test]
fn ceph_a_journal_is_read_and_cut_and_nothing_else_is_touched() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("journal"), ceph().cluster());
    let object = name("csi.volumes.default");
    assert_eq!(cluster.journal(&at, &object, &["csi.volume.pvc-1"]).unwrap(), BTreeMap::new());
    cluster.remove_from_journal(&at, &object, &["csi.volume.pvc-1"]).unwrap();
    assert_eq!(ceph().rados(&["-p", "journal", "ls"]).unwrap(), "", "nothing was made by looking");
    for (key, value) in [("csi.volume.pvc-1", "uuid-1"), ("csi.volume.pvc-2", "uuid-2")] {
        ceph().rados(&["-p", "journal", "setomapval", object.as_str(), key, value]).unwrap();
    }
    let both = ["csi.volume.pvc-1", "csi.volume.none", "csi.volume.pvc-2"];
    let found = cluster.journal(&at, &object, &both).unwrap();
    assert_eq!(found, BTreeMap::from([("csi.volume.pvc-1".to_owned(), "uuid-1".to_owned()), ("csi.volume.pvc-2".to_owned(), "uuid-2".to_owned())]));
    for _ in 0..2 {
        cluster.remove_from_journal(&at, &object, &both[..2]).unwrap();
    }
    assert_eq!(cluster.journal(&at, &object, &both).unwrap().into_keys().collect::<Vec<_>>(), ["csi.volume.pvc-2"]);
    for _ in 0..2 {
        cluster.remove_from_journal(&at, &object, &[]).unwrap();
        assert_eq!(ceph().rados(&["-p", "journal", "ls"]).unwrap(), "", "without a key it is the object that goes");
    }
    for foreign in ["rbd_directory", "csx.volumes"] {
        assert_eq!(cluster.journal(&at, &name(foreign), &both).unwrap_err().kind(), RefusalKind::Invalid);
        assert_eq!(cluster.remove_from_journal(&at, &name(foreign), &both).unwrap_err().kind(), RefusalKind::Invalid);
    }
}

#[test]
fn ceph_a_copys_own_snapshot_goes_with_it_and_a_shared_one_stays() {
    let _shared = Shared::take();
    let (at, cluster, source) = (ceph().pool("own"), ceph().cluster(), name("source"));
    cluster.create(&at, &source, &wish(GIB)).unwrap();
    ceph().rbd(&["bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", "own/source"]).unwrap();
    for snapshot in ["windlass.one", "windlass.base"] {
        cluster.snapshot(&at, &source, &name(snapshot)).unwrap();
        let copy = SnapshotAt { at: &at, image: &source, snapshot: &name(snapshot) };
        cluster.copy(copy, &at, &name(&format!("of-{snapshot}-one")), &wish(GIB), None).unwrap();
    }
    for snapshot in ["windlass.one", "windlass.base"] {
        cluster.delete(&at, &name(&format!("of-{snapshot}-one"))).unwrap();
    }
    assert_eq!(cluster.purge(&at, "", 10).unwrap().removed, 2);
    assert_eq!(names(&cluster.snapshots(&at, &source).unwrap()), ["windlass.base"]);
    let all = ceph().rbd(&["snap", "ls", "--all", "own/source"]).unwrap();
    assert_eq!(all.lines().count(), 2, "nothing of it lives on under another name: {all}");

    // Deleted before its copy: it goes when the copy does, in the same round.
    let own = SnapshotAt { at: &at, image: &source, snapshot: &name("windlass.two") };
    cluster.snapshot(&at, &source, own.snapshot).unwrap();
    cluster.copy(own, &at, &name("copy-two"), &wish(GIB), None).unwrap();
    cluster.delete(&at, &source).unwrap();
    assert_eq!(cluster.purge(&at, "", 10).unwrap().kept, 1);
    cluster.delete(&at, &name("copy-two")).unwrap();
    while cluster.purge(&at, "", 10).unwrap().removed > 0 {}
    assert_eq!(ceph().rbd(&["trash", "ls", "--all", "own"]).unwrap(), "");
}

#[test]
fn ceph_a_chain_of_copies_is_cut_in_the_background_and_never_too_long() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("chain"), ceph().cluster());
    cluster.create(&at, &name("image-0"), &wish(64 << 20)).unwrap();
    ceph().rbd(&["bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", "chain/image-0"]).unwrap();
    let copy = |number: u32, ancestors: Option<u32>| {
        let (image, snapshot) = (name(&format!("image-{}", number - 1)), name(&format!("windlass.{number}")));
        cluster.snapshot(&at, &image, &snapshot).unwrap();
        cluster.copy(SnapshotAt { at: &at, image: &image, snapshot: &snapshot }, &at, &name(&format!("image-{number}")), &wish(GIB), ancestors)
    };
    let info = |number: u32| ceph().rbd(&["info", &format!("chain/image-{number}")]).unwrap();
    for number in 1..=MOST_ANCESTORS {
        copy(number, Some(if number == 3 { 2 } else { 99 })).unwrap();
    }
    let error = copy(MOST_ANCESTORS + 1, None).unwrap_err();
    assert!(error.kind() == RefusalKind::Unavailable && error.to_string().contains("independent"), "{error}");
    // The one that could not be copied any more. The one that was to have at most two behind it has a snapshot, and stays as it is as long.
    let (next, failure) = cluster.flatten_noted(&at, "", 10).unwrap();
    assert!(next.is_none() && failure.as_ref().is_some_and(|error| error.to_string().contains("snapshots")), "{failure:?}");
    for number in 1..=MOST_ANCESTORS {
        assert_eq!(info(number).contains("parent:"), number != MOST_ANCESTORS, "{}", info(number));
    }
    copy(MOST_ANCESTORS + 1, None).unwrap();
    assert_eq!(ceph().rados(&["-p", "chain", "listomapkeys", "windlass.flatten"]).unwrap().trim(), "image-3");
    // Once what was made from it is gone, and its snapshot with that, it is done.
    for number in (4..=MOST_ANCESTORS + 1).rev() {
        cluster.delete(&at, &name(&format!("image-{number}"))).unwrap();
    }
    while cluster.purge(&at, "", 100).unwrap().removed > 0 {}
    assert!(matches!(cluster.flatten_noted(&at, "", 10), Ok((None, None))));
    assert!(!info(3).contains("parent:"), "{}", info(3));
    assert_eq!(names(&cluster.snapshots(&at, &name("image-2")).unwrap()), Vec::<&str>::new(), "what it was made from is not needed any more");
    // A note of what is gone is forgotten; and there is nothing left to do.
    assert_eq!(ceph().rados(&["-p", "chain", "listomapkeys", "windlass.flatten"]).unwrap(), "");
}
