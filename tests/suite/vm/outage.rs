//! A cluster that falls silent, comes back, or is started again, seen from a mapped image.

use harness::ceph::Cluster;
use harness::network::Network;
use harness::vm::Vm;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// Asks until it is so.
#[track_caller]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn vm_an_outage_holds_up_a_mapped_image_and_loses_nothing() {
    let network = Network::new().unwrap();
    let (cluster, vm) = (Cluster::start(&network, 2).unwrap(), Vm::start(&network, "outage").unwrap());
    cluster.rbd(&["create", "rbd/image", "--size", "16M", "--object-size", "1M"]);
    let key = cluster.create_user("node", &[("mon", "profile rbd"), ("osd", "profile rbd pool=rbd")]).unwrap();
    vm.shell(&format!("echo '{} name=node,secret={key} rbd image -' >/sys/bus/rbd/add_single_major", cluster.monitor_v1()));
    // Every object of the image: both OSDs hold some.
    let write = |seed: &str| {
        vec!["/bin/busybox".to_owned(), "sh".into(), "-c".into(), format!("yes {seed} | head -c 16777216 | dd of=/dev/rbd0 bs=1M conv=fsync iflag=fullblock")]
    };
    let run = |words: &[String]| vm.start_program(&words.iter().map(String::as_str).collect::<Vec<_>>(), &[], "/run/dd.log");
    let ended_well = |pid: i32| vm.ended(pid).is_some_and(|status| status.success());

    let first = run(&write("first"));
    wait("a write while all is well", || ended_well(first));

    cluster.pause("osd.1").unwrap();
    let second = run(&write("second"));
    wait("a write that waits", || vm.shell("cat /sys/kernel/debug/ceph/*/osdc").contains("write"));
    assert_eq!(vm.ended(second), None, "osd.1 answers nothing");
    cluster.resume("osd.1").unwrap();
    wait("the write after the outage", || ended_well(second));

    // What is in memory is written down by a stop, so data outlives it.
    cluster.stop("osd.0").unwrap();
    cluster.kill("mon.a").unwrap();
    cluster.start_again("mon.a").unwrap();
    cluster.start_again("osd.0").unwrap();
    assert_eq!(cluster.command(&serde_json::json!({"prefix": "mon dump", "format": "json"})).unwrap()["fsid"], cluster.fsid());
    let read = vm.start_program(&["/bin/busybox", "sh", "-c", "yes second | head -c 16777216 | cmp -n 16777216 - /dev/rbd0"], &[], "/run/cmp.log");
    wait("the same bytes", || vm.ended(read).is_some());
    assert!(ended_well(read), "{}", String::from_utf8_lossy(&vm.get("/run/cmp.log").unwrap()));
    vm.shell("echo 0 >/sys/bus/rbd/remove_single_major");
    assert!(!vm.signal(read, Signal::SIGKILL), "nothing runs any more");
}
