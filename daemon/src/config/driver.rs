//! `drivers.d/NAME.toml`: one driver's component, what it may, how much, and what its plugin reads.

use super::{Config, ConfigError, LOCAL, RBD, Signatures, host_path, in_range, read, uid};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use windlass_plan::grants::{ClusterGrant, Grants, OwnUser};
use windlass_plan::ids::DriverName;
use windlass_plan::rbd::RbdName;
use windlass_plan::request::Context;
use windlass_plugins::component::Source;
use windlass_plugins::generation::DriverSpec;
use windlass_plugins::signature::{Key, MOST_KEYS, Trust};
use windlass_wire::plugin::Limits;

/// `drivers.d/NAME.toml` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDriver {
    /// The component's path, `embedded:local` or `embedded:rbd`.
    component: String,
    /// Public keys of minisign: who may sign the component.
    #[serde(default)]
    keys: Vec<String>,
    /// What the driver may.
    #[serde(default)]
    grants: RawGrants,
    /// How much it may.
    #[serde(default)]
    limits: RawDriverLimits,
    /// What its plugin reads.
    #[serde(default)]
    config: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct RawGrants {
    /// Volumes that this driver's controller did not make may be attached.
    #[serde(rename = "static")]
    is_static: bool,
    /// Folders by name.
    files: BTreeMap<String, PathBuf>,
    /// Ceph clusters by name: what storage classes call `clusterID`.
    rbd: BTreeMap<String, RawCluster>,
}

/// A Ceph cluster.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCluster {
    /// Addresses of its monitors, with or without a port.
    monitors: Vec<String>,
    /// The pools that may be used; all that the user may, if it is left out.
    #[serde(default)]
    pools: Vec<String>,
    /// For calls that come without secrets: a user, and the file that holds its key.
    user: Option<String>,
    key_file: Option<PathBuf>,
}

impl RawCluster {
    fn resolve(&self, file: &Path, cluster: &str) -> Result<ClusterGrant, ConfigError> {
        let bad = |key: &str, given: &str, right: &'static str| ConfigError::Cluster {
            file: file.to_owned(),
            key: format!("grants.rbd.{cluster}.{key}"),
            given: given.to_owned(),
            right,
        };
        let monitor = |given: &String| {
            let address = given.parse::<SocketAddr>().ok().or_else(|| Some(SocketAddr::new(given.parse::<IpAddr>().ok()?, MONITOR_PORT)));
            address.ok_or_else(|| bad("monitors", given, "addresses such as \"10.0.0.1:6789\"; the kernel resolves no names"))
        };
        let monitors = self.monitors.iter().map(monitor).collect::<Result<Vec<_>, _>>()?;
        if monitors.is_empty() {
            return Err(bad("monitors", "", "at least one address"));
        }
        let pool = |given: &String| RbdName::parse(given).map_err(|_| bad("pools", given, "names of pools: letters, digits, `-`, `_`, `.`, `:` or `+`"));
        let own = match (&self.user, &self.key_file) {
            (None, None) => None,
            (Some(user), Some(path)) => {
                let named = RbdName::parse(user).map_err(|_| bad("user", user, "a Ceph user's name, without `client.`"))?;
                Some(OwnUser { user: named, key_file: host_path(file, &format!("grants.rbd.{cluster}.key_file"), path)? })
            }
            (user, _) => return Err(bad(if user.is_some() { "key_file" } else { "user" }, "", "both of `user` and `key_file`, or neither")),
        };
        Ok(ClusterGrant { monitors, pools: self.pools.iter().map(pool).collect::<Result<_, _>>()?, own })
    }
}

/// Where monitors listen if nothing else is said (msgr1).
const MONITOR_PORT: u16 = 6789;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDriverLimits {
    memory_mib: u64,
    call_ms: u64,
    host_calls: u64,
    message_kib: u64,
    concurrency: u64,
    /// As the orchestrator is told; 0 leaves it to the plugin.
    max_volumes_per_node: u64,
}

impl Default for RawDriverLimits {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            memory_mib: limits.memory >> 20,
            call_ms: limits.call_ms,
            host_calls: limits.host_calls.into(),
            message_kib: (limits.message >> 10).into(),
            concurrency: limits.concurrency.into(),
            max_volumes_per_node: 0,
        }
    }
}

/// A value in `[config]`: plugins read text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(i64),
    Bool(bool),
}

impl Value {
    fn into_text(self) -> String {
        match self {
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(bool) => bool.to_string(),
        }
    }
}

/// The driver that a file in drivers.d is about, by the file's name; `None` for files that are none of ours.
pub(crate) fn driver_of(file: &Path) -> Option<Result<DriverName, ConfigError>> {
    let name = file.file_name()?.to_str()?;
    let stem = name.strip_suffix(".toml").filter(|stem| !stem.starts_with('.'))?;
    Some(DriverName::parse(stem).map_err(|problem| ConfigError::Name { file: file.to_owned(), problem }))
}

/// Reads one driver's file.
pub(crate) fn driver(file: &Path, name: &DriverName, config: &Config) -> Result<DriverSpec, ConfigError> {
    let owned = || file.to_owned();
    let raw: RawDriver = read(file)?;
    let source = match raw.component.as_str() {
        "embedded:local" => Source::Embedded(LOCAL),
        "embedded:rbd" => Source::Embedded(RBD),
        path if path.starts_with('/') => Source::File(path.into()),
        given => return Err(ConfigError::Component { file: owned(), given: given.to_owned() }),
    };
    let trust = trust(file, &raw.keys, &source, config.signatures)?;
    let mut grants = Grants { is_static_allowed: raw.grants.is_static, ..Grants::default() };
    for (name, cluster) in &raw.grants.rbd {
        let parsed = RbdName::parse(name).map_err(|_| ConfigError::Cluster {
            file: owned(),
            key: "grants.rbd".to_owned(),
            given: name.clone(),
            right: "names of clusters: letters, digits, `-`, `_`, `.`, `:` or `+`",
        })?;
        grants.rbd.insert(parsed, cluster.resolve(file, name)?);
    }
    for (grant, folder) in &raw.grants.files {
        if !(1..=64).contains(&grant.len()) || !grant.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
            return Err(ConfigError::Grant { file: owned(), name: grant.clone() });
        }
        grants.files.insert(grant.clone(), host_path(file, &format!("grants.files.{grant}"), folder)?);
    }
    let limits = &raw.limits;
    for (key, given, least, most) in [
        ("limits.memory_mib", limits.memory_mib, 1, 1024),
        ("limits.call_ms", limits.call_ms, 10, 600_000),
        ("limits.host_calls", limits.host_calls, 1, 1_000_000),
        ("limits.message_kib", limits.message_kib, 4, 1024),
        ("limits.concurrency", limits.concurrency, 1, 64),
        ("limits.max_volumes_per_node", limits.max_volumes_per_node, 0, 1_000_000),
    ] {
        in_range(file, key, given, least, most)?;
    }
    let max_volumes_per_node = limits.max_volumes_per_node;
    let limits = Limits {
        memory: limits.memory_mib << 20,
        call_ms: limits.call_ms,
        host_calls: limits.host_calls as u32,
        message: (limits.message_kib << 10) as u32,
        concurrency: limits.concurrency as u32,
        ..Limits::default()
    };
    let config_table: Context = raw.config.into_iter().map(|(key, value)| (key, value.into_text())).collect();
    let uid = uid(&config.instance, name);
    Ok(DriverSpec { name: name.clone(), source, trust, grants, limits, config: config_table, max_volumes_per_node, uid })
}

/// Keys are held to their form also where nobody asks for them: a typing error is found when it is made.
fn trust(file: &Path, keys: &[String], source: &Source, signatures: Signatures) -> Result<Trust, ConfigError> {
    in_range(file, "keys", keys.len() as u64, 0, MOST_KEYS as u64)?;
    let parse = |given: &String| Key::parse(given).map_err(|problem| ConfigError::Key { file: file.to_owned(), given: given.clone(), problem });
    let keys = keys.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    match (signatures, source) {
        (Signatures::Off, _) => Ok(Trust::Anybody),
        (Signatures::Required, Source::File(_)) if keys.is_empty() => Err(ConfigError::NoKeys { file: file.to_owned() }),
        (Signatures::Required, _) => Ok(Trust::Keys(keys)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_needs_a_key_where_signatures_are_required() {
        const KEY: &str = "RWQksxTfdUv1q03y2SPLm6VT26aEIRH+bLcUR0wie8w2eNA6ajiWu/K+";
        let folder = tempfile::tempdir().unwrap();
        let off = Config::dev(folder.path(), &[]).unwrap();
        let required = Config { signatures: Signatures::Required, ..off.clone() };
        let file = folder.path().join("x.toml");
        let name = driver_of(&file).unwrap().unwrap();
        let check = |config: &Config, text: &str| {
            std::fs::write(&file, text).unwrap();
            driver(&file, &name, config).map(|spec| spec.trust).map_err(|error| error.to_string())
        };
        let error = check(&required, "component = \"/p\"").unwrap_err();
        assert!(error.contains("x.toml: `keys` is missing") && error.contains("signatures = \"off\""), "{error}");
        assert_eq!(check(&required, "component = \"embedded:local\""), Ok(Trust::Keys(Vec::new())));
        assert_eq!(check(&off, "component = \"/p\""), Ok(Trust::Anybody));
        let keys = |keys: &str| check(&required, &format!("component = \"/p\"\nkeys = [{keys}]"));
        assert_eq!(keys(&format!("{KEY:?}")), Ok(Trust::Keys(vec![Key::parse(KEY).unwrap()])));
        assert!(keys("\"RWno\"").unwrap_err().contains("x.toml: `keys` has \"RWno\", which is no public key"));
        assert!(check(&off, "component = \"/p\"\nkeys = [\"RWno\"]").unwrap_err().contains("`keys`"));
        assert!(keys(&format!("{KEY:?},").repeat(17)).unwrap_err().contains("`keys` is 17; it must be between 0 and 16"));
    }

    #[test]
    fn a_driver_file_is_held_to_the_same_rules() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::dev(folder.path(), &[]).unwrap();
        let file = folder.path().join("x.toml");
        let name = driver_of(&file).unwrap().unwrap();
        let check = |text: &str| {
            std::fs::write(&file, text).unwrap();
            driver(&file, &name, &config).map_err(|error| error.to_string())
        };
        let spec = check("component = \"/p.wasm\"\n[grants.files]\nvolumes = \"/srv\"\n[config]\nlargest = 7\nfast = true").unwrap();
        assert_eq!(spec.config["largest"], "7");
        assert!(check("component = \"p.wasm\"").unwrap_err().contains("embedded:local"));
        assert!(check("component = \"/p\"\ngrant = 1").unwrap_err().contains("grants"));
        assert!(check("component = \"/p\"\n[grants.files]\n\"a/b\" = \"/srv\"").unwrap_err().contains("a/b"));
        assert!(check("component = \"/p\"\n[grants.files]\na = \"srv\"").unwrap_err().contains("grants.files.a"));
        let cluster = |text: &str| check(&format!("component = \"embedded:rbd\"\n[grants.rbd.{text}"));
        let spec = cluster("c1]\nmonitors = [\"10.0.0.1\", \"[fd00::1]:3300\"]\npools = [\"fast\"]").unwrap();
        let grant = &spec.grants.rbd[&RbdName::parse("c1").unwrap()];
        assert_eq!(grant.monitors, ["10.0.0.1:6789".parse().unwrap(), "[fd00::1]:3300".parse().unwrap()]);
        assert!(cluster("c1]\nmonitors = [\"mon.example\"]").unwrap_err().contains("grants.rbd.c1.monitors"));
        assert!(cluster("c1]\nmonitors = [\"10.0.0.1\"]\nuser = \"csi\"").unwrap_err().contains("both of `user` and `key_file`"));
        assert!(cluster("c1]\nmonitors = []").unwrap_err().contains("at least one"));
        assert!(cluster("\"a b\"]\nmonitors = [\"10.0.0.1\"]").unwrap_err().contains("names of clusters"));
        assert!(check("component = \"/p\"\n[limits]\ncall_ms = 1").unwrap_err().contains("between 10"));
        assert!(check("component = \"/p\"\n[limits]\nmax_volumes_per_node = 1000001").unwrap_err().contains("limits.max_volumes_per_node"));
        assert!(driver_of(Path::new("/d/.x.toml.swp")).is_none() && driver_of(Path::new("/d/-x.toml")).unwrap().is_err());
    }
}
