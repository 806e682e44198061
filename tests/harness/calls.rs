//! Every RPC as a blocking call: on a connection of its own, or as one of the orchestrators' components makes it.

use crate::{Caller, Endpoint};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use windlass_csi::v1;
use windlass_csi::v1::controller_client::ControllerClient;
use windlass_csi::v1::identity_client::IdentityClient;
use windlass_csi::v1::node_client::NodeClient;

/// How long a call waits unless a test says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

async fn connect(driver: &Endpoint) -> Result<Channel, Status> {
    windlass_csi::client::connect(&driver.socket()).await.map_err(|error| Status::unavailable(format!("no connection: {error}")))
}

pub(crate) fn timed<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

/// When the daemon's answer and the deadline meet, this client says CANCELLED where all others say DEADLINE_EXCEEDED.
pub(crate) fn as_others_say(status: Status) -> Status {
    if status.code() == Code::Cancelled && status.message() == "Timeout expired" { Status::deadline_exceeded(status.message()) } else { status }
}

macro_rules! calls {
    ($($client:ident . $rpc:ident ( $request:ident ) -> $response:ident;)*) => {
        impl Endpoint {
            $(
                #[doc = concat!("Calls ", stringify!($request), ".")]
                pub fn $rpc(&self, mut message: v1::$request) -> Result<v1::$response, Status> {
                    self.meddle(&mut message);
                    let mut answer = block(async {
                        let mut client = $client::new(connect(self).await?);
                        client.$rpc(timed(message, PATIENCE)).await.map(tonic::Response::into_inner)
                    });
                    self.meddle(&mut answer);
                    answer
                }
            )*
        }

        impl Caller {
            $(
                #[doc = concat!("Calls ", stringify!($request), ".")]
                pub fn $rpc(&self, message: v1::$request) -> Result<v1::$response, Status> {
                    self.call(async |channel, patience| $client::new(channel).$rpc(timed(message, patience)).await.map(tonic::Response::into_inner))
                }
            )*
        }
    };
}

calls! {
    IdentityClient.get_plugin_info(GetPluginInfoRequest) -> GetPluginInfoResponse;
    IdentityClient.get_plugin_capabilities(GetPluginCapabilitiesRequest) -> GetPluginCapabilitiesResponse;
    ControllerClient.create_volume(CreateVolumeRequest) -> CreateVolumeResponse;
    ControllerClient.delete_volume(DeleteVolumeRequest) -> DeleteVolumeResponse;
    ControllerClient.validate_volume_capabilities(ValidateVolumeCapabilitiesRequest) -> ValidateVolumeCapabilitiesResponse;
    ControllerClient.list_volumes(ListVolumesRequest) -> ListVolumesResponse;
    ControllerClient.get_capacity(GetCapacityRequest) -> GetCapacityResponse;
    ControllerClient.controller_get_capabilities(ControllerGetCapabilitiesRequest) -> ControllerGetCapabilitiesResponse;
    ControllerClient.create_snapshot(CreateSnapshotRequest) -> CreateSnapshotResponse;
    ControllerClient.delete_snapshot(DeleteSnapshotRequest) -> DeleteSnapshotResponse;
    ControllerClient.list_snapshots(ListSnapshotsRequest) -> ListSnapshotsResponse;
    ControllerClient.controller_expand_volume(ControllerExpandVolumeRequest) -> ControllerExpandVolumeResponse;
    ControllerClient.controller_modify_volume(ControllerModifyVolumeRequest) -> ControllerModifyVolumeResponse;
    ControllerClient.controller_publish_volume(ControllerPublishVolumeRequest) -> ControllerPublishVolumeResponse;
    ControllerClient.controller_unpublish_volume(ControllerUnpublishVolumeRequest) -> ControllerUnpublishVolumeResponse;
    NodeClient.node_stage_volume(NodeStageVolumeRequest) -> NodeStageVolumeResponse;
    NodeClient.node_unstage_volume(NodeUnstageVolumeRequest) -> NodeUnstageVolumeResponse;
    NodeClient.node_publish_volume(NodePublishVolumeRequest) -> NodePublishVolumeResponse;
    NodeClient.node_unpublish_volume(NodeUnpublishVolumeRequest) -> NodeUnpublishVolumeResponse;
    NodeClient.node_get_volume_stats(NodeGetVolumeStatsRequest) -> NodeGetVolumeStatsResponse;
    NodeClient.node_expand_volume(NodeExpandVolumeRequest) -> NodeExpandVolumeResponse;
    NodeClient.node_get_capabilities(NodeGetCapabilitiesRequest) -> NodeGetCapabilitiesResponse;
    NodeClient.node_get_info(NodeGetInfoRequest) -> NodeGetInfoResponse;
}

impl Endpoint {
    /// Probe, within a second as sidecars have it: ready, or not ready yet.
    pub fn probe(&self) -> Result<bool, Status> {
        block(async {
            let mut client = IdentityClient::new(connect(self).await?);
            let answer = client.probe(timed(v1::ProbeRequest {}, Duration::from_secs(1))).await?;
            Ok(answer.into_inner().ready.unwrap_or(true))
        })
    }

    /// NodeStageVolume with a deadline of the test's own.
    pub fn stage_within(&self, message: v1::NodeStageVolumeRequest, patience: Duration) -> Result<(), Status> {
        block(async {
            let mut client = NodeClient::new(connect(self).await?);
            client.node_stage_volume(timed(message, patience)).await.map(drop).map_err(as_others_say)
        })
    }

    /// NodeUnstageVolume with a deadline of the test's own.
    pub fn unstage_within(&self, message: v1::NodeUnstageVolumeRequest, patience: Duration) -> Result<(), Status> {
        block(async {
            let mut client = NodeClient::new(connect(self).await?);
            client.node_unstage_volume(timed(message, patience)).await.map(drop).map_err(as_others_say)
        })
    }
}
