//! The wire of CSI 1.13: its messages and services, and the two edges between them and Windlass's own vocabulary.
//!
//! A message comes in through `from_proto` and goes out through `to_proto`, nowhere else. `json`, `methods` and `client` serve
//! `windlass csi`, the command for debugging, and tests. No gRPC code is chosen here. `registration` and `health` are spoken beside CSI.

pub mod health;
pub mod registration;
pub mod v1;

pub mod from_proto;
pub mod to_proto;

mod limits;
pub use limits::{MAX_MAP, MAX_NODE_ID, MAX_PATH, Problem, SERVICE_ACCOUNT_TOKENS};

pub mod client;
pub mod json;
pub mod methods;

mod descriptor;
mod redact;

pub use descriptor::FILE_DESCRIPTOR_SET;
