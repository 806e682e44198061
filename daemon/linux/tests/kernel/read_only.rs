//! Read-only is read-only (law 11): the device refuses writes, and what lies below stays the same to the bit.

use crate::bench::{Bench, MIB, bind, digest, mount, place_node, reason};
use std::fs::{self, OpenOptions};
use std::io::Write;
use windlass_plan::capability::FilesystemKind;
use windlass_plan::failure::Reason;
use windlass_plan::step::{Outcome, Step, TargetKind, Writable};

/// A volume that was copied while it was mounted and written to: its journal is dirty.
fn a_dirty_journal_is_left_alone(kind: FilesystemKind, size: u64) {
    let bench = Bench::new();
    let (origin, dirty, clean) = (bench.volume("origin", size), bench.existing("dirty"), bench.existing("clean"));
    let staging = bench.folder("staging");
    let mut lease = origin.lease();
    origin.staged(&mut lease, kind, &staging);
    let mut file = fs::File::create(bench.at(&staging).join("file")).unwrap();
    file.write_all(b"data").unwrap();
    file.sync_all().unwrap();
    crate::bench::run("sync", &["-f", bench.at(&staging).to_str().unwrap()]);
    fs::create_dir(bench.at(&staging).join("folder")).unwrap();
    fs::File::open(bench.at(&staging).join("folder")).unwrap().sync_all().unwrap();
    fs::copy(origin.file(), dirty.file()).unwrap();
    drop(file);
    origin.gone(lease, &[(&staging, None)]);
    fs::copy(origin.file(), clean.file()).unwrap();

    let before = digest(&dirty.file());
    let mut lease = dirty.lease();
    let device = dirty.attached(&mut lease, Writable::ReadOnly);
    assert!(device.is_read_only);
    assert_eq!(reason(lease.apply(&Step::Check { kind, writable: Writable::ReadOnly })), Reason::NeedsRepair);
    // Even a mount that nobody checked before writes nothing.
    assert_eq!(lease.apply(&mount(&staging, kind, Writable::ReadOnly)), Ok(Outcome::Done));
    dirty.gone(lease, &[(&staging, None)]);
    assert_eq!(digest(&dirty.file()), before);
    // Writable, the kernel replays it.
    let mut lease = dirty.lease();
    dirty.attached(&mut lease, Writable::ReadWrite);
    assert_eq!(lease.apply(&Step::Check { kind, writable: Writable::ReadWrite }), Ok(Outcome::Already));
    assert_eq!(lease.apply(&mount(&staging, kind, Writable::ReadWrite)), Ok(Outcome::Done));
    assert_eq!(fs::read_to_string(bench.at(&staging).join("file")).unwrap(), "data");
    dirty.gone(lease, &[(&staging, None)]);

    let before = digest(&clean.file());
    let target = bench.folder("pods").join("target");
    let mut lease = clean.lease();
    clean.attached(&mut lease, Writable::ReadOnly);
    assert_eq!(reason(lease.apply(&clean.attach(Writable::ReadWrite))), Reason::Incompatible);
    assert_eq!(lease.apply(&Step::Check { kind, writable: Writable::ReadOnly }), Ok(Outcome::Already));
    assert_eq!(reason(lease.apply(&mount(&staging, kind, Writable::ReadWrite))), Reason::Incompatible);
    for want in [Outcome::Done, Outcome::Already] {
        assert_eq!(lease.apply(&mount(&staging, kind, Writable::ReadOnly)), Ok(want));
    }
    assert_eq!(reason(lease.apply(&mount(&staging, kind, Writable::ReadWrite))), Reason::Incompatible);
    assert_eq!(reason(lease.apply(&bind(&staging, &target, TargetKind::Folder, Writable::ReadWrite))), Reason::Incompatible);
    for want in [Outcome::Done, Outcome::Already] {
        assert_eq!(lease.apply(&bind(&staging, &target, TargetKind::Folder, Writable::ReadOnly)), Ok(want));
    }
    assert_eq!(fs::read_to_string(bench.at(&target).join("file")).unwrap(), "data");
    assert_eq!(fs::write(bench.at(&target).join("new"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
    let observed = lease.observe().unwrap();
    assert!(observed.mounts.iter().all(|mount| mount.is_read_only && mount.is_superblock_read_only));
    assert_eq!(lease.apply(&Step::Grow { place: staging.clone(), kind }), Ok(Outcome::Size(size)));
    clean.gone(lease, &[(&target, Some(TargetKind::Folder)), (&staging, None)]);
    assert_eq!(digest(&clean.file()), before);
}

#[test]
fn loop_a_dirty_ext4_is_left_alone() {
    a_dirty_journal_is_left_alone(FilesystemKind::Ext4, 64 * MIB);
}

#[test]
fn loop_a_dirty_xfs_is_left_alone() {
    a_dirty_journal_is_left_alone(FilesystemKind::Xfs, 320 * MIB);
}

#[test]
fn loop_an_xfs_log_is_judged_as_the_kernel_leaves_it() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 320 * MIB);
    let staging = bench.folder("staging");
    let clean = Step::Check { kind: FilesystemKind::Xfs, writable: Writable::ReadOnly };
    let mut lease = volume.lease();
    volume.staged(&mut lease, FilesystemKind::Xfs, &staging);
    for round in 0..4 {
        // More and more of the ring is used, and each unmount ends it in another place.
        for number in 0..200 * round {
            fs::write(bench.at(&staging).join(format!("{round}-{number}")), vec![7; 5000]).unwrap();
        }
        // A mount alone writes nothing to the journal.
        let mounted = if round == 0 { Ok(Outcome::Already) } else { Err(Reason::NeedsRepair) };
        assert_eq!(lease.apply(&clean).map_err(|failure| failure.reason), mounted, "mounted, round {round}");
        lease.undo(&volume.unmount(&staging, None)).unwrap();
        assert_eq!(lease.apply(&clean), Ok(Outcome::Already), "unmounted, round {round}");
        assert_eq!(lease.apply(&mount(&staging, FilesystemKind::Xfs, Writable::ReadWrite)), Ok(Outcome::Done));
        fs::create_dir(bench.at(&staging).join(format!("folder-{round}"))).unwrap();
        crate::bench::run("sync", &["-f", bench.at(&staging).to_str().unwrap()]);
    }
    // A shutdown is what a crash looks like.
    crate::bench::run("xfs_io", &["-x", "-c", "shutdown -f", bench.at(&staging).to_str().unwrap()]);
    lease.undo(&volume.unmount(&staging, None)).unwrap();
    assert_eq!(reason(lease.apply(&clean)), Reason::NeedsRepair);
    volume.gone(lease, &[]);
}

#[test]
fn loop_a_read_only_node_cannot_be_written_through() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 16 * MIB);
    let (node, target) = (bench.folder("staging").join("device"), bench.folder("pods").join("device"));
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadOnly);
    lease.apply(&place_node(&node)).unwrap();
    assert_eq!(reason(lease.apply(&bind(&node, &target, TargetKind::File, Writable::ReadWrite))), Reason::Incompatible);
    for want in [Outcome::Done, Outcome::Already] {
        assert_eq!(lease.apply(&bind(&node, &target, TargetKind::File, Writable::ReadOnly)), Ok(want));
    }
    let written = OpenOptions::new().write(true).open(bench.at(&target)).and_then(|mut file| {
        file.write_all(b"x")?;
        file.sync_all()
    });
    assert!(written.is_err());
    volume.gone(lease, &[(&target, Some(TargetKind::File)), (&node, Some(TargetKind::File))]);
    assert!(fs::read(volume.file()).unwrap().iter().all(|byte| *byte == 0));

    // A writable device is never shown as a read-only node.
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    lease.apply(&place_node(&node)).unwrap();
    assert_eq!(reason(lease.apply(&bind(&node, &target, TargetKind::File, Writable::ReadOnly))), Reason::Incompatible);
    assert!(!bench.at(&target).exists());
    volume.gone(lease, &[(&node, Some(TargetKind::File))]);
}

#[test]
fn loop_one_target_may_be_read_only_beside_a_writable_one() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let (staging, pods) = (bench.folder("staging"), bench.folder("pods"));
    let (one, two) = (pods.join("one"), pods.join("two"));
    let mut lease = volume.lease();
    volume.staged(&mut lease, FilesystemKind::Ext4, &staging);
    assert_eq!(lease.apply(&bind(&staging, &one, TargetKind::Folder, Writable::ReadOnly)), Ok(Outcome::Done));
    assert_eq!(lease.apply(&bind(&staging, &two, TargetKind::Folder, Writable::ReadWrite)), Ok(Outcome::Done));
    assert_eq!(reason(lease.apply(&bind(&staging, &one, TargetKind::Folder, Writable::ReadWrite))), Reason::Incompatible);
    assert_eq!(fs::write(bench.at(&one).join("x"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
    fs::write(bench.at(&two).join("x"), "").unwrap();
    volume.gone(lease, &[(&one, Some(TargetKind::Folder)), (&two, Some(TargetKind::Folder)), (&staging, None)]);
}
