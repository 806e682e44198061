//! One generation of a driver's plugin: a component that was read, compiled, started and has proven itself.

use crate::cache::Cache;
use crate::child::Binary;
use crate::compile::{self, CompileError};
use crate::component::{ReadError, Source};
use crate::conversation::Perform;
use crate::floor::{Floor, FloorError};
use crate::process::{Launcher, PluginError, Process};
use crate::signature::{self, Origin, SignatureError, Trust};
use std::process::ExitStatus;
use windlass_plan::effect::{Effect, EffectAnswer, EffectError};
use windlass_plan::grants::Grants;
use windlass_plan::ids::DriverName;
use windlass_plan::plugin::{Description, PluginAnswer, PluginCall, RefusalKind};
use windlass_plan::request::Context;
use windlass_wire::plugin::{Inspection, Limits, Setup};

/// What the operator says of a driver, resolved from `drivers.d/NAME.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverSpec {
    /// The driver's name.
    pub name: DriverName,
    /// Its component.
    pub source: Source,
    /// Whose components it takes, where its own is a file.
    pub trust: Trust,
    /// What it may.
    pub grants: Grants,
    /// How much it may.
    pub limits: Limits,
    /// Its `[config]` table.
    pub config: Context,
    /// How many of its volumes a node may have, in the place of what its plugin says; 0 leaves it to the plugin.
    pub max_volumes_per_node: u64,
    /// Who its process becomes; `None` where the daemon is not root.
    pub uid: Option<u32>,
}

/// What every generation is made with.
#[derive(Clone)]
pub struct Workshop {
    /// The binary whose roles are started.
    pub binary: Binary,
    /// Compiled code.
    pub cache: Cache,
    /// Why a compile child ended without a word: the sandbox knows its own limits.
    pub death_words: fn(ExitStatus) -> String,
}

/// A component that has proven itself.
pub struct Generation {
    /// Counted from 1 within the daemon's life.
    pub number: u64,
    /// The component's SHA-256.
    pub digest: String,
    /// Who vouches for it.
    pub origin: Origin,
    /// What it says of itself.
    pub description: Description,
    /// What its type says.
    pub inspection: Inspection,
    /// The specification that it was made from.
    pub spec: DriverSpec,
    process: Process,
}

/// Why a component does not become a generation. The old one goes on serving.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not signed by anybody whom the operator allows.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A higher version has served, or it is not known which has.
    #[error(transparent)]
    Version(#[from] FloorError),
    /// It could not be compiled.
    #[error("{}", chain(.0))]
    Compile(#[from] CompileError),
    /// It imports what the operator has not granted.
    #[error("the component imports `{import}`, which the driver was not granted; {help}")]
    NotGranted {
        /// The interface.
        import: String,
        /// How to grant it.
        help: &'static str,
    },
    /// It did not start, or did not answer `describe` or `probe`.
    #[error("the component did not prove itself: `{call}` failed: {source}")]
    Proof {
        /// The function.
        call: &'static str,
        /// Why.
        source: PluginError,
    },
    /// A required key of the configuration is missing.
    #[error("the driver needs `{key}` in its `[config]`: {help}")]
    Configuration {
        /// The key.
        key: String,
        /// What it is for.
        help: String,
    },
    /// A key of the configuration that the driver does not read.
    #[error("`[config]` has the key {key:?}, which the driver does not read; it reads: {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Those that it reads.
        known: String,
    },
    /// A capability that is advertised would go: an interface, or what `description` said.
    #[error("the component has no `{interface}`, which the driver advertises; restart the daemon to take a capability away")]
    Shrunk {
        /// The interface.
        interface: String,
    },
    /// Another vendor's component under the same driver name.
    #[error("the component is by {found:?}, and the driver serves one by {serving:?}; restart the daemon to change the vendor")]
    Vendor {
        /// Of the new component.
        found: String,
        /// Of the one that serves.
        serving: String,
    },
}

fn chain(error: &CompileError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl LoadError {
    /// May the same files be taken at a later try? The machine was short of something, or a process was lost.
    pub fn may_pass(&self) -> bool {
        match self {
            LoadError::Compile(CompileError::Refused(_)) => false,
            LoadError::Compile(_) => true,
            LoadError::Proof { source, .. } => matches!(source, PluginError::Lost | PluginError::Start(_) | PluginError::BackingOff(_)),
            LoadError::Version(FloorError::Unwritten { .. }) => true,
            LoadError::Read(_)
            | LoadError::Signature(_)
            | LoadError::Version(_)
            | LoadError::NotGranted { .. }
            | LoadError::Configuration { .. }
            | LoadError::UnknownKey { .. }
            | LoadError::Shrunk { .. }
            | LoadError::Vendor { .. } => false,
        }
    }
}

/// What an earlier generation promised and a later one must keep.
#[derive(Debug, Clone, Copy)]
pub struct Promise<'a> {
    /// Interfaces that are advertised.
    pub exports: &'a [String],
    /// Volumes are made from other volumes.
    pub clones: bool,
    /// The vendor.
    pub vendor: &'a str,
}

impl Generation {
    /// Reads, checks who signed it, compiles, checks against the grants, starts and asks: every arrow of a plugin's life before it serves.
    ///
    /// The bytes that are compiled are those whose signature was checked. `floor` is where the versions that served are noted; where
    /// nobody vouches for what a component says of itself, its version is not held against it.
    pub fn load(workshop: &Workshop, spec: &DriverSpec, number: u64, promise: Option<Promise<'_>>, floor: Option<&Floor>) -> Result<Self, LoadError> {
        let component = spec.source.read()?;
        let origin = match (&spec.source, &spec.trust) {
            (Source::Embedded(_), _) => Origin::Embedded,
            (Source::File(_), Trust::Anybody) => Origin::Unchecked,
            (Source::File(path), Trust::Keys(keys)) => Origin::Signed(signature::check(&component, path, keys)?),
        };
        let code = compile::code(workshop, &component, spec.uid)?;
        check_imports(&code.inspection, &spec.grants)?;
        if let Some(gone) = promise.and_then(|promise| promise.exports.iter().find(|export| !code.inspection.exports.contains(export))) {
            return Err(LoadError::Shrunk { interface: gone.clone() });
        }
        let setup = Setup { driver: spec.name.to_string(), limits: spec.limits, config: spec.config.clone() };
        let process = Process::new(Launcher { binary: workshop.binary.clone(), code: code.file, uid: spec.uid, setup });
        let description = prove(&process)?;
        if let Some(missing) = description.configuration.iter().find(|key| key.required && !spec.config.contains_key(&key.name)) {
            return Err(LoadError::Configuration { key: missing.name.clone(), help: missing.help.clone() });
        }
        if let Some(key) = spec.config.keys().find(|key| !description.configuration.iter().any(|known| known.name == **key)) {
            let known: Vec<&str> = description.configuration.iter().map(|key| key.name.as_str()).collect();
            return Err(LoadError::UnknownKey { key: key.clone(), known: if known.is_empty() { "nothing".to_owned() } else { known.join(", ") } });
        }
        if promise.is_some_and(|promise| promise.clones) && !description.clones {
            return Err(LoadError::Shrunk { interface: "clones".to_owned() });
        }
        if let Some(promise) = promise.filter(|promise| promise.vendor != description.vendor) {
            return Err(LoadError::Vendor { found: description.vendor, serving: promise.vendor.to_owned() });
        }
        // Last: what is noted here is about to serve.
        if let (Origin::Signed(_), Some(floor)) = (&origin, floor) {
            floor.admit(&description.version)?;
        }
        Ok(Self { number, digest: component.digest, origin, description, inspection: code.inspection, spec: spec.clone(), process })
    }

    /// Calls an export in a fresh instance; the calling thread performs its effects.
    pub fn call(&self, call: PluginCall, perform: Perform<'_>) -> Result<PluginAnswer, PluginError> {
        self.process.call(call, perform)
    }

    /// Calls one of the pure exports.
    pub fn ask(&self, call: PluginCall) -> Result<PluginAnswer, PluginError> {
        self.process.call(call, &mut no_effects)
    }

    /// The process, for status and for ending it when idle.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// For the functions that are pure.
fn no_effects(_: Effect) -> Result<EffectAnswer, EffectError> {
    Err(EffectError { kind: RefusalKind::Unsupported, message: "this function has no effects".to_owned() })
}

fn check_imports(inspection: &Inspection, grants: &Grants) -> Result<(), LoadError> {
    for import in &inspection.imports {
        match import.as_str() {
            "types" | "log" | "config" => {}
            "files" if !grants.files.is_empty() => {}
            "files" => return Err(LoadError::NotGranted { import: import.clone(), help: "grant a folder in `[grants.files]`: `name = \"/path\"`" }),
            "rbd" if !grants.rbd.is_empty() => {}
            "rbd" => {
                let help = "grant a cluster in `[grants.rbd.NAME]`: `monitors = [\"10.0.0.1:6789\"]`";
                return Err(LoadError::NotGranted { import: import.clone(), help });
            }
            _ => return Err(LoadError::NotGranted { import: import.clone(), help: "this version of windlass has nothing of that name to grant" }),
        }
    }
    Ok(())
}

fn prove(process: &Process) -> Result<Description, LoadError> {
    let proof = |call| move |source| LoadError::Proof { call, source };
    let description = match process.call(PluginCall::Describe, &mut no_effects).map_err(proof("describe"))? {
        PluginAnswer::Described(description) => description,
        _ => return Err(proof("describe")(PluginError::Lost)),
    };
    let is_plain = |text: &str| !text.is_empty() && text.len() <= 128 && !text.chars().any(char::is_control);
    if !is_plain(&description.vendor) || !is_plain(&description.version) {
        let text = "vendor and version must be 1 to 128 bytes without control characters".to_owned();
        return Err(proof("describe")(PluginError::Start(text)));
    }
    match process.call(PluginCall::Probe, &mut no_effects).map_err(proof("probe"))? {
        PluginAnswer::Ready(true) => Ok(description),
        _ => Err(proof("probe")(PluginError::Start("it answered that it is not ready".to_owned()))),
    }
}
