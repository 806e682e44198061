//! A state folder whose disk does not answer: what has nothing to remember goes on.

use harness::{DRIVER, Daemon, Volume, block, component, eventually};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// Nothing but a thaw ends a process that waits for a frozen file system: whatever a test does, it comes after this.
const WATCHDOG: Duration = Duration::from_secs(60);

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A file system of its own at a folder, which can be frozen.
struct Own(PathBuf);

impl Own {
    fn over(folder: &Path, image: &Path) -> Self {
        std::fs::File::create(image).unwrap().set_len(64 << 20).unwrap();
        let (folder, image) = (folder.to_owned(), image.display().to_string());
        run("mkfs.ext4", &["-q", "-F", &image]);
        run("mount", &["-o", "loop", &image, &folder.display().to_string()]);
        Self(folder)
    }

    fn freeze(&self) -> Frozen {
        let folder = self.0.display().to_string();
        run("fsfreeze", &["-f", &folder]);
        let (over, is_over): (Sender<()>, Receiver<()>) = channel();
        let thread = std::thread::spawn(move || {
            let was_watchdog = is_over.recv_timeout(WATCHDOG) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            run("fsfreeze", &["-u", &folder]);
            assert!(!was_watchdog, "the watchdog thawed it: the test took too long to be worth anything");
        });
        Frozen { _over: over, thread }
    }

    /// After a panic the harness does it.
    fn close(self) {
        eventually("the unmount of the state folder", || nix::mount::umount2(&self.0, nix::mount::MntFlags::UMOUNT_NOFOLLOW).ok());
    }
}

/// Dropped, it is thawed.
struct Frozen {
    _over: Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Frozen {
    fn thaw(self) {
        drop(self._over);
        self.thread.join().unwrap();
    }
}

fn put(daemon: &Daemon, name: &str) {
    let beside = daemon.path("plugins/new");
    std::fs::copy(component(name), &beside).unwrap();
    std::fs::rename(beside, daemon.path("plugins/local.wasm")).unwrap();
}

fn version(daemon: &Daemon) -> String {
    daemon.get_plugin_info(v1::GetPluginInfoRequest {}).unwrap().vendor_version
}

#[test]
fn loop_a_state_folder_that_hangs_holds_up_nobody_who_asks() {
    let mut daemon = Daemon::start();
    daemon.stop();
    let own = Own::over(&daemon.path("state"), &daemon.path("state.img"));
    daemon.start_again();
    daemon.wait_ready();
    // Both are compiled, so that a change of one for the other has nothing to write but what is remembered.
    for (name, expected) in [("local-v2", "0.1.1"), ("local", "0.1.0")] {
        put(&daemon, name);
        eventually("the other version", || (version(&daemon) == expected).then_some(()));
    }
    let volume = Volume::create(&daemon, "raw", block(Mode::SingleNodeWriter), 16).unwrap();
    let memory = daemon.path(&format!("state/drivers/{DRIVER}.json"));
    let frozen = own.freeze();
    put(&daemon, "local-v2");
    let began = Instant::now();
    let mut serves = None;
    while began.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        assert!(daemon.probe().unwrap());
        if version(&daemon) == "0.1.1" {
            serves.get_or_insert(began.elapsed());
        }
        daemon.status();
        volume.stage(&daemon).unwrap();
        volume.unstage(&daemon).unwrap();
        assert!(asked.elapsed() < Duration::from_secs(2), "a round of calls took {:?}", asked.elapsed());
    }
    println!("a new version serves {serves:?} after its rename, with a state folder that hangs");
    assert!(serves.is_some(), "the new version does not serve\n{}", daemon.log());
    assert!(std::fs::read_to_string(&memory).unwrap().contains("0.1.0"), "it was not frozen");
    frozen.thaw();
    eventually("what is remembered", || std::fs::read_to_string(&memory).unwrap().contains("0.1.1").then_some(()));
    volume.delete(&daemon).unwrap();
    daemon.stop();
    own.close();
    daemon.assert_nothing_left();
}
