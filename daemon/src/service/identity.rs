//! Identity, answered natively: it never waits for a plugin longer than a sidecar waits for it.

use crate::served::Served;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use windlass_csi::to_proto;
use windlass_csi::v1;
use windlass_csi::v1::identity_server::Identity;

/// The Identity service of one driver.
pub(crate) struct IdentityService(pub(crate) Arc<Served>);

#[tonic::async_trait]
impl Identity for IdentityService {
    /// The name is the operator's, the version the plugin's: of the generation that serves, or of the one that served last.
    async fn get_plugin_info(&self, _: Request<v1::GetPluginInfoRequest>) -> Result<Response<v1::GetPluginInfoResponse>, Status> {
        // A driver whose plugin never worked has no version; teardown and its status are served all the same.
        let version = self.0.advertised().await.map_or_else(|_| "0.0.0-unknown".to_owned(), |advertised| advertised.version);
        let info = to_proto::plugin_info(self.0.driver.name().as_str(), &version).map_err(crate::refused::Refused::from)?;
        Ok(Response::new(info))
    }

    async fn get_plugin_capabilities(&self, _: Request<v1::GetPluginCapabilitiesRequest>) -> Result<Response<v1::GetPluginCapabilitiesResponse>, Status> {
        let advertised = self.0.advertised().await?;
        Ok(Response::new(to_proto::plugin_capabilities(Served::plugin_capabilities(&advertised))))
    }

    /// Not ready while a plugin is being loaded, never an error for it: sidecars exit on an error. A driver that is there for teardown
    /// alone is not ready either, nor is one whose plugin process keeps failing.
    async fn probe(&self, _: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        Ok(Response::new(v1::ProbeResponse { ready: Some(self.0.unready().is_none()) }))
    }
}
