//! Copies of bytes that are cut off: by a death in the middle, by somebody who attaches the volume, by a full disk.

use super::{CONTENTS, Disk, MIB, NO_ROOM, cut, daemon_done, delete, file, must, names, noise, run};
use harness::{Daemon, Volume, block, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use tonic::Code;
use windlass_csi::v1::DeleteSnapshotRequest;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// A raw volume that is full of noise, on a folder that shares no blocks.
fn full(daemon: &Daemon, name: &str, mib: usize) -> Volume {
    let volume = Volume::create(daemon, name, block(Mode::SingleNodeWriter), mib as i64).unwrap();
    let mut raw = std::fs::File::options().write(true).open(file(daemon, &volume.id())).unwrap();
    for n in 0..mib {
        raw.write_all(&noise(n as u64, MIB)).unwrap();
    }
    raw.sync_all().unwrap();
    volume
}

fn is_alike(daemon: &Daemon, one: &str, other: &str) -> bool {
    run("cmp", &[&file(daemon, one).display().to_string(), &file(daemon, other).display().to_string()]).status.success()
}

/// The effects process that has the folder open.
fn effects_of(daemon: &Daemon) -> Option<i32> {
    harness::process::roles(daemon.pid(), "effects").into_iter().next()
}

#[test]
fn loop_an_effects_process_that_dies_while_it_copies_leaves_nothing() {
    let daemon = Daemon::start();
    let disk = Disk::plain(&daemon, 1024);
    let volume = full(&daemon, "source", 128);
    let free = disk.free();
    let mut deaths = 0;
    for (n, after) in [0, 5, 15, 30, 60, 100, 150, 250].into_iter().enumerate() {
        let name = format!("s{n}");
        eventually("an effects process", || daemon.get_capacity(Default::default()).ok().and_then(|_| effects_of(&daemon)));
        let asked = std::thread::scope(|scope| {
            let asked = scope.spawn(|| cut(&daemon, &name, &volume));
            std::thread::sleep(Duration::from_millis(after));
            let _ = effects_of(&daemon).map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
            asked.join().unwrap()
        });
        if let Err(status) = &asked {
            deaths += 1;
            assert_eq!(status.code(), Code::Unavailable, "{CONTENTS}: {status}");
        }
        // A whole one or none; and when it is asked for again, a whole one.
        let there = names(&daemon);
        assert!(there.len() <= 2, "{CONTENTS}: {there:?}");
        let snapshot = eventually("the snapshot", || cut(&daemon, &name, &volume).ok());
        assert!(is_alike(&daemon, &snapshot.snapshot_id, &volume.id()), "{CONTENTS}");
        eventually("it is deleted", || daemon.delete_snapshot(DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone(), ..Default::default() }).ok());
        assert_eq!(names(&daemon), [volume.id()]);
        let until = Instant::now() + Duration::from_secs(10);
        while disk.free() + (MIB as u64) < free {
            assert!(Instant::now() < until, "room is lost: {} of {free}", disk.free());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert!(deaths >= 2, "only {deaths} died in the middle");
    drop(daemon_done(daemon, disk));
}

#[test]
fn loop_who_attaches_a_volume_while_it_is_copied_has_it_and_no_torn_copy_is_left() {
    let daemon = Daemon::start();
    let disk = Disk::plain(&daemon, 1024);
    let volume = full(&daemon, "source", 128);
    let path = file(&daemon, &volume.id()).display().to_string();
    let mut thrown_away = 0;
    for (n, after) in [0, 10, 20, 40, 80].into_iter().enumerate() {
        let (name, before) = (format!("s{n}"), noise(0, MIB));
        let snapshot = std::thread::scope(|scope| {
            let asked = scope.spawn(|| cut(&daemon, &name, &volume));
            std::thread::sleep(Duration::from_millis(after));
            // As another daemon would: beside every claim of this one.
            let began = Instant::now();
            let device = must("losetup", &["-f", "--show", &path]).trim().to_owned();
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
            let mut raw = std::fs::File::options().write(true).open(&device).unwrap();
            raw.write_all(&vec![0xee; MIB]).unwrap();
            raw.sync_all().unwrap();
            drop(raw);
            let asked = asked.join().unwrap();
            must("losetup", &["-d", &device]);
            asked
        });
        match snapshot {
            Ok(snapshot) => {
                let mut held = vec![0; MIB];
                std::fs::File::open(file(&daemon, &snapshot.snapshot_id)).unwrap().read_exact(&mut held).unwrap();
                assert!(held == before, "{CONTENTS}: a copy that was made before the write holds it");
                delete(&daemon, &snapshot);
            }
            Err(status) => {
                thrown_away += 1;
                assert!(matches!(status.code(), Code::Unavailable | Code::FailedPrecondition), "{status}");
            }
        }
        assert_eq!(names(&daemon), [volume.id()], "nothing of a copy that was thrown away");
        eventually("the device is gone", || must("losetup", &["-j", &path]).is_empty().then_some(()));
        let mut raw = std::fs::File::options().write(true).open(&path).unwrap();
        raw.write_all(&before).unwrap();
        raw.sync_all().unwrap();
    }
    assert!(thrown_away >= 1, "nothing was thrown away: the copies were all done before the attach");
    drop(daemon_done(daemon, disk));
}

#[test]
fn loop_a_copy_for_which_there_is_no_room_leaves_nothing() {
    let daemon = Daemon::start();
    let disk = Disk::plain(&daemon, 160);
    let volume = full(&daemon, "source", 96);
    for _ in 0..2 {
        let refused = cut(&daemon, "s", &volume).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{NO_ROOM}: {refused}");
        assert_eq!(names(&daemon), [volume.id()]);
    }
    drop(daemon_done(daemon, disk));
}

#[test]
fn loop_a_copy_that_shares_blocks_is_whole_or_none_when_the_disk_is_full() {
    let daemon = Daemon::start();
    let disk = Disk::sharing(&daemon, 512);
    let volume = Volume::create(&daemon, "source", block(Mode::SingleNodeWriter), 256).unwrap();
    let path = file(&daemon, &volume.id());
    // Every second block: what is shared has to be written down for each of them, which takes the room that there is not.
    let mut raw = std::fs::File::options().write(true).open(&path).unwrap();
    let block = noise(3, 4096);
    for _ in 0..(256 * MIB / 8192) {
        raw.write_all(&block).unwrap();
        std::io::Seek::seek_relative(&mut raw, 4096).unwrap();
    }
    raw.sync_all().unwrap();
    drop(raw);
    let filler = std::fs::File::create(daemon.path("volumes").join(".filler")).unwrap();
    nix::fcntl::fallocate(&filler, nix::fcntl::FallocateFlags::empty(), 0, disk.free() as i64 - 6 * MIB as i64).unwrap();
    let (mut whole, mut refused) = (Vec::new(), 0);
    for n in 0..60 {
        match cut(&daemon, &format!("s{n}"), &volume) {
            Ok(snapshot) => {
                assert!(is_alike(&daemon, &snapshot.snapshot_id, &volume.id()), "{CONTENTS}: after {} whole ones", whole.len());
                whole.push(snapshot);
            }
            Err(status) => {
                assert!(matches!(status.code(), Code::ResourceExhausted | Code::Unavailable), "{NO_ROOM}: {status}");
                refused += 1;
            }
        }
        // The volume, the filler and the copies.
        assert_eq!(names(&daemon).len(), 2 + whole.len());
        if refused == 3 {
            break;
        }
    }
    println!("{} whole copies, {refused} refused, {} bytes left", whole.len(), disk.free());
    assert!(refused > 0, "the disk was never full: this shows nothing");
    drop(filler);
    std::fs::remove_file(daemon.path("volumes").join(".filler")).unwrap();
    // With room again, it is done.
    let last = cut(&daemon, "last", &volume).unwrap();
    assert!(is_alike(&daemon, &last.snapshot_id, &volume.id()), "{CONTENTS}");
    whole.iter().chain([&last]).for_each(|snapshot| delete(&daemon, snapshot));
    drop(daemon_done(daemon, disk));
}
