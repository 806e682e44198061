//! gRPC's health checking on a driver's socket: it serves while its plugin does.

use crate::config::Role;
use crate::refused::Refused;
use crate::served::Served;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use windlass_csi::health::health_check_response::ServingStatus;
use windlass_csi::health::health_server::Health;
use windlass_csi::health::{HealthCheckRequest, HealthCheckResponse};

/// Between two looks for those who watch.
const LOOK: Duration = Duration::from_millis(500);

/// The service `grpc.health.v1.Health` of one driver.
pub(crate) struct HealthService(pub(crate) Arc<Served>);

/// How a service of the driver is; `None` where there is no such service.
fn status(served: &Served, service: &str) -> Option<ServingStatus> {
    let is_there = match service {
        "" | "csi.v1.Identity" => true,
        "csi.v1.Controller" => served.has_role(Role::Controller),
        "csi.v1.Node" => served.has_role(Role::Node),
        _ => false,
    };
    is_there.then(|| if served.unready().is_none() { ServingStatus::Serving } else { ServingStatus::NotServing })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match status(&self.0, &request.into_inner().service) {
            Some(status) => Ok(Response::new(response(status))),
            None => Err(Refused::NoSuchService.into()),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (served, service) = (self.0.clone(), request.into_inner().service);
        let (to, changes) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut last = None;
            // Whoever watched and has gone is noticed at the next look.
            while !to.is_closed() {
                let now = status(&served, &service).unwrap_or(ServingStatus::ServiceUnknown);
                if last.replace(now) != Some(now) && to.send(Ok(response(now))).await.is_err() {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(changes))))
    }
}
