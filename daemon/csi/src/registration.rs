//! Kubelet's registration of plugins, as the compiler of `registration.proto` wrote it.

#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("pluginregistration");
