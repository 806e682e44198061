//! Who holds an image: the lock, foreign watchers, the proof that nothing was written, and fencing.

use crate::fixture::{Beside, Shared, alone, ceph, eventually, name, operations_of, wish};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use windlass_ceph::{CephError, Clusters, Limits};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::rbd::{Hold, Holder, PoolAt};

const GIB: u64 = 1 << 30;

/// A node whose kernel talks to the cluster by another address than everybody in this test does.
fn node(node: &str) -> Holder {
    Holder { node: name(node), addresses: vec!["10.9.8.7".parse().unwrap()] }
}

/// The node that all clients of this machine are on.
fn here(node: &str) -> Holder {
    Holder { node: name(node), addresses: vec!["127.0.0.1".parse().unwrap()] }
}

/// A client that has the image open for writing, as a mapping has, and writes a byte for each line it is told; a failure ends it.
fn writer(at: &PoolAt, image: &str) -> Beside {
    let code = "import os, sys, rados, rbd
cluster = rados.Rados(conffile=os.environ['CEPH_CONF'])
cluster.connect()
image = rbd.Image(cluster.open_ioctx(sys.argv[1]), sys.argv[2])
image.write(b'x', 0)
print('open', flush=True)
for line in sys.stdin:
    try:
        image.write(b'y', 4096)
        print('written', flush=True)
    except Exception as error:
        print('failed', error, flush=True)
        os._exit(0)
image.close()
";
    let mut writer = ceph().beside("/usr/bin/python3", &["-c", code, at.pool.as_str(), image]);
    assert_eq!(said(&mut writer), "open");
    writer
}

/// The next line that a child says.
fn said(child: &mut Beside) -> String {
    let mut line = Vec::new();
    let output = child.0.stdout.as_mut().unwrap();
    let mut byte = [0];
    while output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

fn told(child: &mut Beside) -> String {
    writeln!(child.0.stdin.as_mut().unwrap(), "write").unwrap();
    said(child)
}

#[track_caller]
fn refused(result: Result<impl std::fmt::Debug, CephError>, words: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), RefusalKind::Precondition, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn ceph_one_node_writes_and_a_second_is_told_who() {
    let _shared = Shared::take();
    let (at, cluster, image) = (ceph().pool("one"), ceph().cluster(), name("a"));
    let (facts, _) = cluster.create(&at, &image, &wish(GIB)).unwrap();
    let claimed = cluster.claim(&at, &image, Hold::Writer, &node("n1")).unwrap();
    assert_eq!(claimed.identity, facts.identity);
    assert!(claimed.is_never_written);
    for hold in [Hold::Writer, Hold::Reader, Hold::SharedWriter] {
        refused(cluster.claim(&at, &image, hold, &node("n2")), "held by n1");
    }
    refused(cluster.delete(&at, &image), "held by n1");
    cluster.release(&at, &image, Some(&node("n2"))).unwrap();
    refused(cluster.claim(&at, &image, Hold::Writer, &node("n2")), "held by n1");

    // The same node again, through another client: the controller was restarted meanwhile.
    let restarted = Clusters::new(Limits::default()).connect(&ceph().access("admin")).unwrap();
    assert_eq!(restarted.claim(&at, &image, Hold::Writer, &node("n1")).unwrap(), claimed);
    // Snapshots, growing and metadata go on.
    ceph().rbd(&["snap", "create", "one/a@s"]).unwrap();
    assert_eq!(restarted.resize(&at, &image, 2 * GIB).unwrap().size, 2 * GIB);
    // And it gives up what another client took.
    restarted.release(&at, &image, Some(&node("n1"))).unwrap();
    restarted.release(&at, &image, Some(&node("n1"))).unwrap();
    cluster.claim(&at, &image, Hold::Writer, &node("n2")).unwrap();

    assert!(matches!(cluster.claim(&at, &name("b"), Hold::Writer, &node("n1")), Err(CephError::NotFound { .. })));
    cluster.release(&at, &name("b"), Some(&node("n1"))).unwrap();
}

#[test]
fn ceph_readers_share_and_writers_share_but_not_with_each_other() {
    let _shared = Shared::take();
    let (at, cluster, image) = (ceph().pool("share"), ceph().cluster(), name("a"));
    cluster.create(&at, &image, &wish(GIB)).unwrap();
    for (hold, other) in [(Hold::Reader, Hold::SharedWriter), (Hold::SharedWriter, Hold::Reader)] {
        cluster.claim(&at, &image, hold, &node("n1")).unwrap();
        cluster.claim(&at, &image, hold, &node("n2")).unwrap();
        cluster.claim(&at, &image, hold, &node("n2")).unwrap();
        for hold in [other, Hold::Writer] {
            refused(cluster.claim(&at, &image, hold, &node("n3")), "held by n");
            let otherwise = cluster.claim(&at, &image, hold, &node("n1")).unwrap_err();
            assert_eq!(otherwise.kind(), RefusalKind::AlreadyExists, "{otherwise}");
        }
        cluster.release(&at, &image, Some(&node("n2"))).unwrap();
        // Also the only one left may not: it may be writing.
        for hold in [Hold::Writer, other] {
            assert!(matches!(cluster.claim(&at, &image, hold, &node("n1")), Err(CephError::HeldOtherwise { .. })));
        }
        cluster.claim(&at, &image, hold, &node("n2")).unwrap();
        // From all at once.
        cluster.release(&at, &image, None).unwrap();
        cluster.release(&at, &image, None).unwrap();
    }
    cluster.delete(&at, &image).unwrap();
}

#[test]
fn ceph_a_race_for_an_image_has_one_winner() {
    let _shared = Shared::take();
    let (at, cluster, image) = (ceph().pool("race"), ceph().cluster(), name("a"));
    cluster.create(&at, &image, &wish(GIB)).unwrap();
    for _ in 0..5 {
        let won: Vec<String> = std::thread::scope(|scope| {
            let claim = |number| {
                let holder = node(&format!("n{number}"));
                cluster.claim(&at, &image, Hold::Writer, &holder).map(|_| holder.node.to_string())
            };
            let threads: Vec<_> = (0..6).map(|number| scope.spawn(move || claim(number))).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(won.len(), 1, "{won:?}");
        cluster.release(&at, &image, Some(&node(&won[0]))).unwrap();
    }
}

#[test]
fn ceph_a_foreign_watcher_refuses_a_claim_and_leaves_no_lock() {
    let _shared = Shared::take();
    let (at, cluster, image) = (ceph().pool("watched"), ceph().cluster(), name("a"));
    cluster.create(&at, &image, &wish(GIB)).unwrap();
    let mut stranger = writer(&at, "a");
    for hold in [Hold::Writer, Hold::Reader, Hold::SharedWriter] {
        refused(cluster.claim(&at, &image, hold, &node("n1")), "127.0.0.1:0/");
    }
    refused(cluster.delete(&at, &image), "127.0.0.1:0/");
    // On its own node it is no stranger, and what it wrote is seen.
    assert!(!cluster.claim(&at, &image, Hold::Writer, &here("n2")).unwrap().is_never_written);
    refused(cluster.delete(&at, &image), "held by n2");
    // It ends in good order; one that died would be a stranger for another 30 s.
    drop(stranger.0.stdin.take());
    assert_eq!(said(&mut stranger), "");
    // A claim that another form was refused keeps the one it had.
    refused(cluster.claim(&at, &image, Hold::Writer, &node("n1")), "held by n2");
    cluster.release(&at, &image, Some(&node("n2"))).unwrap();
    cluster.claim(&at, &image, Hold::Writer, &node("n1")).unwrap();
}

#[test]
fn ceph_a_claim_that_may_not_change_its_form_keeps_the_one_it_had() {
    let _shared = Shared::take();
    let (at, cluster, image) = (ceph().pool("kept"), ceph().cluster(), name("a"));
    cluster.create(&at, &image, &wish(GIB)).unwrap();
    cluster.claim(&at, &image, Hold::Reader, &node("n1")).unwrap();
    let _stranger = writer(&at, "a");
    assert!(matches!(cluster.claim(&at, &image, Hold::Writer, &node("n1")), Err(CephError::HeldOtherwise { .. })));
    refused(cluster.claim(&at, &image, Hold::Writer, &here("n2")), "held by n1");
    cluster.claim(&at, &image, Hold::Reader, &here("n2")).unwrap();
}

#[test]
fn ceph_a_shared_writer_on_another_node_is_no_stranger() {
    let _shared = Shared::take();
    let (at, cluster, image) = (ceph().pool("writers"), ceph().cluster(), name("a"));
    cluster.create(&at, &image, &wish(GIB)).unwrap();
    cluster.claim(&at, &image, Hold::SharedWriter, &here("n1")).unwrap();
    let _writer = writer(&at, "a");
    cluster.claim(&at, &image, Hold::SharedWriter, &node("n2")).unwrap();
}

#[test]
fn ceph_a_lost_node_is_fenced_before_its_claim_ends() {
    let _shared = Shared::take();
    let (at, cluster, image) = (ceph().pool("fence"), ceph().cluster(), name("a"));
    cluster.create(&at, &image, &wish(GIB)).unwrap();
    cluster.create(&at, &name("b"), &wish(GIB)).unwrap();
    cluster.claim(&at, &image, Hold::Writer, &here("n1")).unwrap();
    let (mut lost, mut bystander) = (writer(&at, "a"), writer(&at, "b"));
    assert_eq!(told(&mut lost), "written");

    // Not by a node that has no claim, nor one that is elsewhere.
    cluster.release(&at, &image, Some(&here("n2"))).unwrap();
    assert_eq!(told(&mut lost), "written");
    cluster.release(&at, &image, Some(&here("n1"))).unwrap();
    let answer = told(&mut lost);
    assert!(answer.starts_with("failed"), "{answer}");
    assert_eq!(told(&mut bystander), "written", "exactly the clients that have this image open");
    eventually("the fenced client's watch ends", || cluster.claim(&at, &image, Hold::Writer, &node("n2")).ok());
    let next_year = std::process::Command::new("date").args(["-u", "-d", "+365 days", "+%Y-%m"]).output().unwrap().stdout;
    let (list, next_year) = (ceph().ceph(&["osd", "blocklist", "ls"]).unwrap(), String::from_utf8(next_year).unwrap());
    assert!(list.lines().any(|line| line.starts_with("127.0.0.1:0/") && line.contains(next_year.trim())), "{list}");
}

#[test]
fn ceph_a_single_byte_anywhere_is_found_quickly() {
    let _alone = alone();
    let (at, cluster) = (ceph().pool("byte"), ceph().cluster());
    let tib = 1 << 40;
    cluster.create(&at, &name("blank"), &wish(tib)).unwrap();
    let operations = operations_of(|_| assert!(cluster.claim(&at, &name("blank"), Hold::Writer, &node("n1")).unwrap().is_never_written));
    assert!(operations <= 30, "{operations} operations for a terabyte");

    let write = "import os, sys, rados, rbd
cluster = rados.Rados(conffile=os.environ['CEPH_CONF'])
cluster.connect()
with rbd.Image(cluster.open_ioctx(sys.argv[1]), sys.argv[2]) as image:
    image.write(b'x', int(sys.argv[3]))
print('done', flush=True)
";
    let plain = windlass_plan::rbd::ImageWish { features: vec![windlass_plan::rbd::Feature::Layering], ..wish(GIB) };
    for (image, wish, offset) in [("middle", wish(tib), tib / 2), ("end", wish(tib), tib - 1), ("plain", plain.clone(), GIB - 1)] {
        cluster.create(&at, &name(image), &wish).unwrap();
        assert!(cluster.claim(&at, &name(image), Hold::Writer, &node("n1")).unwrap().is_never_written);
        assert_eq!(said(&mut ceph().beside("/usr/bin/python3", &["-c", write, "byte", image, &offset.to_string()])), "done");
        assert!(!cluster.claim(&at, &name(image), Hold::Writer, &node("n1")).unwrap().is_never_written, "{image}");
    }
    // Without a map of its objects a large one is not proven blank, quickly.
    cluster.create(&at, &name("large"), &windlass_plan::rbd::ImageWish { size: tib, ..plain }).unwrap();
    let started = Instant::now();
    assert!(!cluster.claim(&at, &name("large"), Hold::Writer, &node("n1")).unwrap().is_never_written);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn ceph_an_object_map_that_cannot_be_relied_on_proves_nothing() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("invalid-map"), ceph().cluster());
    // More objects than are looked for one by one, and few enough.
    for (image, size, expected) in [("large", 100 * GIB, false), ("small", GIB, true)] {
        let (facts, _) = cluster.create(&at, &name(image), &wish(size)).unwrap();
        let claimed = cluster.claim(&at, &name(image), Hold::Writer, &here("n1")).unwrap();
        assert!(claimed.is_never_written, "{image}: its map is as good as any");
        cluster.release(&at, &name(image), Some(&here("n1"))).unwrap();

        ceph().rados(&["-p", at.pool.as_str(), "rm", &format!("rbd_object_map.{}", facts.identity.image)]).unwrap();
        // Whoever opens it for writing finds that there is no map, and says so in the header.
        ceph().rbd(&["resize", &format!("{at}/{image}"), "--size", &format!("{}M", (size >> 20) + 4)]).unwrap();
        let flags = ceph().rbd(&["info", &format!("{at}/{image}")]).unwrap();
        assert!(flags.contains("object map invalid"), "{flags}");
        let began = Instant::now();
        let claimed = cluster.claim(&at, &name(image), Hold::Writer, &here("n1")).unwrap();
        assert_eq!(claimed.is_never_written, expected, "{image}");
        assert!(began.elapsed() < Duration::from_secs(20), "{image}: {:?}", began.elapsed());
    }
}
