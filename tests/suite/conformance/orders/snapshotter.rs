//! csi-snapshotter: the name is asked for before each cut, and a snapshot's state by ListSnapshots where that is advertised.

use super::row;
use harness::orders::{component, controller_capabilities, keys};
use harness::{DRIVER, Daemon, Volume, mount};
use windlass_csi::v1;
use windlass_csi::v1::controller_service_capability::rpc::Type as Rpc;
use windlass_csi::v1::volume_capability::access_mode::Mode;

#[test]
fn plugin_the_snapshotter_cuts_looks_and_deletes_in_its_order() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "pvc-source", mount(Mode::SingleNodeMultiWriter), 16).unwrap();
    let (snapshotter, _) = component("csi-snapshotter").start(&daemon);
    // With --extra-create-metadata.
    let parameters = keys(&[
        ("csi.storage.k8s.io/volumesnapshot/name", "nightly"),
        ("csi.storage.k8s.io/volumesnapshot/namespace", "default"),
        ("csi.storage.k8s.io/volumesnapshotcontent/name", "snapcontent-6a1f"),
    ]);
    let cut = |parameters| {
        assert_eq!(snapshotter.driver_name().unwrap(), DRIVER);
        let name = "snapshot-6a1f2c3d-0001-4aaa-8bbb-1234567890ab".to_owned();
        let asked = v1::CreateSnapshotRequest { source_volume_id: volume.id(), name, parameters, ..Default::default() };
        row("CreateSnapshot/orchestrator").answers(snapshotter.create_snapshot(asked)).snapshot.unwrap()
    };
    let snapshot = cut(parameters);
    row("CreateSnapshot/orchestrator").holds(cut(keys(&[])) == snapshot, "the keys are no part of the wish");
    // Until it is ready, and with each resync: can it list? Then what became of it.
    for _ in 0..2 {
        assert!(controller_capabilities(&snapshotter).unwrap().contains(&Rpc::ListSnapshots));
        let asked = v1::ListSnapshotsRequest { snapshot_id: snapshot.snapshot_id.clone(), ..Default::default() };
        let entries = snapshotter.list_snapshots(asked).unwrap().entries;
        let [v1::list_snapshots_response::Entry { snapshot: Some(seen) }] = &entries[..] else { panic!("one entry: {entries:?}") };
        row("CreateSnapshot/orchestrator").holds(*seen == snapshot && seen.ready_to_use && seen.creation_time.is_some(), "it is listed as it was cut");
    }
    for _ in 0..2 {
        let asked = v1::DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone(), ..Default::default() };
        snapshotter.delete_snapshot(asked).unwrap();
    }
    assert_eq!(snapshotter.connections(), 1, "it would have exited");
    volume.delete(&daemon).unwrap();
}
