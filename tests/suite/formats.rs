//! What was noted about formatting: how far it came, what the operator allowed, and that no word outlives its volume's next use.

use harness::{Daemon, Setup, Volume, block, mount_as};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use tonic::Code;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn gone(daemon: &Daemon, volume: &Volume) {
    volume.unstage(daemon).unwrap();
    volume.delete(daemon).unwrap();
    daemon.assert_nothing_left();
}

/// The one note's text.
fn note(daemon: &Daemon) -> String {
    std::fs::read_to_string(note_file(daemon)).unwrap()
}

fn note_file(daemon: &Daemon) -> PathBuf {
    std::fs::read_dir(daemon.path("state/formats")).unwrap().next().unwrap().unwrap().path()
}

#[track_caller]
fn set_note(daemon: &Daemon, from: &str, to: &str) {
    let text = note(daemon);
    assert!(text.contains(from), "{text}");
    std::fs::write(note_file(daemon), text.replace(from, to)).unwrap();
}

/// A volume of 32 MiB that was formatted, and is not staged.
fn formatted(daemon: &Daemon) -> Volume {
    let volume = Volume::create(daemon, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    volume.stage(daemon).unwrap();
    volume.unstage(daemon).unwrap();
    volume
}

/// A volume whose format was begun and left tables, but no superblock.
fn half_formatted(daemon: &Daemon) -> Volume {
    let volume = formatted(daemon);
    set_note(daemon, "finished", "begun");
    write(daemon, &volume, 0, &[0; 4096]);
    volume
}

fn file(daemon: &Daemon, volume: &Volume) -> PathBuf {
    daemon.path("volumes").join(volume.id())
}

fn write(daemon: &Daemon, volume: &Volume, at: u64, bytes: &[u8]) {
    std::fs::File::options().write(true).open(file(daemon, volume)).unwrap().write_all_at(bytes, at).unwrap();
}

/// The volume's file is another one from now on, and blank.
fn replace(daemon: &Daemon, volume: &Volume) {
    let beside = file(daemon, volume).with_extension("new");
    std::fs::File::create(&beside).unwrap().set_len(32 << 20).unwrap();
    std::fs::rename(&beside, file(daemon, volume)).unwrap();
}

#[track_caller]
fn refused(daemon: &Daemon, volume: &Volume) -> String {
    let refused = volume.stage(daemon).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{}", refused.message());
    refused.message().to_owned()
}

/// `windlass volumes allow-format`: what it prints, or why not.
fn allow(daemon: &Daemon, volume: &Volume, flags: &[&str]) -> Result<String, String> {
    let output = daemon.windlass(&[&["volumes", "allow-format"], flags, &[&volume.id()]].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn loop_a_format_that_was_begun_never_goes_over_what_somebody_made_since() {
    let mut daemon = Daemon::start();
    let mut volume = Volume::create(&daemon, "v", mount_as("ext4", Mode::SingleNodeWriter, &[]), 32).unwrap();
    // The daemon dies between the note "begun" and the note "finished", as often as it takes: its journal lines are counted.
    volume.stage(&daemon).unwrap();
    volume.unstage(&daemon).unwrap();
    set_note(&daemon, "finished", "begun");
    // Used raw meanwhile, with a file system and data of its own.
    volume.capability = block(Mode::SingleNodeWriter);
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    assert!(Command::new("mkfs.ext4").args(["-q", "-F", "-L", "theirs", &volume.target(0)]).status().unwrap().success());
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    let before = std::fs::read(daemon.path("volumes").join(volume.id())).unwrap();
    daemon.kill();
    daemon.start_again();
    daemon.wait_ready();
    volume.capability = mount_as("ext4", Mode::SingleNodeReaderOnly, &[]);
    volume.stage(&daemon).unwrap();
    volume.unstage(&daemon).unwrap();
    assert!(before == std::fs::read(daemon.path("volumes").join(volume.id())).unwrap(), "the volume was written to");
    volume.capability = mount_as("ext4", Mode::SingleNodeWriter, &[]);
    volume.stage(&daemon).unwrap();
    let label = Command::new("e2label").arg(format!("/dev/{}", harness::devices_beneath(daemon.folder())[0])).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&label.stdout).trim(), "theirs");
    gone(&daemon, &volume);
}

#[test]
fn loop_remains_of_an_interrupted_format_wait_for_the_operator() {
    let daemon = Daemon::start();
    let volume = half_formatted(&daemon);
    assert!(refused(&daemon, &volume).contains("allow-format --over-remains"));
    // The word without the flag is for a blank volume, and this one is not.
    let said = allow(&daemon, &volume, &[]).unwrap();
    assert!(said.contains("if it is blank then") && !said.contains("no known format"), "{said}");
    assert!(refused(&daemon, &volume).contains("allow-format --over-remains"));
    let said = allow(&daemon, &volume, &["--over-remains"]).unwrap();
    assert!(said.contains("or holds data that no known format explains"), "{said}");
    volume.stage(&daemon).unwrap();
    assert!(note(&daemon).contains("finished"));
    gone(&daemon, &volume);
}

#[test]
fn loop_the_operators_word_is_used_up_when_the_volume_is_handed_out_raw() {
    let daemon = Daemon::start();
    let mut volume = half_formatted(&daemon);
    allow(&daemon, &volume, &["--over-remains"]).unwrap();
    volume.capability = block(Mode::SingleNodeWriter);
    volume.stage(&daemon).unwrap();
    assert!(note(&daemon).contains("finished"), "{}", note(&daemon));
    volume.publish(&daemon, 0).unwrap();
    std::fs::File::options().write(true).open(volume.target(0)).unwrap().write_all_at(&[b'x'; 8192], 0).unwrap();
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    let before = std::fs::read(file(&daemon, &volume)).unwrap();
    volume.capability = mount_as("ext4", Mode::SingleNodeWriter, &[]);
    let why = refused(&daemon, &volume);
    assert!(!why.contains("allow-format"), "{why}");
    assert!(before == std::fs::read(file(&daemon, &volume)).unwrap(), "the volume was written to");
    gone(&daemon, &volume);
}

#[test]
fn loop_a_format_that_turns_out_whole_is_finished() {
    let daemon = Daemon::start();
    let volume = formatted(&daemon);
    set_note(&daemon, "finished", "begun");
    volume.stage(&daemon).unwrap();
    assert!(note(&daemon).contains("finished"), "{}", note(&daemon));
    volume.unstage(&daemon).unwrap();
    // A damaged superblock, later: e2fsck mends it, and nothing may say that it is what a format left.
    write(&daemon, &volume, 1024 + 0x78, b"X");
    let why = refused(&daemon, &volume);
    assert!(why.contains("checksum") && !why.contains("allow-format"), "{why}");
    assert!(allow(&daemon, &volume, &["--over-remains"]).unwrap_err().contains("no format of volume"));
    gone(&daemon, &volume);
}

#[test]
fn loop_a_damaged_superblock_is_no_remains_of_a_format() {
    let daemon = Daemon::start();
    let volume = formatted(&daemon);
    set_note(&daemon, "finished", "begun");
    write(&daemon, &volume, 1024 + 0x78, b"X");
    let why = refused(&daemon, &volume);
    assert!(why.contains("checksum") && !why.contains("allow-format"), "{why}");
    allow(&daemon, &volume, &["--over-remains"]).unwrap();
    assert!(refused(&daemon, &volume).contains("checksum"));
    gone(&daemon, &volume);
}

#[test]
fn loop_a_word_over_remains_counts_for_a_blank_file_in_place_of_the_old_one() {
    let daemon = Daemon::with(Setup { driver: "[grants]\nstatic = true".to_owned(), ..Setup::default() });
    let mut volume = half_formatted(&daemon);
    // As a static volume: nothing proves that Windlass made it.
    volume.volume.volume_context.clear();
    allow(&daemon, &volume, &["--over-remains"]).unwrap();
    replace(&daemon, &volume);
    volume.stage(&daemon).unwrap();
    // The new file is nothing that the driver made, so it is not the driver's to delete.
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_blank_file_in_place_of_one_that_was_formatted_is_refused() {
    let daemon = Daemon::start();
    let volume = formatted(&daemon);
    // What a note remembers of a file need not be what the file is after a reboot; that the volume was formatted remains true.
    replace(&daemon, &volume);
    assert!(refused(&daemon, &volume).contains("formatted or used on this node before"));
    let said = allow(&daemon, &volume, &[]).unwrap();
    assert!(said.contains("if it is blank then"), "{said}");
    volume.stage(&daemon).unwrap();
    // The new file is nothing that the driver made, so it is not the driver's to delete.
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}
