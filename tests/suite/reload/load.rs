//! Callers who use every RPC as often as the machine lets them, and count what fails.

use harness::{Endpoint, Volume, block, mount_as};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tonic::Status;
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// What came of all calls.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) calls: AtomicU64,
    pub(super) failures: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Tally {
    /// No cycle begins from now on.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// One caller: a volume's whole life again and again, with every question in between.
    pub(super) fn call(&self, driver: &Endpoint, caller: usize) {
        for n in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let capability = if (caller + n).is_multiple_of(4) { mount_as("ext4", Mode::SingleNodeWriter, &[]) } else { block(Mode::SingleNodeWriter) };
            if let Some(volume) = self.count("create", Volume::create(driver, &format!("load-{caller}-{n}"), capability, 16)) {
                self.live(driver, &volume);
                self.count("delete", volume.delete(driver));
            }
        }
    }

    fn live(&self, driver: &Endpoint, volume: &Volume) {
        self.controller(driver, volume);
        self.count("stage", volume.stage(driver));
        self.count("publish", volume.publish(driver, 0));
        self.node(driver, volume);
        self.count("unpublish", volume.unpublish(driver, 0));
        self.count("unstage", volume.unstage(driver));
    }

    fn controller(&self, driver: &Endpoint, volume: &Volume) {
        let request = v1::ValidateVolumeCapabilitiesRequest {
            volume_id: volume.id(),
            volume_capabilities: vec![volume.capability.clone()],
            volume_context: volume.volume.volume_context.clone(),
            ..Default::default()
        };
        self.count("validate", driver.validate_volume_capabilities(request));
        self.count("list", driver.list_volumes(v1::ListVolumesRequest { max_entries: 10, ..Default::default() }));
        self.count("capacity", driver.get_capacity(v1::GetCapacityRequest::default()));
        let larger = Some(v1::CapacityRange { required_bytes: 24 << 20, limit_bytes: 0 });
        let request = v1::ControllerExpandVolumeRequest { volume_id: volume.id(), capacity_range: larger, ..Default::default() };
        self.count("expand", driver.controller_expand_volume(request));
        self.count("controller capabilities", driver.controller_get_capabilities(v1::ControllerGetCapabilitiesRequest {}));
    }

    fn node(&self, driver: &Endpoint, volume: &Volume) {
        self.count("plugin info", driver.get_plugin_info(v1::GetPluginInfoRequest {}));
        self.count("plugin capabilities", driver.get_plugin_capabilities(v1::GetPluginCapabilitiesRequest {}));
        self.count("node capabilities", driver.node_get_capabilities(v1::NodeGetCapabilitiesRequest {}));
        self.count("node info", driver.node_get_info(v1::NodeGetInfoRequest {}));
        self.count("probe", driver.probe().and_then(|is_ready| is_ready.then_some(()).ok_or_else(|| Status::unavailable("not ready"))));
        let (volume_id, volume_path) = (volume.id(), volume.target(0));
        self.count(
            "stats",
            driver.node_get_volume_stats(v1::NodeGetVolumeStatsRequest {
                volume_id: volume_id.clone(),
                volume_path: volume_path.clone(),
                ..Default::default()
            }),
        );
        self.count("node expand", driver.node_expand_volume(v1::NodeExpandVolumeRequest { volume_id, volume_path, ..Default::default() }));
    }

    fn count<T>(&self, what: &str, answer: Result<T, Status>) -> Option<T> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(value) => Some(value),
            Err(status) => {
                self.failures.lock().unwrap().push(format!("{what}: {:?} {}", status.code(), status.message()));
                None
            }
        }
    }
}
