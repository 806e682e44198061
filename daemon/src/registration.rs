//! Registration with kubelet: a socket a driver in its folder, from when the driver has answered until nothing of it is left (law 17).
//!
//! Kubelet opens each socket that appears there, asks GetInfo, calls NodeGetInfo at the driver's own socket, and says what came of it. It
//! does not ask again after a refusal, so the socket is taken away then and shown anew; and also when kubelet's folder was made anew.

use crate::config::Role;
use crate::house::House;
use crate::served::Served;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use windlass_csi::registration::registration_server::{Registration, RegistrationServer};
use windlass_csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use windlass_plan::ids::DriverName;

/// What kubelet knows drivers of CSI by.
const TYPE: &str = "CSIPlugin";
/// The version of CSI that kubelet is told: it compares the first number alone.
const VERSION: &str = "1.13.0";

/// After a first refusal; doubled with each further one. Shorter would be in vain: kubelet looks once a second what has gone and come, and
/// refuses a driver that it has not forgotten yet.
const FIRST_PAUSE: Duration = Duration::from_secs(3);
/// At the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What kubelet says is cut: it comes from outside, and goes to the log and to status.
const LONGEST_REFUSAL: usize = 1000;

/// How long shutdown waits for the sockets to go: kubelet's folder may be on a disk that hangs.
const WITHDRAWING: Duration = Duration::from_secs(1);

/// The registrations of all drivers.
pub(crate) struct Registrar {
    folder: Option<PathBuf>,
    /// Held over what is done in kubelet's folder, and so never by anybody who asks.
    entries: Arc<Mutex<Entries>>,
    standings: Mutex<BTreeMap<DriverName, Standing>>,
}

#[derive(Default)]
struct Entries {
    by_driver: BTreeMap<DriverName, Entry>,
    /// The daemon ends: nothing is shown any more.
    is_closed: bool,
}

/// A driver's registration, as status shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Kubelet has not asked yet, or not said what came of it.
    Shown,
    /// Kubelet has the driver.
    Registered,
    /// Kubelet would not have it, and is asked again.
    Refused(String),
    /// The socket cannot be made, and is tried again.
    Failed(String),
}

#[derive(Default)]
struct Entry {
    shown: Option<Shown>,
    /// Why it is not registered, as far as anything is known.
    trouble: Option<Standing>,
    pause: Duration,
    not_before: Option<Instant>,
}

/// A socket in kubelet's folder.
struct Shown {
    path: PathBuf,
    identity: (u64, u64),
    said: watch::Receiver<Option<Result<(), String>>>,
    // Dropped, it ends the service.
    _stop: watch::Sender<()>,
}

impl Registrar {
    /// With no folder, there is no kubelet to register with.
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, entries: Arc::default(), standings: Mutex::default() }
    }

    /// Shows what should be seen, takes away what should not, and shows anew what kubelet refused or lost. Again and again, on a thread:
    /// kubelet's folder may be on a disk that hangs.
    pub(crate) fn tend(&self, house: &House) {
        let Some(folder) = &self.folder else { return };
        for served in house.all().iter().filter(|served| served.has_role(Role::Node)) {
            let name = served.driver.name();
            // Kubelet calls NodeGetInfo at the driver's own socket.
            let is_wanted = served.is_listening() && (served.driver.generation().is_ok() || house.has_something_of(name));
            let mut entries = lock(&self.entries);
            if entries.is_closed {
                return;
            }
            let entry = entries.by_driver.entry(name.clone()).or_default();
            entry.tend(folder, served, is_wanted);
            let standing = entry.standing();
            drop(entries);
            let mut standings = lock(&self.standings);
            match standing {
                Some(standing) => drop(standings.insert(name.clone(), standing)),
                None => drop(standings.remove(name)),
            }
        }
    }

    /// How a driver's registration was a moment ago; `None` where there is none.
    pub(crate) fn standing(&self, driver: &DriverName) -> Option<Standing> {
        lock(&self.standings).get(driver).cloned()
    }

    /// Takes all sockets away for good: kubelet forgets the drivers until the next daemon shows them.
    pub(crate) fn withdraw(&self) {
        let (entries, (done, over)) = (self.entries.clone(), channel::<()>());
        let withdraw = move || {
            let mut entries = lock(&entries);
            entries.is_closed = true;
            entries.by_driver.values_mut().for_each(Entry::withdraw);
            drop(done);
        };
        if let Err(error) = std::thread::Builder::new().name("withdraw".into()).stack_size(128 << 10).spawn(withdraw) {
            tracing::warn!(%error, "no thread to take the registration sockets away; kubelet will find nobody behind them");
        }
        if over.recv_timeout(WITHDRAWING) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("kubelet's folder does not answer; its registration sockets stay");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    fn standing(&self) -> Option<Standing> {
        let said = self.shown.as_ref().map(|shown| shown.said.borrow().clone());
        match said {
            Some(Some(Ok(()))) => Some(Standing::Registered),
            Some(Some(Err(why))) => Some(Standing::Refused(why)),
            Some(None) => Some(self.trouble.clone().unwrap_or(Standing::Shown)),
            None => self.trouble.clone(),
        }
    }

    fn tend(&mut self, folder: &Path, served: &Arc<Served>, is_wanted: bool) {
        let driver = served.driver.name();
        if !is_wanted {
            self.withdraw();
            *self = Self::default();
            return;
        }
        if let Some(shown) = &self.shown {
            let said = shown.said.borrow().clone();
            match said {
                Some(Err(why)) => {
                    self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    tracing::warn!(%driver, again_in = ?self.pause, "kubelet does not take the driver: {why}");
                    self.not_before = Some(Instant::now() + self.pause);
                    self.trouble = Some(Standing::Refused(why));
                    self.withdraw();
                }
                _ if !shown.is_there() => {
                    tracing::info!(%driver, "the registration socket is gone from kubelet's folder; it is made anew");
                    self.shown = None;
                }
                Some(Ok(())) => (self.trouble, self.pause) = (None, Duration::ZERO),
                None => {}
            }
        }
        if self.shown.is_some() || self.not_before.is_some_and(|at| Instant::now() < at) {
            return;
        }
        match show(folder, served) {
            Ok(shown) => {
                tracing::info!(%driver, socket = %shown.path.display(), "shown to kubelet");
                self.shown = Some(shown);
                if let Some(Standing::Failed(_)) = self.trouble {
                    self.trouble = None;
                }
            }
            Err(problem) => {
                // A kubelet that has not run yet has no folder: said once, and tried for ever.
                if self.trouble != Some(Standing::Failed(problem.clone())) {
                    tracing::warn!(%driver, "the driver cannot be shown to kubelet: {problem}");
                    self.trouble = Some(Standing::Failed(problem));
                }
            }
        }
    }

    fn withdraw(&mut self) {
        if let Some(shown) = self.shown.take()
            && shown.is_there()
            && let Err(error) = std::fs::remove_file(&shown.path)
        {
            tracing::warn!(socket = %shown.path.display(), %error, "a registration socket stays; kubelet will find nobody behind it");
        }
    }
}

impl Shown {
    /// Is the file at the path still ours?
    fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|seen| (seen.dev(), seen.ino()) == self.identity)
    }
}

/// Makes a driver's socket appear, with somebody behind it from the first moment: under a name that kubelet passes over, then by rename,
/// which also takes the place of one that a dead daemon left.
fn show(folder: &Path, served: &Arc<Served>) -> Result<Shown, String> {
    let driver = served.driver.name();
    is_kubelets(folder)?;
    let path = folder.join(format!("{driver}-reg.sock"));
    let hidden = folder.join(format!(".{driver}-reg.sock"));
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    match std::fs::remove_file(&hidden) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener =
        UnixListener::bind(&hidden).map_err(|error| format!("cannot listen on {} ({error}); a socket's path has 107 bytes at the most", hidden.display()))?;
    std::fs::set_permissions(&hidden, PermissionsExt::from_mode(0o600)).map_err(failed)?;
    let seen = std::fs::symlink_metadata(&hidden).map_err(failed)?;
    let (tell, said) = watch::channel(None);
    let (stop, mut stopped) = watch::channel(());
    let service = Service { served: served.clone(), tell };
    let router = tonic::transport::Server::builder().add_service(RegistrationServer::new(service));
    tokio::spawn(async move {
        let ends = async move { while stopped.changed().await.is_ok() {} };
        if let Err(error) = router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), ends).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a registration socket failed");
        }
    });
    if let Err(problem) = is_nobodys(&path).and_then(|()| std::fs::rename(&hidden, &path).map_err(failed)) {
        let _gone = std::fs::remove_file(&hidden);
        return Err(problem);
    }
    Ok(Shown { path, identity: (seen.dev(), seen.ino()), said, _stop: stop })
}

/// Is there nobody behind the socket at the path, or no socket? Two daemons would take it from each other for ever.
fn is_nobodys(path: &Path) -> Result<(), String> {
    match UnixStream::connect(path) {
        Ok(_) => Err(format!("another process serves {}; a driver is registered with kubelet by one daemon", path.display())),
        Err(_) => Ok(()),
    }
}

/// Kubelet makes the folder. One that others could write to is refused: whoever may put a socket there may pass for a driver.
fn is_kubelets(folder: &Path) -> Result<(), String> {
    let seen = std::fs::metadata(folder).map_err(|error| format!("kubelet's folder {} (`kubelet.registry`): {error}", folder.display()))?;
    let (owner, mode) = (seen.uid(), seen.mode() & 0o7777);
    if !seen.is_dir() || owner != nix::unistd::geteuid().as_raw() || mode & 0o022 != 0 {
        return Err(format!(
            "{} (`kubelet.registry`) has to be a folder of ours that nobody else may write to; it belongs to user {owner}, with mode {mode:o}",
            folder.display()
        ));
    }
    Ok(())
}

/// What kubelet asks and says. Nothing here waits for anybody.
struct Service {
    served: Arc<Served>,
    tell: watch::Sender<Option<Result<(), String>>>,
}

#[tonic::async_trait]
impl Registration for Service {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: TYPE.to_owned(),
            name: self.served.driver.name().to_string(),
            endpoint: self.served.socket().display().to_string(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(&self, said: Request<RegistrationStatus>) -> Result<Response<RegistrationStatusResponse>, Status> {
        let said = said.into_inner();
        let outcome = if said.plugin_registered {
            tracing::info!(driver = %self.served.driver.name(), "registered with kubelet");
            Ok(())
        } else {
            Err(said.error.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REFUSAL).collect())
        };
        self.tell.send_replace(Some(outcome));
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
