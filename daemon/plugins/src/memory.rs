//! What is remembered of a driver across restarts: written by a thread of its own, so that a disk that hangs holds up nobody who asks.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use windlass_plan::plugin::NodeInfo;

/// How long whoever has something to remember waits for the disk. A healthy one needs milliseconds; with another the daemon goes on.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a driver said of itself and what is advertised of it; kept in /var/lib, so that teardown and Identity work when its plugin is
/// broken or gone (law 17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The vendor.
    pub vendor: String,
    /// `vendor_version` of the generation that served last.
    pub version: String,
    /// The interfaces that are advertised.
    pub exports: Vec<String>,
    /// Volumes grow while they are in use.
    pub online_expansion: bool,
    /// Volumes are made from other volumes.
    #[serde(default)]
    pub clones: bool,
    /// What it last said of this node: NodeGetInfo must not change because a plugin is broken.
    #[serde(default)]
    pub node: Option<NodeInfo>,
}

/// The memory of one driver. Its lock is never held while the disk is asked.
pub(crate) struct Memory {
    driver: String,
    file: PathBuf,
    state: Mutex<State>,
    is_quiet: Condvar,
}

struct State {
    latest: Option<Remembered>,
    is_unwritten: bool,
    is_writing: bool,
}

impl Memory {
    /// What an earlier daemon left in the file.
    pub(crate) fn open(driver: String, file: PathBuf) -> Arc<Self> {
        let latest = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Arc::new(Self { driver, file, state: Mutex::new(State { latest, is_unwritten: false, is_writing: false }), is_quiet: Condvar::new() })
    }

    /// What is remembered.
    pub(crate) fn latest(&self) -> Option<Remembered> {
        self.lock().latest.clone()
    }

    /// Remembers what `change` makes of what is remembered, and waits a moment for it to be on the disk. Not for async code.
    pub(crate) fn keep(self: &Arc<Self>, change: impl FnOnce(Option<&Remembered>) -> Option<Remembered>) {
        let mut state = self.lock();
        let changed = change(state.latest.as_ref());
        if changed == state.latest {
            return;
        }
        (state.latest, state.is_unwritten) = (changed, true);
        if !state.is_writing {
            let own = self.clone();
            match std::thread::Builder::new().name("remember".into()).spawn(move || own.write_all()) {
                Ok(_) => state.is_writing = true,
                Err(error) => self.complain(&error),
            }
        }
        drop(self.is_quiet.wait_timeout_while(state, PATIENCE, |state| state.is_writing));
    }

    /// Writes the latest until there is nothing later.
    fn write_all(&self) {
        loop {
            let said = {
                let mut state = self.lock();
                if !state.is_unwritten {
                    state.is_writing = false;
                    self.is_quiet.notify_all();
                    return;
                }
                state.is_unwritten = false;
                state.latest.clone()
            };
            if let Some(Err(error)) = said.map(|said| self.write(&said)) {
                self.complain(&error);
            }
        }
    }

    fn write(&self, said: &Remembered) -> io::Result<()> {
        let temporary = self.file.with_extension("new");
        std::fs::write(&temporary, serde_json::to_vec_pretty(said)?)?;
        std::fs::File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, &self.file)
    }

    fn complain(&self, error: &io::Error) {
        tracing::warn!(driver = self.driver, %error, "what is known of the driver could not be kept; after a restart with a broken plugin it would be unknown");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(version: &str) -> Remembered {
        Remembered { vendor: "v".into(), version: version.into(), exports: Vec::new(), online_expansion: false, clones: false, node: None }
    }

    #[test]
    fn the_latest_is_found_again_and_a_file_that_hangs_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("d.json");
        let open = || Memory::open("d".into(), file.clone());
        let memory = open();
        memory.keep(|_| Some(said("1")));
        memory.keep(|old| old.map(|old| Remembered { version: format!("{}.1", old.version), ..old.clone() }));
        assert_eq!((memory.latest(), open().latest()), (Some(said("1.1")), Some(said("1.1"))));

        // A fifo without a reader: whoever opens it to write waits.
        nix::unistd::mkfifo(&file.with_extension("new"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let began = std::time::Instant::now();
        for version in ["2", "3"] {
            memory.keep(|_| Some(said(version)));
            assert_eq!(memory.latest(), Some(said(version)));
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(memory.lock().is_writing);
        drop(std::fs::File::open(file.with_extension("new")).unwrap());
    }
}
