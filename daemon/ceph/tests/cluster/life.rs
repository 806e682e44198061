//! Images from their making to their end, and what that costs.

use crate::fixture::{ceph, name};
use std::collections::BTreeMap;
use windlass_plan::rbd::{Feature, ImageWish};

pub(crate) fn wish(size: u64) -> ImageWish {
    let metadata = BTreeMap::from([("windlass.driver".to_owned(), "rbd".to_owned()), ("b".to_owned(), "2".to_owned()), ("c".to_owned(), "ä 3".to_owned())]);
    ImageWish { size, features: Feature::ALL.to_vec(), object_size: None, striping: None, data_pool: None, metadata }
}

#[test]
fn ceph_try() {
    let (ceph, at) = (ceph(), ceph().pool("try"));
    let cluster = ceph.cluster();
    for i in 0..3 {
        let image = name(&format!("image-{i}"));
        let before = ceph.operations();
        let made = cluster.create(&at, &image, &wish(1 << 30)).unwrap();
        let after = ceph.operations();
        println!("create {} {made:?}", after - before);
        let before = ceph.operations();
        let seen = cluster.stat(&at, &image).unwrap();
        println!("stat {} {}", ceph.operations() - before, seen.as_ref() == Some(&made.0));
        println!("{}", ceph.rbd(&["image-meta", "list", &format!("try/{image}")]).unwrap());
    }
}
