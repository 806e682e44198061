//! Runs a driver's logic in `cargo test`, without daemon, root or cluster, and checks its answers as the daemon would.

mod calls;
mod clusters;
mod copies;
mod folders;

use crate::host::Imports;
use crate::{Clusters, Context, Files, Host, Level};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// An operator's configuration and grants, simulated. Files and images live in memory and are as sparse as can be.
///
/// Where an answer is one that the daemon refuses whatever the caller asked (an id that is too long, a folder that was not
/// granted, a plan that differs from call to call), the method panics and says which rule was broken.
#[derive(Default)]
pub struct Harness {
    config: Context,
    addresses: Vec<String>,
    secrets: Context,
    folders: RefCell<BTreeMap<String, folders::Simulated>>,
    clusters: RefCell<BTreeMap<String, clusters::Cluster>>,
    lines: RefCell<Vec<(Level, String)>>,
}

impl Harness {
    /// No configuration and no grant.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more key of the `[config]` table.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.config = self.config.with(key, value);
        self
    }

    /// One more IP address from which the simulated node reaches clusters.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// Lines that were logged so far.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.lines.borrow().clone()
    }

    fn host(&self) -> Host<'_> {
        Host { imports: self }
    }

    fn granted_files(&self) -> Files<'_> {
        Files { imports: self }
    }

    fn granted_clusters(&self) -> Clusters<'_> {
        Clusters { imports: self }
    }
}

impl Imports for Harness {
    fn config(&self, key: &str) -> Option<String> {
        self.config.get(key).map(str::to_owned)
    }
    fn log(&self, level: Level, line: &str) {
        self.lines.borrow_mut().push((level, line.to_owned()));
    }
}
