//! What is generated from the WIT: one part an exported interface, so that a component's exports are put together from what its driver implements.
#![allow(unsafe_code, missing_docs, unreachable_pub)]

/// The interface `driver`, and the imports that every driver may use.
pub mod driver {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world driver-part {
                import windlass:plugin/log@0.1.0;
                import windlass:plugin/config@0.1.0;
                export windlass:plugin/driver@0.1.0;
            }
        ",
        world: "windlass:sdk/driver-part",
        default_bindings_module: "windlass_plugin_sdk::bindings::driver",
        export_macro_name: "export_driver_part",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
        generate_unused_types: true,
    });
}

/// The interface `node`.
pub mod node {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world node-part { export windlass:plugin/node@0.1.0; }
        ",
        world: "windlass:sdk/node-part",
        default_bindings_module: "windlass_plugin_sdk::bindings::node",
        export_macro_name: "export_node_part",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}

/// The interface `controller`, and the import `files`.
pub mod controller {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world controller-part {
                import windlass:plugin/files@0.1.0;
                export windlass:plugin/controller@0.1.0;
            }
        ",
        world: "windlass:sdk/controller-part",
        default_bindings_module: "windlass_plugin_sdk::bindings::controller",
        export_macro_name: "export_controller_part",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}
