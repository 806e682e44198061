//! The command line: what can be typed, and which function does it.

use crate::admin::Question;
use crate::command::{self, Output};
use crate::{dev, effects, serve, worker};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// One node storage daemon for any number of CSI drivers.
#[derive(Parser)]
#[command(name = "windlass", version, about, long_about = None, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve CSI: one socket a driver, as the configuration says
    Serve {
        /// The daemon's configuration
        #[arg(long, default_value = "/etc/windlass/windlass.toml")]
        config: PathBuf,
    },
    /// Run everything in one folder with the embedded `local` driver, without configuration
    Dev(dev::Arguments),
    /// Whether this node is fit to run the daemon; changes nothing
    Check(command::check::Arguments),
    /// What a running daemon is doing
    Status(Ask),
    /// The drivers of a running daemon, and the plugins that serve them
    Drivers(Ask),
    /// The volumes on this node
    Volumes {
        #[command(flatten)]
        ask: Ask,
        #[command(subcommand)]
        deed: Option<VolumesDeed>,
    },
    /// The calls that run, and what is done in the background
    Ops(Ask),
    /// The loop devices and mapped images of this node, and whose each is
    Devices(Ask),
    /// Show what a request would do, and do nothing
    Explain {
        #[command(subcommand)]
        what: Explain,
    },
    /// For those who write plugins, and those who let them in
    Plugin {
        #[command(subcommand)]
        deed: PluginDeed,
    },
    /// Make one CSI call, for debugging
    Csi(command::csi::Arguments),
    /// Internal: does steps that may hang
    #[command(hide = true)]
    Worker,
    /// Internal: talks to what is outside
    #[command(hide = true)]
    Effects,
    /// Internal: runs one plugin, shut in
    #[command(hide = true)]
    PluginHost {
        /// Compile instead of run
        #[arg(long)]
        compile: bool,
        /// Who to become
        #[arg(long)]
        uid: Option<u32>,
        /// Sockets by which calls come, after the two descriptors that every plugin process has
        #[arg(long, default_value_t = 0)]
        lanes: u32,
    },
}

/// Where the running daemon is, and how to print what it says.
#[derive(Args, Clone)]
pub(crate) struct Ask {
    /// The daemon's admin socket
    #[arg(long, env = "WINDLASS_ADMIN", default_value = "/run/windlass/admin.sock", global = true)]
    pub(crate) admin: PathBuf,
    /// A table for people, or JSON for programs
    #[arg(short, long, value_enum, default_value = "table", global = true)]
    pub(crate) output: Output,
}

#[derive(Subcommand)]
enum VolumesDeed {
    /// Allow a volume to be formatted once, at its next stage and if it is blank then, though nothing proves that it may be
    AllowFormat {
        /// The volume's id
        id: String,
        /// The driver; not needed where there is only one
        #[arg(long)]
        driver: Option<String>,
        /// Also over what an interrupted format left: data that no known format explains. What is there is lost
        #[arg(long)]
        over_remains: bool,
    },
}

#[derive(Subcommand)]
enum Explain {
    /// A NodeStageVolume request, as JSON
    Stage {
        /// The request; `-` is standard input
        request: PathBuf,
        /// The driver; not needed where there is only one
        #[arg(long)]
        driver: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
}

#[derive(Subcommand)]
enum PluginDeed {
    /// Say whether a component would be taken, and what would be advertised of it
    Check {
        /// The component
        file: PathBuf,
        /// A table for people, or JSON for programs
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
        /// A key of the driver's configuration, `KEY=VALUE`
        #[arg(long = "config")]
        config: Vec<String>,
        /// A public key, or its file: the component must be signed by one of those that are given
        #[arg(long = "key")]
        keys: Vec<String>,
    },
    /// Make a pair of keys for signing: FILE and FILE.pub, as minisign has them
    Keygen {
        /// The secret key's file
        file: PathBuf,
        /// Do not ask for a password that protects the secret key (`WINDLASS_KEY_PASSWORD` answers in your stead)
        #[arg(long)]
        no_password: bool,
        /// A table for people, or JSON for programs
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Sign a component: writes FILE.minisig
    Sign {
        /// The component
        file: PathBuf,
        /// The secret key's file, made by `keygen` or by minisign
        #[arg(long)]
        key: PathBuf,
        /// What the signature says of the component, signed as well; the time and the file's name if left out
        #[arg(long)]
        comment: Option<String>,
        /// A table for people, or JSON for programs
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Say whether a component is signed by one of the keys; fails if not
    Verify {
        /// The component
        file: PathBuf,
        /// A public key, or its file
        #[arg(long = "key", required = true)]
        keys: Vec<String>,
        /// A table for people, or JSON for programs
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Show a component's digest and signature; nothing is compiled or run
    Inspect {
        /// The component
        file: PathBuf,
        /// A public key, or its file, to check the signature with
        #[arg(long = "key")]
        keys: Vec<String>,
        /// A table for people, or JSON for programs
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Let a driver's next version be lower than one that has served, once
    AllowDowngrade {
        /// The driver
        driver: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// Make the folder of a new driver that works, with its tests and the SDK
    New {
        /// The folder, which is made; the driver is called as it is
        folder: PathBuf,
        /// Who makes it: `vendor` of the driver's description
        #[arg(long, default_value = "storage.example")]
        vendor: String,
    },
    /// Rehearse a driver's whole life without a node, and say which promises it does not keep
    Test(command::rehearsal::Arguments),
}

pub(crate) fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Worker => return worker::run(),
        Command::Effects => return effects::run(),
        Command::PluginHost { compile: true, uid, lanes: _ } => return windlass_sandbox::compile(uid, windlass_sandbox::CompileLimits::default()),
        Command::PluginHost { compile: false, uid, lanes } => return windlass_sandbox::plugin_host(uid, lanes),
        Command::Serve { config } => serve::run(&config),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Check(arguments) => command::check::check(&arguments),
        Command::Status(ask) => command::status::status(&ask),
        Command::Drivers(ask) => command::status::drivers(&ask),
        Command::Volumes { ask, deed: None } => command::status::volumes(&ask),
        Command::Volumes { ask, deed: Some(VolumesDeed::AllowFormat { driver, id, over_remains }) } => {
            command::status::allow_format(&ask, &Question::AllowFormat { driver, volume: id, over_remains })
        }
        Command::Ops(ask) => command::ops::ops(&ask),
        Command::Devices(ask) => command::devices::devices(&ask),
        Command::Explain { what: Explain::Stage { request, driver, ask } } => command::explain::stage(&ask, driver, &request),
        Command::Plugin { deed } => plugin(deed),
        Command::Csi(arguments) => command::csi::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windlass: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn plugin(deed: PluginDeed) -> anyhow::Result<()> {
    match deed {
        PluginDeed::Check { file, output, config, keys } => command::plugin::check(&file, output, &config, &keys),
        PluginDeed::New { folder, vendor } => command::starter::new(&folder, &vendor),
        PluginDeed::Test(arguments) => command::rehearsal::run(&arguments),
        PluginDeed::Keygen { file, no_password, output } => command::signing::keygen(&file, no_password, output),
        PluginDeed::Sign { file, key, comment, output } => command::signing::sign(&file, &key, comment, output),
        PluginDeed::Verify { file, keys, output } => command::signing::verify(&file, &keys, output),
        PluginDeed::Inspect { file, keys, output } => command::signing::inspect(&file, &keys, output),
        PluginDeed::AllowDowngrade { driver, ask } => command::signing::allow_downgrade(&ask, driver),
    }
}
