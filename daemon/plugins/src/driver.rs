//! One driver: the generation that serves, the reason why a later one does not, and what is remembered of it across restarts.

use crate::floor::{Floor, FloorError};
use crate::generation::{DriverSpec, Generation, LoadError, Promise, Workshop};
use crate::memory::Memory;
pub use crate::memory::Remembered;
use crate::process::PluginError;
use arc_swap::ArcSwapOption;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use windlass_plan::ids::DriverName;
use windlass_plan::plugin::NodeInfo;

/// A driver, for as long as the daemon knows its name.
pub struct Driver {
    name: DriverName,
    workshop: Workshop,
    memory: Arc<Memory>,
    floor: Floor,
    current: ArcSwapOption<Generation>,
    // Held for a moment only, and never while anything is done: async code asks too.
    state: Mutex<State>,
    // One load at a time; a later one waits and then finds what it wants already there.
    loading: Mutex<()>,
}

struct State {
    spec: Option<DriverSpec>,
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
    /// A driver of which nothing is loaded yet. `memory` is the file for [`Remembered`], `floor` the one for the highest version that served.
    pub fn new(name: DriverName, workshop: Workshop, memory: PathBuf, floor: PathBuf) -> Self {
        let floor = Floor::new(name.to_string(), floor);
        let memory = Memory::open(name.to_string(), memory);
        let state = State { spec: None, advertised: None, refused: None, generations: 0, has_tried: false, reloaded: None };
        Self { name, workshop, memory, floor, current: ArcSwapOption::empty(), state: Mutex::new(state), loading: Mutex::new(()) }
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
        let advertised = self.lock().advertised.clone();
        advertised.or_else(|| self.memory.latest())
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
        let promise = advertised.as_ref().map(|old| Promise { exports: &old.exports, clones: old.clones, vendor: &old.vendor });
        let loaded = Generation::load(&self.workshop, spec, number, promise, Some(&self.floor));
        match loaded {
            Ok(generation) => {
                let generation = Arc::new(generation);
                let said = said(&generation);
                self.memory.keep(|old| Some(Remembered { node: old.and_then(|old| old.node.clone()), ..said.clone() }));
                let mut state = self.lock();
                // What is advertised stays what the first generation has; the version moves on.
                state.advertised = Some(match state.advertised.take() {
                    Some(first) => Remembered { version: said.version, ..first },
                    None => said,
                });
                state.has_tried = true;
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
                let mut state = self.lock();
                state.has_tried = true;
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

    /// The operator's word that the next version may be lower than what has served; says which that is. Waits for the disk.
    pub fn allow_downgrade(&self) -> Result<Option<String>, FloorError> {
        self.floor.allow_lower()
    }

    /// Was the latest load refused?
    pub fn is_refused(&self) -> bool {
        self.lock().refused.is_some()
    }

    /// Was the latest load refused for a reason that may have passed, more than `age` ago?
    pub fn is_worth_another_try(&self, age: Duration) -> bool {
        let state = self.lock();
        state.refused.as_ref().is_some_and(|refused| refused.may_pass && refused.at.elapsed().is_ok_and(|since| since >= age))
    }

    /// Keeps what the plugin said of this node, for the time when it cannot say it.
    pub fn remember_node(&self, node: &NodeInfo) {
        self.memory.keep(|old| old.map(|old| Remembered { node: Some(node.clone()), ..old.clone() }));
    }

    /// What the plugin last said of this node.
    pub fn remembered_node(&self) -> Option<NodeInfo> {
        self.memory.latest()?.node
    }

    /// For status.
    pub fn view(&self) -> DriverView {
        let advertised = self.advertised();
        let state = self.lock();
        DriverView {
            name: self.name.clone(),
            generation: self.current.load_full(),
            advertised,
            refused: state.refused.clone(),
            reloaded: state.reloaded,
            spec: state.spec.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is advertised of a generation, and remembered but for the node.
fn said(generation: &Generation) -> Remembered {
    Remembered {
        vendor: generation.description.vendor.clone(),
        version: generation.description.version.clone(),
        exports: generation.inspection.exports.clone(),
        online_expansion: generation.description.online_expansion,
        clones: generation.description.clones,
        node: None,
    }
}
