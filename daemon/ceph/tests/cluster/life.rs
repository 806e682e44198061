//! Images from their making to their end, and what that costs.

use crate::fixture::{Shared, alone, ceph, name, operations_of, wish};
use std::collections::BTreeMap;
use windlass_ceph::CephError;
use windlass_plan::plugin::RefusalKind;
use windlass_plan::rbd::{Feature, Holder, PoolAt, Striping};

const GIB: u64 = 1 << 30;

#[test]
fn ceph_an_image_is_made_with_its_metadata_in_nine_operations_and_seen_in_two() {
    let _alone = alone();
    let (at, cluster) = (ceph().pool("made"), ceph().cluster());
    let mut made = Vec::new();
    let operations = operations_of(|round| made.push(cluster.create(&at, &name(&format!("image-{round}")), &wish(GIB)).unwrap()));
    assert_eq!(operations, 9);

    for (round, (image, is_new)) in made.iter().enumerate() {
        assert!(is_new);
        assert_eq!(image.name, name(&format!("image-{round}")));
        assert_eq!((image.size, image.features, image.object_size), (GIB, 61, 4 << 20));
        assert_eq!((image.striping, &image.data_pool), (None, &None));
        assert_eq!(image.metadata, wish(GIB).metadata);
        assert_eq!(image.identity.fsid, ceph().ceph(&["fsid"]).unwrap().trim());
    }
    assert_eq!(operations_of(|_| assert_eq!(cluster.stat(&at, &name("image-0")).unwrap().as_ref(), Some(&made[0].0))), 2);
    assert_eq!(operations_of(|_| assert_eq!(cluster.stat(&at, &name("none")).unwrap(), None)), 0, "an OSD does not count what it has no object for");

    // Ceph's own tools see the same.
    let seen: serde_json::Value = serde_json::from_str(&ceph().rbd(&["info", "--format", "json", "made/image-0"]).unwrap()).unwrap();
    assert_eq!((seen["id"].as_str(), seen["size"].as_u64()), (Some(made[0].0.identity.image.as_str()), Some(GIB)));
    let metadata: BTreeMap<String, String> = serde_json::from_str(&ceph().rbd(&["image-meta", "list", "--format", "json", "made/image-0"]).unwrap()).unwrap();
    assert_eq!(metadata, wish(GIB).metadata);
}

#[test]
fn ceph_an_image_that_exists_is_returned_as_it_is() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("exists"), ceph().cluster());
    let (first, _) = cluster.create(&at, &name("a"), &wish(GIB)).unwrap();
    let (again, is_new) = cluster.create(&at, &name("a"), &wish(2 * GIB)).unwrap();
    assert_eq!((again, is_new), (first, false));

    // Whoever made this one died before it noted anything.
    ceph().rbd(&["create", "--size", "1G", "exists/b"]).unwrap();
    let (half, is_new) = cluster.create(&at, &name("b"), &wish(GIB)).unwrap();
    assert!(!is_new && half.metadata.is_empty());
    cluster.set_metadata(&at, &name("b"), &wish(GIB).metadata).unwrap();
    assert_eq!(cluster.stat(&at, &name("b")).unwrap().unwrap().metadata, wish(GIB).metadata);
    assert!(matches!(cluster.set_metadata(&at, &name("c"), &wish(GIB).metadata), Err(CephError::NotFound { .. })));
}

#[test]
fn ceph_a_name_without_an_image_is_in_nobodys_way() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("half"), ceph().cluster());
    for image in ["made", "deleted", "seen"] {
        let (half, _) = cluster.create(&at, &name(image), &wish(GIB)).unwrap();
        // As after a death between the objects that make an image.
        ceph().rados(&["-p", "half", "rm", &format!("rbd_header.{}", half.identity.image)]).unwrap();
        assert_eq!(cluster.stat(&at, &name(image)).unwrap(), None);
    }
    let (made, is_new) = cluster.create(&at, &name("made"), &wish(GIB)).unwrap();
    assert!(is_new);
    assert_eq!(cluster.stat(&at, &name("made")).unwrap(), Some(made.clone()));
    for _ in 0..2 {
        cluster.delete(&at, &name("deleted")).unwrap();
    }
    cluster.release(&at, &name("seen"), Some(&Holder { node: name("n1"), addresses: Vec::new() })).unwrap();
    assert!(matches!(cluster.resize(&at, &name("seen"), GIB), Err(CephError::NotFound { .. })));
    assert_eq!(cluster.list(&at, "", 10).unwrap(), [made]);
    assert_eq!(ceph().rbd(&["ls", "half"]).unwrap().split_whitespace().collect::<Vec<_>>(), ["made", "seen"]);
}

#[test]
fn ceph_an_image_is_laid_out_as_wished() {
    let _shared = Shared::take();
    let (at, data, cluster) = (ceph().pool("layout"), ceph().pool("layout-data"), ceph().cluster());
    let striping = Some(Striping { unit: 64 << 10, count: 4 });
    let wanted = |data_pool| windlass_plan::rbd::ImageWish { features: vec![Feature::Layering], object_size: Some(1 << 20), striping, data_pool, ..wish(GIB) };
    let (image, _) = cluster.create(&at, &name("a"), &wanted(Some(data.pool.clone()))).unwrap();
    assert_eq!((image.object_size, image.striping, image.data_pool), (1 << 20, striping, Some(data.pool)));

    let error = cluster.create(&at, &name("b"), &wanted(Some(name("nowhere")))).unwrap_err();
    assert_eq!(error.kind(), RefusalKind::Invalid);
    assert!(error.to_string().contains("no pool nowhere"), "{error}");
    assert!(matches!(error, CephError::NoPool { known, .. } if known.contains(&"layout-data".to_owned())));
    for bad in [
        windlass_plan::rbd::ImageWish { object_size: Some(3 << 20), ..wish(GIB) },
        windlass_plan::rbd::ImageWish { object_size: Some(64 << 20), ..wish(GIB) },
        windlass_plan::rbd::ImageWish { striping: Some(Striping { unit: 3 << 10, count: 2 }), ..wish(GIB) },
        windlass_plan::rbd::ImageWish { features: vec![Feature::FastDiff], ..wish(GIB) },
        windlass_plan::rbd::ImageWish { metadata: BTreeMap::from([("k".to_owned(), "v".repeat(70_000))]), ..wish(GIB) },
    ] {
        assert_eq!(cluster.create(&at, &name("bad"), &bad).unwrap_err().kind(), RefusalKind::Invalid, "{bad:?}");
    }
    assert_eq!(cluster.stat(&at, &name("bad")).unwrap(), None);
}

#[test]
fn ceph_a_namespace_must_be_there() {
    let _shared = Shared::take();
    let (pool, cluster) = (ceph().pool("spaces"), ceph().cluster());
    let at = PoolAt { namespace: Some(name("tenant")), ..pool.clone() };
    let error = cluster.create(&at, &name("a"), &wish(GIB)).unwrap_err();
    assert!(matches!(error, CephError::NoNamespace { .. }), "{error}");
    ceph().rbd(&["namespace", "create", "spaces/tenant"]).unwrap();
    cluster.create(&at, &name("a"), &wish(GIB)).unwrap();
    assert_eq!(cluster.stat(&pool, &name("a")).unwrap(), None, "the default namespace is another");
    cluster.delete(&at, &name("a")).unwrap();
    assert_eq!(cluster.purge(&at, "", 10).unwrap().removed, 1);
}

#[test]
fn ceph_an_image_grows_and_never_shrinks() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("grow"), ceph().cluster());
    cluster.create(&at, &name("a"), &wish(GIB)).unwrap();
    for (asked, size) in [(2 * GIB, 2 * GIB), (GIB, 2 * GIB), (2 * GIB, 2 * GIB), (2 * GIB + 512, 2 * GIB + 512)] {
        assert_eq!(cluster.resize(&at, &name("a"), asked).unwrap().size, size);
        assert_eq!(cluster.stat(&at, &name("a")).unwrap().unwrap().size, size);
    }
    assert!(matches!(cluster.resize(&at, &name("b"), GIB), Err(CephError::NotFound { .. })));
}

#[test]
fn ceph_images_are_listed_page_by_page() {
    let _alone = alone();
    let (at, cluster) = (ceph().pool("many"), ceph().cluster());
    assert_eq!(cluster.list(&at, "", 10).unwrap(), []);
    let bare = windlass_plan::rbd::ImageWish { features: vec![Feature::Layering], metadata: BTreeMap::new(), ..wish(GIB) };
    let names: Vec<String> = (0..25).map(|number| format!("image-{number:02}")).collect();
    for one in &names {
        cluster.create(&at, &name(one), &bare).unwrap();
    }
    ceph().rbd(&["create", "--size", "1G", "many/image-03 of somebody else"]).unwrap();
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = cluster.list(&at, &after, 10).unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() == 10 || last.name == name("image-24"));
        after = last.name.to_string();
        seen.extend(page.into_iter().map(|image| image.name.to_string()));
    }
    assert_eq!(seen, names);
    let all: Vec<String> = cluster.names(&at, "", 1000).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(all, names);
    assert_eq!(operations_of(|_| assert_eq!(cluster.names(&at, "image-09", 10).unwrap().len(), 10)), 1);
    // A page of ten from the middle: the directory once, each image once.
    assert_eq!(operations_of(|_| assert_eq!(cluster.list(&at, "image-09", 10).unwrap().len(), 10)), 11);
}

#[test]
fn ceph_an_image_is_deleted_in_43_operations_at_most_and_purged_later() {
    let _alone = alone();
    let (at, cluster) = (ceph().pool("gone"), ceph().cluster());
    for round in 0..3 {
        cluster.create(&at, &name(&format!("image-{round}")), &wish(GIB)).unwrap();
    }
    let operations = operations_of(|round| cluster.delete(&at, &name(&format!("image-{round}"))).unwrap());
    // One of them (closing a watch) is not always waited for.
    assert!((42..=43).contains(&operations), "{operations}");
    // Not even a name in the pool's directory, which somebody who died may have left: that is a look more.
    let again = operations_of(|_| cluster.delete(&at, &name("image-0")).unwrap());
    assert!(again <= 1, "a deleted one is found not to be there: {again}");
    assert_eq!(cluster.list(&at, "", 10).unwrap(), []);

    // What an operator moved to the trash is the operator's.
    ceph().rbd(&["create", "--size", "1G", "gone/kept"]).unwrap();
    ceph().rbd(&["trash", "mv", "gone/kept"]).unwrap();
    let first = cluster.purge(&at, "", 2).unwrap();
    assert_eq!((first.removed, first.kept), (2, 0));
    let second = cluster.purge(&at, &first.next.unwrap(), 2).unwrap();
    assert_eq!((second.removed, second.kept, second.next), (1, 0, None));
    assert_eq!(cluster.purge(&at, "", 2).unwrap(), windlass_ceph::Purged::default());
    let trash = ceph().rbd(&["trash", "ls", "gone"]).unwrap();
    assert!(trash.lines().count() == 1 && trash.contains("kept"), "{trash}");
}

#[test]
fn ceph_a_deleted_image_with_a_snapshot_waits_in_the_trash() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("waits"), ceph().cluster());
    let (image, _) = cluster.create(&at, &name("a"), &wish(GIB)).unwrap();
    ceph().rbd(&["snap", "create", "waits/a@s"]).unwrap();
    cluster.delete(&at, &name("a")).unwrap();
    assert_eq!(cluster.stat(&at, &name("a")).unwrap(), None);
    let purged = cluster.purge(&at, "", 10).unwrap();
    assert_eq!((purged.removed, purged.kept), (0, 1));
    ceph().rbd(&["snap", "purge", "--pool", "waits", "--image-id", &image.identity.image]).unwrap();
    assert_eq!(cluster.purge(&at, "", 10).unwrap().removed, 1);
    assert_eq!(ceph().rbd(&["trash", "ls", "waits"]).unwrap(), "");
}
