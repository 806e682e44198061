//! Snapshots and clones with data in them: what was written is in each copy, on a larger volume too, and stays there when its source is gone.

use harness::bench::{Bench, bench};
use harness::rbd::{self, RbdVolume, from_snapshot, from_volume, snapshot_request};
use harness::rows::holds;
use harness::vm::GuestDaemon;
use harness::{Endpoint, Volume, mount_as};
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{CreateVolumeRequest, DeleteSnapshotRequest, VolumeContentSource};

/// A copy, as large as is asked for.
fn copy(driver: &Endpoint, of: &RbdVolume, name: &str, mib: i64, source: VolumeContentSource) -> RbdVolume {
    let request = RbdVolume::create_request(name, &of.volume.capability, mib, "rbd", &of.secrets);
    let made = driver.create_volume(CreateVolumeRequest { volume_content_source: Some(source), ..request }).unwrap().volume.unwrap();
    assert_eq!(made.capacity_bytes, mib << 20);
    RbdVolume { volume: Volume::at(driver, name, made, of.volume.capability.clone()).unwrap(), ..of.clone() }
}

fn put_up(driver: &Endpoint, volume: &mut RbdVolume, node: &str) {
    volume.attach(driver, node).unwrap();
    volume.stage(driver).unwrap();
    volume.publish(driver, 0).unwrap();
}

fn take_down(driver: &Endpoint, volume: &RbdVolume, node: &str) {
    volume.volume.unpublish(driver, 0).unwrap();
    volume.volume.unstage(driver).unwrap();
    volume.detach(driver, node).unwrap();
}

#[test]
fn vm_rbd_snapshots_and_clones_have_their_sources_bytes_and_outlive_it() {
    let Bench { cluster, node1: vm, .. } = bench();
    let daemon = GuestDaemon::prepared(vm, "copies");
    let driver = rbd::serve(&daemon, cluster);
    let node = rbd::node_id(&driver).unwrap();
    for (kind, mib) in [("ext4", 64), ("xfs", 320)] {
        let mut source = RbdVolume::create(&driver, cluster, &format!("copied-{kind}"), mount_as(kind, Mode::SingleNodeWriter, &[]), mib).unwrap();
        let target = source.volume.target(0);
        put_up(&driver, &mut source, &node);
        vm.shell(&format!("dd if=/dev/urandom of={target}/data bs=1M count=8 2>/dev/null; cd {target}; sha256sum data >sum; sync"));

        // Cut and copied while it is mounted, and written again after.
        let request = snapshot_request(&format!("cut-{kind}"), &source.volume.id(), &source.secrets);
        let snapshot = driver.create_snapshot(request).unwrap().snapshot.unwrap();
        let mut clone = copy(&driver, &source, &format!("clone-{kind}"), mib, from_volume(&source.volume.id()));
        vm.shell(&format!("cd {target}; sha256sum -c sum; echo later >data; sync"));
        let mut restored = copy(&driver, &source, &format!("restored-{kind}"), mib * 2, from_snapshot(&snapshot.snapshot_id));
        take_down(&driver, &source, &node);

        // The sources go first.
        source.delete(&driver).unwrap();
        driver.delete_snapshot(DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, secrets: source.secrets.clone() }).unwrap();
        for volume in [&mut clone, &mut restored] {
            put_up(&driver, volume, &node);
            assert!(!volume.publish_context.contains_key("windlass.io/never-written"));
        }
        let size =
            |volume: &RbdVolume| -> i64 { vm.shell(&format!("echo $(( $(stat -f -c '%b * %S' {}) ))", volume.volume.target(0))).trim().parse().unwrap() };
        assert!(size(&restored) > (mib << 20) * 3 / 2, "its file system has grown with it: {}", size(&restored));
        assert_eq!(clone.expand(&driver, mib * 2).unwrap(), (mib * 2) << 20);
        clone.grow(&driver, 0).unwrap();
        assert!(size(&clone) > (mib << 20) * 3 / 2, "{}", size(&clone));
        for volume in [&clone, &restored] {
            let checked = vm.shell(&format!("cd {} && sha256sum -c sum && echo mine >own && sync", volume.volume.target(0)));
            holds("CreateSnapshot/contents", checked.trim() == "data: OK");
        }
        for volume in [&clone, &restored] {
            take_down(&driver, volume, &node);
            volume.delete(&driver).unwrap();
        }
    }
    assert_eq!(vm.shell("ls /sys/bus/rbd/devices"), "");
    let names = cluster.rbd(&["ls", "rbd"]);
    assert!(!names.contains("csi-snap-"), "{names}");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !cluster.rbd(&["trash", "ls", "--all", "rbd"]).trim().is_empty() {
        assert!(std::time::Instant::now() < until, "the trash is not emptied\n{}", daemon.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
