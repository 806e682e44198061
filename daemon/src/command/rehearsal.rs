//! `windlass plugin test`: a driver's whole life, rehearsed without a node. Its component runs in its shut-in process, its effects are done in folders that
//! are made for it, and what it says of a volume is checked and lowered to steps, of which none is done.

mod life;

use super::plugin::{Scratch, settings};
use super::{Output, print, print_json, print_table};
use crate::config;
use crate::effects::{Effects, EffectsProcesses, Traces};
use anyhow::Context as _;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use windlass_plan::grants::{ClusterGrant, Grants};
use windlass_plan::ids::DriverName;
use windlass_plan::paths::HostPath;
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall, RefusalKind};
use windlass_plan::rbd::RbdName;
use windlass_plan::request::{Context, Secrets};
use windlass_plugins::cache::Cache;
use windlass_plugins::child::Binary;
use windlass_plugins::component::Source;
use windlass_plugins::generation::{DriverSpec, Generation, Workshop};
use windlass_plugins::process::PluginError;
use windlass_plugins::signature::Trust;
use windlass_wire::effects::BackEnd;
use windlass_wire::plugin::Limits;

/// Arguments of `windlass plugin test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The component
    file: PathBuf,
    /// A table for people, or JSON for programs
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// A key of the driver's configuration, `KEY=VALUE`
    #[arg(long = "config")]
    config: Vec<String>,
    /// The name of a granted folder; an empty one is made for it
    #[arg(long = "folder", default_value = "volumes")]
    folders: Vec<String>,
    /// A parameter of the storage class, `KEY=VALUE`
    #[arg(long = "parameter")]
    parameters: Vec<String>,
    /// For a driver that makes no volumes: the id of one, to be attached
    #[arg(long)]
    volume: Option<String>,
    /// The same: a key of its volume_context, `KEY=VALUE`
    #[arg(long = "context")]
    context: Vec<String>,
}

/// What is rehearsed with.
struct Rehearsal {
    generation: Generation,
    effects: EffectsProcesses,
    parameters: Context,
    findings: Vec<Finding>,
    slowest: Cell<(Duration, &'static str)>,
}

/// What came of one promise.
#[derive(Debug, serde::Serialize)]
struct Finding {
    promise: &'static str,
    /// What is wrong, and what would be right; nothing where it is kept.
    wrong: Option<String>,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    component: String,
    vendor: &'a str,
    version: &'a str,
    findings: &'a [Finding],
    slowest_call: &'static str,
    slowest_call_ms: f64,
    notes: Vec<&'static str>,
}

/// The answer to a look: what is wrong.
type Looked = Result<(), String>;

impl Rehearsal {
    /// Looks whether a promise is kept.
    fn look(&mut self, promise: &'static str, look: impl FnOnce(&Self) -> Looked) {
        let wrong = look(self).err();
        self.findings.push(Finding { promise, wrong });
    }

    fn exports(&self, interface: &str) -> bool {
        self.generation.inspection.exports.iter().any(|export| export == interface)
    }

    fn imports(&self, interface: &str) -> bool {
        self.generation.inspection.imports.iter().any(|import| import == interface)
    }

    /// Calls a function with its effects; what they left comes back with the answer.
    fn call(&self, call: PluginCall) -> Result<(PluginAnswer, Traces), PluginError> {
        let (secrets, name, began) = (Secrets::default(), call.name(), Instant::now());
        let mut effects = Effects { call: name, grants: &self.generation.spec.grants, secrets: &secrets, process: &self.effects, traces: Traces::default() };
        let answer = self.generation.call(call, &mut |effect| effects.perform(effect));
        if began.elapsed() > self.slowest.get().0 {
            self.slowest.set((began.elapsed(), name));
        }
        Ok((answer?, effects.traces))
    }

    /// The call is refused in this way.
    fn refuses(&self, call: PluginCall, kind: RefusalKind, why: &str) -> Looked {
        let name = call.name();
        match self.call(call) {
            Err(PluginError::Failed(CallFailure::Refused(refusal))) if refusal.kind == kind => Ok(()),
            Err(PluginError::Failed(CallFailure::Refused(refusal))) => {
                Err(format!("{name} refused it as {:?} ({}); it is {kind:?}: {why}", refusal.kind, refusal.message))
            }
            Err(error) => Err(format!("{name} failed: {error}; it should refuse it as {kind:?}: {why}")),
            Ok(_) => Err(format!("{name} did it; it should refuse it as {kind:?}: {why}")),
        }
    }
}

/// An answer, or what kept it from being one.
fn said<T>(name: &str, answer: Result<(PluginAnswer, Traces), PluginError>, read: impl FnOnce(PluginAnswer) -> Option<T>) -> Result<(T, Traces), String> {
    let (answer, traces) = answer.map_err(|error| format!("{name} failed: {error}"))?;
    read(answer).map(|answer| (answer, traces)).ok_or_else(|| format!("{name} answered another function than the one that was called"))
}

/// Rehearses a component, and fails where it breaks a promise.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let path = std::fs::canonicalize(&arguments.file).with_context(|| format!("cannot find {}", arguments.file.display()))?;
    let mut files = BTreeMap::new();
    for name in &arguments.folders {
        anyhow::ensure!(windlass_plan::effect::is_file_name(name), "`--folder {name}`: a grant's name is letters, digits, `-` and `_`");
        let folder = scratch.folder(name)?;
        files.insert(name.clone(), HostPath::parse(&folder.display().to_string())?);
    }
    let name = DriverName::parse("plugin-test")?;
    let spec = DriverSpec {
        uid: config::uid("plugin test", &name),
        name,
        source: Source::File(path),
        trust: Trust::Anybody,
        // No cluster is there: what drivers of images do in one is for the SDK's harness.
        grants: Grants {
            files: files.clone(),
            rbd: [(RbdName::parse("any")?, ClusterGrant { monitors: Vec::new(), pools: Vec::new(), own: None })].into(),
            is_static_allowed: true,
        },
        limits: Limits::default(),
        max_volumes_per_node: 0,
        config: settings("--config", &arguments.config)?,
    };
    let workshop = Workshop { binary: Binary::current(), cache: Cache::open(scratch.path(), "test")?, death_words: windlass_sandbox::death_words };
    let generation =
        Generation::load(&workshop, &spec, 1, None, None).map_err(|error| anyhow::anyhow!("{} would be refused: {error}", arguments.file.display()))?;
    let effects = EffectsProcesses::new(Binary::current(), config::storage_uid("plugin test"));
    effects.allow(files.into_values().map(BackEnd::Folder).collect());
    let parameters = settings("--parameter", &arguments.parameters)?;
    let mut rehearsal = Rehearsal { generation, effects, parameters, findings: Vec::new(), slowest: Cell::default() };
    let volume = arguments.volume.as_deref().map(|id| Ok::<_, anyhow::Error>((id, settings("--context", &arguments.context)?))).transpose()?;
    let notes = life::rehearse(&mut rehearsal, volume);
    report(arguments, &rehearsal, notes)
}

fn report(arguments: &Arguments, rehearsal: &Rehearsal, notes: Vec<&'static str>) -> anyhow::Result<()> {
    let (findings, (slowest, slowest_call)) = (&rehearsal.findings, rehearsal.slowest.get());
    let description = &rehearsal.generation.description;
    if arguments.output == Output::Json {
        print_json(&Report {
            component: arguments.file.display().to_string(),
            vendor: &description.vendor,
            version: &description.version,
            findings,
            slowest_call,
            slowest_call_ms: slowest.as_secs_f64() * 1e3,
            notes,
        })?;
    } else {
        print(&format!("{}: {} {}\n", arguments.file.display(), description.vendor, description.version))?;
        let row = |finding: &Finding| {
            let word = if finding.wrong.is_some() { "WRONG" } else { "ok" };
            vec![word.to_owned(), finding.promise.to_owned(), finding.wrong.clone().unwrap_or_default()]
        };
        print_table(&["", "PROMISE", "WHAT IS WRONG"], findings.iter().map(row).collect())?;
        for note in notes {
            print(&format!("\n{note}"))?;
        }
        print(&format!("\nthe slowest call: {slowest_call}, {:.1} ms; {} may take {} ms", slowest.as_secs_f64() * 1e3, "a call", Limits::default().call_ms))?;
    }
    let wrong = findings.iter().filter(|finding| finding.wrong.is_some()).count();
    anyhow::ensure!(wrong == 0, "{wrong} of {} promises are not kept", findings.len());
    Ok(())
}
