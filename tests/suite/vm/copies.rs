//! Snapshots and clones with data in them: what was written is in each copy, on a larger volume too, and stays there when its source is gone.

use harness::bench::{Bench, bench};
use harness::rbd::{self, RbdVolume, from_snapshot, from_volume, snapshot_request};
use harness::rows::holds;
use harness::vm::GuestDaemon;
use harness::{Endpoint, Volume, block, mount_as};
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

/// The kernel's client tells the object map of a snapshot only of what it has to copy itself. What was copied before it came is in no map of a snapshot, and
/// is found all the same, since what has snapshots is not made independent.
#[test]
fn vm_rbd_a_snapshot_of_a_copy_that_was_to_become_independent_keeps_its_bytes() {
    let Bench { cluster, node1: vm, .. } = bench();
    let daemon = GuestDaemon::prepared(vm, "independent");
    let driver = rbd::serve(&daemon, cluster);
    let node = rbd::node_id(&driver).unwrap();
    let mut source = RbdVolume::create(&driver, cluster, "independent-source", block(Mode::SingleNodeWriter), 32).unwrap();
    put_up(&driver, &mut source, &node);
    vm.shell(&format!("dd if=/dev/urandom of={} bs=1M count=32 oflag=direct 2>/dev/null", source.volume.target(0)));
    take_down(&driver, &source, &node);
    let mut volume = copy(&driver, &source, "independent-copy", 32, from_volume(&source.volume.id()));
    let request = snapshot_request("independent-cut", &volume.volume.id(), &source.secrets);
    let snapshot = driver.create_snapshot(request).unwrap().snapshot.unwrap();

    // Half of it is copied, as it is in the background; then the node writes to it; then the rest is copied.
    let prefix = |image: &str| {
        let info = cluster.rbd(&["info", &format!("rbd/{image}")]);
        info.lines().find_map(|line| line.trim().strip_prefix("block_name_prefix: ").map(str::to_owned)).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let object = folder.path().join("object").display().to_string();
    for number in 0..4 {
        cluster.tool("rados", &["-p", "rbd", "get", &format!("{}.{number:016x}", prefix(&source.image())), &object]);
        cluster.tool("rados", &["-p", "rbd", "put", &format!("{}.{number:016x}", prefix(&volume.image())), &object]);
    }
    put_up(&driver, &mut volume, &node);
    vm.shell(&format!("for n in 0 1 2 3; do dd if=/dev/zero of={} bs=4k count=1 seek=$((n * 1024)) oflag=direct 2>/dev/null; done", volume.volume.target(0)));
    cluster.tool("rados", &["-p", "rbd", "setomapval", "windlass.flatten", &volume.image(), ""]);
    // Another copy has the list looked at.
    let tick = copy(&driver, &source, "independent-tick", 32, from_volume(&source.volume.id()));
    harness::eventually("it is said why it waits", || {
        String::from_utf8_lossy(&daemon.windlass(&["ops", "-o", "json"]).stdout).contains("its snapshots need").then_some(())
    });
    assert!(cluster.rbd(&["info", &format!("rbd/{}", volume.image())]).contains("parent:"));
    tick.delete(&driver).unwrap();
    take_down(&driver, &volume, &node);

    let bytes = |volume: &RbdVolume| {
        let file = folder.path().join("exported");
        cluster.rbd(&["export", "--no-progress", &format!("rbd/{}", volume.image()), file.to_str().unwrap()]);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        bytes
    };
    let wanted = bytes(&source);
    source.delete(&driver).unwrap();
    let restored = copy(&driver, &volume, "independent-restored", 32, from_snapshot(&snapshot.snapshot_id));
    holds("CreateSnapshot/contents", bytes(&restored) == wanted);
    let mut written = wanted;
    for number in 0..4 {
        written[number * (4 << 20)..number * (4 << 20) + 4096].fill(0);
    }
    assert!(bytes(&volume) == written, "the volume has what was written and the rest of its source");
    driver.delete_snapshot(DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, secrets: source.secrets.clone() }).unwrap();
    for volume in [&restored, &volume] {
        volume.delete(&driver).unwrap();
    }
}
