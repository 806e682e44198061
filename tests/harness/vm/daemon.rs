//! A daemon in a guest: started, killed and started again there, and called from here over its real sockets.

use super::{Vm, code};
use crate::daemon::{FOLDERS, binary, configuration, driver_file};
use crate::endpoint::Guest;
use crate::{DRIVER, Endpoint, Setup, component};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Where the binary lies in a guest: in memory, since starting it over the shared root takes seconds.
const BINARY: &str = "/run/windlass";

/// How long a daemon may take to be ready. Compiling a component on an emulated processor takes a while the first time.
const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon in a folder of its own on the guest's disk, `/var/lib/windlass/NAME`; its run folder is in memory, `/run/NAME`.
pub struct GuestDaemon {
    vm: Arc<Vm>,
    name: String,
    endpoint: Endpoint,
    pid: Option<i32>,
    setup: Setup,
}

impl GuestDaemon {
    /// Starts a daemon with the driver `local` and waits until it is ready.
    #[track_caller]
    pub fn start(vm: &Arc<Vm>, name: &str) -> Self {
        Self::with(vm, name, Setup::default())
    }

    /// Starts a daemon and waits until its driver is ready.
    #[track_caller]
    pub fn with(vm: &Arc<Vm>, name: &str, setup: Setup) -> Self {
        let mut daemon = Self::prepare(vm, name, setup);
        daemon.put_component(daemon.setup.component, "plugins/local.wasm");
        let text = driver_file(&daemon.text("plugins/local.wasm"), &daemon.text("volumes"), &daemon.setup.driver);
        daemon.write_driver(DRIVER, &text);
        daemon.start_again();
        daemon.wait_ready(DRIVER);
        daemon
    }

    /// Starts a daemon that has no driver yet.
    #[track_caller]
    pub fn prepared(vm: &Arc<Vm>, name: &str) -> Self {
        let mut daemon = Self::prepare(vm, name, Setup::default());
        // The driver in the binary is compiled once for all guests.
        code::lend(vm, &daemon.text("state/code"), &std::fs::read(component("rbd")).expect("the component"));
        daemon.start_again();
        daemon
    }

    /// Makes the folders of a daemon that has no driver yet and does not run yet.
    #[track_caller]
    pub fn prepare(vm: &Arc<Vm>, name: &str, setup: Setup) -> Self {
        let folder = PathBuf::from(format!("/var/lib/windlass/{name}"));
        let sockets = vm.new_folder().expect("a folder for sockets");
        let endpoint = Endpoint::in_guest(&folder, DRIVER, Guest { vm: vm.clone(), sockets });
        let daemon = Self { vm: vm.clone(), name: name.to_owned(), endpoint, pid: None, setup };
        let paths: Vec<String> = FOLDERS.iter().map(|name| daemon.text(name)).collect();
        daemon.make_folders(&paths.iter().map(String::as_str).collect::<Vec<_>>()).expect("folders in the guest");
        daemon
    }

    /// Writes a driver's file, and has its socket led to this machine.
    #[track_caller]
    pub fn write_driver(&self, driver: &str, text: &str) {
        self.rename_in(text.as_bytes(), &format!("drivers.d/{driver}.toml"));
        let here = self.driver(driver).socket();
        let folder = here.parent().expect("a folder");
        if !folder.exists() {
            std::fs::create_dir(folder).and_then(|()| self.vm.forward(&here, &self.guest_socket(driver)).map_err(std::io::Error::other)).expect("a socket");
        }
    }

    /// Puts a component that `tools/guest all` built in a place by rename.
    #[track_caller]
    pub fn put_component(&self, name: &str, to: &str) {
        let component = std::fs::read(component(name)).expect("the component");
        self.rename_in(&component, to);
        code::lend(&self.vm, &self.text("state/code"), &component);
    }

    /// Saves the compiling of a component that is in the binary, where a guest has compiled it before.
    #[track_caller]
    pub fn lend_code(&self, name: &str) {
        code::lend(&self.vm, &self.text("state/code"), &std::fs::read(component(name)).expect("the component"));
    }

    /// Puts a file in its place in the daemon's folder in one step.
    #[track_caller]
    pub fn rename_in(&self, bytes: &[u8], to: &str) {
        let temporary = self.text(&format!("state/{}.new", to.replace('/', "-")));
        self.vm.put(&temporary, 0o644, bytes);
        self.vm.run(&["/bin/busybox", "mv", &temporary, &self.text(to)]);
    }

    /// Starts the daemon in its folder (again), also after a reboot, and waits for its admin socket.
    #[track_caller]
    pub fn start_again(&mut self) {
        let started = self.try_start().unwrap_or_else(|error| panic!("{error:#}\n{}", self.log()));
        self.pid = Some(started);
        let (until, admin) = (Instant::now() + PATIENCE, self.admin_socket());
        while self.vm.connect(&admin).is_err() {
            let ended = self.vm.ended(started);
            assert!(ended.is_none() && Instant::now() < until, "the daemon in {} does not listen ({ended:?}):\n{}", self.vm.name(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_start(&self) -> Result<i32> {
        let (folder, run) = (self.folder().to_owned(), PathBuf::from(format!("/run/{}", self.name)));
        let file = self.text("windlass.toml");
        self.vm.put(&file, 0o644, configuration(&folder, &run, self.vm.name(), &self.setup.config).as_bytes());
        self.vm.run(&["/bin/busybox", "mkdir", "-p", &run.display().to_string()]);
        if !self.vm.output(&["/bin/busybox", "test", "-e", BINARY], b"", Duration::from_secs(20)).status.success() {
            self.vm.put(BINARY, 0o755, carried()?);
        }
        let env: Vec<(&str, &str)> = self.setup.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let argv: Vec<&str> = self.setup.wrapper.iter().map(String::as_str).chain([BINARY, "serve", "--config", &file]).collect();
        Ok(self.vm.start_program(&argv, &env, &self.text("log")))
    }

    /// Waits until a driver's Probe says ready.
    #[track_caller]
    pub fn wait_ready(&self, driver: &str) {
        let (until, endpoint) = (Instant::now() + PATIENCE, self.driver(driver));
        loop {
            let answer = endpoint.probe();
            if matches!(answer, Ok(true)) {
                return code::fetch(&self.vm, &self.text("state/code"));
            }
            assert!(Instant::now() < until, "{driver} in {} is not ready ({answer:?}):\n{}", self.vm.name(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// kill -9. Its workers end what they are doing.
    #[track_caller]
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) {
        if let Some(pid) = self.pid {
            self.vm.signal(pid, signal);
            self.wait_dead();
        }
    }

    /// Waits until the daemon has ended, of itself or otherwise.
    #[track_caller]
    pub fn wait_dead(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.is_dead() {
            assert!(Instant::now() < until, "the daemon in {} does not end:\n{}", self.vm.name(), self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.pid = None;
    }

    /// Is it dead?
    #[track_caller]
    pub fn is_dead(&self) -> bool {
        self.pid.is_none_or(|pid| self.vm.ended(pid).is_some())
    }

    /// Changes what the next start has in its environment.
    pub fn set_env(&mut self, env: Vec<(String, String)>) {
        self.setup.env = env;
    }

    /// The machine it runs in.
    pub fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        self.vm.get(&self.text("log")).map_or_else(|error| format!("(no log: {error:#})"), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// Runs a command of the binary against this daemon, in the guest.
    #[track_caller]
    pub fn windlass(&self, arguments: &[&str]) -> Output {
        let variables = [format!("WINDLASS_ADMIN={}", self.admin_socket()), format!("CSI_ENDPOINT={}", self.guest_socket(DRIVER))];
        let argv = [&["/bin/busybox", "env", &variables[0], &variables[1], BINARY], arguments].concat();
        self.vm.output(&argv, b"", Duration::from_secs(60))
    }

    /// `windlass status -o json`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        self.ask("status")
    }

    /// `windlass devices -o json`.
    #[track_caller]
    pub fn devices(&self) -> Vec<serde_json::Value> {
        self.ask("devices").as_array().cloned().expect("a list")
    }

    #[track_caller]
    fn ask(&self, command: &str) -> serde_json::Value {
        let output = self.windlass(&[command, "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn admin_socket(&self) -> String {
        format!("/run/{}/admin.sock", self.name)
    }

    fn guest_socket(&self, driver: &str) -> String {
        Path::new(&self.text("csi")).join(driver).join("csi.sock").display().to_string()
    }
}

/// The daemon's binary as it is carried to guests.
fn carried() -> Result<&'static [u8]> {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    if MADE.get().is_none() {
        let _ = MADE.set(stripped(&binary())?);
    }
    Ok(MADE.get().map_or(&[], Vec::as_slice))
}

/// A program of this machine without what only a debugger reads: a tenth of the bytes to carry.
pub fn stripped(program: &Path) -> Result<Vec<u8>> {
    let smaller = tempfile::NamedTempFile::new()?;
    let status = Command::new("strip").arg("-o").arg(smaller.path()).arg(program).status().context("strip: install binutils")?;
    ensure!(status.success(), "strip: {status}");
    Ok(std::fs::read(smaller.path())?)
}

impl Drop for GuestDaemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the log of {} in {}\n{}", self.name, self.vm.name(), self.log());
        }
        if let Some(pid) = self.pid.take() {
            // The machine may be off.
            let _ = self.vm.try_output(&["/bin/busybox", "kill", "-9", &pid.to_string()], b"", Duration::from_secs(5));
        }
    }
}

impl std::ops::Deref for GuestDaemon {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}
