//! The list of all calls of CSI, by name, for whoever learns them at run time.

use crate::descriptor::{PACKAGE, pool};
use prost_reflect::{MessageDescriptor, MethodDescriptor};

/// One call of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// The service's short name, such as `Node`.
    pub service: String,
    /// The call's name, such as `NodeStageVolume`.
    pub name: String,
    /// Where gRPC finds it, such as `/csi.v1.Node/NodeStageVolume`.
    pub path: String,
    /// It answers with a stream of messages.
    pub is_streaming: bool,
    request: MessageDescriptor,
    response: MessageDescriptor,
}

/// No call of CSI has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CSI has no call {given:?}; it has {known}")]
pub struct UnknownMethod {
    /// What was asked for, cut to 64 characters.
    pub given: String,
    /// All names, for people.
    pub known: String,
}

impl Method {
    /// Finds a call by `NodeStageVolume`, `Node/NodeStageVolume`, `csi.v1.Node/NodeStageVolume` or its full path.
    pub fn find(name: &str) -> Result<Self, UnknownMethod> {
        let plain = name.strip_prefix('/').unwrap_or(name);
        let plain = plain.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('.')).unwrap_or(plain);
        let (service, call) = plain.split_once('/').map_or((None, plain), |(service, call)| (Some(service), call));
        methods().find(|method| method.name == call && service.is_none_or(|service| service == method.service)).ok_or_else(|| {
            let known: Vec<String> = methods().map(|method| method.name).collect();
            UnknownMethod { given: name.chars().take(64).collect(), known: known.join(", ") }
        })
    }

    /// What it takes.
    pub fn request(&self) -> &MessageDescriptor {
        &self.request
    }

    /// What it answers.
    pub fn response(&self) -> &MessageDescriptor {
        &self.response
    }

    fn new(method: &MethodDescriptor) -> Self {
        let service = method.parent_service();
        Self {
            service: service.name().to_owned(),
            name: method.name().to_owned(),
            path: format!("/{}/{}", service.full_name(), method.name()),
            is_streaming: method.is_server_streaming(),
            request: method.input(),
            response: method.output(),
        }
    }
}

/// All calls of all services, in the order of `csi.proto`.
pub fn methods() -> impl Iterator<Item = Method> {
    pool().services().flat_map(|service| service.methods().map(|method| Method::new(&method)).collect::<Vec<_>>())
}
