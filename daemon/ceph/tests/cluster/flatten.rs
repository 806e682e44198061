//! A copy that becomes independent has every byte of its source, whatever its object map says, and whoever writes to it meanwhile.

use crate::fixture::{Shared, ceph, eventually, name, wish};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use windlass_ceph::{COPY_OF, CephError, Cluster, SnapshotAt};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::rbd::{ImageWish, PoolAt, RbdName, Striping};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;

/// Noise in most places, and zeros for an object, a part of one, and the end.
fn content() -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    let mut state = 7_u64;
    for (at, chunk) in bytes.chunks_mut(1 << 16).enumerate() {
        if !(64..128).contains(&at) && at % 13 != 0 && at < 900 {
            for byte in chunk {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
        }
    }
    bytes
}

/// Makes the image `source` of these bytes, and `copy` from it.
fn copied(cluster: &Cluster, at: &PoolAt, made: &ImageWish, folder: &Path, bytes: &[u8]) -> RbdName {
    let (source, snapshot, copy) = (name("source"), name("windlass.s"), name("copy"));
    cluster.create(at, &source, made).unwrap();
    fs::write(folder.join("bytes"), bytes).unwrap();
    let whole = format!("{}/source", at.pool);
    ceph().rbd(&["bench", "--io-type", "write", "--io-size", "4K", "--io-total", "4K", &whole]).unwrap();
    fs::write(folder.join("diff"), diff(bytes)).unwrap();
    ceph().rbd(&["import-diff", "--no-progress", folder.join("diff").to_str().unwrap(), &whole]).unwrap();
    cluster.snapshot(at, &source, &snapshot).unwrap();
    cluster.copy(SnapshotAt { at, image: &source, snapshot: &snapshot }, at, &copy, made, None).unwrap();
    copy
}

/// What `rbd import-diff` reads: each part with its place, and the places of zeros.
fn diff(bytes: &[u8]) -> Vec<u8> {
    let mut diff = b"rbd diff v1\n".to_vec();
    diff.push(b's');
    diff.extend((bytes.len() as u64).to_le_bytes());
    for (at, chunk) in bytes.chunks(1 << 16).enumerate() {
        let is_zero = chunk.iter().all(|byte| *byte == 0);
        diff.push(if is_zero { b'z' } else { b'w' });
        diff.extend(((at << 16) as u64).to_le_bytes());
        diff.extend((chunk.len() as u64).to_le_bytes());
        diff.extend(if is_zero { &[] } else { chunk });
    }
    diff.push(b'e');
    diff
}

fn exported(image: &str, folder: &Path) -> Vec<u8> {
    let file = folder.join("exported");
    ceph().rbd(&["export", "--no-progress", image, file.to_str().unwrap()]).unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(file).unwrap();
    bytes
}

#[test]
fn ceph_an_object_that_only_the_map_has_is_not_lost() {
    let _shared = Shared::take();
    let (at, cluster, folder) = (ceph().pool("stale"), ceph().cluster(), tempfile::tempdir().unwrap());
    let bytes = content();
    let copy = copied(&cluster, &at, &wish(SIZE), folder.path(), &bytes);
    // Whoever dies between the map and the object leaves it so: the object is gone, and the map has it.
    ceph().rbd(&["bench", "--io-type", "write", "--io-size", "4M", "--io-pattern", "seq", "--io-total", "16M", "stale/copy"]).unwrap();
    let info = ceph().rbd(&["info", "stale/copy"]).unwrap();
    let prefix = info.lines().find_map(|line| line.trim().strip_prefix("block_name_prefix: ")).unwrap().to_owned();
    for number in 0..4 {
        ceph().rados(&["-p", "stale", "rm", &format!("{prefix}.{number:016x}")]).unwrap();
    }
    assert!(exported("stale/copy", folder.path()) == bytes, "before");
    cluster.flatten(&at, &copy).unwrap();
    assert!(!ceph().rbd(&["info", "stale/copy"]).unwrap().contains("parent"));
    assert!(exported("stale/copy", folder.path()) == bytes, "it lost what only the map had");
}

#[test]
fn ceph_a_striped_copy_in_another_pool_with_a_snapshot_of_its_own_keeps_every_byte() {
    let _shared = Shared::take();
    let (at, cluster, folder) = (ceph().pool("stripes"), ceph().cluster(), tempfile::tempdir().unwrap());
    let data = ceph().pool("stripes-data").pool;
    let striped = ImageWish { striping: Some(Striping { unit: 64 << 10, count: 3 }), object_size: Some(MIB), data_pool: Some(data), ..wish(SIZE) };
    let bytes = content();
    let copy = copied(&cluster, &at, &striped, folder.path(), &bytes);
    // Written to in a few places, with a snapshot between.
    cluster.snapshot(&at, &copy, &name("early")).unwrap();
    let mut changed = bytes.clone();
    changed[(20 * MIB) as usize..(21 * MIB) as usize].fill(9);
    let mut patch = vec![0; 0];
    patch.extend(b"rbd diff v1\n");
    patch.push(b'w');
    patch.extend((20 * MIB).to_le_bytes());
    patch.extend(MIB.to_le_bytes());
    patch.extend(vec![9; MIB as usize]);
    patch.push(b'e');
    fs::write(folder.path().join("patch"), patch).unwrap();
    ceph().rbd(&["import-diff", "--no-progress", folder.path().join("patch").to_str().unwrap(), "stripes/copy"]).unwrap();
    let grown = 2 * SIZE;
    cluster.resize(&at, &copy, grown).unwrap();
    // As long as it has a snapshot it stays as it is, and so does the snapshot.
    let refused = cluster.flatten(&at, &copy).unwrap_err();
    assert!(refused.kind() == RefusalKind::Precondition && refused.to_string().contains("snapshots"), "{refused}");
    assert!(exported("stripes/copy@early", folder.path()) == bytes, "its snapshot");
    cluster.delete_snapshot(&at, &copy, &name("early")).unwrap();
    cluster.flatten(&at, &copy).unwrap();
    let info = ceph().rbd(&["info", "stripes/copy"]).unwrap();
    assert!(!info.contains("parent") && info.contains("stripe count: 3") && info.contains("stripes-data"), "{info}");
    changed.resize(grown as usize, 0);
    assert!(exported("stripes/copy", folder.path()) == changed, "the copy");
    // What was zeros takes no room.
    let objects = ceph().rados(&["-p", "stripes-data", "ls"]).unwrap();
    let of_copy = objects.lines().filter(|object| object.contains(&cluster.stat(&at, &copy).unwrap().unwrap().identity.image)).count() as u64;
    assert!(of_copy < SIZE / MIB, "{of_copy} objects");
}

#[test]
fn ceph_a_copy_is_made_independent_while_somebody_writes_to_it() {
    let _shared = Shared::take();
    let (at, cluster, folder) = (ceph().pool("busy"), ceph().cluster(), tempfile::tempdir().unwrap());
    let copy = copied(&cluster, &at, &wish(SIZE), folder.path(), &content());
    // It takes the lock again and again, all the time.
    let writes = ["bench", "--io-type", "write", "--io-size", "4K", "--io-threads", "1", "--io-pattern", "rand", "--io-total", "10G", "busy/copy"];
    let mut writer = ceph().beside("rbd", &writes);
    eventually("it writes", || ceph().rbd(&["status", "busy/copy"]).unwrap().contains("watcher=").then_some(()));
    let began = std::time::Instant::now();
    cluster.flatten(&at, &copy).unwrap();
    println!("independent after {:.1?}", began.elapsed());
    assert!(writer.0.try_wait().unwrap().is_none(), "nobody wrote to it any more");
    assert!(!ceph().rbd(&["info", "busy/copy"]).unwrap().contains("parent"));
}

#[test]
fn ceph_a_copy_that_is_not_finished_is_left_to_who_finishes_it() {
    let _shared = Shared::take();
    let (at, cluster) = (ceph().pool("unfinished"), ceph().cluster());
    let (source, snapshot) = (name("source"), name("windlass.1"));
    cluster.create(&at, &source, &wish(SIZE)).unwrap();
    ceph().rbd(&["bench", "--io-type", "write", "--io-size", "4K", "--io-total", "64K", "unfinished/source"]).unwrap();
    cluster.snapshot(&at, &source, &snapshot).unwrap();
    let from = SnapshotAt { at: &at, image: &source, snapshot: &snapshot };
    cluster.copy(from, &at, &name("middle"), &ImageWish { metadata: BTreeMap::new(), ..wish(SIZE) }, None).unwrap();
    cluster.snapshot(&at, &name("middle"), &snapshot).unwrap();
    // As a death leaves them: noted, made, and without a word of their own. The second has its source's.
    for (of, image) in [("source", "one"), ("middle", "two")] {
        ceph().rados(&["-p", "unfinished", "setomapval", "windlass.flatten", image, ""]).unwrap();
        ceph().rbd(&["clone", "--rbd-default-clone-format", "2", &format!("unfinished/{of}@windlass.1"), &format!("unfinished/{image}")]).unwrap();
    }
    assert!(matches!(cluster.flatten_noted(&at, "", 10), Ok((None, None))));
    let notes = ceph().rados(&["-p", "unfinished", "listomapkeys", "windlass.flatten"]).unwrap();
    assert_eq!(notes.lines().collect::<Vec<_>>(), ["one", "two"]);
    for (of, image) in [("source", "one"), ("middle", "two")] {
        let (made, is_new) = cluster.copy(SnapshotAt { image: &name(of), ..from }, &at, &name(image), &wish(SIZE), Some(0)).unwrap();
        assert!(is_new && made.metadata.contains_key(COPY_OF), "{image}");
    }
    // Finished, they are made independent, and forgotten.
    assert!(matches!(cluster.flatten_noted(&at, "", 10), Ok((None, None))));
    assert_eq!(ceph().rados(&["-p", "unfinished", "listomapkeys", "windlass.flatten"]).unwrap(), "");
    for image in ["one", "two"] {
        assert!(!ceph().rbd(&["info", &format!("unfinished/{image}")]).unwrap().contains("parent"), "{image}");
    }
}

#[test]
fn ceph_a_copy_that_is_made_independent_gets_no_snapshot_meanwhile() {
    let _shared = Shared::take();
    let (at, cluster, folder) = (ceph().pool("leased"), ceph().cluster(), tempfile::tempdir().unwrap());
    let copy = copied(&cluster, &at, &wish(SIZE), folder.path(), &content());
    let header = format!("rbd_header.{}", cluster.stat(&at, &copy).unwrap().unwrap().identity.image);
    // Somebody else is at it, who was heard of a moment ago.
    ceph().rados(&["-p", "leased", "lock", "get", &header, "windlass.flatten", "--lock-duration", "5"]).unwrap();
    let refused = cluster.snapshot(&at, &copy, &name("early")).unwrap_err();
    assert!(refused.kind() == RefusalKind::Unavailable && refused.to_string().contains("ask again"), "{refused}");
    assert!(matches!(cluster.flatten(&at, &copy), Err(CephError::Flattened { .. })));
    assert_eq!(cluster.snapshots(&at, &copy).unwrap(), []);
    // And then not any more: what a death left ends by itself.
    eventually("the lease ends", || cluster.flatten(&at, &copy).ok());
    cluster.snapshot(&at, &copy, &name("early")).unwrap();
    assert!(!ceph().rbd(&["info", "leased/copy"]).unwrap().contains("parent:"));
}
