//! Split roles, and RPCs that nobody serves: UNIMPLEMENTED, in words.

use super::{call, check_form, row};
use harness::{Daemon, Setup};
use tonic::Code;
use windlass_csi::methods::methods;
use windlass_csi::v1::snapshot_metadata_client::SnapshotMetadataClient;
use windlass_csi::v1::{GetMetadataAllocatedRequest, GetMetadataDeltaRequest, GetPluginCapabilitiesRequest};

/// What a headless daemon with the `local` driver serves.
const SERVED: [&str; 21] = [
    "GetPluginInfo",
    "GetPluginCapabilities",
    "Probe",
    "CreateVolume",
    "DeleteVolume",
    "ValidateVolumeCapabilities",
    "ListVolumes",
    "GetCapacity",
    "ControllerGetCapabilities",
    "CreateSnapshot",
    "DeleteSnapshot",
    "ListSnapshots",
    "ControllerExpandVolume",
    "NodeStageVolume",
    "NodeUnstageVolume",
    "NodePublishVolume",
    "NodeUnpublishVolume",
    "NodeGetVolumeStats",
    "NodeExpandVolume",
    "NodeGetCapabilities",
    "NodeGetInfo",
];

fn with_role(role: &str) -> Daemon {
    Daemon::with(Setup { config: format!("roles = [{role:?}]\n"), ..Setup::default() })
}

/// Of all calls, exactly those of `services` that are served at all are served.
fn check(daemon: &Daemon, services: &[&str]) {
    for method in methods().filter(|method| !method.is_streaming) {
        let answer = call(daemon, &method.path, "{}");
        let is_served = services.contains(&method.service.as_str()) && SERVED.contains(&method.name.as_str());
        if is_served {
            let code = answer.as_ref().err().map(tonic::Status::code);
            assert_ne!(code, Some(Code::Unimplemented), "{} is served", method.name);
        } else {
            row("*/UNIMPLEMENTED").refuses(answer, "");
        }
    }
}

#[test]
fn plugin_what_nobody_serves_is_unimplemented_in_words() {
    let daemon = Daemon::start();
    check(&daemon, &["Identity", "Controller", "Node"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = windlass_csi::client::connect(&daemon.socket()).await.unwrap();
        let mut client = SnapshotMetadataClient::new(channel);
        let allocated = client.get_metadata_allocated(GetMetadataAllocatedRequest::default()).await.err().unwrap();
        let delta = client.get_metadata_delta(GetMetadataDeltaRequest::default()).await.err().unwrap();
        for status in [allocated, delta] {
            assert_eq!(status.code(), Code::Unimplemented);
            check_form(&status);
        }
    });
}

#[test]
fn plugin_each_role_serves_its_own_service_and_all_say_the_same_of_the_driver() {
    let (both, controller, node) = (Daemon::start(), with_role("controller"), with_role("node"));
    check(&controller, &["Identity", "Controller"]);
    check(&node, &["Identity", "Node"]);
    let ask = |daemon: &Daemon| row("GetPluginCapabilities/roles").answers(daemon.get_plugin_capabilities(GetPluginCapabilitiesRequest {}));
    let whole = ask(&both);
    row("GetPluginCapabilities/roles").holds(ask(&controller) == whole && ask(&node) == whole, "the same set in every role");
}
