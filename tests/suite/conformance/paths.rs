//! Paths: relative, with `..`, outside the roots, through symlinks, too long. Refused in every call, and nothing is touched.

use super::{but, is_mounted, row, tree};
use harness::{Daemon, Volume, block, mount};
use std::os::unix::fs::symlink;
use tonic::{Code, Status};
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{NodeExpandVolumeRequest, NodeGetVolumeStatsRequest};

/// Refused, as a wrong path or as one where the volume is not.
#[track_caller]
fn refused(path: &str, allowed: &[Code], answer: Result<(), Status>) {
    let shown: String = path.chars().take(80).collect();
    let status = answer.err().unwrap_or_else(|| panic!("not refused: {shown:?}"));
    super::check_form(&status);
    assert!(allowed.contains(&status.code()), "{shown:?}: {:?}: {}", status.code(), status.message());
}

fn check(name: &str, kind: fn(Mode) -> windlass_csi::v1::VolumeCapability) {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, name, kind(Mode::SingleNodeMultiWriter), 16).unwrap();
    let (root, outside) = (daemon.text("kubelet"), daemon.text("state/outside"));
    std::fs::create_dir_all(format!("{outside}/in")).unwrap();
    std::fs::write(format!("{outside}/data"), b"data").unwrap();
    std::fs::create_dir_all(format!("{root}/real/in")).unwrap();
    symlink(&outside, format!("{root}/out")).unwrap();
    symlink(format!("{root}/real"), format!("{root}/link")).unwrap();
    symlink("real/in", format!("{root}/last")).unwrap();
    symlink("loop", format!("{root}/loop")).unwrap();
    let bad = [
        "relative/path".to_owned(),
        "kubelet/x".to_owned(),
        ".".to_owned(),
        "/".to_owned(),
        root.clone(),
        outside.clone(),
        format!("{outside}/in"),
        format!("{root}/../state/outside/in"),
        format!("{root}/real/../real/in"),
        format!("{root}/real/./in"),
        format!("{root}//real/in"),
        format!("{root}x/in"),
        format!("{root}/out"),
        format!("{root}/out/in"),
        format!("{root}/link/in"),
        format!("{root}/last"),
        format!("{root}/loop/x"),
        format!("{root}/real/a\u{0}b"),
        format!("{root}/real/a\nb"),
        format!("{root}/{}", "x".repeat(300)),
        format!("{root}/{}", "x".repeat(10_000)),
        "/proc/self/root".to_owned(),
        "/dev/null".to_owned(),
    ];
    let look = || (tree(&daemon.path("kubelet")), tree(&daemon.path("state/outside")));
    let before = look();
    let wrong = [Code::InvalidArgument];
    for path in &bad {
        refused(path, &wrong, but(volume.clone(), |v| v.staging.clone_from(path)).stage(&daemon));
        assert_eq!(look(), before, "{path:?}");
        daemon.assert_nothing_left();
    }
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();
    let before = look();
    let absent = [Code::InvalidArgument, Code::NotFound];
    let unstaged = [Code::InvalidArgument, Code::FailedPrecondition];
    for path in &bad {
        refused(path, &wrong, daemon.node_publish_volume(but(volume.publish_request(1), |m| m.target_path.clone_from(path))).map(drop));
        refused(path, &unstaged, daemon.node_publish_volume(but(volume.publish_request(1), |m| m.staging_target_path.clone_from(path))).map(drop));
        refused(path, &wrong, daemon.node_unpublish_volume(but(volume.unpublish_request(1), |m| m.target_path.clone_from(path))).map(drop));
        let stats = NodeGetVolumeStatsRequest { volume_id: volume.id(), volume_path: path.clone(), ..Default::default() };
        refused(path, &absent, daemon.node_get_volume_stats(stats).map(drop));
        let expand = NodeExpandVolumeRequest { volume_id: volume.id(), volume_path: path.clone(), ..Default::default() };
        refused(path, &absent, daemon.node_expand_volume(expand).map(drop));
        // Staged elsewhere, so not staged there: OK or refused, and nothing happens.
        if let Err(status) = but(volume.clone(), |v| v.staging.clone_from(path)).unstage(&daemon) {
            refused(path, &wrong, Err(status));
        }
        row("*/paths").holds(look() == before, &format!("{path:?} changes nothing"));
        row("*/paths").holds(is_mounted(&volume.target(0)), &format!("{path:?}: what is published stays"));
    }
    assert_eq!(std::fs::read(format!("{outside}/data")).unwrap(), b"data");
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_bad_paths_of_a_file_system_touch_nothing() {
    check("paths-mount", mount);
}

#[test]
fn loop_bad_paths_of_a_raw_device_touch_nothing() {
    check("paths-raw", block);
}

#[test]
fn loop_a_target_of_the_wrong_kind_or_without_a_parent_is_refused() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "kinds", mount(Mode::SingleNodeMultiWriter), 16).unwrap();
    std::fs::write(daemon.path("kubelet/file"), b"data").unwrap();
    let row = row("*/INVALID_ARGUMENT/2");
    row.refuses(but(volume.clone(), |v| v.staging = daemon.text("kubelet/file")).stage(&daemon), "kubelet/file");
    row.refuses(but(volume.clone(), |v| v.staging = daemon.text("kubelet/file/below")).stage(&daemon), "kubelet/file");
    row.refuses(but(volume.clone(), |v| v.staging = daemon.text("kubelet/no/parent")).stage(&daemon), "kubelet/no");
    volume.stage(&daemon).unwrap();
    row.refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.target_path = daemon.text("kubelet/file"))), "kubelet/file");
    row.refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.target_path = daemon.text("kubelet/no/parent"))), "kubelet/no");
    assert_eq!(std::fs::read(daemon.path("kubelet/file")).unwrap(), b"data");
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}
