//! The WIT package as Rust types, generated from `wit/`: one world that has every interface, whichever a component chooses.

#![allow(missing_docs, unreachable_pub, clippy::all)]

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package windlass:sandbox;
        world every {
            include windlass:plugin/file-driver@0.1.0;
            include windlass:plugin/rbd-driver@0.1.0;
        }
    ",
    world: "windlass:sandbox/every",
    imports: { default: trappable },
});
