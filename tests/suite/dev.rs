//! `windlass dev`: everything in one folder, and nothing left when it ends.

use harness::{AtEnd, DRIVER, Endpoint, Volume, devices_beneath, eventually, mount_as, mounts_beneath};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// A running `windlass dev` in a folder of its own.
struct Dev {
    folder: tempfile::TempDir,
    child: Child,
    endpoint: Endpoint,
}

impl Dev {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("wldev").tempdir_in("/var/tmp").unwrap();
        let child = Self::run(folder.path());
        let endpoint = Endpoint::new(folder.path(), DRIVER);
        eventually("a ready driver", || matches!(endpoint.probe(), Ok(true)).then_some(()));
        Self { folder, child, endpoint }
    }

    fn run(folder: &Path) -> Child {
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let said = std::fs::File::create(folder.join("said")).unwrap();
        let mut command = Command::new(harness::binary());
        command.args(["dev", "--dir"]).arg(folder).stdin(Stdio::null()).stdout(said).stderr(log);
        command.spawn().unwrap()
    }

    fn end(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        harness::clean(self.folder.path());
    }
}

#[test]
fn loop_dev_leaves_nothing_whoever_calls_while_it_ends() {
    let mut dev = Dev::start();
    let (is_over, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    let status = std::thread::scope(|scope| {
        let _end = AtEnd(&is_over);
        let endpoint = dev.endpoint.clone();
        let capability = mount_as("ext4", Mode::SingleNodeWriter, &[]);
        let volumes: Vec<Volume> = (0..4).map(|n| Volume::create(&endpoint, &format!("v{n}"), capability.clone(), 16).unwrap()).collect();
        for volume in volumes {
            let (endpoint, is_over, rounds) = (endpoint.clone(), &is_over, &rounds);
            scope.spawn(move || {
                // The last of these calls find nobody there; what counts is what the daemon leaves.
                while !is_over.load(Ordering::Relaxed) {
                    let _ = volume.stage(&endpoint);
                    let _ = volume.publish(&endpoint, 0);
                    let _ = volume.unpublish(&endpoint, 0);
                    let _ = volume.unstage(&endpoint);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("a few rounds", || (rounds.load(Ordering::Relaxed) > 8).then_some(()));
        dev.end()
    });
    let log = std::fs::read_to_string(dev.folder.path().join("log")).unwrap();
    assert!(status.success(), "{status}\n{log}");
    assert_eq!((mounts_beneath(dev.folder.path()), devices_beneath(dev.folder.path())), (Vec::new(), Vec::new()), "{log}");
}

#[test]
fn loop_dev_names_what_it_cannot_take_down() {
    let mut dev = Dev::start();
    let volume = Volume::create(&dev.endpoint, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
    volume.stage(&dev.endpoint).unwrap();
    let in_use = std::fs::File::create(format!("{}/open", volume.staging)).unwrap();
    let status = dev.end();
    let log = std::fs::read_to_string(dev.folder.path().join("log")).unwrap();
    assert!(!status.success() && log.contains("this is left") && log.contains(&volume.id()), "{status}\n{log}");
    drop(in_use);
}

#[test]
fn loop_dev_takes_down_what_an_earlier_one_left_also_when_it_is_ended_before_its_plugin_serves() {
    let mut dev = Dev::start();
    let volume = Volume::create(&dev.endpoint, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
    volume.stage(&dev.endpoint).unwrap();
    volume.publish(&dev.endpoint, 0).unwrap();
    dev.child.kill().unwrap();
    dev.child.wait().unwrap();
    // Compiling takes a moment, in which it listens and does not say so yet.
    for code in std::fs::read_dir(dev.folder.path().join("state/code")).unwrap() {
        std::fs::remove_file(code.unwrap().path()).unwrap();
    }
    dev.child = Dev::run(dev.folder.path());
    eventually("somebody behind the socket", || dev.endpoint.probe().ok());
    let status = dev.end();
    let log = std::fs::read_to_string(dev.folder.path().join("log")).unwrap();
    assert!(status.success(), "{status}\n{log}");
    assert_eq!((mounts_beneath(dev.folder.path()), devices_beneath(dev.folder.path())), (Vec::new(), Vec::new()), "{log}");
}
