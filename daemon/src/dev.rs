//! `windlass dev`: the whole thing in one folder, with the embedded `local` driver, for trying out and for tests.

use crate::claims::Claimed;
use crate::config::{Config, LOCAL};
use crate::house::House;
use crate::serve::{Running, log};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use windlass_engine::Engine;
use windlass_engine::record::{Record, What};

/// The driver's name under `windlass dev`.
pub(crate) const DRIVER: &str = "local.windlass.io";

/// How long calls that run may take to end. A format takes longer than that on a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long what is in use may take to be let go of.
const LETTING_GO: Duration = Duration::from_secs(5);

/// How long the plugin may take to be loaded before the socket is told of without it: as long as it may take to compile.
const LOADING: Duration = Duration::from_secs(30);

/// Between two tries to take down what is left.
const PAUSE: Duration = Duration::from_millis(200);

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

/// Serves until SIGINT or SIGTERM, then takes down every mount and device, or fails and names what stays. The volumes' files stay in
/// `volumes`.
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
    wait_for_plugin(&running);
    println!("csi socket: {}", socket.display());
    println!("admin socket: {}", admin.display());
    println!("volumes are mounted beneath: {}", running.house.config.roots);
    println!("the plugin, to be replaced by a rename: {}", folder.join("plugins/local.wasm").display());
    println!("signatures are off: whatever is renamed there is taken");
    running.wait()?;
    println!("taking everything down");
    let left = take_down(&running, &folder);
    running.stop();
    anyhow::ensure!(left.is_empty(), "this is left, and the folder is not to be deleted before it is gone:\n  {}", left.join("\n  "));
    Ok(())
}

/// Until the plugin serves or was refused, as the log says: who is told of a socket wants to call it. An edited plugin may take its time
/// to compile; the socket is told of then all the same, since volumes can be taken down by it.
fn wait_for_plugin(running: &Running) {
    let until = Instant::now() + LOADING;
    let is_loading = || !running.house.all().iter().all(|served| served.driver.has_tried());
    while is_loading() && !running.is_asked_to_end() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
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

/// Takes down what is recorded, again and again: a call that was running when the end came may still add to it. What stays, and why.
fn take_down(running: &Running, folder: &Path) -> Vec<String> {
    running.close(PATIENCE);
    let until = Instant::now() + LETTING_GO;
    loop {
        let left = take_down_once(running, folder);
        if left.is_empty() || Instant::now() >= until {
            return left;
        }
        std::thread::sleep(PAUSE);
    }
}

fn take_down_once(running: &Running, folder: &Path) -> Vec<String> {
    let house = &running.house;
    let Some(engine) = &house.engine else { return Vec::new() };
    let mut left = Vec::new();
    for record in engine.records() {
        let volume = &record.header.volume;
        match take_down_volume(house, engine, &record) {
            Ok(()) => println!("  {volume}: taken down"),
            Err(why) => left.push(format!("{volume}: {why}")),
        }
    }
    left.extend(house.claims.going().into_iter().map(|going| {
        let verb = going.verb;
        format!("{}: {verb} still works on it", going.claimed.into_parts().1)
    }));
    // What a call left whose record was lost, or is made only now.
    match engine.unowned() {
        Ok(unowned) => {
            let own = unowned.into_iter().filter(|marked| Path::new(&marked.backing).starts_with(folder));
            left.extend(own.map(|marked| format!("/dev/{}: it shows {}, and no record says of which volume", marked.device, marked.backing)));
        }
        Err(failure) => left.push(format!("the devices of this machine could not be looked through: {failure}")),
    }
    left
}

/// Publishes first, then the stage, as an orchestrator would.
fn take_down_volume(house: &House, engine: &Engine, record: &Record) -> Result<(), String> {
    let (driver, volume) = (&record.header.driver, &record.header.volume);
    let claimed = Claimed::Volume(driver.clone(), volume.to_string());
    let Some(_claim) = house.claims.claim_own(&claimed, "take-down") else { return Err("a call still works on it".to_owned()) };
    let taken_down = engine.open(driver, volume).and_then(|mut work| {
        for (_, facts) in record.publishes() {
            work.unpublish(&facts.target)?;
        }
        match record.stage().map(|strand| &strand.what) {
            Some(What::Stage(facts)) => work.unstage(&facts.staging).map(drop),
            _ => Ok(()),
        }
    });
    taken_down.map_err(|failure| failure.to_string())
}
