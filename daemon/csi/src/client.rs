//! Calling a driver over its unix socket, also with messages that are known at run time only.

use crate::json::{Message, Request};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Nobody answers at the socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {path}: is the daemon running, and is this one of its sockets?")]
pub struct ConnectError {
    /// The socket.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub source: tonic::transport::Error,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The driver answered with an error, or the connection broke.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// The call answers with a stream, which is not spoken here.
    #[error("{method} answers with a stream; only calls with one answer can be made this way")]
    Streaming {
        /// The call's name.
        method: String,
    },
}

/// Opens a connection to the unix socket at `path`, with the authority that kubelet uses.
pub async fn connect(path: &Path) -> Result<Channel, ConnectError> {
    let socket = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.map_err(|source| ConnectError { path: path.to_owned(), source })
}

/// Makes the call and waits for its one answer. The caller sets the deadline.
pub async fn call(channel: Channel, request: Request) -> Result<Message, CallError> {
    let Request { method, message } = request;
    if method.is_streaming {
        return Err(CallError::Streaming { method: method.name });
    }
    let failed = |status| CallError::Status(Box::new(status));
    let path = PathAndQuery::try_from(method.path.as_str()).map_err(|e| failed(Status::from_error(Box::new(e))))?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|e| failed(Status::from_error(Box::new(e))))?;
    let answer = grpc.unary(tonic::Request::new(message.into_inner()), path, Dynamic(method.response().clone())).await.map_err(failed)?;
    Ok(Message::new(answer.into_inner()))
}

/// Encodes any message, decodes the kind it was made for.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|e| Status::new(Code::Internal, format!("cannot encode the request: {e}")))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let answer = DynamicMessage::decode(self.0.clone(), buffer);
        answer.map(Some).map_err(|e| Status::new(Code::Internal, format!("cannot decode the answer: {e}")))
    }
}
