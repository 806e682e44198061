//! `windlass serve`: builds the house, listens on one socket a driver, follows changes, and ends cleanly.

use crate::admin;
use crate::authority::Named;
use crate::config::{Config, Role, Signatures};
use crate::health::HealthService;
use crate::house::House;
use crate::http;
use crate::refused::Refused;
use crate::served::Served;
use crate::service::controller::ControllerService;
use crate::service::identity::IdentityService;
use crate::service::node::NodeService;
use anyhow::Context;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;
use windlass_csi::health::health_server::HealthServer;
use windlass_csi::v1::controller_server::ControllerServer;
use windlass_csi::v1::identity_server::IdentityServer;
use windlass_csi::v1::node_server::NodeServer;
use windlass_plugins::watch::Watch;

/// Between two looks at what is idle, and at what was refused.
const TICK: Duration = Duration::from_secs(1);

/// Between two looks at what kubelet is shown.
const SHOWING: Duration = Duration::from_millis(500);

/// The log goes to standard error; `WINDLASS_LOG` chooses what, `info` if it does not.
pub(crate) fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WINDLASS_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(file: &Path) -> anyhow::Result<()> {
    log();
    let config = Config::read(file)?;
    let running = Running::start(config)?;
    running.wait()?;
    running.stop();
    Ok(())
}

/// A daemon that serves.
pub(crate) struct Running {
    pub(crate) house: Arc<House>,
    runtime: tokio::runtime::Runtime,
    shutdown: watch::Sender<bool>,
    asked_to_end: watch::Receiver<bool>,
    sockets: Vec<PathBuf>,
    _watch: Arc<Watch>,
    _lock: File,
}

impl Running {
    /// Takes the daemon's lock, forks the workers, listens, and loads the plugins in the background.
    pub(crate) fn start(config: Config) -> anyhow::Result<Self> {
        own_folder(&config.run, "run")?;
        let lock = lock(&config.run)?;
        if config.signatures == Signatures::Off {
            tracing::warn!("SIGNATURES ARE OFF: whoever can write a component's file decides what runs in the sandbox; no `keys` are looked at");
        }
        let house = House::build(config)?;
        // A thread a call that waits: as many as volumes may hang, and then some. They cost a stack each, only while they wait.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(2048).thread_stack_size(1 << 20).enable_all().build()?;
        let (shutdown, ends) = watch::channel(false);
        let guard = runtime.enter();
        // Before anything is there that would have to be taken down.
        let asked_to_end = signals()?;
        let mut sockets = Vec::new();
        house.survey();
        house.find_drivers()?;
        house.recover();
        // First: who finds a driver's socket may ask for the daemon's status.
        sockets.push(admin::listen(&house, ends.clone())?);
        for served in house.all() {
            // One driver that cannot have its socket (a path that is too long) is no reason for the others to have none.
            match listen(&served, ends.clone()) {
                Ok(socket) => sockets.push(socket),
                Err(error) => tracing::error!(driver = %served.driver.name(), "the driver cannot be served: {error:#}"),
            }
        }
        let watch = follow(&house, &ends)?;
        let (idle, refused, shown) = (house.clone(), house.clone(), house.clone());
        tokio::spawn(every(TICK, move || idle.end_idle()));
        tokio::spawn(every(TICK, move || refused.try_again()));
        tokio::spawn(every(SHOWING, move || shown.registrar.tend(&shown)));
        if let Some(address) = house.config.http {
            http::listen(&house, address, ends.clone())?;
        }
        drop(guard);
        Ok(Self { house, runtime, shutdown, asked_to_end, sockets, _watch: watch, _lock: lock })
    }

    /// Waits for SIGINT or SIGTERM.
    pub(crate) fn wait(&self) -> anyhow::Result<()> {
        let mut asked = self.asked_to_end.clone();
        self.runtime.block_on(async { asked.wait_for(|asked| *asked).await.map(drop) }).context("the signals cannot be waited for")
    }

    /// Has one of them come?
    pub(crate) fn is_asked_to_end(&self) -> bool {
        *self.asked_to_end.borrow()
    }

    /// Stops listening, and gives running calls a moment to end.
    pub(crate) fn close(&self, patience: Duration) {
        let _ = self.shutdown.send(true);
        self.house.registrar.withdraw();
        let until = Instant::now() + patience;
        while !self.house.claims.going().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Leaves every volume as it is (promise 4). Work that hangs is left to its worker; the next daemon starts beside it.
    pub(crate) fn stop(self) {
        self.close(Duration::from_secs(5));
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
        self.runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

/// Becomes true with the first SIGINT or SIGTERM.
fn signals() -> anyhow::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (tell, asked) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        tell.send_replace(true);
        // Kept: who asks later is told as well.
        tell.closed().await;
    });
    Ok(asked)
}

/// Has something done again and again on a thread, one at a time: what takes longer than the period is not begun a second time.
async fn every(period: Duration, work: impl Fn() + Send + Sync + 'static) {
    let work = Arc::new(work);
    loop {
        tokio::time::sleep(period).await;
        let (work, (done, over)) = (work.clone(), tokio::sync::oneshot::channel::<()>());
        crate::claims::on_a_thread(move || {
            work();
            drop(done);
        });
        let _ = over.await;
    }
}

/// One daemon a run folder. The kernel frees the lock when the daemon dies; workers do not inherit it.
fn lock(run: &Path) -> anyhow::Result<File> {
    let path = run.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => {
            anyhow::bail!("another windlass daemon runs with the folder {}; stop it first, or give this one another `run` folder and `instance`", run.display())
        }
    }
}

/// Listens for one driver: a socket that only root can reach, in a folder that only root can enter.
fn listen(served: &Arc<Served>, mut ends: watch::Receiver<bool>) -> anyhow::Result<PathBuf> {
    let folder = served.house.config.sockets.join(served.driver.name().as_str());
    let path = served.socket();
    let listener = bind(&folder, "sockets", &path)?;
    let mut routes = Routes::new(IdentityServer::new(IdentityService(served.clone())));
    routes = routes.add_service(HealthServer::new(HealthService(served.clone())));
    if served.has_role(Role::Controller) {
        routes = routes.add_service(ControllerServer::new(ControllerService(served.clone())));
    }
    if served.has_role(Role::Node) {
        routes = routes.add_service(NodeServer::new(NodeService(served.clone())));
    }
    // Of a service that is not here tonic says nothing but the code, and every error has to have words.
    let router = routes.axum_router_mut();
    *router = std::mem::take(router).fallback(not_served);
    let router = Server::builder().add_routes(routes);
    let driver = served.driver.name().clone();
    tracing::info!(%driver, socket = %path.display(), "listening");
    served.listens();
    let incoming = UnixListenerStream::new(listener).map(|connection| connection.map(Named::new));
    tokio::spawn(async move {
        let stop = async move { drop(ends.wait_for(|ends| *ends).await) };
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, stop).await {
            tracing::error!(%driver, error = &error as &dyn std::error::Error, "the driver's socket failed");
        }
    });
    Ok(path)
}

async fn not_served() -> tonic::codegen::http::Response<tonic::body::Body> {
    let status: tonic::Status = Refused::NotOffered("that service, in the role that this daemon has").into();
    status.into_http()
}

/// Makes a folder that nobody else can enter. One that is there stays as it is, and is refused where others can write to it: they could
/// put a socket of their own in the place of ours.
fn own_folder(folder: &Path, key: &str) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| format!("cannot make the folder {} (`{key}`)", folder.display()))?;
    let seen = std::fs::metadata(folder).with_context(|| format!("cannot look at the folder {} (`{key}`)", folder.display()))?;
    let mode = seen.mode() & 0o7777;
    anyhow::ensure!(
        seen.uid() == nix::unistd::geteuid().as_raw() && mode & 0o022 == 0,
        "the folder {} (`{key}`) belongs to user {} and has the mode {mode:o}; it has to be ours, and nobody else may write to it: \
         let `{key}` name a folder of the daemon's own",
        folder.display(),
        seen.uid()
    );
    Ok(())
}

/// Binds a socket with mode 0600 in a folder of ours, in place of one that a dead daemon left (the lock says that it is dead).
pub(crate) fn bind(folder: &Path, key: &str, path: &Path) -> anyhow::Result<UnixListener> {
    own_folder(folder, key)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot take the place of {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}; a socket's path has 107 bytes at the most", path.display()))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Loads every driver now, and again whenever its files change. New drivers get their sockets as they appear.
fn follow(house: &Arc<House>, ends: &watch::Receiver<bool>) -> anyhow::Result<Arc<Watch>> {
    let runtime = tokio::runtime::Handle::current();
    let slot: Arc<std::sync::OnceLock<Arc<Watch>>> = Arc::default();
    let look = {
        let (house, ends, slot) = (house.clone(), ends.clone(), slot.clone());
        move || {
            let _in = runtime.enter();
            match house.find_drivers() {
                Ok(new) => {
                    for served in new {
                        if let Err(error) = listen(&served, ends.clone()) {
                            tracing::error!(driver = %served.driver.name(), "a new driver cannot be served: {error:#}");
                        }
                    }
                }
                Err(error) => tracing::error!("the drivers cannot be looked for: {error}"),
            }
            // Again when a folder is new to the watch: what happened in it while it was looked at would be missed.
            while slot.get().is_some_and(|watch| watch.set(house.look())) {}
        }
    };
    let watch = Arc::new(Watch::start(look.clone()).context("cannot watch for changes")?);
    let _ = slot.set(watch.clone());
    // Watched before it is looked at: what changes in between is seen twice, not missed.
    watch.set([house.config.drivers.clone()].into());
    std::thread::Builder::new().name("load".into()).spawn(look)?;
    Ok(watch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_folder_that_is_there_is_left_as_it_is_and_one_that_others_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        for (given, is_good) in [(None, true), (Some(0o700), true), (Some(0o755), true), (Some(0o1777), false), (Some(0o770), false)] {
            let path = folder.path().join(format!("{given:?}"));
            if let Some(given) = given {
                std::fs::create_dir(&path).unwrap();
                std::fs::set_permissions(&path, PermissionsExt::from_mode(given)).unwrap();
            }
            let answer = own_folder(&path, "run");
            assert_eq!(answer.is_ok(), is_good, "{given:?}: {answer:?}");
            assert_eq!(mode(&path), given.unwrap_or(0o700));
            assert!(answer.is_ok() || answer.unwrap_err().to_string().contains("`run`"));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_takes_longer_than_its_period_is_not_begun_twice() {
        let counts = Arc::new([const { AtomicU32::new(0) }; 3]);
        let seen = counts.clone();
        let ticks = tokio::spawn(every(Duration::from_millis(1), move || {
            let [now, most, done] = &*seen;
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(10));
            now.fetch_sub(1, Ordering::SeqCst);
            done.fetch_add(1, Ordering::SeqCst);
        }));
        while counts[2].load(Ordering::SeqCst) < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ticks.abort();
        assert_eq!(counts[1].load(Ordering::SeqCst), 1);
    }
}
