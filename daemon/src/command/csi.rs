//! `windlass csi RPC`: one CSI call, with the messages as JSON. Secrets in what is printed are hidden.

use super::print_json;
use anyhow::Context;
use std::path::PathBuf;

/// The arguments of `windlass csi`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The RPC, such as NodeGetInfo; `list` prints all
    rpc: String,
    /// The request as JSON; `-` reads standard input, nothing is the empty message
    request: Option<String>,
    /// The driver's socket
    #[arg(long, env = "CSI_ENDPOINT", default_value = "/run/windlass/csi/local.windlass.io/csi.sock")]
    socket: String,
}

/// Makes the call.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.rpc == "list" {
        let names: Vec<String> = windlass_csi::methods::methods().map(|method| format!("{}.{}", method.service, method.name)).collect();
        return super::print(&names.join("\n"));
    }
    let text = match arguments.request.as_deref() {
        None => "{}".to_owned(),
        Some("-") => super::explain::read("-".as_ref())?,
        Some(text) => text.to_owned(),
    };
    let request = windlass_csi::json::request(&arguments.rpc, &text)?;
    let path = PathBuf::from(arguments.socket.trim_start_matches("unix://"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let channel = windlass_csi::client::connect(&path).await.with_context(|| format!("no driver answers at {}", path.display()))?;
        anyhow::Ok(windlass_csi::client::call(channel, request).await?)
    })?;
    print_json(&answer.to_json()?)
}
