//! Snapshots and volumes made from them and from each other, at the socket, against a real cluster: each promise with its row's id, what they cost, and
//! what a daemon that dies in between leaves.

mod attacher;
mod controller;
mod flatten;
mod modify;

use harness::rbd::{Controller, RbdVolume, from_snapshot, from_volume, secrets, snapshot_request};
use harness::rows::{answered, refused};
use harness::{Endpoint, eventually, mount};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use windlass_csi::v1::controller_service_capability::{Type, rpc};
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{
    ControllerGetCapabilitiesRequest, CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest, ListSnapshotsRequest, Snapshot, Topology,
    TopologyRequirement, Volume, VolumeContentSource,
};

/// A daemon and a cluster of the test's own, which end with it. One at a time: each is three programs more.
struct Alone {
    controller: Controller,
    _turn: MutexGuard<'static, ()>,
}

fn controller() -> Alone {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Alone { controller: Controller::start().expect("a cluster"), _turn: turn }
}

impl Deref for Alone {
    type Target = Controller;

    fn deref(&self) -> &Controller {
        &self.controller
    }
}

impl DerefMut for Alone {
    fn deref_mut(&mut self) -> &mut Controller {
        &mut self.controller
    }
}

/// A caller of the driver.
struct Calls {
    driver: Endpoint,
    secrets: BTreeMap<String, String>,
}

impl Calls {
    fn to(controller: &Controller) -> Self {
        Self { driver: controller.driver(), secrets: secrets("admin", controller.cluster.admin_key()) }
    }

    fn request(&self, name: &str, mib: i64, source: Option<VolumeContentSource>) -> CreateVolumeRequest {
        let request = RbdVolume::create_request(name, &mount(Mode::SingleNodeWriter), mib, "rbd", &self.secrets);
        CreateVolumeRequest { volume_content_source: source, ..request }
    }

    fn create(&self, name: &str, mib: i64, source: Option<VolumeContentSource>) -> Result<Volume, Status> {
        self.driver.create_volume(self.request(name, mib, source)).map(|answer| answer.volume.unwrap())
    }

    fn cut(&self, name: &str, volume: &str) -> Result<Snapshot, Status> {
        self.driver.create_snapshot(snapshot_request(name, volume, &self.secrets)).map(|answer| answer.snapshot.unwrap())
    }

    fn delete(&self, volume: &str) -> Result<(), Status> {
        self.driver.delete_volume(DeleteVolumeRequest { volume_id: volume.to_owned(), secrets: self.secrets.clone() }).map(drop)
    }

    fn delete_snapshot(&self, snapshot: &str) -> Result<(), Status> {
        self.driver.delete_snapshot(DeleteSnapshotRequest { snapshot_id: snapshot.to_owned(), secrets: self.secrets.clone() }).map(drop)
    }
}

/// No image, nothing in the trash, no note.
#[track_caller]
fn nothing_is_left(controller: &Controller) {
    let cluster = &controller.cluster;
    assert_eq!(cluster.rbd(&["ls", "rbd"]).trim(), "");
    let until = Instant::now() + Duration::from_secs(60);
    while !cluster.rbd(&["trash", "ls", "--all", "rbd"]).trim().is_empty() {
        assert!(Instant::now() < until, "the trash is not emptied: {}\n{}", cluster.rbd(&["trash", "ls", "--all", "rbd"]), controller.daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let objects = cluster.tool("rados", &["-p", "rbd", "ls"]);
    let left: Vec<&str> =
        objects.lines().filter(|object| ["rbd_header.", "rbd_data.", "rbd_id.", "rbd_object_map."].iter().any(|kind| object.starts_with(kind))).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ceph_snapshots_keep_to_their_rows() {
    let controller = controller();
    let calls = Calls::to(&controller);
    let capabilities = calls.driver.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).unwrap().capabilities;
    let advertised = |kind: rpc::Type| capabilities.iter().any(|one| matches!(&one.r#type, Some(Type::Rpc(rpc)) if rpc.r#type() == kind));
    assert!(advertised(rpc::Type::CreateDeleteSnapshot) && advertised(rpc::Type::CloneVolume) && !advertised(rpc::Type::ListSnapshots));
    refused("*/UNIMPLEMENTED", calls.driver.list_snapshots(ListSnapshotsRequest::default()), Code::Unimplemented, "");

    let (volume, other) = (calls.create("source", 64, None).unwrap(), calls.create("other", 64, None).unwrap());
    refused("*/INVALID_ARGUMENT", calls.cut("", &volume.volume_id), Code::InvalidArgument, "name");
    refused("*/INVALID_ARGUMENT", calls.cut("a", ""), Code::InvalidArgument, "source_volume_id");
    refused("*/INVALID_ARGUMENT", calls.delete_snapshot(""), Code::InvalidArgument, "snapshot_id");
    refused("*/INVALID_ARGUMENT/2", calls.cut("a\u{1}", &volume.volume_id), Code::InvalidArgument, "name");
    let placed = TopologyRequirement { requisite: vec![Topology::default()], preferred: Vec::new() };
    let request = snapshot_request("a", &volume.volume_id, &calls.secrets);
    let placed = windlass_csi::v1::CreateSnapshotRequest { accessibility_requirements: Some(placed), ..request };
    refused("*/INVALID_ARGUMENT/2", calls.driver.create_snapshot(placed), Code::InvalidArgument, "accessibility_requirements");
    let gone = format!("{}00000000-0000-4000-8000-000000000000", &volume.volume_id[..volume.volume_id.len() - 36]);
    for nothing in [gone.as_str(), "nothing", &"x".repeat(129)] {
        refused("CreateSnapshot/NOT_FOUND", calls.cut("a", nothing), Code::NotFound, "");
    }

    let snapshot = calls.cut("nightly", &volume.volume_id).unwrap();
    assert!(snapshot.ready_to_use && snapshot.size_bytes == 64 << 20 && snapshot.source_volume_id == volume.volume_id, "{snapshot:?}");
    assert!(snapshot.creation_time.unwrap().seconds > 1_600_000_000);
    for _ in 0..10 {
        assert_eq!(answered("CreateSnapshot/idempotent", calls.cut("nightly", &volume.volume_id)), snapshot);
    }
    refused("CreateSnapshot/ALREADY_EXISTS", calls.cut("nightly", &other.volume_id), Code::AlreadyExists, &volume.volume_id);
    let snaps = |id: &str| controller.cluster.rbd(&["snap", "ls", "--all", &format!("rbd/{}", id.rsplit('/').next().unwrap())]);
    assert_eq!(snaps(&other.volume_id).trim(), "", "a refused call leaves nothing");

    let source = || Some(from_snapshot(&snapshot.snapshot_id));
    let restored = calls.create("restored", 128, source()).unwrap();
    assert_eq!((restored.capacity_bytes, &restored.content_source), (128 << 20, &source()));
    assert_eq!(answered("CreateVolume/idempotent", calls.create("restored", 128, source())), restored);
    let cloned = calls.create("cloned", 64, Some(from_volume(&volume.volume_id))).unwrap();
    refused("CreateVolume/OUT_OF_RANGE", calls.create("small", 32, source()), Code::OutOfRange, "67108864");
    refused("CreateVolume/ALREADY_EXISTS", calls.create("cloned", 64, source()), Code::AlreadyExists, "windlass.source");
    refused("CreateVolume/ALREADY_EXISTS", calls.create("cloned", 64, None), Code::AlreadyExists, "windlass.source");
    for nothing in [from_snapshot("nothing"), from_volume("nothing"), from_snapshot(&volume.volume_id), from_volume(&snapshot.snapshot_id), from_volume(&gone)]
    {
        refused("CreateVolume/NOT_FOUND", calls.create("b", 64, Some(nothing)), Code::NotFound, "");
    }
    let elsewhere = controller.cluster.create_user("nobody", &[("mon", "allow r"), ("osd", "allow r")]).unwrap();
    let weak = Calls { secrets: secrets("nobody", &elsewhere), ..Calls::to(&controller) };
    refused("*/PERMISSION_DENIED", weak.cut("weak", &volume.volume_id), Code::PermissionDenied, "");

    // The sources first: what was made from them lives on, and nothing can be made from them any more.
    calls.delete(&volume.volume_id).unwrap();
    for _ in 0..10 {
        answered("DeleteSnapshot/idempotent", calls.delete_snapshot(&snapshot.snapshot_id));
    }
    answered("DeleteSnapshot/idempotent", calls.delete_snapshot("nothing"));
    refused("CreateVolume/NOT_FOUND", calls.create("late", 64, source()), Code::NotFound, "");
    assert_eq!(answered("CreateVolume/idempotent", calls.create("restored", 128, source())), restored);
    for volume in [&restored, &cloned, &other] {
        calls.delete(&volume.volume_id).unwrap();
    }
    nothing_is_left(&controller);
}

#[test]
fn ceph_a_snapshot_costs_at_most_eighty_operations_through_the_daemon() {
    let controller = controller();
    let calls = Calls::to(&controller);
    let volumes: Vec<Volume> = (0..12).map(|number| calls.create(&format!("cost-{number}"), 64, None).unwrap()).collect();
    // Trashes are empty, and the connection is made: what is counted is this call's alone.
    calls.cut("first", &volumes[10].volume_id).unwrap();
    let before = controller.cluster.osd_ops().unwrap();
    let begun = Instant::now();
    calls.cut("counted", &volumes[11].volume_id).unwrap();
    let one = begun.elapsed();
    let operations = controller.cluster.osd_ops().unwrap() - before;
    let begun = Instant::now();
    let taken: Vec<String> = std::thread::scope(|scope| {
        let taken: Vec<_> = volumes[..10]
            .iter()
            .enumerate()
            .map(|(n, volume)| {
                let calls = &calls;
                scope.spawn(move || calls.cut(&format!("at-once-{n}"), &volume.volume_id).unwrap().snapshot_id)
            })
            .collect();
        taken.into_iter().map(|taken| taken.join().unwrap()).collect()
    });
    let ten = begun.elapsed();
    taken.iter().for_each(|taken| calls.delete_snapshot(taken).unwrap());
    println!("CreateSnapshot: {operations} operations, {one:.1?}; ten at once {ten:.1?}, which is {:.1} times one", ten.as_secs_f64() / one.as_secs_f64());
    assert!(operations <= 80, "{operations}");
    for (name, volume) in [("first", &volumes[10]), ("counted", &volumes[11])] {
        calls.delete_snapshot(&calls.cut(name, &volume.volume_id).unwrap().snapshot_id).unwrap();
    }
    volumes.iter().for_each(|volume| calls.delete(&volume.volume_id).unwrap());
    nothing_is_left(&controller);
}

#[test]
fn ceph_a_volume_is_not_deleted_while_it_is_copied() {
    let controller = controller();
    let calls = Calls::to(&controller);
    for round in 0..3 {
        let volume = calls.create(&format!("raced-{round}"), 64, None).unwrap();
        let (snapshot, copy, deleted) = std::thread::scope(|scope| {
            let cut = scope.spawn(|| calls.cut(&format!("raced-{round}"), &volume.volume_id));
            let copy = scope.spawn(|| calls.create(&format!("raced-copy-{round}"), 64, Some(from_volume(&volume.volume_id))));
            let delete = scope.spawn(|| calls.delete(&volume.volume_id));
            (cut.join().unwrap(), copy.join().unwrap(), delete.join().unwrap())
        });
        deleted.expect("a volume whose copies live can be deleted");
        // Each came first, and is whole; or second, and found nothing.
        match snapshot {
            Ok(snapshot) => calls.delete_snapshot(&snapshot.snapshot_id).unwrap(),
            Err(status) => assert_eq!(status.code(), Code::NotFound, "{status}"),
        }
        match copy {
            Ok(copy) => calls.delete(&copy.volume_id).unwrap(),
            Err(status) => assert_eq!(status.code(), Code::NotFound, "{status}"),
        }
    }
    nothing_is_left(&controller);
}

#[test]
fn ceph_a_daemon_that_dies_while_it_copies_leaves_nothing_that_the_next_call_does_not_mend() {
    let mut controller = controller();
    let volume = Calls::to(&controller).create("mortal", 64, None).unwrap();
    for (round, after) in [20, 60, 110, 170, 240, 320].into_iter().enumerate() {
        let (name, is_snapshot) = (format!("mortal-{round}"), round % 2 == 0);
        let calls = Calls::to(&controller);
        let id = volume.volume_id.clone();
        let deed = {
            let name = name.clone();
            move |calls: &Calls| {
                if is_snapshot {
                    calls.cut(&name, &id).map(|cut| cut.snapshot_id)
                } else {
                    calls.create(&name, 96, Some(from_volume(&id))).map(|made| made.volume_id)
                }
            }
        };
        let cut_off = std::thread::scope(|scope| {
            let call = scope.spawn(|| deed(&calls));
            // No fact to wait for: the moment itself is what is tried.
            std::thread::sleep(Duration::from_millis(after));
            controller.die_and_start_again();
            call.join().unwrap()
        });
        let calls = Calls::to(&controller);
        println!("killed after {after} ms: {:?}", cut_off.map_err(|status| status.code()));
        // librbd of the dead process may hold the image's lock until its watch is gone.
        let until = Instant::now() + Duration::from_secs(90);
        let made = loop {
            match deed(&calls) {
                Ok(made) => break made,
                Err(status) => assert!(Instant::now() < until, "{name}: {status}"),
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        assert_eq!(deed(&calls).unwrap(), made);
        let undone = eventually_ok(|| if is_snapshot { calls.delete_snapshot(&made) } else { calls.delete(&made) });
        undone.unwrap_or_else(|status| panic!("{name}: {status}"));
    }
    let calls = Calls::to(&controller);
    eventually_ok(|| calls.delete(&volume.volume_id)).unwrap();
    eventually("the last image is in the trash", || controller.cluster.rbd(&["ls", "rbd"]).trim().is_empty().then_some(()));
    nothing_is_left(&controller);
}

/// A dead process's watch is on an image for half a minute.
fn eventually_ok(call: impl Fn() -> Result<(), Status>) -> Result<(), Status> {
    // And half a minute is long where many other tests run.
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        match call() {
            Err(status) if Instant::now() < until && matches!(status.code(), Code::FailedPrecondition | Code::Unavailable) => {
                std::thread::sleep(Duration::from_millis(500));
            }
            done => return done,
        }
    }
}
