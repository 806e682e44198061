//! Places that are not what they should be: foreign mounts, symlinks, ways out of the root, wrong kinds.

use crate::bench::{Bench, MIB, bind, host, mount, mounts, place, place_node, reason, run};
use std::fs;
use std::os::unix::fs::symlink;
use windlass_linux::OpenRoots;
use windlass_plan::capability::FilesystemKind::Ext4;
use windlass_plan::failure::Reason;
use windlass_plan::paths::{Place, Root, Roots};
use windlass_plan::step::{Outcome, TargetKind, Writable};

#[test]
fn loop_a_foreign_mount_is_neither_covered_nor_taken_away() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let (staging, taken) = (bench.folder("staging"), bench.folder("taken"));
    let tmpfs = bench.at(&taken);
    run("mount", &["-t", "tmpfs", "somebody", tmpfs.to_str().unwrap()]);
    fs::write(tmpfs.join("theirs"), "x").unwrap();
    let mut lease = volume.lease();
    volume.staged(&mut lease, Ext4, &staging);
    assert_eq!(reason(lease.apply(&mount(&taken, Ext4, Writable::ReadWrite))), Reason::ForeignMount);
    assert_eq!(reason(lease.apply(&place_node(&taken))), Reason::ForeignMount);
    assert_eq!(reason(lease.apply(&bind(&staging, &taken, TargetKind::Folder, Writable::ReadWrite))), Reason::ForeignMount);
    assert_eq!(reason(lease.usage(&taken)), Reason::NotThere);
    for made in [None, Some(TargetKind::Folder), Some(TargetKind::Either)] {
        assert_eq!(lease.undo(&volume.unmount(&taken, made)), Ok(Outcome::Already));
    }
    assert_eq!(mounts(&tmpfs).len(), 1);
    assert!(tmpfs.join("theirs").exists());
    // Another volume of ours is as foreign.
    let other = bench.volume("other", 64 * MIB);
    let mut second = other.lease();
    assert_eq!(second.undo(&other.unmount(&staging, Some(TargetKind::Folder))), Ok(Outcome::Already));
    other.attached(&mut second, Writable::ReadWrite);
    assert_eq!(reason(second.apply(&mount(&staging, Ext4, Writable::ReadWrite))), Reason::ForeignMount);
    assert_eq!(reason(second.apply(&bind(&staging, &place("target"), TargetKind::Folder, Writable::ReadWrite))), Reason::NotStaged);
    assert_eq!(reason(second.usage(&staging)), Reason::NotThere);
    assert_eq!(mounts(&bench.at(&staging)).len(), 1);
    other.gone(second, &[(&staging, None)]);
    volume.gone(lease, &[(&staging, None)]);
}

/// A node's file is made in a plain folder: in one that is another volume it would be made, and taken away, in somebody's data.
#[test]
fn loop_a_node_is_neither_made_nor_taken_away_in_a_folder_that_is_another_volume() {
    let bench = Bench::new();
    let (volume, other) = (bench.volume("volume", 64 * MIB), bench.volume("other", 64 * MIB));
    let staging = bench.folder("staging");
    let mut lease = volume.lease();
    volume.staged(&mut lease, Ext4, &staging);
    let node = staging.join("device");
    let mut second = other.lease();
    other.attached(&mut second, Writable::ReadWrite);
    assert_eq!(reason(second.apply(&place_node(&node))), Reason::ForeignMount);
    assert!(!bench.at(&node).exists());
    // What its user calls so is the user's.
    for content in ["", "data"] {
        fs::write(bench.at(&node), content).unwrap();
        assert_eq!(second.undo(&other.unmount(&node, Some(TargetKind::File))), Ok(Outcome::Already));
        assert_eq!(fs::read_to_string(bench.at(&node)).unwrap(), content);
    }
    other.gone(second, &[]);
    volume.gone(lease, &[(&staging, None)]);
}

#[test]
fn loop_a_foreign_mount_over_ours_is_reported_and_ours_goes_when_it_is_gone() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let staging = bench.folder("staging");
    let at = bench.at(&staging);
    let mut lease = volume.lease();
    volume.staged(&mut lease, Ext4, &staging);
    run("mount", &["-t", "tmpfs", "somebody", at.to_str().unwrap()]);
    assert_eq!(reason(lease.undo(&volume.unmount(&staging, None))), Reason::ForeignMount);
    assert_eq!(mounts(&at).len(), 2);
    assert_eq!(reason(lease.undo(&volume.detach())), Reason::InUse);
    run("umount", &[at.to_str().unwrap()]);
    assert_eq!(lease.undo(&volume.unmount(&staging, None)), Ok(Outcome::Done));
    volume.gone(lease, &[]);
}

/// Looking and placing are two system calls: what comes in between is only seen afterwards.
#[test]
fn loop_two_volumes_at_one_target_at_one_moment_do_not_lie_on_each_other() {
    let bench = Bench::new();
    let target = bench.folder("pods").join("target");
    let start = std::sync::Barrier::new(2);
    let volumes = ["one", "other"].map(|name| (bench.volume(name, 64 * MIB), bench.folder(&format!("staging-{name}"))));
    let mut leases = volumes.each_ref().map(|(volume, staging)| {
        let mut lease = volume.lease();
        volume.staged(&mut lease, Ext4, staging);
        lease
    });
    for round in 0..400 {
        let published = std::thread::scope(|scope| {
            let calls = leases.each_mut().map(|lease| lease).into_iter().zip(&volumes).map(|(lease, (volume, staging))| {
                let (start, target) = (&start, &target);
                scope.spawn(move || {
                    start.wait();
                    let answer = lease.apply(&bind(staging, target, TargetKind::Folder, Writable::ReadWrite));
                    if answer.is_err() {
                        // As the engine does after every failure. The other's mount is not ours to remove the folder from under.
                        let _ = lease.undo(&volume.unmount(target, None));
                    }
                    answer.is_ok()
                })
            });
            let calls: Vec<_> = calls.collect();
            calls.into_iter().map(|call| call.join().unwrap()).filter(|is_ok| *is_ok).count()
        });
        assert_eq!((published, mounts(&bench.at(&target)).len()), (1, 1), "in round {round}");
        for (lease, (volume, _)) in leases.iter_mut().zip(&volumes) {
            lease.undo(&volume.unmount(&target, Some(TargetKind::Folder))).unwrap();
        }
        assert!(!bench.at(&target).exists());
    }
    for (lease, (volume, staging)) in leases.into_iter().zip(&volumes) {
        volume.gone(lease, &[(staging, None)]);
    }
}

#[test]
fn loop_mounts_stacked_on_one_target_go_all_and_nothing_in_them_is_lost() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let (staging, target) = (bench.folder("staging"), bench.folder("pods").join("target"));
    let mut lease = volume.lease();
    volume.staged(&mut lease, Ext4, &staging);
    for number in 0..50 {
        fs::write(bench.at(&staging).join(number.to_string()), "x").unwrap();
    }
    lease.apply(&bind(&staging, &target, TargetKind::Folder, Writable::ReadWrite)).unwrap();
    for _ in 0..3 {
        run("mount", &["--bind", bench.at(&staging).to_str().unwrap(), bench.at(&target).to_str().unwrap()]);
    }
    assert_eq!(mounts(&bench.at(&target)).len(), 4);
    assert_eq!(lease.undo(&volume.unmount(&target, Some(TargetKind::Folder))), Ok(Outcome::Done));
    assert!(!bench.at(&target).exists());
    assert_eq!(fs::read_dir(bench.at(&staging)).unwrap().count(), 51);
    volume.gone(lease, &[(&staging, None)]);
}

#[test]
fn loop_ways_out_of_the_root_are_refused_and_nothing_is_touched() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let staging = bench.folder("staging");
    let outside = bench.path("outside");
    fs::create_dir_all(outside.join("inner")).unwrap();
    let root = bench.path("root");
    symlink(&outside, root.join("out")).unwrap();
    symlink("staging", root.join("in")).unwrap();
    symlink(outside.join("inner"), root.join("last")).unwrap();
    fs::write(root.join("file"), "content").unwrap();
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    let wrong =
        ["out/inner", "last", "in", "in/x", "../outside/inner", "staging/../../outside", "staging/./x", "staging//x", "", "/etc", "missing/x", "file/x"];
    for below in wrong {
        let at = place(below);
        assert_eq!(reason(lease.apply(&mount(&at, Ext4, Writable::ReadWrite))), Reason::BadPath, "{below}");
        assert_eq!(reason(lease.apply(&place_node(&at))), Reason::BadPath, "{below}");
        let undone = lease.undo(&volume.unmount(&at, Some(TargetKind::Either)));
        if below == "missing/x" { assert_eq!(undone, Ok(Outcome::Already)) } else { assert_eq!(reason(undone), Reason::BadPath, "{below}") }
    }
    assert_eq!(reason(lease.apply(&mount(&Place { root: 1, below: "staging".into() }, Ext4, Writable::ReadWrite))), Reason::BadPath);
    assert_eq!(reason(lease.apply(&mount(&place("file"), Ext4, Writable::ReadWrite))), Reason::BadPath);
    assert_eq!(reason(lease.apply(&mount(&place("nothing"), Ext4, Writable::ReadWrite))), Reason::BadPath);
    assert!(mounts(&bench.path("")).is_empty());
    volume.staged(&mut lease, Ext4, &staging);
    for below in ["out/target", "last", "../outside/target", "missing/target", "file/x", "file"] {
        assert_eq!(reason(lease.apply(&bind(&staging, &place(below), TargetKind::Folder, Writable::ReadWrite))), Reason::BadPath, "{below}");
    }
    assert_eq!(fs::read_dir(outside.join("inner")).unwrap().count() + fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "content");
    volume.gone(lease, &[(&staging, None)]);
}

#[test]
fn loop_a_target_with_content_is_never_removed() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let full = bench.folder("full");
    fs::write(bench.at(&full).join("theirs"), "x").unwrap();
    fs::write(bench.path("root/file"), "x").unwrap();
    fs::write(bench.path("root/empty"), "").unwrap();
    bench.folder("void");
    let mut lease = volume.lease();
    let mut undo = |below: &str, made| lease.undo(&volume.unmount(&place(below), Some(made)));
    for kind in [TargetKind::Folder, TargetKind::Either] {
        assert_eq!(reason(undo("full", kind)), Reason::LeftBehind);
    }
    for kind in [TargetKind::File, TargetKind::Either] {
        assert_eq!(reason(undo("file", kind)), Reason::LeftBehind);
    }
    assert_eq!(reason(undo("file", TargetKind::Folder)), Reason::BadPath);
    assert_eq!(reason(undo("full", TargetKind::File)), Reason::BadPath);
    assert!(bench.at(&full).join("theirs").exists() && bench.path("root/file").exists());
    for below in ["empty", "void"] {
        assert_eq!(undo(below, TargetKind::Either), Ok(Outcome::Done));
        assert_eq!(undo(below, TargetKind::Either), Ok(Outcome::Already));
    }
}

#[test]
fn loop_targets_that_exist_serve_if_they_are_of_the_kind() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let (staging, folder) = (bench.folder("staging"), bench.folder("folder"));
    fs::write(bench.path("root/full"), "x").unwrap();
    fs::write(bench.path("root/empty"), "").unwrap();
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    assert_eq!(reason(lease.apply(&place_node(&place("full")))), Reason::BadPath);
    assert_eq!(reason(lease.apply(&place_node(&folder))), Reason::BadPath);
    assert_eq!(lease.apply(&place_node(&place("empty"))), Ok(Outcome::Done));
    assert_eq!(reason(lease.apply(&bind(&place("empty"), &folder, TargetKind::Folder, Writable::ReadWrite))), Reason::NotStaged);
    lease.undo(&volume.unmount(&place("empty"), Some(TargetKind::File))).unwrap();
    volume.staged(&mut lease, Ext4, &staging);
    assert_eq!(lease.apply(&bind(&staging, &folder, TargetKind::Folder, Writable::ReadWrite)), Ok(Outcome::Done));
    volume.gone(lease, &[(&folder, Some(TargetKind::Folder)), (&staging, None)]);
}

/// What is in the target would be hidden by the mount, and the target could not be removed with it.
#[test]
fn loop_a_target_with_content_is_refused_before_anything_is_mounted_on_it() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let (staging, full) = (bench.folder("staging"), bench.folder("full"));
    fs::write(bench.at(&full).join("theirs"), "kept").unwrap();
    fs::write(bench.path("root/file"), "kept").unwrap();
    let mut lease = volume.lease();
    volume.staged(&mut lease, Ext4, &staging);
    for (step, at) in [(bind(&staging, &full, TargetKind::Folder, Writable::ReadWrite), &full), (place_node(&place("file")), &place("file"))] {
        let refused = lease.apply(&step).unwrap_err();
        assert!(refused.reason == Reason::BadPath && refused.text.contains("not empty"), "{refused}");
        assert!(mounts(&bench.at(at)).is_empty());
    }
    assert_eq!(fs::read_to_string(bench.at(&full).join("theirs")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(bench.path("root/file")).unwrap(), "kept");
    // Emptied, it serves.
    fs::remove_file(bench.at(&full).join("theirs")).unwrap();
    assert_eq!(lease.apply(&bind(&staging, &full, TargetKind::Folder, Writable::ReadWrite)), Ok(Outcome::Done));
    volume.gone(lease, &[(&full, Some(TargetKind::Folder)), (&staging, None)]);
}

#[test]
fn loop_a_root_may_be_a_symlink_itself() {
    let bench = Bench::new();
    bench.folder("below");
    symlink(bench.path("root"), bench.path("link")).unwrap();
    let root = |spelled: &str| Root { spelled: host(&bench.path(spelled)), real: host(&bench.path("root")), kept: Vec::new() };
    assert!(OpenRoots::open(&Roots::new(vec![root("link"), root("root")])).is_ok());
    assert_eq!(OpenRoots::open(&Roots::new(vec![root("missing")])).unwrap_err().reason, Reason::Io);
}
