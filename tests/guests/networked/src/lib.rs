//! A driver that opens a connection by the standard library, and so imports `wasi:sockets`: it may load, and it must not connect.

use std::io::Read;
use std::net::TcpStream;
use windlass_local::Local;
use windlass_plugin_sdk::*;

struct Networked;

impl NodeDriver for Networked {
    fn describe() -> Description {
        Local::describe()
    }

    fn attach(_: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        let mut name = String::new();
        let read = TcpStream::connect("127.0.0.1:80").and_then(|mut stream| stream.read_to_string(&mut name));
        read.map_err(|error| Refusal::unavailable(error.to_string()))?;
        Ok(AttachPlan::file("volumes", name).formatted_for(&facts.capability, FilesystemKind::Ext4))
    }
}

export_node_driver!(Networked);
