//! Effects and plugin processes that stop in the middle: what waits for them waits, nothing is done twice or under another's name, and
//! nobody else notices.

use harness::process::{is_alive, roles};
use harness::{DRIVER, Daemon, Endpoint, Setup, Volume, block, eventually, mount_as};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};
use tonic::Code;
use windlass_csi::v1::volume_capability::access_mode::Mode;

const OTHER: &str = "other.windlass.io";

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn create(driver: &Endpoint, name: &str) -> Result<Volume, tonic::Status> {
    Volume::create(driver, name, block(Mode::SingleNodeWriter), 1)
}

/// The effects process of a folder, which has it open.
fn effects_of(daemon: &Daemon, folder: &str) -> i32 {
    let folder = daemon.path(folder);
    let has = |pid: &i32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file == folder)
    };
    roles(daemon.pid(), "effects").into_iter().find(has).expect("an effects process with the folder open")
}

/// Resumes a process however the test ends.
struct Stopped(i32);

impl Stopped {
    fn stop(pid: i32) -> Self {
        signal(pid, Signal::SIGSTOP);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0), Signal::SIGCONT);
    }
}

#[test]
fn plugin_a_folder_that_hangs_keeps_its_claims_and_holds_up_itself_alone() {
    let daemon = Daemon::start();
    let other = daemon.add_driver(OTHER, "local", "");
    let volume = create(&daemon, "a").unwrap();
    create(&other, "b").unwrap();
    let file = daemon.path("volumes").join(volume.id());
    let going = || daemon.status()["going"].as_array().unwrap().len();
    let stopped = Stopped::stop(effects_of(&daemon, "volumes"));
    std::thread::scope(|scope| {
        let deletes = [(); 2].map(|()| scope.spawn(|| volume.delete(&daemon)));
        eventually("the delete stands", || (going() == 1).then_some(()));
        // The other driver's folder, and the plugin of this one, are as ever.
        let began = Instant::now();
        create(&other, "c").unwrap().delete(&other).unwrap();
        assert!(daemon.probe().unwrap());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(going() == 1 && file.exists() && deletes.iter().all(|delete| !delete.is_finished()));
        drop(stopped);
        deletes.into_iter().for_each(|delete| delete.join().unwrap().unwrap());
    });
    assert!(!file.exists());
    create(&daemon, "a").unwrap().delete(&daemon).unwrap();
    assert_eq!(going(), 0);
}

#[test]
fn plugin_an_effects_process_that_dies_is_replaced_and_reaped() {
    let daemon = Daemon::start();
    create(&daemon, "a").unwrap();
    let first = effects_of(&daemon, "volumes");
    signal(first, Signal::SIGKILL);
    eventually("the next effect", || create(&daemon, "b").ok());
    assert_ne!(effects_of(&daemon, "volumes"), first);
    eventually("the dead process is reaped", || (!std::path::Path::new(&format!("/proc/{first}")).exists()).then_some(()));
}

#[test]
fn plugin_a_folder_that_was_replaced_is_opened_anew() {
    let daemon = Daemon::start();
    create(&daemon, "a").unwrap();
    std::fs::rename(daemon.path("volumes"), daemon.path("before")).unwrap();
    std::fs::create_dir(daemon.path("volumes")).unwrap();
    let volume = eventually("a volume in the new folder", || create(&daemon, "b").ok());
    assert!(daemon.path("volumes").join(volume.id()).exists() && !daemon.path("before").join(volume.id()).exists());
}

#[test]
fn plugin_a_plugin_process_that_was_stopped_costs_its_call_and_no_more() {
    let daemon = Daemon::with(Setup { driver: "[limits]\ncall_ms = 1000\n".to_owned(), ..Setup::default() });
    let other = daemon.add_driver(OTHER, "local", "");
    create(&daemon, "a").unwrap();
    let of_driver = |status: serde_json::Value| status["drivers"].as_array().unwrap().iter().find(|one| one["name"] == DRIVER).unwrap()["pid"].as_i64();
    let pid = of_driver(daemon.status()).unwrap() as i32;
    let _stopped = Stopped::stop(pid);
    let began = Instant::now();
    let status = create(&daemon, "b").err().expect("a stopped process answers nothing");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    create(&other, "c").unwrap();
    create(&daemon, "b").unwrap();
    assert_ne!(of_driver(daemon.status()).unwrap() as i32, pid);
    eventually("the stopped process is gone", || (!is_alive(pid)).then_some(()));
}

#[test]
fn loop_a_volume_whose_journal_and_driver_are_gone_is_taken_down() {
    let mut daemon = Daemon::start();
    let volume = Volume::create(&daemon, "a", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
    volume.stage(&daemon).unwrap();
    daemon.kill();
    for entry in std::fs::read_dir(daemon.path("run/journal")).unwrap().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
    std::fs::remove_file(daemon.path(&format!("drivers.d/{DRIVER}.toml"))).unwrap();
    // Waits for the driver's socket, which is there a moment before it listens.
    daemon.start_again();
    eventually("the unstage", || volume.unstage(&daemon).ok());
    daemon.assert_nothing_left();
}
