//! `windlass dev`: the whole thing in one folder, with the embedded `local` driver, for trying out and for tests.

use crate::config::{Config, LOCAL};
use crate::serve::{Running, log};
use anyhow::Context;
use std::path::{Path, PathBuf};
use windlass_engine::record::What;
use windlass_plan::ids::VolumeId;

/// The driver's name under `windlass dev`.
pub(crate) const DRIVER: &str = "local.windlass.io";

/// The arguments of `windlass dev`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder that everything goes into; made if it is missing
    #[arg(long)]
    dir: PathBuf,
    /// A further folder beneath which volumes may be mounted
    #[arg(long = "root")]
    roots: Vec<PathBuf>,
}

/// Serves until SIGINT or SIGTERM, then takes down every mount and device. The volumes' files stay in `volumes`.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    log();
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "`windlass dev` attaches and mounts: run it as root");
    std::fs::create_dir_all(&arguments.dir).with_context(|| format!("cannot make the folder {}", arguments.dir.display()))?;
    let folder = std::fs::canonicalize(&arguments.dir)?;
    let config = Config::dev(&folder, &arguments.roots)?;
    furnish(&folder, &config.node)?;
    let socket = config.sockets.join(DRIVER).join("csi.sock");
    let admin = config.run.join("admin.sock");
    let running = Running::start(config)?;
    println!("csi socket: {}", socket.display());
    println!("admin socket: {}", admin.display());
    println!("volumes are mounted beneath: {}", folder.display());
    println!("the plugin, to be replaced by a rename: {}", folder.join("plugins/local.wasm").display());
    running.wait()?;
    println!("taking everything down");
    take_down(&running);
    running.stop();
    Ok(())
}

/// Makes what an operator would have made. What is there is left as it is.
fn furnish(folder: &Path, node: &str) -> anyhow::Result<()> {
    for name in ["drivers.d", "plugins", "volumes"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    let plugin = folder.join("plugins/local.wasm");
    if !plugin.exists() {
        let temporary = plugin.with_extension("new");
        std::fs::write(&temporary, LOCAL)?;
        std::fs::rename(&temporary, &plugin)?;
    }
    let file = folder.join("drivers.d").join(format!("{DRIVER}.toml"));
    if !file.exists() {
        let text = format!(
            "component = {:?}\n\n[grants.files]\nvolumes = {:?}\n\n[config]\n# The volumes are files of this node: they are reachable from nowhere else.\nnode = {:?}\n",
            plugin.display().to_string(),
            folder.join("volumes").display().to_string(),
            node
        );
        std::fs::write(&file, text)?;
    }
    Ok(())
}

/// Publishes first, then stages, as an orchestrator would. What does not go is named, and left for the next start.
fn take_down(running: &Running) {
    let Some(engine) = &running.house.engine else { return };
    for record in engine.records() {
        let (driver, volume): (_, VolumeId) = (&record.header.driver, record.header.volume.clone());
        let result = engine.open(driver, &volume).and_then(|mut work| {
            for (_, facts) in record.publishes() {
                work.unpublish(&facts.target)?;
            }
            match record.stage().map(|strand| &strand.what) {
                Some(What::Stage(facts)) => work.unstage(&facts.staging).map(drop),
                _ => Ok(()),
            }
        });
        match result {
            Ok(()) => println!("  {volume}: taken down"),
            Err(failure) => eprintln!("  {volume}: {failure}"),
        }
    }
}
