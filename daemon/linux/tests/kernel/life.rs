//! Whole lives of volumes, each step done twice: the second time the world is so already.

use crate::bench::{Bench, MIB, bind, host, loops, mount, mounts, place, place_node, probed, reason};
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use windlass_linux::{Fate, source_exists, survey};
use windlass_plan::attach::Filesystem;
use windlass_plan::capability::{FilesystemKind, MountFlags};
use windlass_plan::failure::Reason;
use windlass_plan::step::{Backing, Bind, Mount, Outcome, Probe, Shows, Step, TargetKind, Writable};

fn a_file_system_lives(kind: FilesystemKind, size: u64) {
    let bench = Bench::new();
    let volume = bench.volume("volume", size);
    let (staging, pods) = (bench.folder("staging"), bench.folder("pods"));
    let target = pods.join("mount");
    let mut lease = volume.lease();

    let device = volume.attached(&mut lease, Writable::ReadWrite);
    assert_eq!((device.size, device.is_read_only, device.diskseq.is_some()), (size, false, true));
    assert!(matches!(&device.backing, Backing::File(file) if file.born_ns != 0), "{device:?}");
    assert_eq!(volume.attached(&mut lease, Writable::ReadWrite), device);
    assert!(
        survey()
            .unwrap()
            .iter()
            .any(|found| found.short == Some(volume.key.short()) && found.name == device.name && found.backing == volume.file().to_str().unwrap())
    );

    assert_eq!(probed(&mut lease), Probe::Blank { proof: format!("the backing file has no data in bytes 0..{size} (SEEK_DATA)") });
    assert_eq!(lease.apply(&Step::Format(Filesystem { kind, label: Some("windlass".into()) })), Ok(Outcome::Done));
    assert_eq!(probed(&mut lease), Probe::Holds { what: kind.name().into(), kind: Some(kind) });
    assert_eq!(lease.apply(&Step::Check { kind, writable: Writable::ReadWrite }), Ok(Outcome::Already));

    let flags = MountFlags::parse(["nosuid,nodev,noatime"]).unwrap();
    let stage = Step::Mount(Mount { place: staging.clone(), kind, flags: flags.clone(), writable: Writable::ReadWrite });
    assert_eq!(lease.apply(&stage), Ok(Outcome::Done));
    assert_eq!(lease.apply(&stage), Ok(Outcome::Already));
    let grow = Step::Grow { place: staging.clone(), kind };
    assert_eq!(lease.apply(&grow), Ok(Outcome::Size(size)));

    let flags = MountFlags::parse(["noexec"]).unwrap();
    let publish = Step::Bind(Bind { from: staging.clone(), to: target.clone(), kind: TargetKind::Folder, flags, writable: Writable::ReadWrite });
    assert_eq!(lease.apply(&publish), Ok(Outcome::Done));
    assert_eq!(lease.apply(&publish), Ok(Outcome::Already));
    assert_eq!(mounts(&bench.at(&target)).len(), 1);
    assert_eq!(fs::metadata(bench.at(&target)).unwrap().dev(), libc::makedev(7, device.minor));
    fs::write(bench.at(&target).join("kept"), "data").unwrap();

    let observed = lease.observe().unwrap();
    assert_eq!(observed.devices, std::slice::from_ref(&device));
    let seen: Vec<_> = observed.mounts.iter().map(|mount| (mount.path.as_str(), &mount.shows, mount.is_read_only, mount.is_superblock_read_only)).collect();
    let shows = Shows::Filesystem(kind.name().into());
    assert_eq!(seen, [(bench.at(&staging).to_str().unwrap(), &shows, false, false), (bench.at(&target).to_str().unwrap(), &shows, false, false)]);
    let usage = lease.usage(&target).unwrap();
    assert!(usage.total <= size && usage.total > size / 2, "{usage:?}");
    assert!(
        usage.bytes.is_some_and(|(used, available)| used > 0 && available > 0)
            && usage.inodes.is_some_and(|(total, used, free)| used > 0 && total == used + free)
    );
    lease.release(Fate::Keep);

    // Another worker, which knows nothing but the volume's key and the places.
    let mut lease = volume.lease();
    assert_eq!(reason(lease.undo(&volume.detach())), Reason::InUse);
    for (at, made) in [(&target, Some(TargetKind::Folder)), (&staging, None)] {
        assert_eq!(lease.undo(&volume.unmount(at, made)), Ok(Outcome::Done));
        assert_eq!(lease.undo(&volume.unmount(at, made)), Ok(Outcome::Already));
    }
    assert!(!bench.at(&target).exists() && bench.at(&staging).exists());
    assert_eq!(lease.undo(&volume.detach()), Ok(Outcome::Done));
    assert_eq!(lease.undo(&volume.detach()), Ok(Outcome::Already));
    assert_eq!(lease.device(), None);
    lease.release(Fate::Forget);
    assert_eq!(fs::read_dir(bench.path("locks")).unwrap().count(), 0);
    assert!(loops().iter().all(|(_, backing)| !backing.starts_with(bench.path("files").to_str().unwrap())));

    // The next life finds the data, and no mkfs is needed.
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    assert_eq!(lease.apply(&mount(&staging, kind, Writable::ReadWrite)), Ok(Outcome::Done));
    assert_eq!(fs::read_to_string(bench.at(&staging).join("kept")).unwrap(), "data");
    volume.gone(lease, &[(&staging, None)]);
}

#[test]
fn loop_a_volume_with_ext4_lives() {
    a_file_system_lives(FilesystemKind::Ext4, 64 * MIB);
}

#[test]
fn loop_a_volume_with_xfs_lives() {
    a_file_system_lives(FilesystemKind::Xfs, 320 * MIB);
}

#[test]
fn loop_a_raw_volume_lives() {
    let bench = Bench::new();
    let volume = bench.volume("raw", 16 * MIB);
    let node = bench.folder("staging").join("device");
    let target = bench.folder("pods").join("device");
    let mut lease = volume.lease();
    let device = volume.attached(&mut lease, Writable::ReadWrite);
    assert_eq!(lease.apply(&place_node(&node)), Ok(Outcome::Done));
    assert_eq!(lease.apply(&place_node(&node)), Ok(Outcome::Already));
    let publish = bind(&node, &target, TargetKind::File, Writable::ReadWrite);
    assert_eq!(lease.apply(&publish), Ok(Outcome::Done));
    assert_eq!(lease.apply(&publish), Ok(Outcome::Already));
    assert_eq!(reason(lease.apply(&bind(&node, &target, TargetKind::File, Writable::ReadOnly))), Reason::Incompatible);

    let seen = fs::metadata(bench.at(&target)).unwrap();
    assert!(seen.file_type().is_block_device() && seen.rdev() == libc::makedev(7, device.minor));
    let mut opened = fs::OpenOptions::new().read(true).write(true).open(bench.at(&target)).unwrap();
    opened.write_all(b"raw data").unwrap();
    assert_eq!(lease.usage(&target).unwrap().total, 16 * MIB);
    assert_eq!(lease.usage(&target).unwrap().bytes, None);
    let observed = lease.observe().unwrap();
    assert!(observed.mounts.len() == 2 && observed.mounts.iter().all(|mount| mount.shows == Shows::Node));

    // A node that is open through the target keeps it busy; one that is open as the device keeps the device.
    let refused = lease.undo(&volume.unmount(&target, Some(TargetKind::File)));
    assert_eq!(reason(refused), Reason::InUse);
    drop(opened);
    let mut opened = fs::OpenOptions::new().read(true).write(true).open(format!("/dev/{}", device.name)).unwrap();
    opened.seek(std::io::SeekFrom::Start(8)).unwrap();
    for (at, made) in [(&target, Some(TargetKind::File)), (&node, Some(TargetKind::File))] {
        assert_eq!(lease.undo(&volume.unmount(at, made)), Ok(Outcome::Done));
        assert_eq!(lease.undo(&volume.unmount(at, made)), Ok(Outcome::Already));
    }
    assert_eq!(reason(lease.undo(&volume.detach())), Reason::InUse);
    opened.write_all(b" goes on").unwrap();
    drop(opened);
    assert_eq!(lease.undo(&volume.detach()), Ok(Outcome::Done));
    let mut content = [0; 16];
    fs::File::open(volume.file()).unwrap().read_exact(&mut content).unwrap();
    assert_eq!(&content, b"raw data goes on");
    volume.gone(lease, &[(&target, Some(TargetKind::File)), (&node, Some(TargetKind::File))]);
}

#[test]
fn loop_an_xfs_clone_with_the_same_uuid_mounts_beside_its_origin() {
    let bench = Bench::new();
    let (origin, clone) = (bench.volume("origin", 320 * MIB), bench.existing("clone"));
    let (one, two) = (bench.folder("one"), bench.folder("two"));
    let mut first = origin.lease();
    origin.staged(&mut first, FilesystemKind::Xfs, &one);
    first.undo(&origin.unmount(&one, None)).unwrap();
    fs::copy(origin.file(), clone.file()).unwrap();
    assert_eq!(first.apply(&mount(&one, FilesystemKind::Xfs, Writable::ReadWrite)), Ok(Outcome::Done));
    let mut second = clone.lease();
    clone.attached(&mut second, Writable::ReadWrite);
    assert_eq!(second.apply(&mount(&two, FilesystemKind::Xfs, Writable::ReadWrite)), Ok(Outcome::Done));
    clone.gone(second, &[(&two, None)]);
    origin.gone(first, &[(&one, None)]);
}

#[test]
fn loop_a_source_that_is_not_one_is_refused_and_nothing_is_bound() {
    let bench = Bench::new();
    let files = bench.path("files");
    fs::write(files.join("odd"), "odd").unwrap();
    fs::write(files.join("empty"), "").unwrap();
    fs::create_dir(files.join("folder")).unwrap();
    std::os::unix::fs::symlink("odd", files.join("symlink")).unwrap();
    std::os::unix::fs::symlink("/etc", files.join("etc")).unwrap();
    fs::write(files.join("twice"), [0; 512]).unwrap();
    fs::hard_link(files.join("twice"), files.join("thrice")).unwrap();
    crate::bench::run("mkfifo", &[files.join("fifo").to_str().unwrap()]);
    for (name, want) in [
        ("missing", Reason::SourceMissing),
        ("odd", Reason::OutOfRange),
        ("empty", Reason::OutOfRange),
        ("folder", Reason::NotOurs),
        ("symlink", Reason::NotOurs),
        ("etc/passwd", Reason::NotOurs),
        ("../root", Reason::NotOurs),
        ("..", Reason::NotOurs),
        ("twice", Reason::NotOurs),
        ("fifo", Reason::NotOurs),
    ] {
        let volume = bench.existing(name);
        assert_eq!(reason(volume.lease().apply(&volume.attach(Writable::ReadWrite))), want, "{name}");
    }
    let other = bench.existing("other");
    assert_eq!(reason(bench.existing("odd").lease().apply(&other.attach(Writable::ReadWrite))), Reason::NotOurs);
    assert_eq!(source_exists(&host(&files), "missing"), Ok(false));
    assert_eq!(source_exists(&host(&files), "odd"), Ok(true));
    assert_eq!(reason(source_exists(&host(&files), "symlink")), Reason::NotOurs);
    assert_eq!(reason(source_exists(&host(&bench.path("nowhere")), "odd")), Reason::SourceMissing);
    assert!(loops().iter().all(|(_, backing)| !backing.starts_with(files.to_str().unwrap())));
}

#[test]
fn loop_a_file_is_attached_once() {
    let bench = Bench::new();
    let volume = bench.volume("mine", 16 * MIB);
    let mut lease = volume.lease();
    let device = volume.attached(&mut lease, Writable::ReadWrite);
    assert_eq!(reason(lease.apply(&volume.attach(Writable::ReadOnly))), Reason::Incompatible);
    // Another volume of ours with the same file, and the same volume with another file.
    let thief = bench.existing("thief");
    fs::rename(volume.file(), thief.file()).unwrap();
    let refused = thief.lease().apply(&thief.attach(Writable::ReadWrite)).unwrap_err();
    assert!(refused.reason == Reason::InUse && refused.text.contains(&device.name), "{refused}");
    bench.volume("mine", 16 * MIB);
    assert_eq!(reason(lease.apply(&volume.attach(Writable::ReadWrite))), Reason::Incompatible);
    volume.gone(lease, &[]);
    // Somebody else's loop device, without a mark.
    let theirs = crate::bench::run("losetup", &["-f", "--show", thief.file().to_str().unwrap()]);
    let refused = thief.lease().apply(&thief.attach(Writable::ReadWrite)).unwrap_err();
    assert!(refused.reason == Reason::InUse && refused.text.contains(theirs.trim().trim_start_matches("/dev/")), "{refused}");
    thief.gone(thief.lease(), &[]);
    assert!(loops().iter().any(|(name, _)| format!("/dev/{name}") == theirs.trim()));
}

#[test]
fn loop_direct_io_is_on_and_the_device_stays_when_its_holder_dies() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 16 * MIB);
    let mut lease = volume.lease();
    let name = volume.attached(&mut lease, Writable::ReadWrite).name;
    let shown = |what: &str| fs::read_to_string(format!("/sys/block/{name}/{what}")).unwrap().trim().to_owned();
    assert_eq!(shown("loop/dio"), "1");
    assert_eq!(shown("loop/autoclear"), "0");
    assert_eq!(shown("queue/logical_block_size"), "512");
    drop(lease);
    assert_eq!(volume.lease().observe().unwrap().devices.len(), 1);
    let mut lease = volume.lease();
    // A detach that died half-way leaves a promise to unbind at the last close: whoever takes the device up takes it back.
    let holder = fs::File::open(format!("/dev/{name}")).unwrap();
    crate::bench::run("losetup", &["-d", &format!("/dev/{name}")]);
    assert_eq!(shown("loop/autoclear"), "1");
    volume.attached(&mut lease, Writable::ReadWrite);
    drop(holder);
    assert_eq!(shown("loop/autoclear"), "0");
    volume.gone(lease, &[]);
}

#[test]
fn loop_a_file_that_grew_is_taken_up() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 16 * MIB);
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    let file = fs::OpenOptions::new().write(true).open(volume.file()).unwrap();
    file.set_len(32 * MIB).unwrap();
    assert_eq!(lease.apply(&Step::Refresh), Ok(Outcome::Size(32 * MIB)));
    assert_eq!(lease.apply(&Step::Refresh), Ok(Outcome::Size(32 * MIB)));
    file.set_len(48 * MIB).unwrap();
    assert_eq!(volume.attached(&mut lease, Writable::ReadWrite).size, 48 * MIB);
    assert_eq!(lease.device().unwrap().size, 48 * MIB);
    file.set_len(8 * MIB).unwrap();
    assert_eq!(reason(lease.apply(&volume.attach(Writable::ReadWrite))), Reason::IdentityChanged);
    volume.gone(lease, &[]);
}

#[test]
fn loop_steps_without_a_device_say_that_it_has_to_be_attached() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 16 * MIB);
    let staging = bench.folder("staging");
    let mut lease = volume.lease();
    for step in [
        Step::Probe { is_never_written: false },
        Step::Refresh,
        mount(&staging, FilesystemKind::Ext4, Writable::ReadWrite),
        place_node(&staging.join("device")),
    ] {
        assert_eq!(reason(lease.apply(&step)), Reason::NotStaged, "{step:?}");
    }
    assert_eq!(reason(lease.apply(&bind(&staging, &place("target"), TargetKind::Folder, Writable::ReadWrite))), Reason::NotStaged);
    assert_eq!(reason(lease.usage(&staging)), Reason::NotThere);
    assert_eq!(reason(lease.usage(&place("nowhere/at/all"))), Reason::NotThere);
    assert!(!bench.at(&place("target")).exists());
}
