//! Registration with kubelet: when a driver is shown, what becomes of a refusal, and who takes the socket away.

use harness::kubelet::Kubelet;
use harness::{DRIVER, Daemon, Setup, Volume, eventually, mount_as};
use nix::sys::stat::Mode as FileMode;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tonic::Code;
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn setup() -> Setup {
    Setup { config: "kubelet.registry = \"{folder}/registry\"\n".to_owned(), ..Setup::default() }
}

fn socket(daemon: &Daemon) -> PathBuf {
    daemon.path(&format!("registry/{DRIVER}-reg.sock"))
}

/// What status says of the driver's registration.
fn standing(daemon: &Daemon) -> String {
    daemon.status()["drivers"][0]["kubelet"].as_str().unwrap_or_default().to_owned()
}

/// No socket appears for so long that one would have.
fn assert_stays_hidden(socket: &Path) {
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        assert!(!socket.exists(), "it is shown");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn plugin_a_driver_is_shown_when_its_plugin_has_answered_and_not_before() {
    const LATE: &str = "late.windlass.io";
    let daemon = Daemon::with(setup());
    let mut kubelet = Kubelet::start(&daemon.path("registry"));
    assert_eq!(kubelet.meet_one().info.name, DRIVER);
    daemon.write_driver_of(LATE, "plugins/absent.wasm", "volumes", "");
    let socket = daemon.path(&format!("registry/{LATE}-reg.sock"));
    assert_stays_hidden(&socket);
    assert!(kubelet.look().is_empty());
    daemon.put_component("local", "plugins/absent.wasm");
    let met = kubelet.meet_one();
    assert_eq!((met.info.r#type.as_str(), met.info.name.as_str(), met.refused), ("CSIPlugin", LATE, None));
    assert_eq!(met.info.endpoint, daemon.path(&format!("csi/{LATE}/csi.sock")).display().to_string());
    assert_eq!(met.info.supported_versions, ["1.13.0"]);
    assert_eq!(kubelet.drivers[LATE].node_id, "node-1");
    let late = || daemon.status()["drivers"].as_array().unwrap().iter().find(|driver| driver["name"] == LATE).unwrap().clone();
    eventually("status to say so", || (late()["kubelet"] == "registered").then_some(()));
    let seen = || std::fs::metadata(&socket).unwrap();
    assert_eq!(seen().mode() & 0o7777, 0o600);

    // A new version changes nothing of it.
    let before = seen().ino();
    daemon.put_component("local-v2", "plugins/absent.wasm");
    eventually("the new version", || (late()["version"] == "0.1.1").then_some(()));
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(seen().ino(), before);
}

#[test]
fn plugin_a_refused_driver_is_shown_again_until_kubelet_takes_it() {
    let daemon = Daemon::with(setup());
    let mut kubelet = Kubelet::start(&daemon.path("registry"));
    kubelet.refusal = Some("the API server is away\u{1b}[2J".to_owned());
    assert!(kubelet.meet_one().refused.is_some());
    eventually("the refusal in status", || standing(&daemon).contains("the API server is away").then_some(()));
    eventually("the socket to go, so that kubelet forgets the driver", || (!socket(&daemon).exists()).then_some(()));
    assert!(kubelet.look().is_empty());
    assert!(!standing(&daemon).contains('\u{1b}'), "what kubelet says is made harmless");
    kubelet.refusal = None;
    assert!(kubelet.meet_one().refused.is_none());
    eventually("status to say so", || (standing(&daemon) == "registered").then_some(()));
}

#[test]
fn plugin_a_driver_is_shown_again_in_a_folder_that_was_made_anew() {
    let daemon = Daemon::with(setup());
    assert!(standing(&daemon).is_empty() || standing(&daemon).starts_with("not shown"), "there is no kubelet yet");
    let mut kubelet = Kubelet::start(&daemon.path("registry"));
    kubelet.meet_one();
    std::fs::remove_file(socket(&daemon)).unwrap();
    kubelet.meet_one();
    std::fs::rename(daemon.path("registry"), daemon.path("state/old")).unwrap();
    assert!(kubelet.look().is_empty() && kubelet.drivers.is_empty());
    let mut kubelet = Kubelet::start(&daemon.path("registry"));
    assert!(kubelet.meet_one().refused.is_none());
}

#[test]
fn plugin_shutdown_takes_the_socket_away_and_a_successor_takes_the_place_of_a_dead_daemons() {
    let mut daemon = Daemon::with(setup());
    let mut kubelet = Kubelet::start(&daemon.path("registry"));
    kubelet.meet_one();
    daemon.stop();
    assert!(!socket(&daemon).exists());
    kubelet.look();
    assert!(kubelet.drivers.is_empty());

    daemon.start_again();
    kubelet.meet_one();
    daemon.kill();
    assert!(socket(&daemon).exists(), "nobody was left to take it away");
    assert!(kubelet.look().is_empty());
    daemon.start_again();
    let met = kubelet.meet_one();
    assert!(met.refused.is_none(), "{met:?}");
    assert_eq!(std::fs::read_dir(daemon.path("registry")).unwrap().count(), 1, "one socket, and no other file");
}

#[test]
fn loop_shutdown_takes_the_socket_away_also_while_a_call_runs() {
    let mut daemon = Daemon::with(setup());
    let mut kubelet = Kubelet::start(&daemon.path("registry"));
    kubelet.meet_one();
    let volume = Volume::create(&daemon, "slow", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    volume.stage(&daemon).unwrap();
    // Somebody else works on the volume, as far as the daemon can tell: calls for it wait for seconds.
    let lock = std::fs::read_dir(daemon.path("run/locks")).unwrap().next().unwrap().unwrap().path();
    let lock = std::fs::File::options().write(true).open(lock).unwrap();
    eventually("the volume's lock", || lock.try_lock().is_ok().then_some(()));
    std::thread::scope(|scope| {
        let asked = v1::NodeGetVolumeStatsRequest { volume_id: volume.id(), volume_path: volume.staging.clone(), ..Default::default() };
        let endpoint = daemon.driver(DRIVER);
        scope.spawn(move || drop(endpoint.node_get_volume_stats(asked)));
        eventually("the call to be going on", || (!daemon.status()["going"].as_array().unwrap().is_empty()).then_some(()));
        let began = Instant::now();
        daemon.stop();
        assert!(began.elapsed() > Duration::from_secs(1), "nothing was going on: this shows nothing");
    });
    assert!(!socket(&daemon).exists(), "it was shown again:\n{}", daemon.log());
    drop(lock);
}

#[test]
fn plugin_two_daemons_do_not_take_a_driver_from_each_other() {
    let first = Daemon::with(setup());
    let mut kubelet = Kubelet::start(&first.path("registry"));
    kubelet.meet_one();
    let registry = first.path("registry").display().to_string();
    let second = Daemon::with(Setup { config: format!("kubelet.registry = {registry:?}\n"), ..Setup::default() });
    eventually("words", || standing(&second).contains("another process serves").then_some(()));
    assert!(kubelet.look().is_empty() && kubelet.drivers.contains_key(DRIVER));
    assert_eq!(standing(&first), "registered");
    assert_eq!(std::fs::read_dir(&registry).unwrap().count(), 1, "no hidden socket stays");
    drop(first);
    // The first was killed; the second takes its place, in whatever folder is there now.
    Kubelet::start(std::path::Path::new(&registry));
    eventually("the second daemon's socket", || (standing(&second) == "shown").then_some(()));
}

#[test]
fn plugin_a_folder_that_others_may_write_to_is_no_kubelets() {
    let daemon = Daemon::with(setup());
    Kubelet::start(&daemon.path("registry"));
    eventually("the socket", || socket(&daemon).exists().then_some(()));
    let loose = FileMode::from_bits_truncate(0o777);
    nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, &daemon.path("registry"), loose, nix::sys::stat::FchmodatFlags::FollowSymlink).unwrap();
    std::fs::remove_file(socket(&daemon)).unwrap();
    assert_stays_hidden(&socket(&daemon));
    eventually("words", || (standing(&daemon).contains("kubelet.registry") && standing(&daemon).contains("777")).then_some(()));
}

#[test]
fn loop_a_driver_with_something_staged_is_registered_for_teardown_alone() {
    let mut daemon = Daemon::with(setup());
    let mut kubelet = Kubelet::start(&daemon.path("registry"));
    kubelet.meet_one();
    let volume = Volume::create(&daemon, "kept", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    let other = Volume::create(&daemon, "other", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    daemon.stop();
    kubelet.look();
    std::fs::remove_file(daemon.path("plugins/local.wasm")).unwrap();
    std::fs::remove_file(daemon.path(&format!("drivers.d/{DRIVER}.toml"))).unwrap();
    daemon.start_again();
    let met = kubelet.meet_one();
    assert!(met.refused.is_none(), "{met:?}");
    assert_eq!(kubelet.drivers[DRIVER].node_id, "node-1", "from what was remembered");

    let refused = other.stage(&daemon).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    // A device of some daemon that no record explained at the start may be this driver's: then it stays.
    if daemon.status()["unowned"].as_array().is_some_and(Vec::is_empty) {
        eventually("the socket to go with the last volume", || (!socket(&daemon).exists()).then_some(()));
    } else {
        assert!(socket(&daemon).exists());
    }
    daemon.assert_nothing_left();
}

/// What kubelet and the registrar's successor ask of a driver, in their order, each on a connection of its own: pkg/volume/csi of kubelet
/// 1.36 (`csi_attacher.go` MountDevice, `csi_mounter.go` SetUpAt, `csi_client.go`, whose every method opens and closes a connection).
#[test]
fn loop_the_calls_of_a_pods_life_come_in_kubelets_order() {
    let daemon = Daemon::with(setup());
    let mut kubelet = Kubelet::start(&daemon.path("registry"));
    kubelet.meet_one();
    let capabilities = || daemon.node_get_capabilities(v1::NodeGetCapabilitiesRequest {}).unwrap();
    let volume = Volume::create(&daemon, "pod", mount_as("ext4", Mode::SingleNodeMultiWriter, &[]), 32).unwrap();
    for _ in 0..2 {
        // MountDevice: can it stage, has it SINGLE_NODE_MULTI_WRITER; then the stage.
        capabilities();
        capabilities();
        volume.stage(&daemon).unwrap();
        // SetUpAt: can it stage, which access mode; then the publish, and again with each resync of a driver that wants republishing.
        capabilities();
        capabilities();
        volume.publish(&daemon, 0).unwrap();
        volume.publish(&daemon, 0).unwrap();
        // The volume's metrics, each minute.
        capabilities();
        let asked = v1::NodeGetVolumeStatsRequest { volume_id: volume.id(), volume_path: volume.publish_request(0).target_path, ..Default::default() };
        daemon.node_get_volume_stats(asked).unwrap();
        volume.unpublish(&daemon, 0).unwrap();
        volume.unpublish(&daemon, 0).unwrap();
        capabilities();
        volume.unstage(&daemon).unwrap();
        volume.unstage(&daemon).unwrap();
    }
    volume.delete(&daemon).unwrap();
    daemon.assert_nothing_left();
}
