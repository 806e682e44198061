//! One driver of a daemon, as its callers see it: a socket, and the daemon's folder.

use std::path::{Path, PathBuf};

/// A driver's socket. A [`crate::Daemon`] is one too: that of [`crate::DRIVER`].
#[derive(Clone)]
pub struct Endpoint {
    folder: PathBuf,
    driver: String,
}

impl Endpoint {
    pub(crate) fn new(folder: &Path, driver: &str) -> Self {
        Self { folder: folder.to_owned(), driver: driver.to_owned() }
    }

    /// Another driver of the same daemon.
    pub fn driver(&self, name: &str) -> Self {
        Self::new(&self.folder, name)
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

    /// The driver's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("csi").join(&self.driver).join("csi.sock")
    }
}
