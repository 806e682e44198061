//! The package `csi.v1` as the compiler of `csi.proto` wrote it: messages, clients and servers.
//!
//! Maps are `BTreeMap`. A call that a server's trait leaves out answers UNIMPLEMENTED. `Debug` of a message that may hold a secret is
//! JSON with the secrets hidden.

#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("csi.v1");
include!(concat!(env!("OUT_DIR"), "/csi.v1.debug.rs"));
