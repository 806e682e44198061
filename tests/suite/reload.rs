//! A plugin is replaced while it serves: no call fails, a bad one never replaces a good one.

mod load;
mod signed;

use harness::{DRIVER, Daemon, Endpoint, Setup, Volume, block, component, eventually, process};
use load::Tally;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn version(driver: &Endpoint) -> String {
    driver.get_plugin_info(v1::GetPluginInfoRequest {}).unwrap().vendor_version
}

/// One driver's part of `windlass status`.
fn status(daemon: &Daemon, driver: &str) -> serde_json::Value {
    let status = daemon.status();
    let drivers = status["drivers"].as_array().unwrap();
    drivers.iter().find(|one| one["name"] == driver).unwrap_or_else(|| panic!("no driver {driver} in {status}")).clone()
}

/// Makes and deletes a volume: the plugin, its grants and the effects process work.
fn assert_serves(daemon: &Endpoint) {
    let volume = Volume::create(daemon, "served", block(Mode::SingleNodeWriter), 1).unwrap();
    volume.delete(daemon).unwrap();
}

/// Renames a component in and waits until it serves; how long that took.
fn replace(daemon: &Daemon, name: &str, expected: &str) -> Duration {
    let bytes = std::fs::read(component(name)).unwrap();
    let began = Instant::now();
    daemon.rename_in(&bytes, "plugins/local.wasm");
    let until = began + Duration::from_secs(20);
    while version(daemon) != expected {
        assert!(Instant::now() < until, "{name} does not serve:\n{}", daemon.log());
    }
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

const BOTH: [(&str, &str); 2] = [("local-v2", "0.1.1"), ("local", "0.1.0")];

#[test]
fn loop_a_hundred_reloads_in_a_minute_under_load_fail_no_call() {
    const RELOADS: usize = 100;
    let daemon = Daemon::start();
    let tally = Tally::default();
    let began = Instant::now();
    let times = std::thread::scope(|scope| {
        for caller in 0..8 {
            let (tally, driver) = (&tally, &*daemon);
            scope.spawn(move || tally.call(driver, caller));
        }
        let times = (0..RELOADS).map(|n| {
            let (name, version) = BOTH[n % 2];
            let took = replace(&daemon, name, version);
            // Spread over half a minute, so that calls of all kinds meet a reload.
            std::thread::sleep(Duration::from_millis(300).saturating_sub(took));
            took
        });
        // Callers end also when a reload fails.
        let times = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| times.collect::<Vec<_>>()));
        tally.end();
        times
    });
    let (took, calls) = (began.elapsed(), tally.calls.load(Ordering::Relaxed));
    let failures = tally.failures.lock().unwrap();
    let (median, longest) = median(times.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    println!(
        "{RELOADS} reloads in {took:.1?} under {calls} calls ({:.0} a second): {} failed; rename to serving {median:.1?} median, {longest:.1?} longest",
        calls as f64 / took.as_secs_f64(),
        failures.len()
    );
    assert!(failures.is_empty(), "{} of {calls} calls failed:\n{}", failures.len(), failures.join("\n"));
    assert!(took < Duration::from_secs(60), "a hundred reloads took {took:?}");
    assert_eq!(status(&daemon, DRIVER)["generation"], RELOADS as u64 + 1);
    daemon.assert_nothing_left();
    assert_one_plugin_process(&daemon);
}

/// Of all generations, the one that serves has a process, and no other.
fn assert_one_plugin_process(daemon: &Daemon) {
    eventually("the end of the old plugin processes", || (process::roles(daemon.pid(), "plugin-host").len() <= 1).then_some(()));
}

#[test]
fn plugin_the_time_from_rename_to_serving_is_short() {
    let daemon = Daemon::start();
    // Compiled once each.
    for (name, version) in BOTH {
        replace(&daemon, name, version);
    }
    let times = (0..20).map(|n| replace(&daemon, BOTH[n % 2].0, BOTH[n % 2].1)).collect();
    let (median, longest) = median(times);
    println!("rename to serving, code cached, nobody calling: {median:.1?} median, {longest:.1?} longest of 20");
    assert!(median < Duration::from_millis(500), "{median:?}");
}

#[test]
fn plugin_a_drivers_file_that_cannot_be_looked_at_is_not_one_that_is_gone() {
    let daemon = Daemon::start();
    let file = format!("drivers.d/{DRIVER}.toml");
    let around = daemon.path("state/around");
    symlink(daemon.path(&file), &around).unwrap();
    std::fs::rename(&around, daemon.path(&file)).unwrap();
    let refused = eventually("a refusal", || Some(status(&daemon, DRIVER)).filter(|now| now["refused"].is_string()));
    assert_eq!(refused["state"], "serving-old", "{refused}");
    assert!(daemon.probe().unwrap());
    assert_serves(&daemon);
}

/// Puts something in the component's place; the driver must refuse it with a reason that says `because`, and go on serving.
fn check_refused(because: &str, place: impl FnOnce(&Daemon, &Path)) {
    let daemon = Daemon::start();
    let before = status(&daemon, DRIVER);
    place(&daemon, &daemon.path("plugins/local.wasm"));
    let refused = eventually(&format!("a refusal that says {because:?}\n{}", daemon.log()), || {
        let now = status(&daemon, DRIVER);
        now["refused"].as_str().is_some().then_some(now)
    });
    let reason = refused["refused"].as_str().unwrap();
    assert!(reason.contains(because), "{reason}");
    assert_eq!(refused["state"], "serving-old");
    for same in ["generation", "digest", "pid", "version"] {
        assert_eq!(refused[same], before[same], "{same}");
    }
    assert_serves(&daemon);
    assert!(daemon.probe().unwrap());
    // A good one is taken afterwards as if nothing had been, and the reason is gone.
    replace(&daemon, "local-v2", "0.1.1");
    assert_eq!(status(&daemon, DRIVER)["refused"], serde_json::Value::Null);
    assert_serves(&daemon);
}

#[test]
fn plugin_a_truncated_component_is_refused() {
    check_refused("ends in the middle", |daemon, _| {
        let whole = std::fs::read(component("local-v2")).unwrap();
        daemon.rename_in(&whole[..whole.len() / 2], "plugins/local.wasm");
    });
}

#[test]
fn plugin_garbage_is_refused() {
    check_refused("no WebAssembly", |daemon, _| daemon.rename_in(&[0xa5; 4096], "plugins/local.wasm"));
}

#[test]
fn plugin_an_empty_file_is_refused() {
    check_refused("empty", |daemon, _| daemon.rename_in(b"", "plugins/local.wasm"));
}

#[test]
fn plugin_a_missing_component_is_refused() {
    check_refused("cannot be opened", |_, path| std::fs::remove_file(path).unwrap());
}

#[test]
fn plugin_a_fifo_is_refused_and_hangs_nobody() {
    check_refused("not a regular file", |daemon, path| {
        let fifo = daemon.path("state/fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        std::fs::rename(fifo, path).unwrap();
    });
}

#[test]
fn plugin_a_component_that_somebody_else_owns_or_can_write_is_refused() {
    check_refused("belongs to user 1234", |daemon, path| {
        let new = daemon.path("state/new");
        std::fs::copy(component("local-v2"), &new).unwrap();
        std::os::unix::fs::chown(&new, Some(1234), None).unwrap();
        std::fs::rename(new, path).unwrap();
    });
    check_refused("writable by others", |daemon, path| {
        let new = daemon.path("state/new");
        std::fs::copy(component("local-v2"), &new).unwrap();
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o666)).unwrap();
        std::fs::rename(new, path).unwrap();
    });
}

#[test]
fn plugin_a_component_that_wants_what_does_not_exist_is_refused() {
    check_refused("windlass:plugin/http", |daemon, _| daemon.put_component("greedy", "plugins/local.wasm"));
}

#[test]
fn plugin_a_component_that_wants_what_was_not_granted_is_refused() {
    let daemon = Daemon::unready(Setup::default());
    let text = format!("component = {:?}\n", daemon.text("plugins/local.wasm"));
    daemon.rename_in(text.as_bytes(), "drivers.d/nothing.windlass.io.toml");
    let reason = eventually("the refusal", || {
        let drivers = daemon.status()["drivers"].clone();
        drivers.as_array()?.iter().find(|one| one["name"] == "nothing.windlass.io")?["refused"].as_str().map(str::to_owned)
    });
    assert!(reason.contains("`files`") && reason.contains("[grants.files]"), "{reason}");
    assert!(!daemon.driver("nothing.windlass.io").probe().unwrap());
    daemon.wait_ready();
    assert_serves(&daemon);
}

#[test]
fn plugin_a_component_that_takes_a_capability_away_is_refused() {
    check_refused("advertises", |daemon, _| daemon.put_component("local-shrunk", "plugins/local.wasm"));
}

#[test]
fn plugin_the_process_of_the_old_generation_ends_after_the_switch() {
    let daemon = Daemon::start();
    assert_serves(&daemon);
    let old = status(&daemon, DRIVER)["pid"].as_i64().unwrap();
    replace(&daemon, "local-v2", "0.1.1");
    eventually("the old plugin process's end", || (!Path::new(&format!("/proc/{old}")).exists()).then_some(()));
    assert_serves(&daemon);
    assert_ne!(status(&daemon, DRIVER)["pid"], old);
}

#[test]
fn plugin_a_call_in_flight_finishes_on_the_generation_that_it_began_on() {
    let daemon = Daemon::start();
    let old = status(&daemon, DRIVER)["pid"].as_i64().unwrap() as i32;
    // Stopped, it has the call and does not answer it until it is let go on.
    kill(Pid::from_raw(old), Signal::SIGSTOP).unwrap();
    let volume = std::thread::scope(|scope| {
        let call = scope.spawn(|| Volume::create(&daemon, "in-flight", block(Mode::SingleNodeWriter), 1));
        let began = eventually("the call's beginning", || daemon.status()["going"].as_array().filter(|going| !going.is_empty()).map(|_| Instant::now()));
        let ops = String::from_utf8(daemon.windlass(&["ops"]).stdout).unwrap();
        assert!(ops.contains("CreateVolume") && ops.contains("in-flight") && ops.contains(DRIVER), "{ops}");
        replace(&daemon, "local-v2", "0.1.1");
        assert!(!call.is_finished(), "the call did not wait for the plugin that it was sent to");
        assert!(Path::new(&format!("/proc/{old}")).exists(), "the old process was ended under its call");
        assert_serves(&daemon);
        kill(Pid::from_raw(old), Signal::SIGCONT).unwrap();
        let volume = call.join().unwrap().unwrap_or_else(|status| panic!("{status:?} after {:?}", began.elapsed()));
        eventually("the old plugin process's end", || (!Path::new(&format!("/proc/{old}")).exists()).then_some(()));
        volume
    });
    volume.delete(&daemon).unwrap();
}

#[test]
fn plugin_an_edited_drivers_file_starts_a_new_generation_and_a_wrong_one_is_refused() {
    let daemon = Daemon::start();
    assert_eq!(status(&daemon, DRIVER)["generation"], 1);
    daemon.write_driver(DRIVER, "[config]\nmax_bytes = 1048576\n");
    eventually("the new configuration", || (status(&daemon, DRIVER)["generation"] == 2).then_some(()));
    let two = Volume::create(&daemon, "two", block(Mode::SingleNodeWriter), 2).map(drop).unwrap_err();
    assert_eq!(two.code(), tonic::Code::OutOfRange, "{two:?}");
    for (wrong, because) in
        [("[limitz]\n", "limitz"), ("[limits]\nmemory = 1\n", "memory_mib"), ("[limits]\ncall_ms = 1\n", "limits.call_ms"), ("][", "expected")]
    {
        daemon.write_driver(DRIVER, wrong);
        let reason = eventually(because, || status(&daemon, DRIVER)["refused"].as_str().filter(|reason| reason.contains(because)).map(str::to_owned));
        assert!(reason.contains(&format!("{DRIVER}.toml")), "the reason names the file: {reason}");
        let now = status(&daemon, DRIVER);
        assert_eq!((&now["generation"], &now["state"]), (&2.into(), &"serving-old".into()));
        // With its grants, too: what it was granted stands until a file that can be read says otherwise.
        assert_serves(&daemon);
        let still = Volume::create(&daemon, "two", block(Mode::SingleNodeWriter), 2).map(drop).unwrap_err();
        assert_eq!(still.code(), tonic::Code::OutOfRange, "{still:?}");
    }
    daemon.write_driver(DRIVER, "");
    eventually("the good file again", || (status(&daemon, DRIVER)["state"] == "serving").then_some(()));
    Volume::create(&daemon, "two", block(Mode::SingleNodeWriter), 2).unwrap().delete(&daemon).unwrap();
}

#[test]
fn plugin_a_component_behind_a_swapped_link_is_replaced() {
    const OTHER: &str = "linked.windlass.io";
    let daemon = Daemon::start();
    // As Kubernetes lays out a ConfigMap: name -> ..data/name, ..data -> a folder of the version, swapped by rename.
    for (folder, name) in [("plugins/linked", None), ("plugins/linked/..1", Some("local")), ("plugins/linked/..2", Some("local-v2"))] {
        std::fs::create_dir(daemon.path(folder)).unwrap();
        name.map(|name| std::fs::copy(component(name), daemon.path(folder).join("driver.wasm")).unwrap());
    }
    symlink("..1", daemon.path("plugins/linked/..data")).unwrap();
    symlink("..data/driver.wasm", daemon.path("plugins/linked/driver.wasm")).unwrap();
    let began = Instant::now();
    daemon.write_driver_of(OTHER, "plugins/linked/driver.wasm", "volumes", "");
    // A new file in drivers.d gets its socket without a restart.
    let other = daemon.driver(OTHER);
    eventually("the new driver's socket", || matches!(other.probe(), Ok(true)).then_some(()));
    println!("a new driver served {:?} after its file was there", began.elapsed());
    assert_eq!(version(&other), "0.1.0");
    for (folder, expected) in [("..2", "0.1.1"), ("..1", "0.1.0")] {
        symlink(folder, daemon.path("plugins/linked/..data_tmp")).unwrap();
        std::fs::rename(daemon.path("plugins/linked/..data_tmp"), daemon.path("plugins/linked/..data")).unwrap();
        eventually("the swapped component", || (version(&other) == expected).then_some(()));
        assert_serves(&other);
    }
    assert_eq!(status(&daemon, DRIVER)["generation"], 1, "the other driver was reloaded too");
}

#[test]
fn plugin_a_component_that_never_loaded_serves_once_it_is_repaired() {
    let daemon = Daemon::unready(Setup { driver: "[config]\nnode = 1\n".to_owned(), component: "greedy", ..Setup::default() });
    eventually("the refusal", || status(&daemon, DRIVER)["refused"].as_str().map(str::to_owned));
    assert!(!daemon.probe().unwrap(), "Probe answers, and says that it is not ready");
    assert_eq!(status(&daemon, DRIVER)["state"], "teardown-only");
    daemon.write_driver(DRIVER, "");
    daemon.put_component("local", "plugins/local.wasm");
    daemon.wait_ready();
    assert_serves(&daemon);
}
