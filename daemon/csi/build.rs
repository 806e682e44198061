//! Turns `proto/csi/v1/csi.proto` and its neighbours into Rust: messages, client, server, and the descriptor set with the options that mark secrets.

use protox::prost_reflect::{DescriptorPool, MessageDescriptor};
use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

const PROTO: &str = "csi/v1/csi.proto";
/// What is spoken beside CSI on the same kind of socket.
const NEIGHBOURS: [&str; 2] = ["kubelet/registration.proto", "grpc/health/v1/health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/{PROTO}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file(PROTO)?;
    let with_comments = compiler.file_descriptor_set();
    let sensitive: Vec<MessageDescriptor> = sensitive(&compiler.descriptor_pool())?;

    // What is embedded has no comments, and comes from the compiler as bytes: prost's own types would drop the options.
    compiler.include_source_info(false);
    std::fs::write(out.join("csi.bin"), compiler.encode_file_descriptor_set())?;
    std::fs::write(out.join("csi.v1.debug.rs"), debug(&sensitive)?)?;

    let mut prost = tonic_prost_build::Config::new();
    prost.enable_type_names();
    tonic_prost_build::configure()
        .btree_map(".")
        .generate_default_stubs(true)
        .skip_debug(sensitive.iter().map(|message| format!(".{}", message.full_name())))
        .compile_fds_with_config(with_comments, prost)?;

    for proto in NEIGHBOURS {
        println!("cargo::rerun-if-changed=proto/{proto}");
        let mut compiler = protox::Compiler::new(["proto"])?;
        compiler.include_imports(true).include_source_info(true).open_file(proto)?;
        tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    }
    Ok(())
}

/// The messages that may hold what nobody is to see: a field marked as secret, or a volume context (kubelet puts tokens there).
fn sensitive(pool: &DescriptorPool) -> Result<Vec<MessageDescriptor>, Box<dyn Error>> {
    let marked = pool.get_extension_by_name("csi.v1.csi_secret").ok_or("csi.proto declares no option csi_secret")?;
    let is_sensitive = |message: &MessageDescriptor| {
        message.fields().any(|field| field.name() == "volume_context" || field.options().get_extension(&marked).as_bool() == Some(true))
    };
    Ok(pool.all_messages().filter(|message| message.package_name() == "csi.v1" && is_sensitive(message)).collect())
}

/// `Debug` for these messages, by way of the one place that knows what to leave out.
fn debug(messages: &[MessageDescriptor]) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for message in messages {
        let parents: Vec<String> = message.full_name().split('.').skip(2).map(str::to_owned).collect();
        let (name, modules) = parents.split_last().ok_or("a message without a name")?;
        let modules: String = modules.iter().map(|module| format!("{}::", snake(module))).collect();
        writeln!(
            code,
            "impl ::core::fmt::Debug for {modules}{name} {{\n    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        crate::redact::debug(self, f)\n    }}\n}}"
        )?;
    }
    Ok(code)
}

/// `ListVolumesResponse` becomes `list_volumes_response`, as prost names modules.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
