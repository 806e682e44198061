//! NodePublish and NodeUnpublish: the table of second calls, what must come first, and what is never touched.

use super::{but, is_mounted, mount_options, row};
use harness::{Daemon, Volume, block, mount, mount_as};
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::volume_capability::{AccessMode, AccessType};
use windlass_csi::v1::{NodePublishVolumeRequest, VolumeCapability};

const MODES: [(Mode, bool); 7] = [
    (Mode::SingleNodeWriter, false),
    (Mode::SingleNodeReaderOnly, false),
    (Mode::SingleNodeSingleWriter, false),
    (Mode::SingleNodeMultiWriter, true),
    (Mode::MultiNodeReaderOnly, true),
    (Mode::MultiNodeSingleWriter, true),
    (Mode::MultiNodeMultiWriter, true),
];

/// A change of one argument besides the target path.
type Change<'a> = (&'a str, &'a dyn Fn(&mut NodePublishVolumeRequest));

fn table(daemon: &Daemon, name: &str, kind: impl Fn(Mode) -> VolumeCapability, changes: &[Change<'_>]) {
    let mut volume = Volume::create(daemon, name, kind(Mode::SingleNodeWriter), 16).unwrap();
    // Formatted once, so that readers have something to read.
    volume.stage(daemon).unwrap();
    volume.unstage(daemon).unwrap();
    for (mode, allows_many) in MODES {
        volume.capability = kind(mode);
        volume.stage(daemon).unwrap();
        volume.publish(daemon, 0).unwrap();
        let publish = |n: usize, change: &dyn Fn(&mut NodePublishVolumeRequest)| daemon.node_publish_volume(but(volume.publish_request(n), |m| change(m)));
        row("NodePublishVolume/idempotent").answers(publish(0, &|_| ()));
        row("NodePublishVolume/idempotent").answers(publish(0, &|m| m.secrets = [("key".to_owned(), "other".to_owned())].into()));
        for (what, change) in changes {
            let answer = publish(0, change);
            println!("{mode:?}, same target, other {what}: {answer:?}");
            row("NodePublishVolume/ALREADY_EXISTS").refuses(answer, "");
        }
        for (n, (what, change)) in [("nothing", &(|_: &mut NodePublishVolumeRequest| ()) as &dyn Fn(&mut _))].iter().chain(changes).enumerate() {
            let n = n + 1;
            let answer = publish(n, change);
            if allows_many {
                let code = answer.as_ref().err().map(|status| (status.code(), status.message().to_owned()));
                assert_eq!(code, None, "{mode:?}, another target, other {what}");
                row("NodePublishVolume/second-target").holds(is_mounted(&volume.target(n)), "it is published there too");
            } else {
                println!("{mode:?}, another target, other {what}: {answer:?}");
                row("NodePublishVolume/FAILED_PRECONDITION").refuses(answer, "");
                assert!(!std::path::Path::new(&volume.target(n)).exists(), "nothing is left of it");
            }
            volume.unpublish(daemon, n).unwrap();
        }
        assert!(is_mounted(&volume.target(0)));
        volume.unpublish(daemon, 0).unwrap();
        volume.unstage(daemon).unwrap();
        daemon.assert_nothing_left();
    }
}

fn context(m: &mut NodePublishVolumeRequest) {
    m.volume_context.insert("another".to_owned(), "1".to_owned());
}

fn publish_context(m: &mut NodePublishVolumeRequest) {
    m.publish_context.insert("another".to_owned(), "1".to_owned());
}

#[test]
fn loop_the_table_of_second_publishes_of_a_file_system() {
    let flags = |m: &mut NodePublishVolumeRequest| match m.volume_capability.as_mut().and_then(|c| c.access_type.as_mut()) {
        Some(AccessType::Mount(wish)) => wish.mount_flags.push("noexec".to_owned()),
        _ => unreachable!("it is a mount"),
    };
    let changes: [Change<'_>; 4] =
        [("readonly", &|m| m.readonly = !m.readonly), ("volume_context", &context), ("publish_context", &publish_context), ("mount_flags", &flags)];
    table(&Daemon::start(), "table-mount", mount, &changes);
}

#[test]
fn loop_the_table_of_second_publishes_of_a_raw_device() {
    second_publishes(&Daemon::start());
}

/// What a second publish of a raw device gets.
pub(super) fn second_publishes(daemon: &Daemon) {
    table(daemon, "table-raw", block, &[("volume_context", &context), ("publish_context", &publish_context)]);
}

/// Arguments that make sense at no target are, at the target that is there, other arguments all the same.
#[test]
fn loop_other_arguments_at_the_same_target_already_exist_whatever_else_is_wrong_with_them() {
    let daemon = Daemon::start();
    let mut volume = Volume::create(&daemon, "same-target", block(Mode::SingleNodeWriter), 16).unwrap();
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    let exists = row("NodePublishVolume/ALREADY_EXISTS");
    exists.refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.readonly = true)), "published");
    exists.refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.staging_target_path = daemon.text("kubelet/other"))), "published");
    exists.refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.volume_capability = Some(mount(Mode::SingleNodeWriter)))), "");
    let mode =
        |m: &mut NodePublishVolumeRequest| m.volume_capability.as_mut().unwrap().access_mode = Some(AccessMode { mode: Mode::SingleNodeReaderOnly.into() });
    exists.refuses(daemon.node_publish_volume(but(volume.publish_request(0), mode)), "published");
    volume.unpublish(&daemon, 0).unwrap();
    // And where it is not published yet, a read-only node of a writable device is more than the volume can do, and a writable one of a
    // read-only device as well.
    for reading in [&(|m: &mut NodePublishVolumeRequest| m.readonly = true) as &dyn Fn(&mut _), &mode] {
        row("NodePublishVolume/FAILED_PRECONDITION").refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| reading(m))), "read-only");
    }
    volume.unstage(&daemon).unwrap();
    volume.capability = block(Mode::SingleNodeReaderOnly);
    volume.stage(&daemon).unwrap();
    let writing = |m: &mut NodePublishVolumeRequest| m.volume_capability = Some(block(Mode::SingleNodeWriter));
    row("NodePublishVolume/FAILED_PRECONDITION").refuses(daemon.node_publish_volume(but(volume.publish_request(0), writing)), "read-only");
    volume.publish(&daemon, 0).unwrap();
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_volume_is_staged_before_it_is_published() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "first", mount(Mode::SingleNodeWriter), 16).unwrap();
    let no_path = || but(volume.publish_request(0), |m| m.staging_target_path.clear());
    let first = row("NodePublishVolume/FAILED_PRECONDITION/2");
    first.refuses(daemon.node_publish_volume(no_path()), "staging_target_path");
    first.refuses(volume.publish(&daemon, 0), "staged");
    volume.stage(&daemon).unwrap();
    first.refuses(daemon.node_publish_volume(no_path()), "staging_target_path");
    std::fs::create_dir(daemon.path("kubelet/empty")).unwrap();
    first.refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.staging_target_path = daemon.text("kubelet/empty"))), "staged");
    assert!(!std::path::Path::new(&volume.target(0)).exists());
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_read_only_publish_of_a_writable_stage_is_read_only() {
    read_only(&Daemon::start());
}

/// What read-only means at a target.
pub(super) fn read_only(daemon: &Daemon) {
    let volume = Volume::create(daemon, "ro", mount_as("", Mode::SingleNodeMultiWriter, &[]), 16).unwrap();
    volume.stage(daemon).unwrap();
    row("NodePublishVolume/read-only").answers(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.readonly = true)));
    volume.publish(daemon, 1).unwrap();
    row("NodePublishVolume/read-only").holds(std::fs::write(format!("{}/x", volume.target(0)), b"x").is_err(), "writing fails");
    assert!(mount_options(&volume.target(0)).unwrap().0.starts_with("ro"));
    std::fs::write(format!("{}/x", volume.target(1)), b"x").unwrap();
    assert_eq!(std::fs::read(format!("{}/x", volume.target(0))).unwrap(), b"x");
    volume.unpublish(daemon, 0).unwrap();
    volume.unpublish(daemon, 1).unwrap();
    volume.unstage(daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_what_belongs_to_another_volume_or_to_nobody_is_not_taken_away() {
    let daemon = Daemon::start();
    let one = Volume::create(&daemon, "one", mount(Mode::SingleNodeWriter), 16).unwrap();
    let other = but(Volume::create(&daemon, "other", mount(Mode::SingleNodeWriter), 16).unwrap(), |v| {
        (v.staging, v.pods) = (one.staging.clone(), one.pods.clone());
    });
    let nobody = but(other.clone(), |v| v.volume.volume_id = "nobody".to_owned());
    one.stage(&daemon).unwrap();
    one.publish(&daemon, 0).unwrap();
    std::fs::write(format!("{}/data", one.target(0)), b"data").unwrap();
    for stranger in [&other, &nobody] {
        row("NodeUnpublishVolume/foreign").answers(stranger.unpublish(&daemon, 0));
        row("NodeUnstageVolume/foreign").answers(stranger.unstage(&daemon));
        row("NodeUnpublishVolume/foreign").holds(is_mounted(&one.target(0)) && is_mounted(&one.staging), "the other volume's mounts stand");
    }
    row("NodePublishVolume/foreign").holds(other.stage(&daemon).is_err(), "nothing is staged over another volume");
    let raw = but(Volume::create(&daemon, "raw", block(Mode::SingleNodeWriter), 16).unwrap(), |v| v.staging = one.staging.clone());
    row("NodeStageVolume/FAILED_PRECONDITION").refuses(raw.stage(&daemon), "mounted");
    row("NodePublishVolume/foreign").holds(!std::path::Path::new(&format!("{}/device", one.target(0))).exists(), "nothing is made in another volume");
    one.unpublish(&daemon, 0).unwrap();
    one.unstage(&daemon).unwrap();

    // What was made by nobody we know: an empty target goes, one with content stays.
    std::fs::create_dir(one.target(1)).unwrap();
    row("NodeUnpublishVolume/target").answers(one.unpublish(&daemon, 1));
    row("NodeUnpublishVolume/target").holds(!std::path::Path::new(&one.target(1)).exists(), "the target is deleted");
    std::fs::create_dir(one.target(2)).unwrap();
    std::fs::write(format!("{}/data", one.target(2)), b"data").unwrap();
    let _ = one.unpublish(&daemon, 2);
    row("NodeUnpublishVolume/foreign").holds(std::fs::read(format!("{}/data", one.target(2))).unwrap() == b"data", "data is never deleted");
    daemon.assert_nothing_left();
}

fn mount_tmpfs(path: &str) {
    use nix::mount::{MsFlags, mount};
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
}

fn unmount(path: &str) {
    nix::mount::umount2(path, nix::mount::MntFlags::UMOUNT_NOFOLLOW).unwrap();
}

/// Somebody unmounted or covered the staging folder: a bind of what is there now would put a pod's data on the node's own disk.
#[test]
fn loop_a_staging_folder_that_does_not_show_the_volume_is_not_published() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "unmounted", mount(Mode::SingleNodeWriter), 16).unwrap();
    let refused = row("NodePublishVolume/FAILED_PRECONDITION/2");
    volume.stage(&daemon).unwrap();
    std::fs::write(format!("{}/data", volume.staging), b"data").unwrap();
    unmount(&volume.staging);
    refused.refuses(volume.publish(&daemon, 0), "staged");
    mount_tmpfs(&volume.staging);
    refused.refuses(volume.publish(&daemon, 0), "staged");
    unmount(&volume.staging);
    assert!(!is_mounted(&volume.target(0)));
    row("NodeStageVolume/idempotent").answers(volume.stage(&daemon));
    volume.publish(&daemon, 0).unwrap();
    assert_eq!(std::fs::read(format!("{}/data", volume.target(0))).unwrap(), b"data");
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

/// What an error of the disk does to a file system, an operator can do as well: it takes no more writes, and a publish for writing lies.
#[test]
fn loop_a_file_system_that_turned_read_only_is_not_published_for_writing() {
    use nix::mount::{MsFlags, mount as kernel_mount};
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "stopped", mount(Mode::SingleNodeWriter), 16).unwrap();
    volume.stage(&daemon).unwrap();
    kernel_mount(None::<&str>, volume.staging.as_str(), None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>).unwrap();
    row("NodePublishVolume/FAILED_PRECONDITION").refuses(volume.publish(&daemon, 0), "read-only");
    assert!(!std::path::Path::new(&volume.target(0)).exists());
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_mount_of_somebody_else_at_the_target_is_neither_covered_nor_taken_away() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "occupied", mount(Mode::SingleNodeWriter), 16).unwrap();
    volume.stage(&daemon).unwrap();
    std::fs::create_dir(volume.target(0)).unwrap();
    mount_tmpfs(&volume.target(0));
    std::fs::write(format!("{}/data", volume.target(0)), b"data").unwrap();
    row("NodePublishVolume/foreign").holds(volume.publish(&daemon, 0).is_err(), "nothing is placed over it");
    let _ = volume.unpublish(&daemon, 0);
    row("NodeUnpublishVolume/foreign").holds(std::fs::read(format!("{}/data", volume.target(0))).unwrap() == b"data", "it stands");
    unmount(&volume.target(0));
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}
