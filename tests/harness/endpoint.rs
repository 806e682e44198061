//! One driver of a daemon, as its callers see it: a socket, and the daemon's folder.

use crate::vm::Vm;
use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Changes a request on its way to the daemon, or (as a `Result` of the response and `Status`) the answer on its way back: so that a test can show that a check
/// finds a daemon out that does wrong.
pub type Meddler = Arc<dyn Fn(&mut dyn Any) + Send + Sync>;

/// A driver's socket. A [`crate::Daemon`] is one too: that of [`crate::DRIVER`].
#[derive(Clone)]
pub struct Endpoint {
    folder: PathBuf,
    driver: String,
    guest: Option<Guest>,
    meddler: Option<Meddler>,
}

/// A daemon in a virtual machine: its folder is there, its sockets are led to this machine.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) vm: Arc<Vm>,
    /// `csi` of the daemon's folder, as it looks from here.
    pub(crate) sockets: PathBuf,
}

impl Endpoint {
    /// A driver of the daemon on this machine whose folder this is.
    pub fn new(folder: &Path, driver: &str) -> Self {
        Self { folder: folder.to_owned(), driver: driver.to_owned(), guest: None, meddler: None }
    }

    pub(crate) fn in_guest(folder: &Path, driver: &str, guest: Guest) -> Self {
        Self { guest: Some(guest), ..Self::new(folder, driver) }
    }

    /// All calls from here on go by way of the meddler.
    pub(crate) fn put_between(&mut self, meddler: Meddler) {
        self.meddler = Some(meddler);
    }

    pub(crate) fn meddle(&self, message: &mut dyn Any) {
        if let Some(meddler) = &self.meddler {
            meddler(message);
        }
    }

    /// Another driver of the same daemon.
    pub fn driver(&self, name: &str) -> Self {
        Self { driver: name.to_owned(), ..self.clone() }
    }

    /// Makes folders where the daemon runs, as an orchestrator makes a staging path.
    pub fn make_folders(&self, paths: &[&str]) -> std::io::Result<()> {
        match &self.guest {
            None => paths.iter().try_for_each(std::fs::create_dir_all),
            Some(guest) => {
                guest.vm.run(&[&["/bin/busybox", "mkdir", "-p"], paths].concat());
                Ok(())
            }
        }
    }

    /// The daemon's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in the daemon's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The driver's socket, as this machine sees it.
    pub fn socket(&self) -> PathBuf {
        let sockets = self.guest.as_ref().map_or_else(|| self.path("csi"), |guest| guest.sockets.clone());
        sockets.join(&self.driver).join("csi.sock")
    }
}
