//! external-resizer and what kubelet does after it: a volume grows at the controller, then where it is used.

use super::{filesystem_size, row};
use harness::orders::{Component, component, controller_capabilities, may_still_run, node_capabilities};
use harness::{Caller, Daemon, Volume, mount_as};
use tonic::{Code, Status};
use windlass_csi::v1;
use windlass_csi::v1::controller_service_capability::rpc::Type as ControllerRpc;
use windlass_csi::v1::node_service_capability::rpc::Type as NodeRpc;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// With the capability that the volume is used with; a limit is never named.
fn expand(resizer: &Caller, volume: &Volume, bytes: i64) -> Result<v1::ControllerExpandVolumeResponse, Status> {
    assert!(controller_capabilities(resizer).unwrap().contains(&ControllerRpc::SingleNodeMultiWriter));
    resizer.controller_expand_volume(v1::ControllerExpandVolumeRequest {
        volume_id: volume.id(),
        capacity_range: Some(v1::CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        volume_capability: Some(volume.capability.clone()),
        ..Default::default()
    })
}

#[test]
fn loop_the_resizer_grows_a_volume_and_kubelet_what_is_on_it() {
    let daemon = Daemon::start();
    let resizing: &Component = component("external-resizer");
    let (resizer, _) = resizing.start(&daemon);
    let (kubelet, _) = component("kubelet").start(&daemon);
    let volume = Volume::create(&daemon, "pvc-grows", mount_as("xfs", Mode::SingleNodeMultiWriter, &[]), 320).unwrap();
    volume.stage(&daemon).unwrap();
    volume.publish(&daemon, 0).unwrap();

    let expands = row("ControllerExpandVolume/node");
    let grown = expands.answers(expand(&resizer, &volume, 640 << 20));
    expands.holds(grown.capacity_bytes == 640 << 20 && grown.node_expansion_required, "and the node has something to do");
    // Asked for again after a crash of its own.
    expands.holds(expand(&resizer, &volume, 640 << 20).unwrap() == grown, "again the same");

    // Kubelet, each on a connection of its own: can the node, which mode; then where it is published, and where it is staged.
    let before = kubelet.connections();
    for _ in 0..2 {
        assert!(node_capabilities(&kubelet).unwrap().is_superset(&[NodeRpc::ExpandVolume, NodeRpc::SingleNodeMultiWriter].into()));
        let answer = kubelet.node_expand_volume(v1::NodeExpandVolumeRequest {
            volume_id: volume.id(),
            volume_path: volume.target(0),
            staging_target_path: volume.staging.clone(),
            capacity_range: Some(v1::CapacityRange { required_bytes: 640 << 20, limit_bytes: 0 }),
            volume_capability: Some(volume.capability.clone()),
            ..Default::default()
        });
        expands.holds(expands.answers(answer).capacity_bytes == 640 << 20, "the node says the same size");
    }
    assert_eq!(kubelet.connections(), before + 4);
    assert!(filesystem_size(&volume.target(0)) > 512 << 20);

    // Infeasible to it: a wish that it tells the user of and tries seldom. It takes these for final.
    let too_large = expand(&resizer, &volume, i64::MAX).unwrap_err();
    assert!(matches!(too_large.code(), Code::OutOfRange | Code::InvalidArgument) && !may_still_run(&too_large, resizing), "{too_large}");
    volume.unpublish(&daemon, 0).unwrap();
    volume.unstage(&daemon).unwrap();
    volume.delete(&daemon).unwrap();
    let gone = expand(&resizer, &volume, 640 << 20).unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert_eq!(resizer.connections(), 1, "it would have exited");
    daemon.assert_nothing_left();
}
