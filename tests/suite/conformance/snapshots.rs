//! Snapshots, volumes made from them and from each other, and ListSnapshots, of a driver that lists: pages, filters, idempotency.

use super::{but, row};
use harness::rbd::{from_snapshot, from_volume, snapshot_request};
use harness::{Daemon, Setup, Volume, block, mount, mount_as};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Status;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{CreateVolumeRequest, DeleteSnapshotRequest, ListSnapshotsRequest, ListVolumesRequest, Snapshot, VolumeContentSource};

fn create(daemon: &Daemon, name: &str) -> Volume {
    Volume::create(daemon, name, mount(Mode::SingleNodeWriter), 4).unwrap()
}

fn cut(daemon: &Daemon, name: &str, volume: &str) -> Result<Snapshot, Status> {
    daemon.create_snapshot(snapshot_request(name, volume, &BTreeMap::new())).map(|answer| answer.snapshot.unwrap())
}

fn delete(daemon: &Daemon, snapshot: &str) -> Result<(), Status> {
    daemon.delete_snapshot(DeleteSnapshotRequest { snapshot_id: snapshot.to_owned(), ..Default::default() }).map(drop)
}

fn request(name: &str, mib: i64, source: VolumeContentSource) -> CreateVolumeRequest {
    CreateVolumeRequest { volume_content_source: Some(source), ..Volume::create_request(name, &mount(Mode::SingleNodeWriter), mib) }
}

fn list(daemon: &Daemon, ask: ListSnapshotsRequest) -> (Vec<String>, String) {
    let page = row("ListSnapshots/paging").answers(daemon.list_snapshots(ask.clone()));
    row("ListSnapshots/paging").holds(ask.max_entries == 0 || page.entries.len() <= ask.max_entries as usize, "no more than max_entries");
    let id = |snapshot: Option<Snapshot>| {
        let snapshot = snapshot.unwrap();
        assert!(snapshot.ready_to_use && snapshot.creation_time.is_some() && !snapshot.source_volume_id.is_empty() && snapshot.size_bytes > 0);
        snapshot.snapshot_id
    };
    (page.entries.into_iter().map(|entry| id(entry.snapshot)).collect(), page.next_token)
}

#[test]
fn plugin_snapshots_are_cut_once_and_deleted_twice() {
    let daemon = Daemon::start();
    let (a, b) = (create(&daemon, "a"), create(&daemon, "b"));
    row("*/INVALID_ARGUMENT").refuses(cut(&daemon, "", &a.id()), "name");
    row("*/INVALID_ARGUMENT").refuses(cut(&daemon, "s", ""), "source_volume_id");
    row("*/INVALID_ARGUMENT").refuses(delete(&daemon, ""), "snapshot_id");
    let first = row("CreateSnapshot/idempotent").answers(cut(&daemon, "s", &a.id()));
    assert!(first.ready_to_use && first.size_bytes == 4 << 20 && first.source_volume_id == a.id(), "{first:?}");
    assert!(first.creation_time.as_ref().unwrap().seconds > 1_600_000_000);
    let again = row("CreateSnapshot/idempotent").answers(cut(&daemon, "s", &a.id()));
    row("CreateSnapshot/idempotent").holds(again == first, "the same snapshot, with the same time");
    row("CreateSnapshot/ALREADY_EXISTS").refuses(cut(&daemon, "s", &b.id()), "exists");
    row("CreateSnapshot/NOT_FOUND").refuses(cut(&daemon, "t", "none"), "there is no volume");
    row("CreateSnapshot/NOT_FOUND").refuses(cut(&daemon, "t", &first.snapshot_id), "there is no volume");
    // A name of the greatest length.
    let longest = cut(&daemon, &"n".repeat(128), &a.id()).unwrap();
    assert_ne!(longest.snapshot_id, first.snapshot_id);
    for id in [&*first.snapshot_id, &first.snapshot_id, "reallyfakesnapshotid", &a.id(), "a/../b", &"x".repeat(2000)] {
        row("DeleteSnapshot/idempotent").answers(delete(&daemon, id));
    }
    assert_eq!(list(&daemon, ListSnapshotsRequest::default()).0, [longest.snapshot_id]);
    assert_eq!(daemon.list_volumes(ListVolumesRequest::default()).unwrap().entries.len(), 2);
}

#[test]
fn plugin_the_same_snapshot_sixty_four_times_at_once_is_one() {
    let daemon = Daemon::start();
    let volume = create(&daemon, "a").id();
    let cuts: Vec<Snapshot> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..64).map(|_| scope.spawn(|| cut(&daemon, "s", &volume).unwrap())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    row("CreateSnapshot/idempotent").holds(cuts.iter().all(|one| *one == cuts[0]), "one snapshot");
    assert_eq!(list(&daemon, ListSnapshotsRequest::default()).0.len(), 1);
}

#[test]
fn plugin_a_volume_from_a_snapshot_or_a_volume_is_as_it_was_asked_for() {
    let daemon = Daemon::start();
    let a = create(&daemon, "a");
    let raw = Volume::create(&daemon, "raw", block(Mode::SingleNodeWriter), 4).unwrap();
    let s = cut(&daemon, "s", &a.id()).unwrap().snapshot_id;
    for (n, source) in [from_snapshot(&s), from_volume(&a.id())].into_iter().enumerate() {
        let of = |name: &str, mib| request(&format!("{name}{n}"), mib, source.clone());
        let made = row("CreateVolume/idempotent").answers(daemon.create_volume(of("copy", 4))).volume.unwrap();
        assert_eq!((made.capacity_bytes, made.content_source.as_ref()), (4 << 20, Some(&source)));
        let again = row("CreateVolume/idempotent").answers(daemon.create_volume(of("copy", 4))).volume.unwrap();
        assert_eq!(again, made);
        assert_eq!(daemon.create_volume(of("large", 8)).unwrap().volume.unwrap().capacity_bytes, 8 << 20);
        row("CreateVolume/OUT_OF_RANGE").refuses(daemon.create_volume(of("small", 1)), "volume_content_source");
        let other = but(of("copy", 4), |m| m.volume_content_source = Some(from_volume(&raw.id())));
        row("CreateVolume/ALREADY_EXISTS").refuses(daemon.create_volume(other), "made from");
        let none = but(of("copy", 4), |m| m.volume_content_source = None);
        row("CreateVolume/ALREADY_EXISTS").refuses(daemon.create_volume(none), "made from");
        let xfs = but(of("xfs", 400), |m| m.volume_capabilities = vec![mount_as("xfs", Mode::SingleNodeWriter, &[])]);
        row("CreateVolume/INVALID_ARGUMENT").refuses(daemon.create_volume(xfs), "keeps its file system");
    }
    for nothing in [from_snapshot("non-existing-snapshot-id"), from_volume("non-existing-volume-id"), from_snapshot(&a.id()), from_volume(&s)] {
        row("CreateVolume/NOT_FOUND").refuses(daemon.create_volume(request("none", 4, nothing)), "there is no");
    }
    // What is copied goes first.
    delete(&daemon, &s).unwrap();
    a.delete(&daemon).unwrap();
    row("CreateVolume/idempotent").answers(daemon.create_volume(request("copy0", 4, from_snapshot(&s))));
    let listed = daemon.list_volumes(ListVolumesRequest::default()).unwrap().entries;
    let copies = listed.iter().filter(|entry| entry.volume.as_ref().unwrap().content_source.is_some());
    assert_eq!((listed.len(), copies.count()), (5, 4), "a copy says in the list what it was made from");
}

#[test]
fn plugin_snapshots_are_listed_by_what_is_asked_for() {
    let daemon = Daemon::start();
    let (a, b) = (create(&daemon, "a"), create(&daemon, "b"));
    assert_eq!(list(&daemon, ListSnapshotsRequest::default()), (Vec::new(), String::new()));
    let of_a: BTreeSet<String> = (0..7).map(|n| cut(&daemon, &format!("a{n}"), &a.id()).unwrap().snapshot_id).collect();
    let of_b: BTreeSet<String> = (0..3).map(|n| cut(&daemon, &format!("b{n}"), &b.id()).unwrap().snapshot_id).collect();
    let all: BTreeSet<String> = of_a.union(&of_b).cloned().collect();
    let one = of_b.first().unwrap().clone();
    let by =
        |snapshot: &str, volume: &str| ListSnapshotsRequest { snapshot_id: snapshot.to_owned(), source_volume_id: volume.to_owned(), ..Default::default() };
    row("ListSnapshots/filters").holds(list(&daemon, by(&one, "")).0 == [one.clone()], "the one with the id");
    row("ListSnapshots/filters").holds(list(&daemon, by(&one, &b.id())).0 == [one.clone()], "the one with the id, of its volume");
    row("ListSnapshots/filters").holds(list(&daemon, by("", &a.id())).0.into_iter().collect::<BTreeSet<_>>() == of_a, "those of the volume");
    let long = "x".repeat(129);
    let nothing = [(&*one, &*a.id()), ("none", ""), ("", "none"), (&*a.id(), ""), ("", &*one), ("a\u{0}", ""), (&long, ""), ("", &long), ("../x", "")];
    for (snapshot, volume) in nothing {
        let page = row("ListSnapshots/filters").answers(daemon.list_snapshots(by(snapshot, volume)));
        row("ListSnapshots/filters").holds(page.entries.is_empty() && page.next_token.is_empty(), "what is not there is an empty page");
    }
    for size in [0, 1, 2, 3, 9, 10, 11, i32::MAX] {
        for (volume, want) in [(String::new(), &all), (a.id(), &of_a)] {
            let (mut token, mut seen) = (String::new(), Vec::new());
            loop {
                let ask = ListSnapshotsRequest { max_entries: size, starting_token: token, source_volume_id: volume.clone(), ..Default::default() };
                let (page, next) = list(&daemon, ask);
                seen.extend(page);
                token = next;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen.len(), want.len(), "pages of {size}: none twice");
            assert_eq!(&seen.into_iter().collect::<BTreeSet<_>>(), want, "pages of {size}");
        }
    }
    for token in ["x", "snap-", "../..", "a\u{0}b", &a.id(), &"t".repeat(129)] {
        let ask = ListSnapshotsRequest { max_entries: 1, starting_token: token.to_owned(), ..Default::default() };
        row("ListSnapshots/ABORTED").refuses(daemon.list_snapshots(ask), "starting_token");
    }
    row("*/INVALID_ARGUMENT/2").refuses(daemon.list_snapshots(ListSnapshotsRequest { max_entries: -1, ..Default::default() }), "max_entries");
    // The one that the token names is deleted, and one that is still to come.
    let (first, token) = list(&daemon, ListSnapshotsRequest { max_entries: 4, ..Default::default() });
    let later = all.iter().find(|id| !first.contains(id)).unwrap();
    for id in [&first[3], later] {
        delete(&daemon, id).unwrap();
    }
    let (rest, _) = list(&daemon, ListSnapshotsRequest { starting_token: token, ..Default::default() });
    let want: Vec<String> = all.iter().filter(|id| !first.contains(id) && *id != later).cloned().collect();
    row("ListSnapshots/paging").holds(rest == want, "what stays is seen once");
}

#[test]
fn plugin_a_driver_without_snapshots_says_so_whatever_the_arguments() {
    let daemon = Daemon::with(Setup { component: "local-shrunk", ..Setup::default() });
    row("*/UNIMPLEMENTED").refuses(cut(&daemon, "", ""), "snapshots");
    row("*/UNIMPLEMENTED").refuses(delete(&daemon, ""), "snapshots");
    row("*/UNIMPLEMENTED").refuses(daemon.list_snapshots(ListSnapshotsRequest { max_entries: -1, ..Default::default() }), "a list of snapshots");
}
