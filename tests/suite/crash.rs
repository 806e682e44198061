//! kill -9 at every line of the journal and around every format note: the same call and the opposite call both converge, with the journal
//! and without it.

mod worker;

use harness::{Daemon, Volume, block, eventually, mount_as};
use std::io::{Read, Seek, Write};
use std::path::Path;
use tonic::{Code, Status};
use windlass_csi::v1::VolumeCapability;
use windlass_csi::v1::volume_capability::AccessType;
use windlass_csi::v1::volume_capability::access_mode::Mode;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verb {
    Stage,
    Publish,
    Unpublish,
    Unstage,
}

/// What is on the volume before the call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Content {
    Nothing,
    Data,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Next {
    Same,
    Opposite,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Journal {
    Kept,
    Lost,
}

use Verb::{Publish, Stage, Unpublish, Unstage};

impl Verb {
    fn call(self, daemon: &Daemon, volume: &Volume) -> Result<(), Status> {
        match self {
            Stage => volume.stage(daemon),
            Publish => volume.publish(daemon, 0),
            Unpublish => volume.unpublish(daemon, 0),
            Unstage => volume.unstage(daemon),
        }
    }

    pub(crate) fn opposite(self) -> Self {
        match self {
            Stage => Unstage,
            Publish => Unpublish,
            Unpublish => Publish,
            Unstage => Stage,
        }
    }
}

/// What is written before the crash and must be there after it.
const DATA: &[u8] = b"written before the crash";

fn file(volume: &Volume, at: &str) -> std::path::PathBuf {
    let at = Path::new(at);
    let is_block = volume.capability.access_type.as_ref().is_some_and(|access| matches!(access, AccessType::Block(_)));
    if is_block { at.to_owned() } else { at.join("file") }
}

fn write(volume: &Volume, at: &str) {
    let mut file = std::fs::File::options().write(true).create(true).truncate(false).open(file(volume, at)).unwrap();
    file.write_all(DATA).and_then(|()| file.sync_all()).unwrap();
}

fn assert_written(volume: &Volume, at: &str) {
    let mut file = std::fs::File::open(file(volume, at)).unwrap();
    let mut read = vec![0; DATA.len()];
    file.rewind().and_then(|()| file.read_exact(&mut read)).unwrap();
    assert_eq!(read, DATA);
}

/// Makes a volume and brings it to where `verb` can be called. Without content there is nothing but a first stage.
fn prepare(daemon: &Daemon, name: &str, capability: &VolumeCapability, verb: Verb, content: Content) -> Volume {
    let mib = if is_xfs(capability) { 300 } else { 16 };
    let volume = Volume::create(daemon, name, capability.clone(), mib).unwrap();
    if content == Content::Nothing {
        return volume;
    }
    volume.stage(daemon).unwrap();
    volume.publish(daemon, 0).unwrap();
    write(&volume, &volume.target(0));
    if verb != Unpublish {
        volume.unpublish(daemon, 0).unwrap();
    }
    if verb == Stage {
        volume.unstage(daemon).unwrap();
    }
    volume
}

fn is_xfs(capability: &VolumeCapability) -> bool {
    matches!(&capability.access_type, Some(AccessType::Mount(mount)) if mount.fs_type == "xfs")
}

/// A mounted volume that was staged to its end says so, whatever was interrupted before: a note \"begun\" would mislead for good.
fn assert_noted(daemon: &Daemon, what: &str) {
    for entry in std::fs::read_dir(daemon.path("state/formats")).unwrap() {
        let note = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(note.contains("finished"), "{what}: {note}");
    }
}

/// As kubelet does: asks again while the code says that it may.
#[track_caller]
fn converge(what: &str, daemon: &Daemon, mut call: impl FnMut() -> Result<(), Status>) {
    eventually(what, || match call() {
        Ok(()) => Some(()),
        Err(status) if matches!(status.code(), Code::Unavailable | Code::Aborted) => None,
        Err(status) => panic!("{what}: {status:?}\n{}", daemon.log()),
    });
}

/// After a convergence: what the last call promised is so, the data is there, and everything can be taken down.
fn take_down(daemon: &Daemon, volume: &Volume, last: Verb, content: Content, what: &str) {
    let has_data = content == Content::Data;
    let target = volume.target(0);
    match last {
        Stage => {
            assert_noted(daemon, what);
            volume.publish(daemon, 0).unwrap_or_else(|status| panic!("{what}: {status:?}"));
            if has_data {
                assert_written(volume, &target);
            }
        }
        Publish => assert_written(volume, &target),
        Unpublish => assert!(!Path::new(&target).exists(), "{what}: the target is left"),
        Unstage => assert_eq!(harness::devices_beneath(daemon.folder()), Vec::<String>::new(), "{what}"),
    }
    volume.unpublish(daemon, 0).unwrap_or_else(|status| panic!("{what}: {status:?}"));
    volume.unstage(daemon).unwrap_or_else(|status| panic!("{what}: {status:?}"));
    assert!(!Path::new(&target).exists(), "{what}: the target is left");
    assert_eq!(std::fs::read_dir(&volume.staging).unwrap().count(), 0, "{what}: the staging folder is not empty");
    daemon.assert_nothing_left();
    if has_data {
        // What the daemon has forgotten altogether, the volume has not.
        volume.stage(daemon).unwrap();
        volume.publish(daemon, 0).unwrap();
        assert_written(volume, &target);
        volume.unpublish(daemon, 0).unwrap();
        volume.unstage(daemon).unwrap();
    }
    volume.delete(daemon).unwrap_or_else(|status| panic!("{what}: {status:?}"));
}

/// Dies at line 1, 2, ... until the call is through without a death; the number of deaths is the number of lines.
fn sweep(verb: Verb, capability: &VolumeCapability, content: Content, lines: u32) {
    let mut daemon = Daemon::start();
    for (next, journal) in [(Next::Same, Journal::Kept), (Next::Opposite, Journal::Kept), (Next::Same, Journal::Lost), (Next::Opposite, Journal::Lost)] {
        let mut died = 0;
        loop {
            let what = format!("{verb:?}, killed at line {}, then {next:?}, journal {journal:?}", died + 1);
            let volume = prepare(&daemon, &format!("v-{died}-{next:?}-{journal:?}").to_lowercase(), capability, verb, content);
            daemon.kill();
            daemon.set_env(vec![("WINDLASS_DIE_AT_LINE".to_owned(), (died + 1).to_string())]);
            daemon.start_again();
            daemon.wait_ready();
            let answer = verb.call(&daemon, &volume);
            let is_through = answer.is_ok();
            if is_through {
                assert!(!daemon.is_dead(), "{what}: it answered and died");
                daemon.kill();
            } else {
                daemon.wait_dead();
                died += 1;
            }
            if journal == Journal::Lost {
                for entry in std::fs::read_dir(daemon.path("run/journal")).unwrap() {
                    std::fs::remove_file(entry.unwrap().path()).unwrap();
                }
            }
            daemon.set_env(Vec::new());
            daemon.start_again();
            daemon.wait_ready();
            let last = if next == Next::Same { verb } else { verb.opposite() };
            converge(&what, &daemon, || last.call(&daemon, &volume));
            converge(&what, &daemon, || last.call(&daemon, &volume));
            take_down(&daemon, &volume, last, content, &what);
            if is_through {
                break;
            }
        }
        assert_eq!(died, lines, "{verb:?} of {capability:?} wrote another number of lines");
    }
    assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 0);
}

fn file_system() -> VolumeCapability {
    mount_as("ext4", Mode::SingleNodeWriter, &[])
}

fn raw() -> VolumeCapability {
    block(Mode::SingleNodeWriter)
}

#[test]
fn loop_a_death_at_any_line_of_staging_a_file_system_is_recovered_from() {
    sweep(Stage, &file_system(), Content::Nothing, 9);
}

#[test]
fn loop_a_death_at_any_line_of_staging_a_raw_volume_is_recovered_from() {
    sweep(Stage, &raw(), Content::Nothing, 5);
    sweep(Stage, &raw(), Content::Data, 5);
}

#[test]
fn loop_a_death_at_any_line_of_staging_a_file_system_with_data_is_recovered_from() {
    sweep(Stage, &file_system(), Content::Data, 5);
}

#[test]
fn loop_a_death_at_any_line_of_staging_an_xfs_volume_is_recovered_from() {
    let xfs = mount_as("xfs", Mode::SingleNodeWriter, &[]);
    sweep(Stage, &xfs, Content::Nothing, 9);
    sweep(Stage, &xfs, Content::Data, 5);
}

#[test]
fn loop_a_death_at_any_line_of_publishing_is_recovered_from() {
    sweep(Publish, &file_system(), Content::Data, 3);
    sweep(Publish, &raw(), Content::Data, 3);
}

#[test]
fn loop_a_death_at_any_line_of_unpublishing_is_recovered_from() {
    sweep(Unpublish, &file_system(), Content::Data, 2);
    sweep(Unpublish, &raw(), Content::Data, 2);
}

#[test]
fn loop_a_death_at_any_line_of_unstaging_is_recovered_from() {
    sweep(Unstage, &file_system(), Content::Data, 4);
    sweep(Unstage, &raw(), Content::Data, 4);
}
