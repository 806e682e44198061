//! `windlass plugin check`: what a vendor runs before shipping. The component is compiled, started and asked, as the daemon would.

use super::signing::{State, public_keys};
use super::{Output, print, print_json};
use crate::config;
use crate::served::Served;
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use windlass_plan::grants::{ClusterGrant, Grants};
use windlass_plan::ids::DriverName;
use windlass_plan::paths::HostPath;
use windlass_plan::plugin::Key;
use windlass_plan::rbd::RbdName;
use windlass_plugins::cache::Cache;
use windlass_plugins::child::Binary;
use windlass_plugins::component::Source;
use windlass_plugins::driver::Remembered;
use windlass_plugins::floor::is_version;
use windlass_plugins::generation::{DriverSpec, Generation, Workshop};
use windlass_plugins::signature::Trust;
use windlass_wire::plugin::Limits;

#[derive(serde::Serialize)]
struct Checked {
    component: String,
    digest: String,
    signature: State,
    vendor: String,
    version: String,
    exports: Vec<String>,
    imports: Vec<String>,
    code_bytes: u64,
    capabilities: Vec<String>,
    configuration: Vec<String>,
    secrets: Vec<String>,
    missing_walls: Vec<String>,
    /// Can its version be compared with others? Where signatures are required it has to be.
    has_comparable_version: bool,
}

/// Checks a component; with keys its signature as well.
pub(crate) fn check(file: &Path, output: Output, settings: &[String], keys: &[String]) -> anyhow::Result<()> {
    let keys = public_keys(keys)?;
    let folder = Scratch::new()?;
    let path = std::fs::canonicalize(file).with_context(|| format!("cannot find {}", file.display()))?;
    let name = DriverName::parse("plugin-check")?;
    let config = self::settings("--config", settings)?;
    let spec = DriverSpec {
        uid: config::uid("plugin check", &name),
        name,
        source: Source::File(path.clone()),
        trust: if keys.is_empty() { Trust::Anybody } else { Trust::Keys(keys.clone()) },
        // Nothing is done in it: `describe` and `probe` have no effects.
        grants: Grants {
            files: [("any".to_owned(), HostPath::parse("/nonexistent")?)].into(),
            rbd: [(RbdName::parse("any")?, ClusterGrant { monitors: Vec::new(), pools: Vec::new(), own: None })].into(),
            is_static_allowed: false,
        },
        limits: Limits::default(),
        max_volumes_per_node: 0,
        config,
    };
    let workshop = Workshop { binary: Binary::current(), cache: Cache::open(&folder.0, "check")?, death_words: windlass_sandbox::death_words };
    let generation = Generation::load(&workshop, &spec, 1, None, None).map_err(|error| anyhow::anyhow!("{} would be refused: {error}", file.display()))?;
    let signature = State::of(&spec.source.read()?, &path, &keys);
    let said = Remembered {
        vendor: generation.description.vendor.clone(),
        version: generation.description.version.clone(),
        exports: generation.inspection.exports.clone(),
        online_expansion: generation.description.online_expansion,
        clones: generation.description.clones,
        node: None,
    };
    let capabilities = Served::plugin_capabilities(&said)
        .iter()
        .map(|c| format!("plugin: {c:?}"))
        .chain(Served::controller_capabilities(&said).iter().map(|c| format!("controller: {c:?}")))
        .chain(Served::node_capabilities(&said).iter().map(|c| format!("node: {c:?}")))
        .collect();
    let checked = Checked {
        component: file.display().to_string(),
        digest: generation.digest.clone(),
        signature,
        has_comparable_version: is_version(&said.version),
        vendor: said.vendor,
        version: said.version,
        exports: said.exports,
        imports: generation.inspection.imports.clone(),
        code_bytes: generation.inspection.code_size,
        capabilities,
        configuration: shown(&generation.description.configuration),
        secrets: shown(&generation.description.secrets),
        missing_walls: generation.process().view().missing_walls,
    };
    if output == Output::Json {
        return print_json(&checked);
    }
    print(&format!("{} would be taken: {} {}", checked.component, checked.vendor, checked.version))?;
    print(&format!(
        "  sha256     {}\n  signature  {}\n  exports    {}\n  imports    {} (`log` and `config` are always there; any other is to be granted)\n  code       {}",
        checked.digest,
        checked.signature.words(),
        checked.exports.join(" "),
        checked.imports.join(" "),
        super::size(checked.code_bytes)
    ))?;
    if !checked.has_comparable_version {
        print("  its version is not like 1.2.3 (semver.org): where signatures are required it would be refused")?;
    }
    for (title, lines) in [
        ("advertised of it", &checked.capabilities),
        ("configuration", &checked.configuration),
        ("secrets that it names", &checked.secrets),
        ("walls that this machine does not have", &checked.missing_walls),
    ] {
        if !lines.is_empty() {
            print(&format!("{title}:\n  {}", lines.join("\n  ")))?;
        }
    }
    Ok(())
}

/// Keys for people, one a line.
fn shown(keys: &[Key]) -> Vec<String> {
    keys.iter().map(|key| format!("{}{}: {}", key.name, if key.required { " (required)" } else { "" }, key.help)).collect()
}

/// Arguments of the form `KEY=VALUE`.
pub(super) fn settings(option: &str, given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |setting: &String| {
        let (key, value) = setting.split_once('=').with_context(|| format!("`{option} {setting}` is not KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}

/// A folder for the compiled code of one check, and folders in it for what is tried out; removed file by file, and never what lies deeper.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("windlass-check-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes an empty folder in it.
    pub(super) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.0.join(format!("{name}.folder"));
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        for entry in entries(&self.0) {
            if entry.is_dir() {
                entries(&entry).for_each(|file| drop(std::fs::remove_file(file)));
                let _ = std::fs::remove_dir(entry);
            } else {
                let _ = std::fs::remove_file(entry);
            }
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}
