//! Connections: shared, replaced, ended; and what a wrong word at the door is answered.

use crate::fixture::{Shared, alone, ceph, eventually, name, wish};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_ceph::{CephError, ClusterAccess, ClusterKey, Clusters, Limits};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::rbd::PoolAt;

fn clusters() -> Clusters {
    Clusters::new(Limits { connect: Duration::from_secs(4), ..Limits::default() })
}

#[test]
fn ceph_who_asks_at_once_shares_one_connection() {
    let _shared = Shared::take();
    let (clusters, access) = (clusters(), ceph().access("admin"));
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| clusters.connect(&access).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|one| Arc::ptr_eq(one, &all[0])));
    assert_eq!((clusters.count(), clusters.statistics().tallies()["connect"].ended), (1, 1));

    clusters.end_idle(Duration::ZERO);
    assert_eq!(clusters.count(), 1, "it is in use");
    drop(all);
    clusters.end_idle(Duration::from_secs(3600));
    assert_eq!(clusters.count(), 1, "it was used a moment ago");
    clusters.end_idle(Duration::ZERO);
    assert_eq!(clusters.count(), 0);
}

#[test]
fn ceph_a_wrong_key_is_refused_at_once_and_remembered_by_nobody() {
    let _shared = Shared::take();
    ceph().ceph(&["auth", "get-or-create", "client.turncoat", "mon", "profile rbd", "osd", "profile rbd"]).unwrap();
    let (clusters, right) = (clusters(), ceph().access("turncoat"));
    let with = |key: &str| ClusterAccess { key: ClusterKey::new(key.to_owned()), ..right.clone() };
    let wrong = "AQBBBBBBAAAAABAAqqqqqqqqqqqqqqqqqqqqqqqqqqqqqg==";
    for (what, access) in [
        ("another key", with(wrong)),
        ("no key", with("")),
        ("not a key", with("secret")),
        ("no such user", ClusterAccess { user: name("nobody"), ..right.clone() }),
    ] {
        let started = Instant::now();
        let error = clusters.connect(&access).map(drop).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5), "{what}: {:?}", started.elapsed());
        assert_eq!(error.kind(), RefusalKind::Unauthenticated, "{what}: {error} {error:?}");
        assert!(!format!("{error} {error:?}").contains(wrong), "{error:?}");
    }
    assert_eq!(clusters.count(), 0);
    clusters.connect(&right).unwrap();
}

#[test]
fn ceph_a_user_without_rights_is_told_which_it_needs() {
    let _shared = Shared::take();
    let at = ceph().pool("rights");
    ceph().cluster().create(&at, &name("a"), &wish(1 << 30)).unwrap();
    ceph().ceph(&["auth", "get-or-create", "client.reader", "mon", "profile rbd", "osd", "profile rbd-read-only pool=rights"]).unwrap();
    ceph().ceph(&["auth", "get-or-create", "client.writer", "mon", "profile rbd", "osd", "profile rbd pool=rights"]).unwrap();
    let clusters = clusters();
    let reader = clusters.connect(&ceph().access("reader")).unwrap();
    assert!(reader.stat(&at, &name("a")).unwrap().is_some());
    let error = reader.create(&at, &name("b"), &wish(1 << 30)).unwrap_err();
    assert_eq!(error.kind(), RefusalKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("profile rbd"), "{error}");

    // The rights that the text asks for are enough for everything.
    let writer = clusters.connect(&ceph().access("writer")).unwrap();
    writer.create(&at, &name("b"), &wish(1 << 30)).unwrap();
    let holder = windlass_plan::rbd::Holder { node: name("n1"), addresses: vec!["127.0.0.1".parse().unwrap()] };
    writer.claim(&at, &name("b"), windlass_plan::rbd::Hold::Writer, &holder).unwrap();
    let _watcher = ceph().beside("rbd", &["watch", "rights/b"]);
    eventually("somebody watches", || ceph().rbd(&["status", "rights/b"]).unwrap().contains("watcher=").then_some(()));
    writer.release(&at, &name("b"), Some(&holder)).unwrap();
    eventually("the fenced watch ends", || writer.delete(&at, &name("b")).ok());
    assert_eq!(writer.purge(&at, "", 10).unwrap().removed, 1);
}

#[test]
fn ceph_an_unknown_pool_is_named_with_those_that_there_are() {
    let _shared = Shared::take();
    ceph().pool("known");
    let error = ceph().cluster().stat(&PoolAt { pool: name("unknown"), namespace: None }, &name("a")).unwrap_err();
    assert_eq!(error.kind(), RefusalKind::Invalid);
    assert!(error.to_string().contains("no pool unknown"), "{error}");
    assert!(matches!(error, CephError::NoPool { known, .. } if known.contains(&"known".to_owned())));
}

#[test]
fn ceph_monitors_that_do_not_answer_are_named_within_the_limit() {
    let _shared = Shared::take();
    // Nobody listens at the one; the other takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("v2:{}", silent.local_addr().unwrap());
    for monitor in ["v2:127.0.0.1:1".to_owned(), silent] {
        let access = ClusterAccess { monitors: vec![monitor.clone()], ..ceph().access("admin") };
        let started = Instant::now();
        let error = clusters().connect(&access).map(drop).unwrap_err();
        assert_eq!(error.kind(), RefusalKind::Unavailable, "{error}");
        assert!(error.to_string().contains(&monitor), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?} for a limit of 4 s", started.elapsed());
    }
    let error = clusters().connect(&ClusterAccess { monitors: Vec::new(), ..ceph().access("admin") }).map(drop).unwrap_err();
    assert_eq!(error.kind(), RefusalKind::Invalid);
}

#[test]
fn ceph_those_who_wait_for_a_connection_share_its_failure() {
    let _shared = Shared::take();
    let (clusters, access) = (clusters(), ClusterAccess { monitors: vec!["v2:127.0.0.1:1".to_owned()], ..ceph().access("admin") });
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(matches!(clusters.connect(&access).map(drop), Err(CephError::Unreachable { .. }))));
        }
    });
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[test]
fn ceph_a_blocklisted_connection_is_replaced() {
    let _shared = Shared::take();
    let (at, clusters, access) = (ceph().pool("replaced"), clusters(), ceph().access("admin"));
    let cluster = clusters.connect(&access).unwrap();
    cluster.create(&at, &name("a"), &wish(1 << 30)).unwrap();
    ceph().ceph(&["osd", "blocklist", "add", &cluster.address().unwrap()]).unwrap();
    let error = eventually("the cluster turns it away", || cluster.stat(&at, &name("a")).err());
    assert_eq!(error.kind(), RefusalKind::Unavailable, "{error}");
    let fresh = clusters.connect(&access).unwrap();
    assert!(!Arc::ptr_eq(&cluster, &fresh));
    assert!(fresh.stat(&at, &name("a")).unwrap().is_some());
}

#[test]
fn ceph_a_full_cluster_says_so_and_still_deletes() {
    let _alone = alone();
    let (at, cluster) = (ceph().pool("full"), ceph().cluster());
    for image in ["a", "b"] {
        cluster.create(&at, &name(image), &wish(1 << 30)).unwrap();
    }
    ceph().ceph(&["tell", "osd.0", "injectfull", "full"]).unwrap();
    eventually("the cluster takes note", || ceph().ceph(&["health", "detail"]).unwrap().contains("OSD_FULL").then_some(()));
    let created = cluster.create(&at, &name("c"), &wish(1 << 30));
    // The first ones of the pool: there would be no room for a trash.
    let deleted = ["a", "b"].map(|image| cluster.delete(&at, &name(image)));
    let purged = cluster.purge(&at, "", 10);
    ceph().ceph(&["tell", "osd.0", "injectfull", "none"]).unwrap();
    eventually("the cluster takes note", || (!ceph().ceph(&["health", "detail"]).unwrap().contains("OSD_FULL")).then_some(()));
    let error = created.unwrap_err();
    assert_eq!(error.kind(), RefusalKind::Exhausted, "{error}");
    assert_eq!(deleted, [Ok(()), Ok(())]);
    assert_eq!(purged.unwrap().removed, 2);
    assert_eq!(cluster.list(&at, "", 10).unwrap(), []);
}

#[test]
fn ceph_room_and_names_of_pools_are_told() {
    let _alone = alone();
    ceph().manager();
    let (at, cluster) = (ceph().pool("room"), ceph().cluster());
    let (image, _) = cluster.create(&at, &name("a"), &wish(1 << 30)).unwrap();
    assert_eq!(cluster.pool_name(image.identity.pool).unwrap(), "room");
    assert!(matches!(cluster.pool_name(999_999), Err(CephError::NotFound { .. })));
    let room = eventually("the manager counts", || cluster.room(&at.pool).ok().filter(|room| room.available > 0));
    assert!(room.available > 1 << 30, "{room:?}");
    assert!(matches!(cluster.room(&name("unknown")), Err(CephError::NoPool { .. })));
}
