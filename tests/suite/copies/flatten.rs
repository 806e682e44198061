//! A long chain of copies is cut in the background, also where the process that cuts it dies in the middle.

use super::{Calls, controller, eventually_ok, from_volume, nothing_is_left};
use harness::process::roles;
use harness::{Daemon, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A volume with more images behind it is made independent of them.
const BEHIND: usize = 4;

/// Enough that copying it takes longer than to see it begin.
const MIB: i64 = 512;

#[test]
fn ceph_a_death_in_the_middle_of_making_a_copy_independent_is_gone_on_from() {
    let controller = controller();
    let (calls, cluster) = (Calls::to(&controller), &controller.cluster);
    let image = |id: &str| format!("rbd/{}", id.rsplit('/').next().unwrap());
    let first = calls.create("chain-0", MIB, None).unwrap();
    cluster.rbd(&["bench", "--io-type", "write", "--io-size", "4M", "--io-pattern", "seq", "--io-total", "384M", &image(&first.volume_id)]);
    let mut chain = vec![first];
    let notes = || cluster.tool("rados", &["-p", "rbd", "listomapkeys", "windlass.flatten"]);
    for number in 1..=BEHIND + 1 {
        let copy = calls.create(&format!("chain-{number}"), MIB, Some(from_volume(&chain[number - 1].volume_id))).unwrap();
        chain.push(copy);
    }
    let last = image(&chain[BEHIND + 1].volume_id);
    // Twice, a little later each time, the process that does it is killed. Nothing is asked of it: the next call of any kind starts another.
    let mut in_the_middle = 0;
    for round in 0..2 {
        let until = Instant::now() + Duration::from_secs(60);
        while !cluster.rbd(&["status", &last]).contains("watcher=") && !notes().trim().is_empty() {
            assert!(Instant::now() < until, "nobody makes {last} independent:\n{}", controller.daemon.log());
        }
        for pid in roles(controller.daemon.pid(), "effects") {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        in_the_middle += usize::from(!notes().trim().is_empty());
        eventually_ok(|| calls.create(&format!("tick-{round}"), 1, None).map(drop)).unwrap();
    }
    println!("{in_the_middle} of 2 deaths were in the middle");
    assert!(in_the_middle > 0, "no death was in the middle: this shows nothing");

    let until = Instant::now() + Duration::from_secs(120);
    let mut is_shown = false;
    while !notes().trim().is_empty() {
        is_shown |= behind(&controller.daemon).iter().any(|(what, pool, _)| what == "flatten" && pool == "rbd");
        assert!(Instant::now() < until, "it is not gone on with: {}\n{}", notes(), controller.daemon.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(is_shown, "`windlass ops` says nothing of it");
    assert!(!cluster.rbd(&["info", &last]).contains("parent:"), "{last}");
    let bytes = |image: &str| {
        let file = controller.daemon.path("exported");
        cluster.rbd(&["export", "--no-progress", image, file.to_str().unwrap()]);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        bytes
    };
    let copied = bytes(&last);
    assert!(copied == bytes(&image(&chain[0].volume_id)), "{last} is not what it was copied from");
    assert!(copied.iter().any(|byte| *byte != 0));
    // A source whose copies live is deleted, waits for them, and is seen to.
    eventually_ok(|| calls.delete(&chain[0].volume_id)).unwrap();
    eventually("the trash that waits for the copies", || {
        let why = behind(&controller.daemon).into_iter().find_map(|(what, _, why)| if what == "purge" { why } else { None })?;
        assert!(why.contains("copies"), "{why}");
        Some(())
    });
    for volume in &chain[1..] {
        eventually_ok(|| calls.delete(&volume.volume_id)).unwrap();
    }
    for round in 0..2 {
        calls.delete(&calls.create(&format!("tick-{round}"), 1, None).unwrap().volume_id).unwrap();
    }
    nothing_is_left(&controller);
    eventually("nothing to be done any more", || behind(&controller.daemon).is_empty().then_some(()));
}

/// What `windlass ops` shows to be done in the background: what, in which pool, and why not yet.
fn behind(daemon: &Daemon) -> Vec<(String, String, Option<String>)> {
    let output = daemon.windlass(&["ops", "-o", "json"]);
    let ops: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let work = ops["background"].as_array().unwrap().iter().flat_map(|one| one["work"].as_array().unwrap());
    work.map(|work| (text(&work["what"]).unwrap(), text(&work["pool"]).unwrap(), text(&work["why"]))).collect()
}
