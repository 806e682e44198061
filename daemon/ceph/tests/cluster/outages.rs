//! Clusters that fall silent: every call ends in time, and the same connection goes on when they are back.

use crate::fixture::{alone, ceph, eventually, name, wish};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use windlass_ceph::{CephError, Cluster, Clusters, Limits};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::rbd::{Hold, Holder, PoolAt};

const GIB: u64 = 1 << 30;

fn impatient() -> Clusters {
    let limit = Duration::from_secs(3);
    Clusters::new(Limits { osd: limit, monitor: limit, connect: limit })
}

fn node() -> Holder {
    Holder { node: name("n1"), addresses: vec!["10.9.8.7".parse().unwrap()] }
}

/// It fails as unavailable, within a multiple of the limit for one operation.
#[track_caller]
fn times_out<T>(what: &str, result: impl FnOnce() -> Result<T, CephError>) {
    let started = Instant::now();
    let error = result().map(drop).unwrap_err();
    println!("{what}: {:?}: {error}", started.elapsed());
    assert_eq!(error.kind(), RefusalKind::Unavailable, "{what}: {error} {error:?}");
    assert!(started.elapsed() < Duration::from_secs(15), "{what} took {:?}", started.elapsed());
}

#[test]
fn ceph_calls_end_in_time_while_the_osds_are_silent() {
    let _alone = alone();
    let (clusters, access, at) = (impatient(), ceph().access("admin"), ceph().pool("silent"));
    let cluster = clusters.connect(&access).unwrap();
    for image in ["a", "b"] {
        cluster.create(&at, &name(image), &wish(GIB)).unwrap();
    }
    let silence = ceph().silence("ceph-osd");
    times_out("stat", || cluster.stat(&at, &name("a")));
    times_out("create", || cluster.create(&at, &name("c"), &wish(GIB)));
    times_out("claim", || cluster.claim(&at, &name("a"), Hold::Writer, &node()));
    times_out("delete", || cluster.delete(&at, &name("a")));
    times_out("names", || cluster.names(&at, "", 10));
    drop(silence);
    eventually("it answers again", || cluster.stat(&at, &name("a")).ok().flatten());
    cluster.create(&at, &name("c"), &wish(GIB)).unwrap();
    eventually("what was begun is gone", || cluster.claim(&at, &name("a"), Hold::Writer, &node()).ok());
    cluster.release(&at, &name("a"), Some(&node())).unwrap();
    cluster.delete(&at, &name("a")).unwrap();
    let tally = clusters.statistics().tallies();
    assert!(tally["stat"].timed_out >= 1 && tally["create"].timed_out == 1 && tally["delete"].timed_out == 1, "{tally:?}");
    assert!(tally.values().all(|tally| tally.under_way == 0));
}

#[test]
fn ceph_calls_end_in_time_while_the_monitors_are_silent() {
    let _alone = alone();
    let (clusters, access, at) = (impatient(), ceph().access("admin"), ceph().pool("mute"));
    let cluster: std::sync::Arc<Cluster> = clusters.connect(&access).unwrap();
    cluster.create(&at, &name("a"), &wish(GIB)).unwrap();
    cluster.claim(&at, &name("a"), Hold::Writer, &node()).unwrap();
    let silence = ceph().silence("ceph-mon");
    // What needs the OSDs alone goes on.
    assert!(cluster.stat(&at, &name("a")).unwrap().is_some());
    times_out("room", || cluster.room(&at.pool));
    times_out("connect", || impatient().connect(&access));
    times_out("an unknown pool", || cluster.stat(&PoolAt { pool: name("unknown"), namespace: None }, &name("a")));
    drop(silence);
    // Whether it knows how much depends on a manager, which other tests may have started.
    let answers = |error: &CephError| matches!(error, CephError::Uncounted { .. });
    eventually("it answers again", || cluster.room(&at.pool).map_or_else(|error| answers(&error).then_some(()), |_| Some(())));
}

#[test]
fn ceph_calls_that_an_outage_meets_half_way_end_as_well() {
    let _alone = alone();
    let (clusters, access, at) = (impatient(), ceph().access("admin"), ceph().pool("halfway"));
    let cluster = clusters.connect(&access).unwrap();
    let (is_over, longest) = (AtomicBool::new(false), Mutex::new(Duration::ZERO));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (cluster, at, is_over, longest) = (&cluster, &at, &is_over, &longest);
            scope.spawn(move || {
                let mut round = 0;
                while !is_over.load(Ordering::SeqCst) {
                    let (image, started) = (name(&format!("image-{worker}-{round}")), Instant::now());
                    let life = || {
                        cluster.create(at, &image, &wish(GIB))?;
                        cluster.snapshot(at, &image, &name("windlass.s"))?;
                        cluster.resize(at, &image, 2 * GIB)?;
                        cluster.claim(at, &image, Hold::Writer, &node())?;
                        cluster.release(at, &image, Some(&node()))?;
                        cluster.delete(at, &image)
                    };
                    let _outage = life();
                    let mut longest = longest.lock().unwrap();
                    *longest = longest.max(started.elapsed());
                    round += 1;
                }
            });
        }
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(700));
            let silence = ceph().silence("ceph-osd");
            std::thread::sleep(Duration::from_secs(5));
            drop(silence);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    println!("the longest life of an image: {:?}; {:?}", longest.lock().unwrap(), clusters.statistics().tallies());
    assert!(clusters.statistics().tallies().values().all(|tally| tally.under_way == 0));
    // What is left over can be deleted by whoever asks again, and nothing stays in the trash.
    let deadline = Instant::now() + Duration::from_secs(100);
    while let Some(image) = cluster.names(&at, "", 1).unwrap().pop() {
        cluster.release(&at, &image, Some(&node())).unwrap();
        let deleted = cluster.delete(&at, &image);
        assert!(deleted.is_ok() || Instant::now() < deadline, "{deleted:?}");
    }
    eventually("the trash is empty", || {
        let _ = cluster.purge(&at, "", 1000);
        ceph().rbd(&["trash", "ls", "--all", "halfway"]).unwrap().is_empty().then_some(())
    });
}
