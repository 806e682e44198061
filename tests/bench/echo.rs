//! A plain gRPC server on a unix socket that answers at once: what a hop costs when nobody does anything for it.

use std::path::Path;
use tokio::net::UnixListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use windlass_csi::health::health_client::HealthClient;
use windlass_csi::health::health_server::{Health, HealthServer};
use windlass_csi::health::{HealthCheckRequest, HealthCheckResponse};

struct Echo;

#[tonic::async_trait]
impl Health for Echo {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = std::pin::Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches an echo"))
    }
}

/// Serves in threads of its own, two as the daemon has, for as long as this process lives.
pub(crate) fn serve(path: &Path) -> anyhow::Result<()> {
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    std::thread::Builder::new().name("echo".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let incoming = UnixListenerStream::new(UnixListener::from_std(listener).expect("a listener"));
            tonic::transport::Server::builder().add_service(HealthServer::new(Echo)).serve_with_incoming(incoming).await.expect("it serves");
        });
    })?;
    Ok(())
}

/// A client of it.
pub(crate) async fn client(path: &Path) -> anyhow::Result<HealthClient<tonic::transport::Channel>> {
    Ok(HealthClient::new(windlass_csi::client::connect(path).await?))
}
