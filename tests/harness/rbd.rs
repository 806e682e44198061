//! A volume of the driver for Ceph RBD, as an orchestrator with a secret knows it: made, given to a node, staged there, and back.

use crate::ceph::Cluster;
use crate::network::Network;
use crate::vm::GuestDaemon;
use crate::{Daemon, Endpoint, Setup, Volume};
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Status;
use windlass_csi::v1;

/// The driver's name in all tests.
pub const RBD_DRIVER: &str = "rbd.csi.windlass";

/// The cluster's name in the driver's grants, and so the `clusterID` of storage classes.
pub const CLUSTER: &str = "bench";

/// The driver's file: the component of the binary, and one cluster.
pub fn driver_file(cluster: &Cluster) -> String {
    format!("component = \"embedded:rbd\"\n[grants.rbd.{CLUSTER}]\nmonitors = [\"{}\"]\n", cluster.monitor_v1())
}

/// Gives a daemon the driver, and waits until it is ready.
#[track_caller]
pub fn serve(daemon: &GuestDaemon, cluster: &Cluster) -> Endpoint {
    daemon.lend_code("rbd");
    daemon.write_driver(RBD_DRIVER, &driver_file(cluster));
    daemon.wait_ready(RBD_DRIVER);
    daemon.driver(RBD_DRIVER)
}

/// A daemon on this machine, in the network of a cluster of its own: for what needs a controller and no node.
pub struct Controller {
    /// The daemon, with the driver beside `local`.
    pub daemon: Daemon,
    /// The cluster.
    pub cluster: Cluster,
    network: Arc<Network>,
}

impl Controller {
    /// Starts both.
    pub fn start() -> Result<Self> {
        let network = Network::new()?;
        let cluster = Cluster::start(&network, 1)?;
        let daemon = network.enter(|| Daemon::unready(Setup::default()))?;
        // A call of the controller's waits for the cluster most of its time.
        let file = format!("{}[limits]\nconcurrency = 16\n", driver_file(&cluster));
        daemon.rename_in(file.as_bytes(), &format!("drivers.d/{RBD_DRIVER}.toml"));
        let controller = Self { daemon, cluster, network };
        controller.wait_ready();
        Ok(controller)
    }

    /// Kills the daemon, and starts it again.
    #[track_caller]
    pub fn die_and_start_again(&mut self) {
        self.daemon.kill();
        self.network.enter(|| self.daemon.start_again()).expect("the cluster's network");
        self.wait_ready();
    }

    #[track_caller]
    fn wait_ready(&self) {
        let (until, driver) = (Instant::now() + Duration::from_secs(120), self.driver());
        while !matches!(driver.probe(), Ok(true)) {
            assert!(Instant::now() < until, "{RBD_DRIVER} is not ready:\n{}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The driver's socket.
    pub fn driver(&self) -> Endpoint {
        self.daemon.driver(RBD_DRIVER)
    }
}

/// CreateSnapshot's request.
pub fn snapshot_request(name: &str, volume: &str, secrets: &BTreeMap<String, String>) -> v1::CreateSnapshotRequest {
    v1::CreateSnapshotRequest { name: name.to_owned(), source_volume_id: volume.to_owned(), secrets: secrets.clone(), ..Default::default() }
}

/// What a volume is to be made from.
pub fn from_snapshot(id: &str) -> v1::VolumeContentSource {
    use v1::volume_content_source::{SnapshotSource, Type};
    v1::VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.to_owned() })) }
}

/// The same for a volume.
pub fn from_volume(id: &str) -> v1::VolumeContentSource {
    use v1::volume_content_source::{Type, VolumeSource};
    v1::VolumeContentSource { r#type: Some(Type::Volume(VolumeSource { volume_id: id.to_owned() })) }
}

/// The secrets of a user.
pub fn secrets(user: &str, key: &str) -> BTreeMap<String, String> {
    [("userID", user), ("userKey", key)].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A volume on one node.
#[derive(Clone)]
pub struct RbdVolume {
    /// What is the same for every driver.
    pub volume: Volume,
    /// Of each call.
    pub secrets: BTreeMap<String, String>,
    /// What ControllerPublishVolume answered last.
    pub publish_context: BTreeMap<String, String>,
}

impl RbdVolume {
    /// The request that makes a volume of so many MiB in a pool.
    pub fn create_request(name: &str, capability: &v1::VolumeCapability, mib: i64, pool: &str, secrets: &BTreeMap<String, String>) -> v1::CreateVolumeRequest {
        let parameters = [("clusterID", CLUSTER), ("pool", pool)].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        v1::CreateVolumeRequest { parameters, secrets: secrets.clone(), ..Volume::create_request(name, capability, mib) }
    }

    /// Makes a volume in the pool `rbd` as the cluster's administrator, and its folders on the node.
    pub fn create(node: &Endpoint, cluster: &Cluster, name: &str, capability: v1::VolumeCapability, mib: i64) -> Result<Self, Status> {
        Self::create_with(node, secrets("admin", cluster.admin_key()), name, capability, mib)
    }

    /// The same with these secrets.
    pub fn create_with(node: &Endpoint, secrets: BTreeMap<String, String>, name: &str, capability: v1::VolumeCapability, mib: i64) -> Result<Self, Status> {
        let response = node.create_volume(Self::create_request(name, &capability, mib, "rbd", &secrets))?;
        let volume = response.volume.ok_or_else(|| Status::internal("no volume"))?;
        Ok(Self { volume: Volume::at(node, name, volume, capability)?, secrets, publish_context: BTreeMap::new() })
    }

    /// The name of its image: the last part of its id.
    pub fn image(&self) -> String {
        self.volume.id().rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// ControllerPublishVolume's request.
    pub fn attach_request(&self, node_id: &str) -> v1::ControllerPublishVolumeRequest {
        v1::ControllerPublishVolumeRequest {
            volume_id: self.volume.id(),
            node_id: node_id.to_owned(),
            volume_capability: Some(self.volume.capability.clone()),
            volume_context: self.volume.volume.volume_context.clone(),
            secrets: self.secrets.clone(),
            ..Default::default()
        }
    }

    /// Gives it to a node.
    pub fn attach(&mut self, controller: &Endpoint, node_id: &str) -> Result<(), Status> {
        self.publish_context = controller.controller_publish_volume(self.attach_request(node_id))?.publish_context;
        Ok(())
    }

    /// Takes it back from a node.
    pub fn detach(&self, controller: &Endpoint, node_id: &str) -> Result<(), Status> {
        let request = v1::ControllerUnpublishVolumeRequest { volume_id: self.volume.id(), node_id: node_id.to_owned(), secrets: self.secrets.clone() };
        controller.controller_unpublish_volume(request).map(drop)
    }

    /// NodeStageVolume's request.
    pub fn stage_request(&self) -> v1::NodeStageVolumeRequest {
        v1::NodeStageVolumeRequest { publish_context: self.publish_context.clone(), secrets: self.secrets.clone(), ..self.volume.stage_request() }
    }

    /// Stages it.
    pub fn stage(&self, node: &Endpoint) -> Result<(), Status> {
        node.node_stage_volume(self.stage_request()).map(drop)
    }

    /// NodePublishVolume's request for the n-th target.
    pub fn publish_request(&self, n: usize) -> v1::NodePublishVolumeRequest {
        v1::NodePublishVolumeRequest { publish_context: self.publish_context.clone(), ..self.volume.publish_request(n) }
    }

    /// Publishes it at the n-th target.
    pub fn publish(&self, node: &Endpoint, n: usize) -> Result<(), Status> {
        node.node_publish_volume(self.publish_request(n)).map(drop)
    }

    /// Changes parameters that may change.
    pub fn modify(&self, controller: &Endpoint, parameters: &[(&str, &str)]) -> Result<(), Status> {
        let mutable_parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let request = v1::ControllerModifyVolumeRequest { volume_id: self.volume.id(), secrets: self.secrets.clone(), mutable_parameters };
        controller.controller_modify_volume(request).map(drop)
    }

    /// Grows it in the cluster, to so many MiB.
    pub fn expand(&self, controller: &Endpoint, mib: i64) -> Result<i64, Status> {
        let request = v1::ControllerExpandVolumeRequest {
            volume_id: self.volume.id(),
            capacity_range: Some(v1::CapacityRange { required_bytes: mib << 20, limit_bytes: 0 }),
            secrets: self.secrets.clone(),
            ..Default::default()
        };
        controller.controller_expand_volume(request).map(|answer| answer.capacity_bytes)
    }

    /// Grows it on the node, at the n-th target.
    pub fn grow(&self, node: &Endpoint, n: usize) -> Result<i64, Status> {
        let request = v1::NodeExpandVolumeRequest { volume_id: self.volume.id(), volume_path: self.volume.target(n), ..Default::default() };
        node.node_expand_volume(request).map(|answer| answer.capacity_bytes)
    }

    /// Deletes it.
    pub fn delete(&self, controller: &Endpoint) -> Result<(), Status> {
        controller.delete_volume(v1::DeleteVolumeRequest { volume_id: self.volume.id(), secrets: self.secrets.clone() }).map(drop)
    }
}

/// The node's id, as NodeGetInfo says it.
pub fn node_id(node: &Endpoint) -> Result<String, Status> {
    node.node_get_info(v1::NodeGetInfoRequest {}).map(|info| info.node_id)
}
