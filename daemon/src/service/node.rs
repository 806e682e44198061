//! Node: volumes as they are staged, published, looked at and grown on this node.

use crate::claims::Answer;
use crate::refused::Refused;
use crate::served::Served;
use crate::service::{MISMATCH, done, unclaimed, unless_nothing, until};
use crate::story;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use windlass_csi::v1::node_server::Node;
use windlass_csi::{from_proto, to_proto, v1};

/// The Node service of one driver. What is not here answers UNIMPLEMENTED.
pub(crate) struct NodeService(pub(crate) Arc<Served>);

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_stage_volume(&self, request: Request<v1::NodeStageVolumeRequest>) -> Result<Response<v1::NodeStageVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        let call = from_proto::stage_volume(request.into_inner()).map_err(Refused::from)?;
        let key = self.0.volume(&call.request.volume);
        done(self.0.run("NodeStageVolume", key, until, call, story::stage::stage).await?)?;
        Ok(Response::new(v1::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(&self, request: Request<v1::NodeUnstageVolumeRequest>) -> Result<Response<v1::NodeUnstageVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        let Some(call) = unless_nothing(from_proto::unstage_volume(request.into_inner()))? else {
            return Ok(Response::new(v1::NodeUnstageVolumeResponse {}));
        };
        let key = self.0.volume(&call.request.volume);
        done(self.0.run("NodeUnstageVolume", key, until, call, story::stage::unstage).await?)?;
        Ok(Response::new(v1::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(&self, request: Request<v1::NodePublishVolumeRequest>) -> Result<Response<v1::NodePublishVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        let call = from_proto::publish_volume(request.into_inner()).map_err(Refused::from)?;
        let key = self.0.volume(&call.request.volume);
        done(self.0.run("NodePublishVolume", key, until, call, story::publish::publish).await?)?;
        Ok(Response::new(v1::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(&self, request: Request<v1::NodeUnpublishVolumeRequest>) -> Result<Response<v1::NodeUnpublishVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        let Some(call) = unless_nothing(from_proto::unpublish_volume(request.into_inner()))? else {
            return Ok(Response::new(v1::NodeUnpublishVolumeResponse {}));
        };
        let key = self.0.volume(&call.request.volume);
        done(self.0.run("NodeUnpublishVolume", key, until, call, story::publish::unpublish).await?)?;
        Ok(Response::new(v1::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(&self, request: Request<v1::NodeGetVolumeStatsRequest>) -> Result<Response<v1::NodeGetVolumeStatsResponse>, Status> {
        let until = until(&self.0, &request);
        let call = from_proto::volume_stats(request.into_inner()).map_err(Refused::from)?;
        let key = self.0.volume(&call.request.volume);
        match self.0.run("NodeGetVolumeStats", key, until, call, story::look::stats).await? {
            Answer::Usage(usage) => Ok(Response::new(to_proto::usage(usage))),
            _ => Err(MISMATCH.into()),
        }
    }

    async fn node_expand_volume(&self, request: Request<v1::NodeExpandVolumeRequest>) -> Result<Response<v1::NodeExpandVolumeResponse>, Status> {
        let until = until(&self.0, &request);
        let call = from_proto::expand_node(request.into_inner()).map_err(Refused::from)?;
        let key = self.0.volume(&call.request.volume);
        match self.0.run("NodeExpandVolume", key, until, call, story::look::expand).await? {
            Answer::Size(capacity) => Ok(Response::new(to_proto::node_expanded(capacity))),
            _ => Err(MISMATCH.into()),
        }
    }

    async fn node_get_capabilities(&self, _: Request<v1::NodeGetCapabilitiesRequest>) -> Result<Response<v1::NodeGetCapabilitiesResponse>, Status> {
        let advertised = self.0.advertised().await?;
        Ok(Response::new(to_proto::node_capabilities(Served::node_capabilities(&advertised))))
    }

    async fn node_get_info(&self, request: Request<v1::NodeGetInfoRequest>) -> Result<Response<v1::NodeGetInfoResponse>, Status> {
        let until = until(&self.0, &request);
        let info = unclaimed(&self.0, "NodeGetInfo", until, story::look::info).await?;
        Ok(Response::new(to_proto::node_info(info).map_err(Refused::from)?))
    }
}
