//! Kubelet's side of registration, call by call as kubelet 1.36 makes it: pkg/kubelet/pluginmanager (`plugin_watcher.go`: sockets that appear
//! in plugins_registry, but for hidden ones; `operation_generator.go`: GetInfo within a second, then NotifyRegistrationStatus on the same
//! connection) and pkg/volume/csi/csi_plugin.go (`ValidatePlugin`, `RegisterPlugin`: NodeGetInfo at the endpoint, on a connection of its own).

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use windlass_csi::client::connect;
use windlass_csi::registration::registration_client::RegistrationClient;
use windlass_csi::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use windlass_csi::v1;
use windlass_csi::v1::node_client::NodeClient;

/// Kubelet's folder, and what it knows.
pub struct Kubelet {
    folder: PathBuf,
    known: BTreeMap<PathBuf, (u64, SystemTime)>,
    /// The drivers that are registered, by name, with what NodeGetInfo answered.
    pub drivers: BTreeMap<String, v1::NodeGetInfoResponse>,
    /// While there is something here, every driver is refused with it.
    pub refusal: Option<String>,
}

/// What came of a socket that appeared.
#[derive(Debug)]
pub struct Met {
    /// The socket.
    pub path: PathBuf,
    /// What GetInfo answered.
    pub info: PluginInfo,
    /// Why it was refused.
    pub refused: Option<String>,
}

impl Kubelet {
    /// Makes its folder, as kubelet does at its start.
    pub fn start(folder: &Path) -> Self {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).expect("kubelet's folder");
        Self { folder: folder.to_owned(), known: BTreeMap::new(), drivers: BTreeMap::new(), refusal: None }
    }

    /// One look: drivers whose socket has gone are forgotten, those whose socket is new are registered.
    pub fn look(&mut self) -> Vec<Met> {
        let mut there = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let Ok(seen) = std::fs::symlink_metadata(entry.path()) else { continue };
            if seen.file_type().is_socket() && !entry.file_name().to_string_lossy().starts_with('.') {
                there.insert(entry.path(), (seen.ino(), seen.created().expect("a time of birth")));
            }
        }
        let gone: Vec<PathBuf> = self.known.iter().filter(|(path, seen)| there.get(*path) != Some(seen)).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.known.remove(&path);
            let file = path.file_name().expect("a name").to_string_lossy().into_owned();
            self.drivers.remove(file.trim_end_matches("-reg.sock"));
        }
        let new: Vec<_> = there.into_iter().filter(|(path, _)| !self.known.contains_key(path)).collect();
        self.known.extend(new.iter().cloned());
        new.into_iter().map(|(path, _)| self.meet(path)).collect()
    }

    /// Looks until it has met a driver.
    #[track_caller]
    pub fn meet_one(&mut self) -> Met {
        crate::eventually("a registration socket", || self.look().pop())
    }

    fn meet(&mut self, path: PathBuf) -> Met {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            // Somebody has to be behind it from the first moment: kubelet waits ten seconds for the connection, we do not.
            let channel = connect(&path).await.expect("somebody behind the socket");
            let mut client = RegistrationClient::new(channel);
            let info = tokio::time::timeout(Duration::from_secs(1), client.get_info(InfoRequest {})).await;
            let info = info.expect("GetInfo within a second").expect("GetInfo").into_inner();
            let refused = match self.register(&info).await {
                Ok(node) => {
                    self.drivers.insert(info.name.clone(), node);
                    None
                }
                Err(why) => Some(why),
            };
            let status = RegistrationStatus { plugin_registered: refused.is_none(), error: refused.clone().unwrap_or_default() };
            client.notify_registration_status(status).await.expect("NotifyRegistrationStatus");
            Met { path, info, refused }
        })
    }

    async fn register(&self, info: &PluginInfo) -> Result<v1::NodeGetInfoResponse, String> {
        if info.r#type != "CSIPlugin" {
            return Err(format!("no handler registered for plugin type: {}", info.r#type));
        }
        let is_known = |version: &String| version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major <= 1);
        if !info.supported_versions.iter().any(is_known) {
            return Err(format!("none of the versions {:?} are supported", info.supported_versions));
        }
        if self.drivers.contains_key(&info.name) {
            return Err("another driver with the same name is already registered".to_owned());
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let channel = connect(Path::new(&info.endpoint)).await.map_err(|error| error.to_string())?;
        let answer = NodeClient::new(channel).node_get_info(v1::NodeGetInfoRequest {}).await.map_err(|status| status.to_string())?.into_inner();
        if answer.node_id.is_empty() { Err("error adding CSI driver node info: driverNodeID must not be empty".to_owned()) } else { Ok(answer) }
    }
}
