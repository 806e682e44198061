//! Snapshots and copies of `local` on real devices: on a folder that shares blocks and on one that does not, while volumes are written, and
//! with an effects process that dies in the middle.

mod cut_off;

use harness::process::may_resize_ext4;
use harness::rbd::{from_snapshot, from_volume, snapshot_request};
use harness::{Daemon, Volume, block, eventually, mount_as};
use nix::mount::{MntFlags, umount2};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::NamedTempFile;
use tonic::{Code, Status};
use windlass_csi::v1::volume_capability::AccessType;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{CreateVolumeRequest, DeleteSnapshotRequest, Snapshot, VolumeCapability, VolumeContentSource};

const MIB: usize = 1 << 20;

/// Rows of docs/conformance-rows.tsv.
const CONTENTS: &str = "CreateSnapshot/contents";
const IN_USE: &str = "CreateSnapshot/FAILED_PRECONDITION";
const NO_ROOM: &str = "CreateSnapshot/RESOURCE_EXHAUSTED";

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

#[track_caller]
fn must(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A file system of its own at the daemon's granted folder.
struct Disk {
    point: PathBuf,
    _file: NamedTempFile,
}

impl Disk {
    /// With `mkfs` and its arguments, before the folder is used for the first time.
    fn mount(daemon: &Daemon, mkfs: &[&str], mib: usize) -> Self {
        let file = NamedTempFile::new_in("/var/tmp").unwrap();
        file.as_file().set_len((mib * MIB) as u64).unwrap();
        let (point, path) = (daemon.path("volumes"), file.path().display().to_string());
        must(mkfs[0], &[&mkfs[1..], &[&path]].concat());
        must("mount", &["-o", "loop", &path, &point.display().to_string()]);
        Self { point, _file: file }
    }

    /// One that shares blocks between files.
    fn sharing(daemon: &Daemon, mib: usize) -> Self {
        Self::mount(daemon, &["mkfs.xfs", "-q", "-m", "reflink=1"], mib)
    }

    /// One that does not.
    fn plain(daemon: &Daemon, mib: usize) -> Self {
        Self::mount(daemon, &["mkfs.ext4", "-q", "-m", "0"], mib)
    }

    fn free(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(&self.point).unwrap();
        stat.blocks_available() * stat.fragment_size()
    }

    /// Once nothing of the daemon has a file open there.
    fn unmount(self) {
        eventually("the disk is let go", || umount2(&self.point, MntFlags::empty()).ok());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.point, MntFlags::empty());
    }
}

fn cut(daemon: &Daemon, name: &str, volume: &Volume) -> Result<Snapshot, Status> {
    daemon.create_snapshot(snapshot_request(name, &volume.id(), &BTreeMap::new())).map(|answer| answer.snapshot.unwrap())
}

fn delete(daemon: &Daemon, snapshot: &Snapshot) {
    daemon.delete_snapshot(DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone(), ..Default::default() }).unwrap();
}

fn copy(daemon: &Daemon, name: &str, source: VolumeContentSource, capability: &VolumeCapability, mib: i64) -> Volume {
    let request = CreateVolumeRequest { volume_content_source: Some(source), ..Volume::create_request(name, capability, mib) };
    let made = daemon.create_volume(request).unwrap().volume.unwrap();
    Volume::at(daemon, name, made, capability.clone()).unwrap()
}

fn file(daemon: &Daemon, id: &str) -> PathBuf {
    daemon.path("volumes").join(id)
}

fn names(daemon: &Daemon) -> Vec<String> {
    let entries = std::fs::read_dir(daemon.path("volumes")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != "lost+found").collect();
    names.sort();
    names
}

/// Bytes that are not alike anywhere.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Writes to the published volume, durably, and reads it back.
struct Use<'a> {
    daemon: &'a Daemon,
    volume: &'a Volume,
}

impl<'a> Use<'a> {
    fn of(daemon: &'a Daemon, volume: &'a Volume) -> Self {
        volume.stage(daemon).unwrap_or_else(|status| panic!("{status}\n{}", daemon.log()));
        volume.publish(daemon, 0).unwrap();
        Self { daemon, volume }
    }

    fn is_raw(&self) -> bool {
        !Path::new(&self.volume.target(0)).is_dir()
    }

    fn path(&self) -> PathBuf {
        let target = PathBuf::from(self.volume.target(0));
        if self.is_raw() { target } else { target.join("data") }
    }

    fn write(&self, bytes: &[u8]) {
        let mut file = std::fs::File::options().write(true).create(!self.is_raw()).truncate(false).open(self.path()).unwrap();
        file.write_all(bytes).unwrap();
        file.sync_all().unwrap();
    }

    fn read(&self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        std::fs::File::open(self.path()).unwrap().read_exact(&mut bytes).unwrap();
        bytes
    }

    fn size(&self) -> u64 {
        if self.is_raw() {
            return std::fs::File::open(self.path()).unwrap().seek(SeekFrom::End(0)).unwrap();
        }
        let stat = nix::sys::statvfs::statvfs(self.volume.target(0).as_str()).unwrap();
        stat.blocks() * stat.fragment_size()
    }

    fn end(self) {
        self.volume.unpublish(self.daemon, 0).unwrap();
        self.volume.unstage(self.daemon).unwrap();
    }
}

fn is_ext4(capability: &VolumeCapability) -> bool {
    matches!(&capability.access_type, Some(AccessType::Mount(mount)) if mount.fs_type == "ext4")
}

/// A volume's life with a snapshot, a copy of each, and a larger one, all used at once, whatever is deleted first.
fn life(disk: fn(&Daemon, usize) -> Disk, capability: &VolumeCapability, mib: i64) {
    let daemon = Daemon::start();
    let disk = disk(&daemon, 2048);
    let is_sharing = must("stat", &["-f", "-c", "%T", &disk.point.display().to_string()]).trim() == "xfs";
    let source = Volume::create(&daemon, "source", capability.clone(), mib).unwrap();
    let (before, after) = (noise(1, 6 * MIB), noise(2, 6 * MIB));
    let used = Use::of(&daemon, &source);
    used.write(&before);
    let used = if is_sharing {
        used
    } else {
        let refused = cut(&daemon, "snapshot", &source).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{IN_USE}: {refused}");
        assert!(refused.message().contains("unstage") && refused.message().contains("xfs"), "{IN_USE}: {refused}");
        let refused = daemon
            .create_volume(CreateVolumeRequest { volume_content_source: Some(from_volume(&source.id())), ..Volume::create_request("clone", capability, mib) });
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(names(&daemon), [source.id()]);
        used.end();
        let snapshot = cut(&daemon, "snapshot", &source).unwrap();
        let blocks = |id: &str| std::fs::metadata(file(&daemon, id)).unwrap().blocks();
        // A block more may hold its properties, which are longer.
        let (of_source, of_snapshot) = (blocks(&source.id()), blocks(&snapshot.snapshot_id));
        assert!(of_snapshot <= of_source + 8, "holes stay holes: {of_snapshot} blocks, {of_source} of the source");
        Use::of(&daemon, &source)
    };
    // The same one again where it was cut already: that is what the name says.
    let snapshot = cut(&daemon, "snapshot", &source).unwrap();
    used.write(&after);
    let used = if is_sharing {
        used
    } else {
        used.end();
        let clone = copy(&daemon, "clone", from_volume(&source.id()), capability, mib);
        assert_eq!(clone.volume.capacity_bytes, source.volume.capacity_bytes);
        Use::of(&daemon, &source)
    };
    let clone = copy(&daemon, "clone", from_volume(&source.id()), capability, mib);
    let same = copy(&daemon, "same", from_snapshot(&snapshot.snapshot_id), capability, mib);
    let large = copy(&daemon, "large", from_snapshot(&snapshot.snapshot_id), capability, mib * 2);
    // All beside each other: xfs with one UUID four times.
    let uses = [&clone, &same].map(|volume| Use::of(&daemon, volume));
    let [of_clone, of_same] = &uses;
    assert!(of_clone.read(after.len()) == after && of_same.read(before.len()) == before);
    of_same.write(&noise(3, MIB));
    if is_ext4(capability) && !may_resize_ext4() {
        let refused = large.stage(&daemon).unwrap_err();
        assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("CAP_SYS_RESOURCE"), "{refused}");
    } else {
        let of_large = Use::of(&daemon, &large);
        assert!(of_large.read(before.len()) == before, "each is its own");
        assert!(of_large.size() > of_same.size() * 3 / 2, "grown at the stage: {} of {}", of_large.size(), of_same.size());
        of_large.end();
    }
    assert!(used.read(after.len()) == after && of_clone.read(after.len()) == after, "each is its own");
    used.end();
    source.delete(&daemon).unwrap();
    delete(&daemon, &snapshot);
    assert!(of_clone.read(after.len()) == after);
    uses.into_iter().for_each(Use::end);
    for volume in [&large, &same, &clone] {
        volume.delete(&daemon).unwrap();
    }
    assert_eq!(names(&daemon), Vec::<String>::new());
    drop(daemon_done(daemon, disk));
}

/// Nothing is left but the disk, which goes.
fn daemon_done(mut daemon: Daemon, disk: Disk) -> Daemon {
    daemon.kill();
    disk.unmount();
    daemon.assert_nothing_left();
    daemon
}

#[test]
fn loop_an_ext4_volume_and_its_copies_live_where_blocks_are_shared() {
    life(Disk::sharing, &mount_as("ext4", Mode::SingleNodeWriter, &[]), 64);
}

#[test]
fn loop_an_xfs_volume_and_its_copies_live_where_blocks_are_shared() {
    life(Disk::sharing, &mount_as("xfs", Mode::SingleNodeWriter, &[]), 320);
}

#[test]
fn loop_a_raw_volume_and_its_copies_live_where_blocks_are_shared() {
    life(Disk::sharing, &block(Mode::SingleNodeWriter), 16);
}

#[test]
fn loop_an_ext4_volume_and_its_copies_live_where_blocks_are_not_shared() {
    life(Disk::plain, &mount_as("ext4", Mode::SingleNodeWriter, &[]), 64);
}

#[test]
fn loop_an_xfs_volume_and_its_copies_live_where_blocks_are_not_shared() {
    life(Disk::plain, &mount_as("xfs", Mode::SingleNodeWriter, &[]), 320);
}

#[test]
fn loop_a_raw_volume_and_its_copies_live_where_blocks_are_not_shared() {
    life(Disk::plain, &block(Mode::SingleNodeWriter), 16);
}

/// Snapshots while records are written, each durable before the next: what a snapshot holds is whole up to one record, and has all that were
/// durable before it was asked for.
fn written(kind: &str, mib: i64, check: &[&str]) {
    let daemon = Daemon::start();
    let disk = Disk::sharing(&daemon, 3072);
    let capability = mount_as(kind, Mode::SingleNodeWriter, &[]);
    let source = Volume::create(&daemon, "source", capability.clone(), mib).unwrap();
    let used = Use::of(&daemon, &source);
    let record = |n: u32| noise(u64::from(n) + 7, 4096);
    let done = std::sync::atomic::AtomicU32::new(0);
    let is_over = AtomicBool::new(false);
    let snapshots: Vec<(u32, Snapshot)> = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut file = std::fs::File::create(used.path()).unwrap();
            for n in 0..4000 {
                file.write_all(&record(n)).unwrap();
                file.sync_data().unwrap();
                done.store(n + 1, Ordering::SeqCst);
                // And others, whose names and sizes are the journal's business.
                std::fs::write(PathBuf::from(source.target(0)).join(format!("other-{}", n % 50)), record(n)).unwrap();
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        eventually("the writer writes", || (done.load(Ordering::SeqCst) > 10).then_some(()));
        let cuts = (0..4).map(|n| {
            std::thread::sleep(Duration::from_millis(50));
            (done.load(Ordering::SeqCst), cut(&daemon, &format!("s{n}"), &source).unwrap())
        });
        let cuts = cuts.collect();
        is_over.store(true, Ordering::SeqCst);
        writer.join().unwrap();
        cuts
    });
    for (n, (durable, snapshot)) in snapshots.iter().enumerate() {
        let volume = copy(&daemon, &format!("copy-{n}"), from_snapshot(&snapshot.snapshot_id), &capability, mib);
        let of_copy = Use::of(&daemon, &volume);
        let held = std::fs::read(of_copy.path()).unwrap();
        let records = held.len() / 4096;
        assert!(records >= *durable as usize, "{CONTENTS}: {records} records, and {durable} were durable before");
        let whole = (0..*durable).all(|n| held[n as usize * 4096..][..4096] == record(n));
        assert!(whole, "{CONTENTS}: a record that was durable is not whole");
        of_copy.end();
        // Its log was replayed by the mount; the file system is clean.
        let path = file(&daemon, &volume.id()).display().to_string();
        must(check[0], &[&check[1..], &[&path]].concat());
    }
    used.end();
    drop(daemon_done(daemon, disk));
}

#[test]
fn loop_a_snapshot_of_an_ext4_volume_that_is_written_is_of_one_moment() {
    written("ext4", 64, &["e2fsck", "-f", "-n"]);
}

#[test]
fn loop_a_snapshot_of_an_xfs_volume_that_is_written_is_of_one_moment() {
    written("xfs", 320, &["xfs_repair", "-n", "-f"]);
}
