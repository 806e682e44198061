//! Configuration: files as operators write them become values that the daemon runs with. Unknown keys are refused, with the known ones.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use windlass_plan::grants::{ClusterGrant, Grants, OwnUser};
use windlass_plan::ids::{DriverName, NameError};
use windlass_plan::paths::{HostPath, PathError, Root, Roots};
use windlass_plan::rbd::RbdName;
use windlass_plan::request::{Context, Topology};
use windlass_plugins::component::Source;
use windlass_plugins::generation::DriverSpec;
use windlass_wire::plugin::Limits;

/// The `local` driver, part of the binary: `component = "embedded:local"`.
pub(crate) const LOCAL: &[u8] = include_bytes!(env!("WINDLASS_LOCAL_WASM"));

/// The driver for Ceph RBD, part of the binary: `component = "embedded:rbd"`.
pub(crate) const RBD: &[u8] = include_bytes!(env!("WINDLASS_RBD_WASM"));

/// `windlass.toml` as it is written. Every key has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    /// Tells daemons on one kernel apart.
    instance: String,
    /// Which services are served: `controller`, `node`, or both (headless).
    roles: Vec<Role>,
    /// One file a driver.
    drivers: PathBuf,
    /// What outlives a reboot: compiled code, format notes, what is remembered of drivers.
    state: PathBuf,
    /// What lives as long as the kernel's state: journal, locks, admin socket.
    run: PathBuf,
    /// One folder a driver with its `csi.sock`; kubelet expects /var/lib/kubelet/plugins.
    sockets: PathBuf,
    /// This node.
    node: RawNode,
    /// How much at once.
    limits: RawLimits,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawNode {
    /// The node's name; the host's name if empty.
    name: String,
    /// Folders beneath which volumes may be mounted.
    roots: Vec<PathBuf>,
    /// Topology segments that are given to drivers.
    topology: Topology,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    /// External programs (mkfs, e2fsck) at once.
    programs: usize,
    /// Seconds that a caller without a deadline of its own waits.
    wait_seconds: u64,
    /// Seconds after which a plugin process that nobody calls is ended.
    idle_seconds: u64,
}

/// A role of `windlass serve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Makes volumes; needs no privilege.
    Controller,
    /// Attaches and mounts them.
    Node,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            instance: "default".to_owned(),
            roles: vec![Role::Controller, Role::Node],
            drivers: "/etc/windlass/drivers.d".into(),
            state: "/var/lib/windlass".into(),
            run: "/run/windlass".into(),
            sockets: "/run/windlass/csi".into(),
            node: RawNode::default(),
            limits: RawLimits::default(),
        }
    }
}

impl Default for RawNode {
    fn default() -> Self {
        Self { name: String::new(), roots: vec!["/var/lib/kubelet".into()], topology: Topology::new() }
    }
}

impl Default for RawLimits {
    fn default() -> Self {
        Self { programs: 2, wait_seconds: 120, idle_seconds: 60 }
    }
}

/// What the daemon runs with.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) instance: String,
    pub(crate) roles: Vec<Role>,
    pub(crate) drivers: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) sockets: PathBuf,
    pub(crate) node: String,
    pub(crate) roots: Roots,
    pub(crate) topology: Topology,
    pub(crate) programs: usize,
    pub(crate) wait: std::time::Duration,
    pub(crate) idle: std::time::Duration,
}

/// A configuration that cannot be run with. Names the file, the key and what would be right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{file}: cannot be read")]
    Read { file: PathBuf, source: io::Error },
    #[error("{file}: {problem}")]
    Parse { file: PathBuf, problem: String },
    #[error("{file}: `{key}` {problem}")]
    Path { file: PathBuf, key: String, problem: PathError },
    #[error("{file}: `{key}` names {path}, which cannot be opened")]
    Root { file: PathBuf, key: &'static str, path: String, source: io::Error },
    #[error("{file}: `roles` is empty; it can hold \"controller\" and \"node\"")]
    NoRole { file: PathBuf },
    #[error("{file}: the file's name is the driver's name, which {problem}")]
    Name { file: PathBuf, problem: NameError },
    #[error("{file}: `component` is {given:?}; it must be the absolute path of a component, \"embedded:local\" or \"embedded:rbd\"")]
    Component { file: PathBuf, given: String },
    #[error("{file}: `{key}` is {given}; it must be between {least} and {most}")]
    Range { file: PathBuf, key: &'static str, given: u64, least: u64, most: u64 },
    #[error("{file}: `{key}` has {given:?}; right are {right}")]
    Cluster { file: PathBuf, key: String, given: String, right: &'static str },
    #[error("{file}: `grants.files` has the name {name:?}; a grant's name is 1 to 64 letters, digits, `-` or `_`")]
    Grant { file: PathBuf, name: String },
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| ConfigError::Parse { file: file.to_owned(), problem: error.to_string().trim_end().to_owned() })
}

impl Config {
    /// Reads and resolves a configuration file.
    pub(crate) fn read(file: &Path) -> Result<Self, ConfigError> {
        Self::resolve(file, read(file)?)
    }

    /// The configuration of `windlass dev`: everything beneath one folder.
    pub(crate) fn dev(folder: &Path, more_roots: &[PathBuf]) -> Result<Self, ConfigError> {
        let raw = RawConfig {
            instance: folder.display().to_string(),
            drivers: folder.join("drivers.d"),
            state: folder.join("state"),
            run: folder.join("run"),
            sockets: folder.join("csi"),
            node: RawNode { roots: [folder.to_owned()].into_iter().chain(more_roots.iter().cloned()).collect(), ..RawNode::default() },
            ..RawConfig::default()
        };
        let mut config = Self::resolve(Path::new("windlass dev"), raw)?;
        let kept = ["drivers.d", "state", "run", "csi", "plugins", "volumes"].map(str::to_owned).to_vec();
        let is_first = |number: usize| number == 0;
        config.roots = Roots::new(
            config.roots.iter().cloned().enumerate().map(|(number, root)| if is_first(number) { Root { kept: kept.clone(), ..root } } else { root }).collect(),
        );
        Ok(config)
    }

    fn resolve(file: &Path, raw: RawConfig) -> Result<Self, ConfigError> {
        let owned = || file.to_owned();
        if raw.roles.is_empty() {
            return Err(ConfigError::NoRole { file: owned() });
        }
        let path = |key: &str, path: &Path| host_path(file, key, path);
        for (key, value) in [("drivers", &raw.drivers), ("state", &raw.state), ("run", &raw.run), ("sockets", &raw.sockets)] {
            path(key, value)?;
        }
        for (key, given, least, most) in [
            ("limits.programs", raw.limits.programs as u64, 1, 64),
            ("limits.wait_seconds", raw.limits.wait_seconds, 1, 3600),
            ("limits.idle_seconds", raw.limits.idle_seconds, 1, 86_400),
        ] {
            in_range(file, key, given, least, most)?;
        }
        // What the machine must have comes after what the file alone can tell.
        let mut roots = Vec::new();
        let has_node = raw.roles.contains(&Role::Node);
        for root in raw.node.roots.iter().filter(|_| has_node) {
            let spelled = path("node.roots", root)?;
            let real =
                std::fs::canonicalize(root).map_err(|source| ConfigError::Root { file: owned(), key: "node.roots", path: spelled.to_string(), source })?;
            roots.push(Root { spelled, real: path("node.roots", &real)?, kept: Vec::new() });
        }
        let name = if raw.node.name.is_empty() {
            nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
        } else {
            raw.node.name
        };
        Ok(Self {
            instance: raw.instance,
            roles: raw.roles,
            drivers: raw.drivers,
            state: raw.state,
            run: raw.run,
            sockets: raw.sockets,
            node: name,
            roots: Roots::new(roots),
            topology: raw.node.topology,
            programs: raw.limits.programs,
            wait: std::time::Duration::from_secs(raw.limits.wait_seconds),
            idle: std::time::Duration::from_secs(raw.limits.idle_seconds),
        })
    }

    /// Is the role served?
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

fn host_path(file: &Path, key: &str, path: &Path) -> Result<HostPath, ConfigError> {
    HostPath::parse(&path.to_string_lossy()).map_err(|problem| ConfigError::Path { file: file.to_owned(), key: key.to_owned(), problem })
}

fn in_range(file: &Path, key: &'static str, given: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&given) { Ok(()) } else { Err(ConfigError::Range { file: file.to_owned(), key, given, least, most }) }
}

/// `drivers.d/NAME.toml` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDriver {
    /// The component's path, `embedded:local` or `embedded:rbd`.
    component: String,
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
    ] {
        in_range(file, key, given, least, most)?;
    }
    let limits = Limits {
        memory: limits.memory_mib << 20,
        call_ms: limits.call_ms,
        host_calls: limits.host_calls as u32,
        message: (limits.message_kib << 10) as u32,
        concurrency: limits.concurrency as u32,
        ..Limits::default()
    };
    let config_table: Context = raw.config.into_iter().map(|(key, value)| (key, value.into_text())).collect();
    Ok(DriverSpec { name: name.clone(), source, grants, limits, config: config_table, uid: uid(&config.instance, name) })
}

/// The user that a driver's plugin process becomes: one of its own, from a range far above all that systems hand out. Needs root.
pub(crate) fn uid(instance: &str, driver: &DriverName) -> Option<u32> {
    uid_of(&format!("{instance}\0{driver}"))
}

/// The user that the processes become which talk to clusters. (A blank is in no driver's name.)
pub(crate) fn storage_uid(instance: &str) -> Option<u32> {
    uid_of(&format!("{instance}\0clusters of all drivers"))
}

fn uid_of(who: &str) -> Option<u32> {
    use sha2::{Digest, Sha256};
    const FIRST: u32 = 0x7100_0000;
    let hash = Sha256::digest(who);
    let number = u32::from_be_bytes([0, hash[0], hash[1], hash[2]]);
    nix::unistd::geteuid().is_root().then_some(FIRST + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let error = check("rolls = [\"node\"]").unwrap_err();
        assert!(error.contains("rolls") && error.contains("roles") && error.contains("sockets"), "{error}");
        let error = check("[node]\nroot = [\"/\"]").unwrap_err();
        assert!(error.contains("root") && error.contains("roots") && error.contains("topology"), "{error}");
    }

    #[test]
    fn values_are_checked_and_named() {
        assert!(check("roles = []").unwrap_err().contains("controller"));
        assert!(check("run = \"relative\"").unwrap_err().contains("`run` is not absolute"));
        assert!(check("[limits]\nprograms = 0").unwrap_err().contains("between 1 and 64"));
        assert!(check("[node]\nroots = [\"/does/not/exist\"]").unwrap_err().contains("node.roots"));
        let config = check("roles = [\"controller\"]").unwrap();
        assert!(config.has(Role::Controller) && !config.has(Role::Node));
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
        assert!(driver_of(Path::new("/d/.x.toml.swp")).is_none() && driver_of(Path::new("/d/-x.toml")).unwrap().is_err());
    }

    #[test]
    fn every_driver_has_a_user_of_its_own() {
        let uid = |name: &str| uid("i", &DriverName::parse(name).unwrap());
        assert!(uid("a") != uid("b") || uid("a").is_none());
        assert!(uid("a").is_none_or(|uid| uid >= 0x7100_0000));
    }
}
