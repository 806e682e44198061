//! One driver as it is served: its plugin, the house it lives in, and what it advertises.

use crate::claims::{Answer, Caller, Claim, Claimed};
use crate::config::Role;
use crate::house::House;
use crate::refused::Refused;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use windlass_csi::to_proto::{ControllerCapability, NodeCapability, PluginCapability};
use windlass_engine::Engine;
use windlass_plan::ids::VolumeId;
use windlass_plugins::driver::{Driver, Remembered};
use windlass_plugins::generation::Generation;
use windlass_plugins::process::PluginError;

/// How long Identity and capability calls wait for the first load: sidecars give them a second.
const PATIENCE: Duration = Duration::from_millis(800);

/// A driver with its socket.
pub(crate) struct Served {
    pub(crate) driver: Driver,
    pub(crate) house: Arc<House>,
    /// Its socket could be had.
    is_listening: AtomicBool,
}

impl Served {
    /// A driver without a socket yet.
    pub(crate) fn new(driver: Driver, house: Arc<House>) -> Self {
        Self { driver, house, is_listening: AtomicBool::new(false) }
    }

    /// Is anybody behind [`Served::socket`]?
    pub(crate) fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Relaxed)
    }

    /// Somebody is, from here on.
    pub(crate) fn listens(&self) {
        self.is_listening.store(true, Ordering::Relaxed);
    }

    /// Why the driver does not serve, if it does not: it has no socket, no plugin, or one whose process keeps failing.
    pub(crate) fn unready(&self) -> Option<String> {
        if !self.is_listening() {
            return Some("its socket could not be made; the log says why".to_owned());
        }
        match self.driver.generation() {
            Err(error) => Some(error.to_string()),
            Ok(generation) => generation.process().backing_off().map(|left| PluginError::BackingOff(left).to_string()),
        }
    }

    /// What is claimed for work on a volume.
    pub(crate) fn volume(&self, volume: &VolumeId) -> Claimed {
        Claimed::Volume(self.driver.name().clone(), volume.to_string())
    }

    /// Has work done under a claim; see [`crate::claims::Claims::run`].
    pub(crate) async fn run<T: Hash + Send + 'static>(
        self: &Arc<Self>,
        verb: &'static str,
        key: Claimed,
        until: Instant,
        call: T,
        story: impl FnOnce(&Served, T, &mut Claim) -> Result<Answer, Refused> + Send + 'static,
    ) -> Result<Answer, Refused> {
        let caller = Caller { verb, fingerprint: self.house.claims.fingerprint(verb, &call), until };
        let served = self.clone();
        self.house.claims.run(key, caller, move |claim| story(&served, call, claim)).await
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.house.config.sockets.join(self.driver.name().as_str()).join("csi.sock")
    }

    /// The node's engine.
    pub(crate) fn engine(&self) -> Result<&Engine, Refused> {
        self.house.engine.as_ref().ok_or(Refused::NotOffered("the node service in this role"))
    }

    /// The generation that serves, for one call.
    pub(crate) fn generation(&self) -> Result<Arc<Generation>, Refused> {
        Ok(self.driver.generation()?)
    }

    /// What is advertised, waiting a moment for a first load that is under way.
    pub(crate) async fn advertised(&self) -> Result<Remembered, Refused> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(advertised) = self.driver.advertised() {
                return Ok(advertised);
            }
            if self.driver.has_tried() || Instant::now() >= until {
                let reason = self.driver.view().refused.map_or_else(|| "its plugin is still being loaded; ask again".to_owned(), |refused| refused.reason);
                return Err(Refused::NotReady(reason));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Refuses a call that this driver does not serve, before anything is said of its arguments.
    pub(crate) async fn require(&self, interface: &str, what: &'static str) -> Result<(), Refused> {
        if self.exports(interface).await? { Ok(()) } else { Err(Refused::NotOffered(what)) }
    }

    /// Does the driver export the interface?
    pub(crate) async fn exports(&self, interface: &str) -> Result<bool, Refused> {
        Ok(has(&self.advertised().await?, interface))
    }

    /// GetPluginCapabilities: the same wherever it is asked, as the specification wants.
    pub(crate) fn plugin_capabilities(advertised: &Remembered) -> Vec<PluginCapability> {
        let mut capabilities = Vec::new();
        if has(advertised, "controller") {
            capabilities.push(PluginCapability::ControllerService);
            capabilities.push(if advertised.online_expansion { PluginCapability::OnlineExpansion } else { PluginCapability::OfflineExpansion });
        }
        if has(advertised, "node") {
            capabilities.push(PluginCapability::VolumeAccessibilityConstraints);
        }
        capabilities
    }

    /// ControllerGetCapabilities.
    pub(crate) fn controller_capabilities(advertised: &Remembered) -> Vec<ControllerCapability> {
        use ControllerCapability::{
            CloneVolume, CreateDeleteSnapshot, CreateDeleteVolume, ExpandVolume, GetCapacity, ListSnapshots, ListVolumes, ModifyVolume, PublishUnpublishVolume,
            SingleNodeMultiWriter,
        };
        let of_export = [
            ("controller", CreateDeleteVolume),
            ("publishing", PublishUnpublishVolume),
            ("listing", ListVolumes),
            ("capacity", GetCapacity),
            ("snapshots", CreateDeleteSnapshot),
            ("snapshot-listing", ListSnapshots),
            ("controller", ExpandVolume),
            ("modification", ModifyVolume),
            ("controller", SingleNodeMultiWriter),
        ];
        let clones = (advertised.clones && has(advertised, "controller")).then_some(CloneVolume);
        of_export.into_iter().filter(|(export, _)| has(advertised, export)).map(|(_, capability)| capability).chain(clones).collect()
    }

    /// NodeGetCapabilities.
    pub(crate) fn node_capabilities(advertised: &Remembered) -> Vec<NodeCapability> {
        use NodeCapability::{ExpandVolume, GetVolumeStats, SingleNodeMultiWriter, StageUnstageVolume};
        if has(advertised, "node") { vec![StageUnstageVolume, GetVolumeStats, ExpandVolume, SingleNodeMultiWriter] } else { Vec::new() }
    }

    /// Is the role served by this daemon?
    pub(crate) fn has_role(&self, role: Role) -> bool {
        self.house.config.has(role)
    }
}

fn has(advertised: &Remembered, interface: &str) -> bool {
    advertised.exports.iter().any(|export| export == interface)
}
