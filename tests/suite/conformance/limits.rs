//! How long a string, how large a map, a path or a list of flags may be, in requests and in answers.

use super::{but, row};
use harness::{Daemon, Volume, mount, mount_as};
use std::collections::BTreeMap;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{GetCapacityRequest, NodeGetInfoRequest, Topology, TopologyRequirement, ValidateVolumeCapabilitiesRequest};

/// A map of so many bytes in all.
fn map(size: usize) -> BTreeMap<String, String> {
    [("key".to_owned(), "v".repeat(size - 3))].into()
}

#[test]
fn plugin_names_and_maps_of_exactly_the_limit_pass_and_one_byte_more_does_not() {
    let daemon = Daemon::start();
    let (limits, refused) = (row("CreateVolume/limits"), row("*/INVALID_ARGUMENT/2"));
    let capability = mount(Mode::SingleNodeWriter);
    let create = || Volume::create_request("limits", &capability, 16);
    for name in ["n".repeat(128), "ü".repeat(64), "a\tb\nc\rd 🚢/..".to_owned(), "../../etc/passwd".to_owned(), "-rf".to_owned()] {
        let volume = limits.answers(daemon.create_volume(but(create(), |m| m.name.clone_from(&name)))).volume.unwrap();
        limits.holds((1..=128).contains(&volume.volume_id.len()), "volume_id fits");
        let context: usize = volume.volume_context.iter().map(|(key, value)| key.len() + value.len()).sum();
        limits.holds(context <= 4096, "volume_context fits");
    }
    refused.refuses(daemon.create_volume(but(create(), |m| m.name = "n".repeat(129))), "128");
    refused.refuses(daemon.create_volume(but(create(), |m| m.name = "ü".repeat(65))), "128");
    limits.answers(daemon.create_volume(but(create(), |m| m.secrets = map(4096))));
    refused.refuses(daemon.create_volume(but(create(), |m| m.secrets = map(4097))), "4096");
    refused.refuses(daemon.create_volume(but(create(), |m| m.parameters = map(4097))), "4096");
    refused.refuses(daemon.get_capacity(GetCapacityRequest { parameters: map(4097), ..Default::default() }), "4096");

    let segment = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let place = |segments| TopologyRequirement { requisite: vec![Topology { segments }], preferred: Vec::new() };
    let (name, value) = ("n".repeat(63), "v".repeat(63));
    let key = format!("{name}/{name}");
    limits.answers(daemon.create_volume(but(create(), |m| m.accessibility_requirements = Some(place(segment(&key, &value))))));
    for (key, value) in [(format!("{name}x/{name}"), value.clone()), (format!("{name}/{name}x"), value.clone()), (key, format!("{value}x"))] {
        refused
            .refuses(daemon.create_volume(but(create(), |m| m.accessibility_requirements = Some(place(segment(&key, &value))))), "accessibility_requirements");
    }
    let both: BTreeMap<_, _> = [("a/zone".to_owned(), "1".to_owned()), ("a/ZONE".to_owned(), "1".to_owned())].into();
    refused.refuses(daemon.create_volume(but(create(), |m| m.accessibility_requirements = Some(place(both)))), "accessibility_requirements");
}

#[test]
fn plugin_a_reason_that_is_long_is_cut_to_what_a_message_may_hold() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "words", mount(Mode::SingleNodeWriter), 16).unwrap();
    let request = ValidateVolumeCapabilitiesRequest {
        volume_id: volume.id(),
        volume_capabilities: vec![volume.capability],
        parameters: [("x".repeat(4000), "1".to_owned())].into(),
        ..Default::default()
    };
    let limits = row("ValidateVolumeCapabilities/limits");
    let answer = limits.answers(daemon.validate_volume_capabilities(request));
    limits.holds(answer.confirmed.is_none() && (1..=128).contains(&answer.message.len()), "a message of 128 bytes at most");
}

#[test]
fn plugin_a_node_has_an_id_of_256_bytes_at_most() {
    node(&Daemon::start());
}

/// Who the node is.
pub(super) fn node(daemon: &Daemon) {
    let info = row("NodeGetInfo/limits").answers(daemon.node_get_info(NodeGetInfoRequest {}));
    row("NodeGetInfo/limits").holds((1..=256).contains(&info.node_id.len()) && info.max_volumes_per_node >= 0, "the limits of node_id and the number");
}

#[test]
fn loop_long_paths_are_taken_and_paths_that_the_kernel_has_not_are_refused() {
    let daemon = Daemon::start();
    let mut volume = Volume::create(&daemon, "paths", mount(Mode::SingleNodeWriter), 16).unwrap();
    let deep = vec!["d".repeat(200); 8].join("/");
    (volume.staging, volume.pods) = (format!("{}/{deep}/stage", daemon.text("kubelet")), format!("{}/{deep}/pods", daemon.text("kubelet")));
    std::fs::create_dir_all(&volume.staging).and_then(|()| std::fs::create_dir_all(&volume.pods)).unwrap();
    row("NodeStageVolume/limits").answers(volume.stage(&daemon));
    row("NodePublishVolume/limits").answers(volume.publish(&daemon, 0));
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();

    let refused = row("*/INVALID_ARGUMENT/2");
    for length in [5000, 10_000] {
        let long = format!("{}/{}", daemon.text("kubelet"), vec!["d".repeat(200); length / 200].join("/"));
        refused.refuses(daemon.node_stage_volume(but(volume.stage_request(), |m| m.staging_target_path.clone_from(&long))), "staging_target_path");
        refused.refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.target_path.clone_from(&long))), "target_path");
    }
    let flags = |count: usize| mount_as("", Mode::SingleNodeWriter, &vec!["noatime,nodiratime"; count]);
    let (fits, too_many) = (4096 / 18, 4096 / 18 + 1);
    refused.refuses(daemon.node_stage_volume(but(volume.stage_request(), |m| m.volume_capability = Some(flags(too_many)))), "mount_flags");
    volume.capability = flags(fits);
    row("NodeStageVolume/limits").answers(volume.stage(&daemon));
    refused.refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.volume_context = map(4097))), "volume_context");
    refused.refuses(daemon.node_publish_volume(but(volume.publish_request(0), |m| m.publish_context = map(4097))), "publish_context");
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}
