//! The reference driver, exported for the node alone, so that a reload to it would take the controller's capabilities away.

windlass_plugin_sdk::export_node_driver!(windlass_local::Local);
