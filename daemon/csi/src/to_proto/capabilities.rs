//! What Windlass can advertise. A capability that nothing stands behind yet has no variant here, so nobody can advertise it by mistake.

use crate::v1;
use v1::controller_service_capability::{self as controller, rpc::Type as ControllerType};
use v1::node_service_capability::{self as node, rpc::Type as NodeType};
use v1::plugin_capability::{self as plugin, service, volume_expansion};

/// What the driver as a whole can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PluginCapability {
    /// The Controller service is served.
    ControllerService,
    /// Volumes are not reachable from everywhere.
    VolumeAccessibilityConstraints,
    /// Volumes grow while they are published.
    OnlineExpansion,
    /// Volumes grow only while they are not published.
    OfflineExpansion,
}

/// What the Controller service can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ControllerCapability {
    /// CreateVolume, DeleteVolume.
    CreateDeleteVolume,
    /// ControllerPublishVolume, ControllerUnpublishVolume.
    PublishUnpublishVolume,
    /// ListVolumes.
    ListVolumes,
    /// GetCapacity.
    GetCapacity,
    /// CreateSnapshot, DeleteSnapshot, and CreateVolume from a snapshot.
    CreateDeleteSnapshot,
    /// ListSnapshots.
    ListSnapshots,
    /// CreateVolume from a volume.
    CloneVolume,
    /// ControllerExpandVolume.
    ExpandVolume,
    /// ControllerModifyVolume, and `mutable_parameters` of CreateVolume.
    ModifyVolume,
    /// The two access modes that tell one workload from many on one node.
    SingleNodeMultiWriter,
}

/// What the Node service can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeCapability {
    /// NodeStageVolume, NodeUnstageVolume.
    StageUnstageVolume,
    /// NodeGetVolumeStats.
    GetVolumeStats,
    /// NodeExpandVolume.
    ExpandVolume,
    /// The two access modes that tell one workload from many on one node.
    SingleNodeMultiWriter,
}

/// GetPluginCapabilities.
pub fn plugin_capabilities(capabilities: impl IntoIterator<Item = PluginCapability>) -> v1::GetPluginCapabilitiesResponse {
    let message = |capability| v1::PluginCapability { r#type: Some(plugin_type(capability)) };
    v1::GetPluginCapabilitiesResponse { capabilities: capabilities.into_iter().map(message).collect() }
}

fn plugin_type(capability: PluginCapability) -> plugin::Type {
    let service = |kind: service::Type| plugin::Type::Service(plugin::Service { r#type: kind.into() });
    let expansion = |kind: volume_expansion::Type| plugin::Type::VolumeExpansion(plugin::VolumeExpansion { r#type: kind.into() });
    match capability {
        PluginCapability::ControllerService => service(service::Type::ControllerService),
        PluginCapability::VolumeAccessibilityConstraints => service(service::Type::VolumeAccessibilityConstraints),
        PluginCapability::OnlineExpansion => expansion(volume_expansion::Type::Online),
        PluginCapability::OfflineExpansion => expansion(volume_expansion::Type::Offline),
    }
}

/// ControllerGetCapabilities.
pub fn controller_capabilities(capabilities: impl IntoIterator<Item = ControllerCapability>) -> v1::ControllerGetCapabilitiesResponse {
    let message = |capability| {
        let kind = match capability {
            ControllerCapability::CreateDeleteVolume => ControllerType::CreateDeleteVolume,
            ControllerCapability::PublishUnpublishVolume => ControllerType::PublishUnpublishVolume,
            ControllerCapability::ListVolumes => ControllerType::ListVolumes,
            ControllerCapability::GetCapacity => ControllerType::GetCapacity,
            ControllerCapability::CreateDeleteSnapshot => ControllerType::CreateDeleteSnapshot,
            ControllerCapability::ListSnapshots => ControllerType::ListSnapshots,
            ControllerCapability::CloneVolume => ControllerType::CloneVolume,
            ControllerCapability::ExpandVolume => ControllerType::ExpandVolume,
            ControllerCapability::ModifyVolume => ControllerType::ModifyVolume,
            ControllerCapability::SingleNodeMultiWriter => ControllerType::SingleNodeMultiWriter,
        };
        v1::ControllerServiceCapability { r#type: Some(controller::Type::Rpc(controller::Rpc { r#type: kind.into() })) }
    };
    v1::ControllerGetCapabilitiesResponse { capabilities: capabilities.into_iter().map(message).collect() }
}

/// NodeGetCapabilities.
pub fn node_capabilities(capabilities: impl IntoIterator<Item = NodeCapability>) -> v1::NodeGetCapabilitiesResponse {
    let message = |capability| {
        let kind = match capability {
            NodeCapability::StageUnstageVolume => NodeType::StageUnstageVolume,
            NodeCapability::GetVolumeStats => NodeType::GetVolumeStats,
            NodeCapability::ExpandVolume => NodeType::ExpandVolume,
            NodeCapability::SingleNodeMultiWriter => NodeType::SingleNodeMultiWriter,
        };
        v1::NodeServiceCapability { r#type: Some(node::Type::Rpc(node::Rpc { r#type: kind.into() })) }
    };
    v1::NodeGetCapabilitiesResponse { capabilities: capabilities.into_iter().map(message).collect() }
}
