//! The daemon and its children as /proc shows them; how they end, and what of a driver outlives its plugin.

use harness::process::{children, is_alive, roles, status_field};
use harness::{DRIVER, Daemon, Setup, Volume, binary, block, eventually, mount_as, mounts_beneath};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use tonic::Code;
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

const OTHER: &str = "other.windlass.io";
const NOTHING: &str = "0000000000000000";

fn volume(daemon: &Daemon, name: &str) -> Volume {
    Volume::create(daemon, name, mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap()
}

fn driver(daemon: &Daemon) -> serde_json::Value {
    let status = daemon.status();
    status["drivers"].as_array().unwrap().iter().find(|one| one["name"] == DRIVER).unwrap().clone()
}

fn plugin_pid(daemon: &Daemon) -> i32 {
    driver(daemon)["pid"].as_i64().unwrap_or_else(|| panic!("no plugin process: {}", daemon.status())) as i32
}

#[test]
fn plugin_a_plugin_process_is_shut_in_and_no_two_drivers_share_a_user() {
    let daemon = Daemon::start();
    let other = daemon.add_driver(OTHER, "local-v2", "");
    Volume::create(&daemon, "a", block(Mode::SingleNodeWriter), 1).unwrap();
    Volume::create(&other, "b", block(Mode::SingleNodeWriter), 1).unwrap();
    let plugins = roles(daemon.pid(), "plugin-host");
    assert_eq!(plugins.len(), 2, "one a driver; a child that compiled is gone");
    let mut users = BTreeSet::new();
    for pid in plugins {
        let ids = |field| status_field(pid, field).split_whitespace().map(|id| id.parse::<u32>().unwrap()).collect::<BTreeSet<_>>();
        for field in ["Uid", "Gid"] {
            let ids = ids(field);
            assert!(ids.len() == 1 && !ids.contains(&0) && !ids.contains(&65534), "{field}: {ids:?}");
        }
        users.extend(ids("Uid"));
        assert_eq!(status_field(pid, "Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status_field(pid, set), NOTHING, "{set}");
        }
        assert_eq!(status_field(pid, "NoNewPrivs"), "1");
        assert_eq!(status_field(pid, "Seccomp"), "2");
        assert_ne!(namespace(pid, "net"), namespace(daemon.pid(), "net"));
        let devices = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
        let devices: Vec<&str> = devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
        assert!(devices.iter().all(|name| *name == "lo"), "{devices:?}");
        assert!(std::fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap().lines().count() <= 1, "a header, and no route");
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        assert!(environment.split('\0').all(|one| one.is_empty() || one.starts_with("WINDLASS_LOG=") || one.starts_with("RUST_BACKTRACE=")), "{environment}");
    }
    assert_eq!(users.len(), 2, "{users:?}");
}

fn namespace(pid: i32, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

#[test]
fn plugin_the_effects_process_has_no_privilege() {
    let daemon = Daemon::start();
    Volume::create(&daemon, "a", block(Mode::SingleNodeWriter), 1).unwrap();
    let status = daemon.status();
    let pid = status["effects"][0]["pid"].as_i64().unwrap_or_else(|| panic!("no effects process: {status}")) as i32;
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_field(pid, set), NOTHING, "{set}");
    }
    assert_eq!(status_field(pid, "NoNewPrivs"), "1");
}

#[test]
fn loop_the_daemon_itself_runs_no_foreign_code() {
    let daemon = Daemon::start();
    let volume = volume(&daemon, "a");
    volume.stage(&daemon).unwrap();
    volume.unstage(&daemon).unwrap();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().flatten();
    let threads: Vec<String> = tasks.map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap().trim().to_owned()).collect();
    let foreign = |name: &&String| ["wasmtime", "rayon", "cranelift", "epoch"].iter().any(|word| name.contains(word));
    assert_eq!(threads.iter().find(foreign), None, "{threads:?}");
    let code = daemon.text("state/code");
    let maps = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(!maps(daemon.pid()).contains(&code), "compiled code is mapped into the daemon");
    assert!(maps(plugin_pid(&daemon)).contains(&code), "compiled code is mapped nowhere: this test looks for the wrong thing");
}

#[test]
fn loop_children_inherit_no_listener_no_lock_and_nothing_of_the_daemon() {
    let daemon = Daemon::start();
    let volume = volume(&daemon, "a");
    volume.stage(&daemon).unwrap();
    let listeners = listeners(&daemon.folder().display().to_string());
    assert!(listeners.len() >= 2, "a driver's socket and the admin socket: {listeners:?}");
    let children = children(daemon.pid());
    assert!(children.len() >= 3, "workers, a plugin, effects: {children:?}");
    let sockets = |pid| open_files(pid).into_iter().filter(|file| file.starts_with("socket:")).collect::<BTreeSet<_>>();
    for pid in children {
        let own = open_files(pid);
        assert!(own.iter().all(|file| !listeners.contains(file)), "{pid} has a listener: {own:?}");
        assert!(own.iter().all(|file| !file.contains("/run/lock") || file.contains("/run/locks")), "{pid} has the daemon's lock: {own:?}");
        assert!(own.iter().all(|file| !file.contains("/run/journal")), "{pid} has the journal: {own:?}");
        assert!(sockets(pid).is_disjoint(&sockets(daemon.pid())), "{pid} has a socket of the daemon's: {own:?}");
        // A plugin process has a lane for each call that it runs at once, four if nothing else is said.
        let expected = if roles(daemon.pid(), "plugin-host").contains(&pid) { 1 + 4 } else { 1 };
        assert_eq!(sockets(pid).len(), expected, "{pid} has its sockets to the daemon: {own:?}");
    }
    volume.unstage(&daemon).unwrap();
}

/// The listening sockets beneath a folder, as they are called in /proc/PID/fd.
fn listeners(folder: &str) -> Vec<String> {
    const ACCEPTS: &str = "00010000";
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|line| line.len() == 8 && line[3] == ACCEPTS && line[7].starts_with(folder)).map(|line| format!("socket:[{}]", line[6])).collect()
}

fn open_files(pid: i32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).map(|file| file.display().to_string()).collect()
}

#[test]
fn plugin_an_idle_plugin_process_ends_and_the_next_call_starts_another() {
    let daemon = Daemon::with(Setup { config: "limits.idle_seconds = 1\n".to_owned(), ..Setup::default() });
    let first = plugin_pid(&daemon);
    assert_eq!(driver(&daemon)["starts"], 1);
    eventually("the idle process's end", || (!is_alive(first)).then_some(()));
    assert_eq!(driver(&daemon)["pid"], serde_json::Value::Null);
    // What is answered natively starts nothing.
    assert!(daemon.probe().unwrap());
    daemon.get_plugin_info(v1::GetPluginInfoRequest {}).unwrap();
    assert_eq!(roles(daemon.pid(), "plugin-host"), Vec::<i32>::new());
    Volume::create(&daemon, "a", block(Mode::SingleNodeWriter), 1).unwrap().delete(&daemon).unwrap();
    assert_eq!(driver(&daemon)["starts"], 2);
    assert_ne!(plugin_pid(&daemon), first);
}

#[test]
fn plugin_a_plugin_process_that_is_killed_costs_no_later_call() {
    let daemon = Daemon::start();
    for _ in 0..2 {
        let pid = plugin_pid(&daemon);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually("a call that succeeds", || Volume::create(&daemon, "a", block(Mode::SingleNodeWriter), 1).ok()).delete(&daemon).unwrap();
    }
}

#[test]
fn loop_sigterm_takes_the_sockets_away_and_leaves_volumes_as_they_are() {
    let mut daemon = Daemon::start();
    let volume = volume(&daemon, "a");
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    let (mounts, running) = (mounts_beneath(daemon.folder()), children(daemon.pid()));
    assert_eq!(mounts.len(), 2);
    daemon.stop();
    for socket in [daemon.socket(), daemon.path("run/admin.sock")] {
        assert!(!socket.exists(), "{} is left", socket.display());
    }
    assert_eq!(mounts_beneath(daemon.folder()), mounts);
    eventually("the children's end", || running.iter().all(|pid| !is_alive(*pid)).then_some(()));
    let file = Path::new(&volume.target(0)).join("file");
    std::fs::write(&file, b"without a daemon").unwrap();
    daemon.start_again();
    daemon.wait_ready();
    volume.publish(&daemon, 0).unwrap();
    assert_eq!(mounts_beneath(daemon.folder()), mounts, "the same call changes nothing");
    assert_eq!(std::fs::read(&file).unwrap(), b"without a daemon");
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn plugin_a_second_daemon_on_the_same_run_folder_is_refused_and_disturbs_nothing() {
    let daemon = Daemon::start();
    let second = Command::new(binary()).args(["serve", "--config", &daemon.text("windlass.toml")]).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another windlass daemon") && said.contains(&daemon.text("run")), "{said}");
    assert!(daemon.probe().unwrap());
    Volume::create(&daemon, "a", block(Mode::SingleNodeWriter), 1).unwrap().delete(&daemon).unwrap();
}

/// Takes a driver's plugin away, in whichever way, while the daemon is down: what is staged is still served and taken down.
fn check_teardown_without(take_away: impl FnOnce(&Daemon)) {
    let mut daemon = Daemon::start();
    let (published, staged) = (volume(&daemon, "published"), volume(&daemon, "staged"));
    let other = volume(&daemon, "not-staged");
    for volume in [&published, &staged] {
        volume.stage(&daemon).unwrap();
    }
    published.publish(&daemon, 0).unwrap();
    std::fs::write(Path::new(&published.target(0)).join("file"), b"bytes").unwrap();
    daemon.kill();
    take_away(&daemon);
    // Its socket is there: `start_again` waits for it.
    daemon.start_again();
    eventually("the refusal", || driver(&daemon)["refused"].as_str().map(str::to_owned));
    assert_eq!(driver(&daemon)["state"], "teardown-only");
    assert!(!daemon.probe().unwrap(), "it is not ready for anything new, and that is no error");
    assert_eq!(daemon.get_plugin_info(v1::GetPluginInfoRequest {}).unwrap().name, DRIVER);
    assert!(!daemon.node_get_capabilities(v1::NodeGetCapabilitiesRequest {}).unwrap().capabilities.is_empty());
    daemon.node_get_info(v1::NodeGetInfoRequest {}).unwrap();
    let status = other.stage(&daemon).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(std::fs::read(Path::new(&published.target(0)).join("file")).unwrap(), b"bytes");
    let request = v1::NodeGetVolumeStatsRequest { volume_id: published.id(), volume_path: published.target(0), ..Default::default() };
    daemon.node_get_volume_stats(request).unwrap();
    published.unpublish(&daemon, 0).unwrap();
    for volume in [&published, &staged] {
        volume.unstage(&daemon).unwrap();
    }
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_plugin_deleted_before_a_restart_keeps_nothing_from_being_taken_down() {
    check_teardown_without(|daemon| std::fs::remove_file(daemon.path("plugins/local.wasm")).unwrap());
}

#[test]
fn loop_a_plugin_broken_before_a_restart_keeps_nothing_from_being_taken_down() {
    check_teardown_without(|daemon| daemon.rename_in(b"broken", "plugins/local.wasm"));
}

#[test]
fn loop_a_drivers_file_broken_before_a_restart_keeps_nothing_from_being_taken_down() {
    check_teardown_without(|daemon| daemon.rename_in(b"component = ", &format!("drivers.d/{DRIVER}.toml")));
}

#[test]
fn loop_a_drivers_file_deleted_before_a_restart_keeps_nothing_from_being_taken_down() {
    check_teardown_without(|daemon| std::fs::remove_file(daemon.path(&format!("drivers.d/{DRIVER}.toml"))).unwrap());
}

#[test]
fn plugin_calls_that_only_wait_for_a_lost_process_are_the_next_ones() {
    let daemon = Daemon::with(Setup { component: "hostile", driver: "[limits]\ncall_ms = 30000\nconcurrency = 1\n".to_owned(), ..Setup::default() });
    let create = |name: &str| daemon.create_volume(Volume::create_request(name, &block(Mode::SingleNodeWriter), 1));
    create("warm").unwrap();
    std::thread::scope(|scope| {
        let looping = scope.spawn(|| create("misbehave.create.loop"));
        let going = |at_least: usize| (daemon.status()["going"].as_array().unwrap().len() >= at_least).then_some(());
        eventually("the first call", || going(1));
        let waiting: Vec<_> = (0..5).map(|n| scope.spawn(move || create(&format!("waits-{n}")))).collect();
        eventually("the others behind it", || going(6));
        std::thread::sleep(std::time::Duration::from_millis(100));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(plugin_pid(&daemon)), nix::sys::signal::Signal::SIGKILL).unwrap();
        let lost = looping.join().unwrap().unwrap_err();
        assert!(lost.code() == Code::Unavailable && lost.message().contains("lost"), "{lost}");
        for waited in waiting {
            waited.join().unwrap().unwrap();
        }
    });
}
