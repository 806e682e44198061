//! What befalls a cluster below volumes in use: a pool that is full, a key that is revoked, an OSD that ends or dies.

use harness::bench::{Bench, bench};
use harness::ceph::Cluster;
use harness::network::Network;
use harness::rbd::{self, RbdVolume, secrets};
use harness::vm::{GuestDaemon, Vm};
use harness::{Endpoint, Volume, block, mount_as};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// Asks until it is so.
#[track_caller]
fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "not within 90 seconds: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn serve(name: &str) -> (GuestDaemon, Endpoint, String) {
    let daemon = GuestDaemon::prepared(&bench().node1, name);
    let driver = rbd::serve(&daemon, &bench().cluster);
    let node = rbd::node_id(&driver).unwrap();
    (daemon, driver, node)
}

/// A volume in a pool of this name.
fn create(driver: &Endpoint, name: &str, pool: &str, secrets: &std::collections::BTreeMap<String, String>) -> Result<RbdVolume, Status> {
    let capability = mount_as("ext4", Mode::SingleNodeWriter, &[]);
    let made = driver.create_volume(RbdVolume::create_request(name, &capability, 32, pool, secrets))?;
    let volume = Volume::at(driver, name, made.volume.unwrap_or_default(), capability)?;
    Ok(RbdVolume { volume, secrets: secrets.clone(), publish_context: Default::default() })
}

#[test]
fn vm_rbd_a_full_pool_is_said_and_leaves_nothing_behind() {
    let Bench { cluster, node1: vm } = bench();
    cluster.create_pool("small").unwrap();
    cluster.wait_for_manager().unwrap();
    let (_daemon, driver, node) = serve("full");
    let secrets = secrets("admin", cluster.admin_key());
    let [mut used, mut fresh, spare] = ["used", "fresh", "spare"].map(|name| create(&driver, &format!("full-{name}"), "small", &secrets).unwrap());
    used.attach(&driver, &node).unwrap();
    used.stage(&driver).unwrap();
    used.publish(&driver, 0).unwrap();
    fresh.attach(&driver, &node).unwrap();
    let quota = |bytes: u64| {
        cluster.command(&json!({"prefix": "osd pool set-quota", "pool": "small", "field": "max_bytes", "val": bytes.to_string()})).unwrap();
        wait("the monitors take note of the quota", || {
            let dump = cluster.command(&json!({"prefix": "osd dump", "format": "json"})).unwrap();
            let pool = dump["pools"].as_array().unwrap().iter().find(|pool| pool["pool_name"] == "small").unwrap().clone();
            (pool["flags_names"].as_str().unwrap().contains("full") == (bytes != 0)).then_some(())
        });
    };
    quota(4096);

    // What asks for room is told that there is none, in time, and nothing of it is left.
    let images = cluster.rbd(&["ls", "small"]);
    for round in 0..2 {
        let begun = Instant::now();
        let refused = create(&driver, "full-new", "small", &secrets).map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "round {round}: {refused}");
        assert!(refused.message().contains("quota") && begun.elapsed() < Duration::from_secs(10), "{refused} after {:?}", begun.elapsed());
    }
    assert_eq!(cluster.rbd(&["ls", "small"]), images);
    // What gives room back goes on.
    spare.delete(&driver).unwrap();
    // mkfs waits in the kernel for room: the caller hears of it at the deadline, and nobody else is held up.
    let begun = Instant::now();
    let refused = driver.stage_within(fresh.stage_request(), Duration::from_secs(8)).unwrap_err();
    assert!([Code::DeadlineExceeded, Code::Unavailable, Code::ResourceExhausted].contains(&refused.code()), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(driver.probe().unwrap());
    let mut beside = RbdVolume::create(&driver, cluster, "full-beside", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    beside.attach(&driver, &node).unwrap();
    beside.stage(&driver).unwrap();
    beside.volume.unstage(&driver).unwrap();

    quota(0);
    let back = Instant::now();
    wait("the stage converges", || fresh.stage(&driver).ok());
    assert!(back.elapsed() < Duration::from_secs(15), "{:?}", back.elapsed());
    fresh.publish(&driver, 0).unwrap();
    vm.shell(&format!("echo room >{}/file; sync; echo more >{}/file; sync", fresh.volume.target(0), used.volume.target(0)));
    let new = create(&driver, "full-new", "small", &secrets).unwrap();
    for volume in [&used, &fresh] {
        volume.volume.unpublish(&driver, 0).unwrap();
        volume.volume.unstage(&driver).unwrap();
    }
    for volume in [&used, &fresh, &beside, &new] {
        volume.detach(&driver, &node).unwrap();
        volume.delete(&driver).unwrap();
    }
    assert_eq!(vm.shell("ls /sys/bus/rbd/devices; grep windlass: /proc/keys || true"), "");
    assert_eq!(cluster.rbd(&["ls", "small"]).trim(), "");
    wait("the trash is emptied", || cluster.rbd(&["trash", "ls", "small"]).trim().is_empty().then_some(()));
}

#[test]
fn vm_rbd_a_revoked_key_opens_nothing_new_and_everything_can_be_taken_down() {
    let Bench { cluster, node1: vm } = bench();
    let (mut daemon, driver, node) = serve("revoked");
    let key = cluster.create_user("leaver", &[("mon", "profile rbd"), ("osd", "profile rbd pool=rbd")]).unwrap();
    let (leaver, admin) = (secrets("leaver", &key), secrets("admin", cluster.admin_key()));
    let [mut staged, mut late] = ["staged", "late"].map(|name| create(&driver, &format!("revoked-{name}"), "rbd", &leaver).unwrap());
    for volume in [&mut staged, &mut late] {
        volume.attach(&driver, &node).unwrap();
    }
    staged.stage(&driver).unwrap();
    staged.publish(&driver, 0).unwrap();
    vm.shell(&format!("echo before >{}/file; sync", staged.volume.target(0)));
    cluster.command(&json!({"prefix": "auth del", "entity": "client.leaver"})).unwrap();

    // What is in use goes on: tickets that were given live on for an hour. What is new is refused as soon as somebody asks for a ticket,
    // which the next process does, and the node's kernel once no volume of that user is mapped.
    vm.shell(&format!("echo after >>{}/file; sync", staged.volume.target(0)));
    daemon.kill();
    daemon.start_again();
    daemon.wait_ready(rbd::RBD_DRIVER);
    let denied = [Code::Unauthenticated, Code::PermissionDenied];
    let refused = |what: &str, answer: &dyn Fn() -> Result<(), Status>| {
        let begun = Instant::now();
        let refused = answer().expect_err(what);
        assert!(denied.contains(&refused.code()) && begun.elapsed() < Duration::from_secs(5), "{what}: {refused} after {:?}", begun.elapsed());
        assert!(!refused.message().contains(&key), "{what}: {refused}");
    };
    refused("create", &|| create(&driver, "revoked-new", "rbd", &leaver).map(drop));
    refused("publish", &|| late.clone().attach(&driver, &node));
    refused("delete", &|| late.delete(&driver));
    staged.volume.unpublish(&driver, 0).unwrap();
    staged.volume.unstage(&driver).unwrap();
    refused("stage", &|| late.stage(&driver));
    refused("stage again", &|| staged.stage(&driver));
    assert_eq!(vm.shell("ls /sys/bus/rbd/devices; grep windlass: /proc/keys || true"), "", "what was refused is taken down");

    // With a key that is valid all of it can be given back, and what was written is there.
    for volume in [&mut staged, &mut late] {
        volume.secrets = admin.clone();
    }
    staged.attach(&driver, &node).unwrap();
    staged.stage(&driver).unwrap();
    staged.publish(&driver, 0).unwrap();
    assert_eq!(vm.shell(&format!("cat {}/file", staged.volume.target(0))), "before\nafter\n");
    staged.volume.unpublish(&driver, 0).unwrap();
    staged.volume.unstage(&driver).unwrap();
    for volume in [&staged, &late] {
        volume.detach(&driver, &node).unwrap();
        volume.delete(&driver).unwrap();
    }
}

#[test]
fn vm_rbd_writes_outlive_the_end_and_the_death_of_an_osd() {
    let network = Network::new().unwrap();
    let (cluster, vm) = (Cluster::start(&network, 2).unwrap(), Arc::new(Vm::start(&network, "osds").unwrap()));
    let daemon = GuestDaemon::prepared(&vm, "osds");
    let driver = rbd::serve(&daemon, &cluster);
    let node = rbd::node_id(&driver).unwrap();
    // One copy of everything in the one pool, two in the other, from the beginning: nothing is ever to be made up for.
    cluster.command(&json!({"prefix": "osd pool create", "pool": "pair", "pg_num": 8, "pgp_num": 8, "pool_type": "replicated", "size": 2})).unwrap();
    cluster.command(&json!({"prefix": "osd pool set", "pool": "pair", "var": "min_size", "val": "1"})).unwrap();
    cluster.rbd(&["pool", "init", "pair"]);
    let staged = |name: &str, pool: &str| {
        let (capability, secrets) = (block(Mode::SingleNodeWriter), secrets("admin", cluster.admin_key()));
        let made = driver.create_volume(RbdVolume::create_request(name, &capability, 48, pool, &secrets)).unwrap().volume.unwrap();
        let mut volume = RbdVolume { volume: Volume::at(&driver, name, made, capability).unwrap(), secrets, publish_context: Default::default() };
        volume.attach(&driver, &node).unwrap();
        volume.stage(&driver).unwrap();
        volume.publish(&driver, 0).unwrap();
        volume
    };
    // Every object of the image, each write waited for: both OSDs have some, and some are under way at any time.
    let write = |volume: &RbdVolume| {
        let script = format!("yes written | head -c 50331648 | dd of={} bs=256k oflag=direct iflag=fullblock", volume.volume.target(0));
        vm.start_program(&["/bin/busybox", "sh", "-c", &script], &[], "/run/dd.log")
    };
    // Of writes, or of what comes before one: with the image's header or object map on an OSD that is away, there is a `call` and no write.
    let has_requests = || {
        let osdc = vm.shell("cat /sys/kernel/debug/ceph/*/osdc");
        osdc.lines().any(|line| line.strip_prefix("REQUESTS ").is_some_and(|rest| !rest.starts_with("0 ")))
    };
    let begun = |pid: i32| {
        wait("the write has begun", || (vm.ended(pid).is_some() || has_requests()).then_some(()));
        assert_eq!(vm.ended(pid), None, "the write is over already");
    };
    let take_down = |volume: &RbdVolume, write: i32| {
        assert!(wait("the write's end", || vm.ended(write)).success(), "{}", String::from_utf8_lossy(&vm.get("/run/dd.log").unwrap()));
        let compared = vm.shell(&format!("echo 3 >/proc/sys/vm/drop_caches; yes written | head -c 50331648 | cmp - {} && echo same", volume.volume.target(0)));
        assert_eq!(compared.trim(), "same");
        volume.volume.unpublish(&driver, 0).unwrap();
        volume.volume.unstage(&driver).unwrap();
        assert_eq!(vm.shell("ls /sys/bus/rbd/devices; grep windlass: /proc/keys || true"), "");
        volume.detach(&driver, &node).unwrap();
    };

    // Ended in order and started again: some objects are on it alone, so their writes wait for it, and none of that is an error here.
    let volume = staged("osds-single", "rbd");
    let writing = write(&volume);
    begun(writing);
    cluster.stop("osd.1").unwrap();
    begun(writing);
    cluster.start_again("osd.1").unwrap();
    take_down(&volume, writing);
    volume.delete(&driver).unwrap();

    // kill -9, with a second copy of everything: what was under way goes on at the other one.
    let volume = staged("osds-pair", "pair");
    let writing = write(&volume);
    begun(writing);
    cluster.kill("osd.1").unwrap();
    take_down(&volume, writing);
    volume.delete(&driver).unwrap();
}
