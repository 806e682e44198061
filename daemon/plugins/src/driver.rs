//! One driver: the generation that serves, the reason why a later one does not, and what is remembered of it across restarts.

use crate::generation::{DriverSpec, Generation, LoadError, Promise, Workshop};
use crate::process::PluginError;
use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use windlass_plan::ids::DriverName;
use windlass_plan::plugin::NodeInfo;

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
    /// What it last said of this node: NodeGetInfo must not change because a plugin is broken.
    #[serde(default)]
    pub node: Option<NodeInfo>,
}

/// A driver, for as long as the daemon knows its name.
pub struct Driver {
    name: DriverName,
    workshop: Workshop,
    memory: PathBuf,
    current: ArcSwapOption<Generation>,
    state: Mutex<State>,
    // One load at a time; a later one waits and then finds what it wants already there.
    loading: Mutex<()>,
}

struct State {
    spec: Option<DriverSpec>,
    remembered: Option<Remembered>,
    // What this daemon advertises: fixed by the first generation that serves, until a restart (law 18).
    advertised: Option<Remembered>,
    refused: Option<Refused>,
    generations: u64,
    has_tried: bool,
    reloaded: Option<(SystemTime, Duration)>,
}

/// A component or a specification that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, for people.
    pub reason: String,
    /// When.
    pub at: SystemTime,
    /// The same files may be taken at a later try.
    pub may_pass: bool,
}

/// A look at a driver, for status.
#[derive(Debug, Clone)]
pub struct DriverView {
    /// Its name.
    pub name: DriverName,
    /// The generation that serves.
    pub generation: Option<Arc<Generation>>,
    /// What is advertised.
    pub advertised: Option<Remembered>,
    /// The latest refusal since the generation that serves came.
    pub refused: Option<Refused>,
    /// When it was loaded, and how long that took.
    pub reloaded: Option<(SystemTime, Duration)>,
    /// The specification; `None` for a driver that is kept for teardown alone.
    pub spec: Option<DriverSpec>,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("number", &self.number).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver of which nothing is loaded yet. `memory` is the file for [`Remembered`].
    pub fn new(name: DriverName, workshop: Workshop, memory: PathBuf) -> Self {
        let remembered = std::fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let state = State { spec: None, remembered, advertised: None, refused: None, generations: 0, has_tried: false, reloaded: None };
        Self { name, workshop, memory, current: ArcSwapOption::empty(), state: Mutex::new(state), loading: Mutex::new(()) }
    }

    /// Its name.
    pub fn name(&self) -> &DriverName {
        &self.name
    }

    /// The generation that serves now. A call keeps it for as long as it runs.
    pub fn generation(&self) -> Result<Arc<Generation>, PluginError> {
        self.current.load_full().ok_or_else(|| {
            let reason = self.lock().refused.as_ref().map(|refused| refused.reason.clone());
            PluginError::NoGeneration(reason.unwrap_or_else(|| "it is still being loaded".to_owned()))
        })
    }

    /// Was a load tried, whatever came of it?
    pub fn has_tried(&self) -> bool {
        self.lock().has_tried
    }

    /// What is advertised: of this daemon's first generation, or remembered from an earlier daemon.
    pub fn advertised(&self) -> Option<Remembered> {
        let state = self.lock();
        state.advertised.clone().or_else(|| state.remembered.clone())
    }

    /// Loads the component that the specification names now. On a failure the generation that served goes on serving.
    pub fn load(&self, spec: &DriverSpec) -> Result<Arc<Generation>, Arc<LoadError>> {
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let (number, advertised) = {
            let mut state = self.lock();
            state.generations += 1;
            // The try counts from its beginning: a slow one is not followed by the next at once.
            if let Some(refused) = &mut state.refused {
                refused.at = SystemTime::now();
            }
            (state.generations, state.advertised.clone())
        };
        let promise = advertised.as_ref().map(|old| Promise { exports: &old.exports, vendor: &old.vendor });
        let loaded = Generation::load(&self.workshop, spec, number, promise);
        let mut state = self.lock();
        state.has_tried = true;
        match loaded {
            Ok(generation) => {
                let generation = Arc::new(generation);
                self.adopt(&mut state, &generation);
                state.spec = Some(spec.clone());
                state.refused = None;
                state.reloaded = Some((SystemTime::now(), began.elapsed()));
                drop(state);
                let old = self.current.swap(Some(generation.clone()));
                let took = began.elapsed();
                tracing::info!(driver = %self.name, generation = number, version = generation.description.version, ?took, "a plugin serves");
                drop(old);
                Ok(generation)
            }
            Err(error) => {
                tracing::error!(driver = %self.name, serving = self.current.load().is_some(), "a plugin was refused: {error}");
                state.refused = Some(Refused { reason: error.to_string(), at: SystemTime::now(), may_pass: error.may_pass() });
                if state.spec.is_none() {
                    state.spec = Some(spec.clone());
                }
                Err(Arc::new(error))
            }
        }
    }

    /// Notes a specification that could not be read at all.
    pub fn refuse(&self, reason: String) {
        let mut state = self.lock();
        state.has_tried = true;
        tracing::error!(driver = %self.name, "a drivers.d file was refused: {reason}");
        state.refused = Some(Refused { reason, at: SystemTime::now(), may_pass: false });
    }

    /// The driver's file is gone: it serves no more, but what it staged is still taken down.
    pub fn remove(&self) {
        let mut state = self.lock();
        state.spec = None;
        state.has_tried = true;
        state.refused =
            Some(Refused { reason: "its drivers.d file is gone; it is kept for teardown alone".to_owned(), at: SystemTime::now(), may_pass: false });
        drop(state);
        self.current.store(None);
    }

    /// Was the latest load refused for a reason that may have passed, more than `age` ago?
    pub fn is_worth_another_try(&self, age: Duration) -> bool {
        let state = self.lock();
        state.refused.as_ref().is_some_and(|refused| refused.may_pass && refused.at.elapsed().is_ok_and(|since| since >= age))
    }

    /// Keeps what the plugin said of this node, for the time when it cannot say it.
    pub fn remember_node(&self, node: &NodeInfo) {
        let mut state = self.lock();
        let Some(said) = state.remembered.clone().filter(|said| said.node.as_ref() != Some(node)) else { return };
        self.remember(&mut state, Remembered { node: Some(node.clone()), ..said });
    }

    /// What the plugin last said of this node.
    pub fn remembered_node(&self) -> Option<NodeInfo> {
        self.lock().remembered.as_ref()?.node.clone()
    }

    fn remember(&self, state: &mut State, said: Remembered) {
        if let Err(error) = self.keep(&said) {
            tracing::warn!(driver = %self.name, %error, "what is known of the driver could not be kept; after a restart with a broken plugin it would be unknown");
        }
        state.remembered = Some(said);
    }

    /// For status.
    pub fn view(&self) -> DriverView {
        let state = self.lock();
        DriverView {
            name: self.name.clone(),
            generation: self.current.load_full(),
            advertised: state.advertised.clone().or_else(|| state.remembered.clone()),
            refused: state.refused.clone(),
            reloaded: state.reloaded,
            spec: state.spec.clone(),
        }
    }

    fn adopt(&self, state: &mut State, generation: &Generation) {
        let said = Remembered {
            vendor: generation.description.vendor.clone(),
            version: generation.description.version.clone(),
            exports: generation.inspection.exports.clone(),
            online_expansion: generation.description.online_expansion,
            node: state.remembered.as_ref().and_then(|remembered| remembered.node.clone()),
        };
        // What is advertised stays what the first generation has; the version moves on.
        let advertised = match state.advertised.take() {
            Some(first) => Remembered { version: said.version.clone(), ..first },
            None => said.clone(),
        };
        state.advertised = Some(advertised);
        if state.remembered.as_ref() != Some(&said) {
            self.remember(state, said);
        }
    }

    fn keep(&self, said: &Remembered) -> std::io::Result<()> {
        let temporary = self.memory.with_extension("new");
        std::fs::write(&temporary, serde_json::to_vec_pretty(said)?)?;
        std::fs::File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, &self.memory)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
