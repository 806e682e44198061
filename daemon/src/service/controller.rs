//! Controller: volumes as they are made, listed, grown and deleted.

use crate::claims::{Answer, Claimed};
use crate::refused::Refused;
use crate::served::Served;
use crate::service::{MISMATCH, done, unclaimed, unless_nothing, until};
use crate::story;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use windlass_csi::v1::controller_server::Controller;
use windlass_csi::{from_proto, to_proto, v1};

/// What a driver lacks that exports no `publishing`.
const PUBLISHING: &str = "publishing to nodes: the volumes of this driver need none";

/// What a driver lacks that exports no `modification`.
const MODIFICATION: &str = "parameters that may change later";

/// What a driver lacks that exports no `snapshots`.
const SNAPSHOTS: &str = "snapshots";

/// What a driver lacks that exports no `snapshot-listing`.
const SNAPSHOT_LISTING: &str = "a list of snapshots";

/// The Controller service of one driver. What is not here answers UNIMPLEMENTED.
pub(crate) struct ControllerService(pub(crate) Arc<Served>);

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn create_volume(&self, request: Request<v1::CreateVolumeRequest>) -> Result<Response<v1::CreateVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        let can_modify = request.get_ref().mutable_parameters.is_empty() || self.0.exports("modification").await?;
        let call = from_proto::create_volume(request.into_inner(), can_modify).map_err(Refused::from)?;
        let key = Claimed::Name(self.0.driver.name().clone(), call.request.name.clone());
        match self.0.run("CreateVolume", key, until, call, story::create::create).await? {
            Answer::Volume(volume) => Ok(Response::new(to_proto::created(volume).map_err(Refused::from)?)),
            _ => Err(MISMATCH.into()),
        }
    }

    async fn delete_volume(&self, request: Request<v1::DeleteVolumeRequest>) -> Result<Response<v1::DeleteVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        let Some(call) = unless_nothing(from_proto::delete_volume(request.into_inner()))? else {
            return Ok(Response::new(v1::DeleteVolumeResponse {}));
        };
        let key = self.0.volume(&call.request.volume);
        done(self.0.run("DeleteVolume", key, until, call, story::delete::delete).await?)?;
        Ok(Response::new(v1::DeleteVolumeResponse {}))
    }

    async fn controller_publish_volume(
        &self,
        request: Request<v1::ControllerPublishVolumeRequest>,
    ) -> Result<Response<v1::ControllerPublishVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        self.0.require("publishing", PUBLISHING).await?;
        let call = from_proto::publish_to_node(request.into_inner()).map_err(Refused::from)?;
        let key = self.0.volume(&call.request.volume);
        match self.0.run("ControllerPublishVolume", key, until, call, story::controller_publish::publish).await? {
            Answer::Context(context) => Ok(Response::new(to_proto::published(context).map_err(Refused::from)?)),
            _ => Err(MISMATCH.into()),
        }
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<v1::ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<v1::ControllerUnpublishVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        self.0.require("publishing", PUBLISHING).await?;
        let Some(call) = unless_nothing(from_proto::unpublish_from_node(request.into_inner()))? else {
            return Ok(Response::new(v1::ControllerUnpublishVolumeResponse {}));
        };
        let key = self.0.volume(&call.request.volume);
        done(self.0.run("ControllerUnpublishVolume", key, until, call, story::controller_publish::unpublish).await?)?;
        Ok(Response::new(v1::ControllerUnpublishVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<v1::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<v1::ValidateVolumeCapabilitiesResponse>, Status> {
        let until = until(&self.0, &request);
        let confirmation = to_proto::confirmation(request.get_ref());
        let call = from_proto::validate_volume(request.into_inner()).map_err(Refused::from)?;
        let words = unclaimed(&self.0, "ValidateVolumeCapabilities", until, move |served| story::controller::validate(served, call)).await?;
        Ok(Response::new(to_proto::validated(confirmation, words)))
    }

    async fn list_volumes(&self, request: Request<v1::ListVolumesRequest>) -> Result<Response<v1::ListVolumesResponse>, Status> {
        let until = until(&self.0, &request);
        let call = from_proto::list_volumes(request.into_inner()).map_err(Refused::from)?;
        let (entries, next) = unclaimed(&self.0, "ListVolumes", until, move |served| story::controller::list(served, &call.request)).await?;
        Ok(Response::new(to_proto::listed(entries, next).map_err(Refused::from)?))
    }

    async fn get_capacity(&self, request: Request<v1::GetCapacityRequest>) -> Result<Response<v1::GetCapacityResponse>, Status> {
        let until = until(&self.0, &request);
        let call = from_proto::capacity(request.into_inner()).map_err(Refused::from)?;
        let room = unclaimed(&self.0, "GetCapacity", until, move |served| story::controller::capacity(served, call.request)).await?;
        Ok(Response::new(to_proto::capacity(room).map_err(Refused::from)?))
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<v1::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<v1::ControllerGetCapabilitiesResponse>, Status> {
        let advertised = self.0.advertised().await?;
        Ok(Response::new(to_proto::controller_capabilities(Served::controller_capabilities(&advertised))))
    }

    async fn create_snapshot(&self, request: Request<v1::CreateSnapshotRequest>) -> Result<Response<v1::CreateSnapshotResponse>, Status> {
        let until = until(&self.0, &request);
        self.0.require("snapshots", SNAPSHOTS).await?;
        let call = from_proto::create_snapshot(request.into_inner()).map_err(Refused::from)?;
        let key = Claimed::SnapshotName(self.0.driver.name().clone(), call.request.name.clone());
        match self.0.run("CreateSnapshot", key, until, call, story::snapshot::create).await? {
            Answer::Snapshot(snapshot) => Ok(Response::new(to_proto::snapshot_created(snapshot).map_err(Refused::from)?)),
            _ => Err(MISMATCH.into()),
        }
    }

    async fn delete_snapshot(&self, request: Request<v1::DeleteSnapshotRequest>) -> Result<Response<v1::DeleteSnapshotResponse>, Status> {
        let until = until(&self.0, &request);
        self.0.require("snapshots", SNAPSHOTS).await?;
        let Some(call) = unless_nothing(from_proto::delete_snapshot(request.into_inner()))? else {
            return Ok(Response::new(v1::DeleteSnapshotResponse {}));
        };
        let key = Claimed::Snapshot(self.0.driver.name().clone(), call.request.snapshot.to_string());
        done(self.0.run("DeleteSnapshot", key, until, call, story::snapshot::delete).await?)?;
        Ok(Response::new(v1::DeleteSnapshotResponse {}))
    }

    async fn list_snapshots(&self, request: Request<v1::ListSnapshotsRequest>) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let until = until(&self.0, &request);
        self.0.require("snapshot-listing", SNAPSHOT_LISTING).await?;
        // A filter by an id that nobody can have given lets nothing through, and is no error.
        let Some(call) = unless_nothing(from_proto::list_snapshots(request.into_inner()))? else {
            return Ok(Response::new(v1::ListSnapshotsResponse::default()));
        };
        let (entries, next) = unclaimed(&self.0, "ListSnapshots", until, move |served| story::snapshot::list(served, call.request)).await?;
        Ok(Response::new(to_proto::snapshots_listed(entries, next).map_err(Refused::from)?))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<v1::ControllerExpandVolumeRequest>,
    ) -> Result<Response<v1::ControllerExpandVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        let call = from_proto::expand_volume(request.into_inner()).map_err(Refused::from)?;
        let key = self.0.volume(&call.request.volume);
        match self.0.run("ControllerExpandVolume", key, until, call, story::controller::expand).await? {
            Answer::Expanded(capacity, node_expansion) => {
                let answer = windlass_plan::plugin::ExpandAnswer { capacity, node_expansion };
                Ok(Response::new(to_proto::expanded(answer).map_err(Refused::from)?))
            }
            _ => Err(MISMATCH.into()),
        }
    }

    async fn controller_modify_volume(
        &self,
        request: Request<v1::ControllerModifyVolumeRequest>,
    ) -> Result<Response<v1::ControllerModifyVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        self.0.require("modification", MODIFICATION).await?;
        let call = from_proto::modify_volume(request.into_inner()).map_err(Refused::from)?;
        let key = self.0.volume(&call.request.volume);
        done(self.0.run("ControllerModifyVolume", key, until, call, story::controller::modify).await?)?;
        Ok(Response::new(v1::ControllerModifyVolumeResponse {}))
    }
}
