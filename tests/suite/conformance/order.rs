//! What is looked at first: required fields, then whether the volume exists, then the rest. And ids of nothing.

use super::{but, row};
use harness::{Daemon, Volume, mount};
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{CapacityRange, ControllerExpandVolumeRequest, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, ValidateVolumeCapabilitiesRequest};

/// Ids of no volume: never made, deleted, of another form, and such as nobody could have given.
fn ids(deleted: String) -> Vec<String> {
    let odd = ["vol-00000000000000000000000000000000", "nothing", "../../etc/passwd", "a/b", "ü 🚢", "%s%n", " "];
    let long = ["x".repeat(128), "x".repeat(129), "x".repeat(10_000), "a\u{0}b".to_owned(), "a\nb\u{7f}".to_owned()];
    odd.into_iter().map(str::to_owned).chain(long).chain([deleted]).collect()
}

#[test]
fn loop_an_id_of_nothing_is_not_found_where_a_volume_is_needed_and_fine_where_it_is_to_go() {
    ids_of_nothing(&Daemon::start());
}

/// What is said of no volume.
pub(super) fn ids_of_nothing(daemon: &Daemon) {
    let volume = Volume::create(daemon, "order", mount(Mode::SingleNodeWriter), 16).unwrap();
    volume.delete(daemon).unwrap();
    let range = Some(CapacityRange { required_bytes: 1 << 20, limit_bytes: 0 });
    for id in ids(volume.id()) {
        let volume = but(volume.clone(), |v| v.volume.volume_id.clone_from(&id));
        let capabilities = vec![volume.capability.clone()];
        let validate = ValidateVolumeCapabilitiesRequest { volume_id: id.clone(), volume_capabilities: capabilities, ..Default::default() };
        row("ValidateVolumeCapabilities/NOT_FOUND").refuses(daemon.validate_volume_capabilities(validate), "volume");
        let expand = ControllerExpandVolumeRequest { volume_id: id.clone(), capacity_range: range, ..Default::default() };
        row("ControllerExpandVolume/NOT_FOUND").refuses(daemon.controller_expand_volume(expand), "volume");
        row("NodeStageVolume/NOT_FOUND").refuses(volume.stage(daemon), "volume");
        row("NodePublishVolume/NOT_FOUND").refuses(volume.publish(daemon, 0), "volume");
        let stats = NodeGetVolumeStatsRequest { volume_id: id.clone(), volume_path: volume.target(0), ..Default::default() };
        row("NodeGetVolumeStats/NOT_FOUND").refuses(daemon.node_get_volume_stats(stats), "volume");
        let expand = NodeExpandVolumeRequest { volume_id: id.clone(), volume_path: volume.target(0), ..Default::default() };
        row("NodeExpandVolume/NOT_FOUND").refuses(daemon.node_expand_volume(expand), "volume");
        row("DeleteVolume/unknown").answers(volume.delete(daemon));
        row("NodeUnstageVolume/unknown").answers(volume.unstage(daemon));
        row("NodeUnpublishVolume/unknown").answers(volume.unpublish(daemon, 0));
    }
    daemon.assert_nothing_left();
}

#[test]
fn loop_required_fields_come_before_the_volume_and_the_volume_before_paths() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "order", mount(Mode::SingleNodeWriter), 16).unwrap();
    let unknown = but(volume.clone(), |v| v.volume.volume_id = "nothing".to_owned());
    let (missing, order) = ("*/INVALID_ARGUMENT", "*/order");
    for id in [volume.id(), unknown.id()] {
        row(missing)
            .refuses(daemon.validate_volume_capabilities(ValidateVolumeCapabilitiesRequest { volume_id: id.clone(), ..Default::default() }), "required");
        row(missing).refuses(daemon.controller_expand_volume(ControllerExpandVolumeRequest { volume_id: id.clone(), ..Default::default() }), "required");
        row(missing).refuses(daemon.node_expand_volume(NodeExpandVolumeRequest { volume_id: id.clone(), ..Default::default() }), "required");
        row(missing).refuses(daemon.node_get_volume_stats(NodeGetVolumeStatsRequest { volume_id: id, ..Default::default() }), "required");
    }
    row(missing).refuses(daemon.node_stage_volume(but(unknown.stage_request(), |m| m.staging_target_path.clear())), "required");
    row(missing).refuses(daemon.node_publish_volume(but(unknown.publish_request(0), |m| m.target_path.clear())), "required");
    row(missing).refuses(daemon.node_publish_volume(but(unknown.publish_request(0), |m| m.volume_capability = None)), "required");

    for path in ["relative", "/outside", "/etc/../etc"] {
        let code = |answer: Result<(), tonic::Status>| answer.unwrap_err().code();
        let at = |v: &Volume| but(v.clone(), |v| v.staging = path.to_owned());
        let shown = |v: &Volume| but(v.publish_request(0), |m| m.target_path = path.to_owned());
        let stats = |v: &Volume| NodeGetVolumeStatsRequest { volume_id: v.id(), volume_path: path.to_owned(), ..Default::default() };
        let grown = |v: &Volume| NodeExpandVolumeRequest { volume_id: v.id(), volume_path: path.to_owned(), ..Default::default() };
        let not_found = tonic::Code::NotFound;
        let words = "an unknown volume is said before a wrong path";
        row(order).holds(code(at(&unknown).stage(&daemon)) == not_found, words);
        row(order).holds(code(daemon.node_publish_volume(shown(&unknown)).map(drop)) == not_found, words);
        row(order).holds(code(daemon.node_get_volume_stats(stats(&unknown)).map(drop)) == not_found, words);
        row(order).holds(code(daemon.node_expand_volume(grown(&unknown)).map(drop)) == not_found, words);
        row("*/INVALID_ARGUMENT/2").refuses(at(&volume).stage(&daemon), "staging_target_path");
    }
    // Without a staging path the publish of an unknown volume is still one of an unknown volume.
    row("NodePublishVolume/NOT_FOUND").refuses(daemon.node_publish_volume(but(unknown.publish_request(0), |m| m.staging_target_path.clear())), "volume");
    daemon.assert_nothing_left();
}
