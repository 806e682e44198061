//! Configuration: files as operators write them become values that the daemon runs with. Unknown keys are refused, with the known ones.

mod driver;

pub(crate) use driver::{driver, driver_of};

use serde::Deserialize;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use windlass_plan::ids::{DriverName, NameError};
use windlass_plan::paths::{HostPath, PathError, Root, Roots};
use windlass_plan::request::Topology;
use windlass_plugins::signature::KeyError;

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
    /// Must components be signed?
    signatures: Signatures,
    /// This node.
    node: RawNode,
    /// How much at once.
    limits: RawLimits,
    /// Kubelet, where there is one.
    kubelet: RawKubelet,
    /// What is answered over HTTP.
    http: RawHttp,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawKubelet {
    /// Its folder plugins_registry; empty: drivers are not registered.
    registry: PathBuf,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    /// The address and port of /healthz and /readyz; empty: they are not served.
    listen: String,
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
    /// Control groups (version 2) in which I/O is limited, where a volume has limits; empty: the one in which Kubernetes has its pods.
    limited_groups: Vec<PathBuf>,
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

/// Must a component that is a file be signed by a key that its driver's file names?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signatures {
    /// Yes.
    Required,
    /// No; nobody looks.
    Off,
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
            signatures: Signatures::Required,
            node: RawNode::default(),
            limits: RawLimits::default(),
            kubelet: RawKubelet::default(),
            http: RawHttp::default(),
        }
    }
}

impl Default for RawNode {
    fn default() -> Self {
        Self { name: String::new(), roots: vec!["/var/lib/kubelet".into()], topology: Topology::new(), limited_groups: Vec::new() }
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
    pub(crate) signatures: Signatures,
    pub(crate) node: String,
    pub(crate) roots: Roots,
    pub(crate) topology: Topology,
    pub(crate) limited_groups: Vec<HostPath>,
    pub(crate) programs: usize,
    pub(crate) wait: std::time::Duration,
    pub(crate) idle: std::time::Duration,
    /// Kubelet's folder of registration sockets.
    pub(crate) registry: Option<PathBuf>,
    /// Where /healthz and /readyz are.
    pub(crate) http: Option<SocketAddr>,
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
    #[error(
        "{file}: `keys` is missing, and this daemon takes signed components alone: name the public keys whose signatures the driver may run, \
         `keys = [\"RW...\"]`, or set `signatures = \"off\"` in the daemon's own file"
    )]
    NoKeys { file: PathBuf },
    #[error("{file}: `keys` has {given:?}, which {problem}")]
    Key { file: PathBuf, given: String, problem: KeyError },
    #[error("{file}: `{key}` is {given}; it must be between {least} and {most}")]
    Range { file: PathBuf, key: &'static str, given: u64, least: u64, most: u64 },
    #[error("{file}: `{key}` has {given:?}; right are {right}")]
    Cluster { file: PathBuf, key: String, given: String, right: &'static str },
    #[error("{file}: `http.listen` is {given:?}; it must be an address and a port, such as \"127.0.0.1:9808\"")]
    Listen { file: PathBuf, given: String },
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
            // The plugin there is to be edited and replaced.
            signatures: Signatures::Off,
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
        let registry = Some(raw.kubelet.registry).filter(|folder| !folder.as_os_str().is_empty());
        registry.as_deref().map(|folder| path("kubelet.registry", folder)).transpose()?;
        let http = Some(raw.http.listen).filter(|listen| !listen.is_empty());
        let http = http.map(|listen| listen.parse().map_err(|_| ConfigError::Listen { file: owned(), given: listen })).transpose()?;
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
            signatures: raw.signatures,
            node: name,
            roots: Roots::new(roots),
            topology: raw.node.topology,
            limited_groups: raw.node.limited_groups.iter().map(|group| path("node.limited_groups", group)).collect::<Result<_, _>>()?,
            programs: raw.limits.programs,
            wait: std::time::Duration::from_secs(raw.limits.wait_seconds),
            idle: std::time::Duration::from_secs(raw.limits.idle_seconds),
            registry,
            http,
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
        let error = check("signatures = \"on\"").unwrap_err();
        assert!(error.contains("signatures") && error.contains("required") && error.contains("off"), "{error}");
        assert!(check("run = \"relative\"").unwrap_err().contains("`run` is not absolute"));
        assert!(check("[limits]\nprograms = 0").unwrap_err().contains("between 1 and 64"));
        assert!(check("[kubelet]\nregistry = \"registry\"").unwrap_err().contains("`kubelet.registry` is not absolute"));
        assert!(check("[http]\nlisten = \"localhost\"").unwrap_err().contains("`http.listen`"));
        assert!(check("[node]\nroots = [\"/does/not/exist\"]").unwrap_err().contains("node.roots"));
        let config = check("roles = [\"controller\"]").unwrap();
        assert!(config.has(Role::Controller) && !config.has(Role::Node));
    }

    #[test]
    fn every_driver_has_a_user_of_its_own() {
        let uid = |name: &str| uid("i", &DriverName::parse(name).unwrap());
        assert!(uid("a") != uid("b") || uid("a").is_none());
        assert!(uid("a").is_none_or(|uid| uid >= 0x7100_0000));
    }
}
