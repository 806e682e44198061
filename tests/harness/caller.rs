//! A caller as the components of an orchestrator are: it keeps one connection for as long as it runs or opens one for each call, and has deadlines of its own.

use crate::Endpoint;
use crate::calls::{as_others_say, timed};
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::{Channel, Endpoint as Target};
use windlass_csi::v1::identity_client::IdentityClient;
use windlass_csi::v1::{GetPluginInfoRequest, ProbeRequest};

/// How long sidecars wait between two Probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// One component.
#[derive(Clone)]
pub struct Caller {
    socket: PathBuf,
    patience: Duration,
    runtime: Arc<Runtime>,
    kept: Option<Channel>,
    connections: Arc<AtomicUsize>,
}

impl Caller {
    /// A sidecar: one connection, which is there from here on. It exits where that is lost; see [`Caller::connections`].
    #[track_caller]
    pub fn sidecar(driver: &Endpoint, patience: Duration) -> Self {
        let mut caller = Self::kubelet(driver, patience);
        let connected = caller.runtime.block_on(connect(&caller.socket, &caller.connections));
        caller.kept = Some(connected.expect("a connection"));
        caller
    }

    /// Kubelet, and livenessprobe: a connection for each call, closed after it.
    pub fn kubelet(driver: &Endpoint, patience: Duration) -> Self {
        // In the background, as connections of others are: what the far end says between two calls is heard.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        Self { socket: driver.socket(), patience, runtime: Arc::new(runtime), kept: None, connections: Arc::default() }
    }

    /// The same component with the deadline that it has for other calls.
    pub fn within(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// How often it has connected. One more than once is what a sidecar does not survive.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Probe: ready, or not ready yet.
    pub fn probe(&self) -> Result<bool, Status> {
        self.call(async |channel, patience| {
            let answer = IdentityClient::new(channel).probe(timed(ProbeRequest {}, patience)).await?;
            Ok(answer.into_inner().ready.unwrap_or(true))
        })
    }

    /// Probes each second until the driver is ready. Anything but "not yet" is where a sidecar exits.
    #[track_caller]
    pub fn wait_ready(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.probe().unwrap_or_else(|status| panic!("Probe: a sidecar exits on {status}")) {
            assert!(Instant::now() < until, "the driver is not ready within a minute");
            std::thread::sleep(PROBE_INTERVAL);
        }
    }

    /// The driver's name, as GetPluginInfo says it.
    pub fn driver_name(&self) -> Result<String, Status> {
        self.get_plugin_info(GetPluginInfoRequest {}).map(|info| info.name)
    }

    /// Makes a call, with the component's connection and deadline.
    pub(crate) fn call<T>(&self, call: impl AsyncFnOnce(Channel, Duration) -> Result<T, Status>) -> Result<T, Status> {
        self.runtime.block_on(async {
            let channel = match &self.kept {
                Some(channel) => channel.clone(),
                None => connect(&self.socket, &self.connections).await.map_err(|error| Status::unavailable(format!("no connection: {error}")))?,
            };
            call(channel, self.patience).await.map_err(as_others_say)
        })
    }
}

/// With the name that Go's library has.
async fn connect(socket: &Path, connections: &Arc<AtomicUsize>) -> Result<Channel, tonic::transport::Error> {
    let (socket, connections) = (socket.to_owned(), connections.clone());
    let connector = tower::service_fn(move |_| {
        connections.fetch_add(1, Ordering::Relaxed);
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Target::from_static("http://localhost").user_agent("grpc-go/1.79.0")?.connect_with_connector(connector).await
}
