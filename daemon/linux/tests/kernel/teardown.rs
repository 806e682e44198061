//! Taking down what is in use, what was changed behind our back, and what belongs to somebody else by now.

use crate::bench::{Bench, MIB, bind, loops, mount, mounts, place_node, reason, run};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use windlass_plan::capability::FilesystemKind::Ext4;
use windlass_plan::failure::Reason;
use windlass_plan::step::{Outcome, TargetKind, Writable};

/// A process that does what `script` says and stays until it is dropped.
struct Holder(Child);

impl Holder {
    fn start(script: &str) -> Self {
        let mut child =
            Command::new("sh").arg("-c").arg(format!("{script}; echo ready; read end")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn words(&self) -> String {
        format!("pid {} (sh)", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn loop_a_device_in_use_is_not_detached_and_loses_nothing() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 16 * MIB);
    let mut lease = volume.lease();
    let name = volume.attached(&mut lease, Writable::ReadWrite).name;
    let node = format!("/dev/{name}");
    let mut writer = fs::OpenOptions::new().write(true).open(&node).unwrap();
    writer.write_all(b"before").unwrap();
    let holder = Holder::start(&format!("exec 3<{node}"));
    let refused = lease.undo(&volume.detach()).unwrap_err();
    assert!(refused.reason == Reason::InUse && refused.text.contains(&holder.words()), "{refused}");
    // Not half-way: still bound, and not about to be unbound.
    assert_eq!(fs::read_to_string(format!("/sys/block/{name}/loop/autoclear")).unwrap().trim(), "0");
    writer.write_all(b" after").unwrap();
    drop(writer);
    assert_eq!(lease.observe().unwrap().devices.len(), 1);
    drop(holder);
    assert_eq!(lease.undo(&volume.detach()), Ok(Outcome::Done));
    assert_eq!(&fs::read(volume.file()).unwrap()[..12], b"before after");
    volume.gone(lease, &[]);
}

#[test]
fn loop_a_device_that_another_lies_on_is_not_detached_and_the_other_is_named() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 16 * MIB);
    let mut lease = volume.lease();
    let name = volume.attached(&mut lease, Writable::ReadWrite).name;
    let upper = run("losetup", &["-f", "--show", &format!("/dev/{name}")]);
    let refused = lease.undo(&volume.detach()).unwrap_err();
    run("losetup", &["-d", upper.trim()]);
    assert!(refused.reason == Reason::InUse && refused.text.contains(&format!("{} lies on it", upper.trim())), "{refused}");
    volume.gone(lease, &[]);
}

#[test]
fn loop_a_mount_in_use_is_not_taken_away_by_force() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let staging = bench.folder("staging");
    let mut lease = volume.lease();
    volume.staged(&mut lease, Ext4, &staging);
    let holder = Holder::start(&format!("cd {}", bench.at(&staging).display()));
    let refused = lease.undo(&volume.unmount(&staging, None)).unwrap_err();
    assert!(refused.reason == Reason::InUse && refused.text.contains(&holder.words()), "{refused}");
    assert_eq!(mounts(&bench.at(&staging)).len(), 1);
    drop(holder);
    volume.gone(lease, &[(&staging, None)]);
}

#[test]
fn loop_a_device_that_is_mounted_elsewhere_is_not_detached() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let (staging, elsewhere) = (bench.folder("staging"), bench.folder("elsewhere"));
    let mut lease = volume.lease();
    volume.staged(&mut lease, Ext4, &staging);
    run("mount", &["--bind", bench.at(&staging).to_str().unwrap(), bench.at(&elsewhere).to_str().unwrap()]);
    lease.undo(&volume.unmount(&staging, None)).unwrap();
    let refused = lease.undo(&volume.detach()).unwrap_err();
    assert!(refused.reason == Reason::InUse && refused.text.contains(bench.at(&elsewhere).to_str().unwrap()), "{refused}");
    lease.undo(&volume.unmount(&elsewhere, None)).unwrap();
    volume.gone(lease, &[]);
}

#[test]
fn loop_the_number_of_a_device_may_be_somebody_elses_by_now() {
    let bench = Bench::new();
    let (volume, thief) = (bench.volume("volume", 16 * MIB), bench.volume("thief", 16 * MIB));
    let node = bench.folder("staging").join("device");
    let mut lease = volume.lease();
    let name = volume.attached(&mut lease, Writable::ReadWrite).name;
    lease.apply(&place_node(&node)).unwrap();
    drop(lease);
    let dev = format!("/dev/{name}");
    run("losetup", &["-d", &dev]);
    if Command::new("losetup").args([&dev, thief.file().to_str().unwrap()]).output().unwrap().status.success() {
        // The node that we placed shows another's file now: not ours to touch, nor to unbind.
        let mut lease = volume.lease();
        assert_eq!(lease.undo(&volume.unmount(&node, Some(TargetKind::File))), Ok(Outcome::Already));
        assert_eq!(lease.undo(&volume.detach()), Ok(Outcome::Already));
        assert_eq!(reason(lease.usage(&node)), Reason::NotThere);
        assert!(loops().iter().any(|(other, backing)| *other == name && Path::new(backing) == thief.file()));
        run("losetup", &["-d", &dev]);
    }
    // A node that shows nothing goes, with the file that was made for it. (Another test may have taken the number meanwhile.)
    let mut lease = volume.lease();
    if !Path::new(&format!("/sys/block/{name}/loop")).exists() && lease.undo(&volume.unmount(&node, Some(TargetKind::File))) == Ok(Outcome::Done) {
        assert!(!bench.at(&node).exists());
    }
}

#[test]
fn loop_a_dead_lease_leaves_a_volume_that_another_takes_down() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let (staging, target) = (bench.folder("staging"), bench.folder("pods").join("target"));
    let mut lease = volume.lease();
    volume.staged(&mut lease, Ext4, &staging);
    lease.apply(&bind(&staging, &target, TargetKind::Folder, Writable::ReadWrite)).unwrap();
    drop(lease);
    fs::remove_file(volume.file()).unwrap();
    // The file is unlinked, and the mark is still on the device.
    let mut lease = volume.lease();
    let observed = lease.observe().unwrap();
    assert_eq!((observed.devices.len(), observed.mounts.len()), (1, 2));
    assert_eq!(lease.device(), Some(&observed.devices[0]));
    volume.gone(lease, &[(&target, Some(TargetKind::Folder)), (&staging, None)]);
}

#[test]
fn loop_a_file_system_that_shut_down_is_not_published_and_is_taken_down() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 320 * MIB);
    let (staging, target) = (bench.folder("staging"), bench.folder("pods").join("target"));
    let kind = windlass_plan::capability::FilesystemKind::Xfs;
    let mut lease = volume.lease();
    volume.staged(&mut lease, kind, &staging);
    lease.apply(&bind(&staging, &target, TargetKind::Folder, Writable::ReadWrite)).unwrap();
    run("xfs_io", &["-x", "-c", "shutdown", bench.at(&staging).to_str().unwrap()]);
    // Nothing on it answers any more, not even its root folder's attributes.
    assert!(fs::metadata(bench.at(&target)).is_err());
    assert_eq!(lease.observe().unwrap().mounts.len(), 2);
    volume.gone(lease, &[(&target, Some(TargetKind::Folder)), (&staging, None)]);
}

#[test]
fn loop_many_volumes_come_and_go_at_once() {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let bench = &bench;
            scope.spawn(move || {
                let volume = bench.volume(&format!("volume-{number}"), 16 * MIB);
                let staging = bench.folder(&format!("staging-{number}"));
                let mut lease = volume.lease();
                volume.staged(&mut lease, Ext4, &staging);
                volume.gone(lease, &[(&staging, None)]);
                let mut lease = volume.lease();
                volume.attached(&mut lease, Writable::ReadWrite);
                assert_eq!(lease.apply(&mount(&staging, Ext4, Writable::ReadWrite)), Ok(Outcome::Done));
                volume.gone(lease, &[(&staging, None)]);
            });
        }
    });
}
