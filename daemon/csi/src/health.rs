//! gRPC's health checking, as the compiler of `health.proto` wrote it.

#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("grpc.health.v1");
