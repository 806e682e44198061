//! The WIT package as Rust types, generated from `wit/`.

#![allow(missing_docs, unreachable_pub, clippy::all)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "file-driver",
    imports: { default: trappable },
});
