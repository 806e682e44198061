//! A mapping that somebody made by hand: `windlass devices` shows it as nobody's, and it stays as it is whatever happens to the others.

use harness::bench::{Bench, bench};
use harness::mount_as;
use harness::rbd::{self, RbdVolume};
use harness::vm::GuestDaemon;
use serde_json::{Value, json};
use windlass_csi::v1::volume_capability::access_mode::Mode;

#[test]
fn vm_rbd_a_mapping_made_by_hand_is_shown_and_left_alone() {
    let Bench { cluster, node1: vm, .. } = bench();
    let mut daemon = GuestDaemon::prepared(vm, "by-hand");
    let driver = rbd::serve(&daemon, cluster);
    let node = rbd::node_id(&driver).unwrap();
    let mut volume = RbdVolume::create(&driver, cluster, "by-hand", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    volume.attach(&driver, &node).unwrap();
    cluster.rbd(&["create", "rbd/foreign", "--size", "16M"]);
    cluster.rbd(&["snap", "create", "--no-progress", "rbd/foreign@then"]);
    // With the options of the daemon's own mappings, so that both share a client in the kernel.
    let order = |image: &str| format!("{} name=admin,secret={},mount_timeout=30 rbd {image}", cluster.monitor_v1(), cluster.admin_key());
    vm.shell(&format!("echo '{} -' >/sys/bus/rbd/add_single_major; echo '{} then' >/sys/bus/rbd/add_single_major", order("foreign"), order("foreign")));
    // What identifies a mapping: the kernel's number for the disk is never given twice.
    let identity =
        || vm.shell("cd /sys/bus/rbd/devices; for id in *; do [ $(cat $id/name) = foreign ] && cat $id/current_snap /sys/block/rbd$id/diskseq || true; done");
    let before = identity();
    let foreign = |daemon: &GuestDaemon| -> Vec<Value> { daemon.devices().into_iter().filter(|row| row["state"] == "nobodys").collect() };

    let rows = foreign(&daemon);
    assert_eq!(rows.len(), 2, "{rows:?}");
    for (row, (image, is_read_only)) in rows.iter().zip([("rbd/foreign", false), ("rbd/foreign@then", true)]) {
        assert_eq!((&row["backing"], &row["is_read_only"]), (&json!(image), &json!(is_read_only)));
        assert_eq!((&row["cluster"], &row["size"]), (&json!(cluster.fsid()), &json!(16 << 20)));
        assert_eq!((&row["driver"], &row["volume"], &row["mounted_at"]), (&Value::Null, &Value::Null, &json!([])));
    }
    volume.stage(&driver).unwrap();
    let ours: Vec<Value> = daemon.devices().into_iter().filter(|row| row["state"] == "ours").collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert_eq!((&ours[0]["volume"], &ours[0]["driver"]), (&json!(volume.volume.id()), &json!(rbd::RBD_DRIVER)));
    assert_eq!((&ours[0]["backing"], &ours[0]["mounted_at"]), (&json!(format!("rbd/{}", volume.image())), &json!([volume.volume.staging])));
    let table = String::from_utf8(daemon.windlass(&["devices"]).stdout).unwrap();
    let line = table.lines().find(|line| line.contains(&format!("{}/rbd/foreign ", cluster.fsid()))).unwrap_or_else(|| panic!("{table}"));
    assert!(line.contains("nobody's") && line.contains("16 MiB"), "{line}");

    // Deaths and starts, with the journal and without.
    for journal in ["kept", "lost"] {
        daemon.kill();
        if journal == "lost" {
            vm.shell("rm -r /run/by-hand/journal");
        }
        daemon.start_again();
        daemon.wait_ready(rbd::RBD_DRIVER);
        assert_eq!(foreign(&daemon), rows, "journal {journal}");
        let state = if journal == "kept" { "ours" } else { "ours-without-record" };
        assert_eq!(daemon.devices().iter().filter(|row| row["state"] == state).count(), 1, "journal {journal}");
    }
    volume.volume.unstage(&driver).unwrap();
    volume.stage(&driver).unwrap();
    volume.volume.unstage(&driver).unwrap();
    assert_eq!(daemon.devices(), rows);
    assert_eq!(identity(), before);

    vm.shell("cd /sys/bus/rbd/devices; for id in *; do echo $id >/sys/bus/rbd/remove_single_major; done");
    assert_eq!(daemon.devices(), Vec::<Value>::new());
    cluster.rbd(&["snap", "rm", "--no-progress", "rbd/foreign@then"]);
    cluster.rbd(&["rm", "--no-progress", "rbd/foreign"]);
    volume.detach(&driver, &node).unwrap();
    volume.delete(&driver).unwrap();
}
