//! A driver that imports `windlass:plugin/http@0.1.0`, which no host has: it must be refused before it runs.

use windlass_local::Local;
use windlass_plugin_sdk::*;

mod bindings {
    #![allow(unsafe_code, missing_docs, unreachable_pub)]
    wit_bindgen::generate!({
        inline: "
            package windlass:plugin@0.1.0;
            interface http { get: func(url: string) -> string; }
            world greedy { import http; }
        ",
    });
}

struct Greedy;

impl NodeDriver for Greedy {
    fn describe() -> Description {
        Local::describe()
    }

    fn attach(_: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        let name = bindings::windlass::plugin::http::get("https://storage.example/where-is-it");
        Ok(AttachPlan::file("volumes", name).formatted_for(&facts.capability, FilesystemKind::Ext4))
    }
}

export_node_driver!(Greedy);
