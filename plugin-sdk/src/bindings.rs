//! What is generated from the WIT: one part an interface, so that a component's exports are put together from what its driver implements.
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

/// The interface `controller`.
pub mod controller {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world controller-part { export windlass:plugin/controller@0.1.0; }
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

/// The interface `listing`.
pub mod listing {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world listing-part { export windlass:plugin/listing@0.1.0; }
        ",
        world: "windlass:sdk/listing-part",
        default_bindings_module: "windlass_plugin_sdk::bindings::listing",
        export_macro_name: "export_listing_part",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}

/// The interface `capacity`.
pub mod capacity {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world capacity-part { export windlass:plugin/capacity@0.1.0; }
        ",
        world: "windlass:sdk/capacity-part",
        default_bindings_module: "windlass_plugin_sdk::bindings::capacity",
        export_macro_name: "export_capacity_part",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}

/// The interface `publishing`.
pub mod publishing {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world publishing-part { export windlass:plugin/publishing@0.1.0; }
        ",
        world: "windlass:sdk/publishing-part",
        default_bindings_module: "windlass_plugin_sdk::bindings::publishing",
        export_macro_name: "export_publishing_part",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}

/// The interface `modification`.
pub mod modification {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world modification-part { export windlass:plugin/modification@0.1.0; }
        ",
        world: "windlass:sdk/modification-part",
        default_bindings_module: "windlass_plugin_sdk::bindings::modification",
        export_macro_name: "export_modification_part",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}

/// The interface `snapshots`.
pub mod snapshots {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world snapshots-part { export windlass:plugin/snapshots@0.1.0; }
        ",
        world: "windlass:sdk/snapshots-part",
        default_bindings_module: "windlass_plugin_sdk::bindings::snapshots",
        export_macro_name: "export_snapshots_part",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}

/// The interface `snapshot-listing`.
pub mod snapshot_listing {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world snapshot-listing-part { export windlass:plugin/snapshot-listing@0.1.0; }
        ",
        world: "windlass:sdk/snapshot-listing-part",
        default_bindings_module: "windlass_plugin_sdk::bindings::snapshot_listing",
        export_macro_name: "export_snapshot_listing_part",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}

/// The import `files`.
pub mod files {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world files-part { import windlass:plugin/files@0.1.0; }
        ",
        world: "windlass:sdk/files-part",
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}

/// The import `rbd`.
pub mod rbd {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package windlass:sdk;
            world rbd-part { import windlass:plugin/rbd@0.1.0; }
        ",
        world: "windlass:sdk/rbd-part",
        generate_all,
        additional_derives: [PartialEq, Eq],
        with: { "windlass:plugin/types@0.1.0": crate::bindings::driver::windlass::plugin::types },
    });
}
