//! A volume as an orchestrator knows it: what CreateVolume returned, how it is used, and the requests that follow from it.

use crate::Endpoint;
use tonic::Status;
use v1::volume_capability::access_mode::Mode;
use v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use windlass_csi::v1;

/// A capability for a raw block device.
pub fn block(mode: Mode) -> v1::VolumeCapability {
    capability(AccessType::Block(BlockVolume {}), mode)
}

/// A capability for a file system of the driver's choice.
pub fn mount(mode: Mode) -> v1::VolumeCapability {
    mount_as("", mode, &[])
}

/// A capability for a file system with flags.
pub fn mount_as(filesystem: &str, mode: Mode, flags: &[&str]) -> v1::VolumeCapability {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    capability(AccessType::Mount(MountVolume { fs_type: filesystem.to_owned(), mount_flags: flags, volume_mount_group: String::new() }), mode)
}

fn capability(access: AccessType, mode: Mode) -> v1::VolumeCapability {
    v1::VolumeCapability { access_mode: Some(AccessMode { mode: mode.into() }), access_type: Some(access) }
}

/// A volume and how it is used.
#[derive(Clone)]
pub struct Volume {
    /// As CreateVolume returned it.
    pub volume: v1::Volume,
    /// How it is used.
    pub capability: v1::VolumeCapability,
    /// Where it is staged: `kubelet/NAME/stage`.
    pub staging: String,
    /// Where it is published: `kubelet/NAME/pods/0` and so on.
    pub pods: String,
}

impl Volume {
    /// Makes a volume of so many MiB, and its folders.
    pub fn create(daemon: &Endpoint, name: &str, capability: v1::VolumeCapability, mib: i64) -> Result<Self, Status> {
        let response = daemon.create_volume(Self::create_request(name, &capability, mib))?;
        let volume = response.volume.ok_or_else(|| Status::internal("no volume"))?;
        Self::at(daemon, name, volume, capability)
    }

    /// A volume that was made, and its folders on the node.
    pub fn at(daemon: &Endpoint, name: &str, volume: v1::Volume, capability: v1::VolumeCapability) -> Result<Self, Status> {
        let (staging, pods) = (daemon.text(&format!("kubelet/{name}/stage")), daemon.text(&format!("kubelet/{name}/pods")));
        daemon.make_folders(&[&staging, &pods]).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Self { volume, capability, staging, pods })
    }

    /// The request that makes a volume of so many MiB.
    pub fn create_request(name: &str, capability: &v1::VolumeCapability, mib: i64) -> v1::CreateVolumeRequest {
        v1::CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(v1::CapacityRange { required_bytes: mib << 20, limit_bytes: 0 }),
            volume_capabilities: vec![capability.clone()],
            ..Default::default()
        }
    }

    /// The volume's id.
    pub fn id(&self) -> String {
        self.volume.volume_id.clone()
    }

    /// The path of the n-th target.
    pub fn target(&self, n: usize) -> String {
        format!("{}/{n}", self.pods)
    }

    /// NodeStageVolume's request.
    pub fn stage_request(&self) -> v1::NodeStageVolumeRequest {
        v1::NodeStageVolumeRequest {
            volume_id: self.id(),
            staging_target_path: self.staging.clone(),
            volume_capability: Some(self.capability.clone()),
            volume_context: self.volume.volume_context.clone(),
            ..Default::default()
        }
    }

    /// NodeUnstageVolume's request.
    pub fn unstage_request(&self) -> v1::NodeUnstageVolumeRequest {
        v1::NodeUnstageVolumeRequest { volume_id: self.id(), staging_target_path: self.staging.clone() }
    }

    /// NodePublishVolume's request for the n-th target.
    pub fn publish_request(&self, n: usize) -> v1::NodePublishVolumeRequest {
        v1::NodePublishVolumeRequest {
            volume_id: self.id(),
            staging_target_path: self.staging.clone(),
            target_path: self.target(n),
            volume_capability: Some(self.capability.clone()),
            volume_context: self.volume.volume_context.clone(),
            ..Default::default()
        }
    }

    /// NodeUnpublishVolume's request for the n-th target.
    pub fn unpublish_request(&self, n: usize) -> v1::NodeUnpublishVolumeRequest {
        v1::NodeUnpublishVolumeRequest { volume_id: self.id(), target_path: self.target(n) }
    }

    /// Stages it.
    pub fn stage(&self, daemon: &Endpoint) -> Result<(), Status> {
        daemon.node_stage_volume(self.stage_request()).map(drop)
    }

    /// Unstages it.
    pub fn unstage(&self, daemon: &Endpoint) -> Result<(), Status> {
        daemon.node_unstage_volume(self.unstage_request()).map(drop)
    }

    /// Publishes it at the n-th target.
    pub fn publish(&self, daemon: &Endpoint, n: usize) -> Result<(), Status> {
        daemon.node_publish_volume(self.publish_request(n)).map(drop)
    }

    /// Unpublishes it from the n-th target.
    pub fn unpublish(&self, daemon: &Endpoint, n: usize) -> Result<(), Status> {
        daemon.node_unpublish_volume(self.unpublish_request(n)).map(drop)
    }

    /// Deletes it.
    pub fn delete(&self, daemon: &Endpoint) -> Result<(), Status> {
        daemon.delete_volume(v1::DeleteVolumeRequest { volume_id: self.id(), ..Default::default() }).map(drop)
    }
}
