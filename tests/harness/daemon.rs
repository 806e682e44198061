//! One daemon: its folder, its process, its death and its next start.

use crate::{Endpoint, Meddler, clean};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The driver that tests talk to.
pub const DRIVER: &str = "local.windlass.io";

/// The daemon's binary: `WINDLASS_BIN`, or the one beside the tests' own.
pub fn binary() -> PathBuf {
    std::env::var_os("WINDLASS_BIN").map_or_else(|| beside("windlass"), PathBuf::from)
}

/// A binary of the workspace, beside the tests' own.
pub(crate) fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    // A test lies one folder deeper than the binaries.
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    beside.unwrap_or_else(|| panic!("no `{name}` beside the tests: build it with `cargo build --workspace`"))
}

/// A component that `tools/guest all` built, by its folder's name.
pub fn component(name: &str) -> PathBuf {
    let folder = std::env::var_os("WINDLASS_GUESTS")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache/windlass/components"), PathBuf::from);
    let path = folder.join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing; `make guests` builds it", path.display());
    path
}

/// Asks again and again until the answer is there; after ten seconds the test fails with `what`.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How a daemon is set up.
pub struct Setup {
    /// The component of the driver, by its folder's name under `tools/guest all`; it is copied to `plugins/local.wasm`.
    pub component: &'static str,
    /// Further lines for the driver's file (`[limits]`, `[config]`).
    pub driver: String,
    /// Further lines for the daemon's file, before its tables; `{folder}` stands for the daemon's own folder.
    pub config: String,
    /// Environment of the daemon.
    pub env: Vec<(String, String)>,
    /// What the daemon is run with, such as `strace`; empty for the daemon alone.
    pub wrapper: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { component: "local", driver: String::new(), config: String::new(), env: Vec::new(), wrapper: Vec::new() }
    }
}

/// The folders of a daemon's own folder.
pub(crate) const FOLDERS: [&str; 7] = ["drivers.d", "plugins", "volumes", "kubelet", "state", "run", "csi"];

/// The daemon's file, for a daemon in `folder`; `more` are further lines before its tables, in which `{folder}` stands for it.
pub(crate) fn configuration(folder: &Path, run: &Path, node: &str, more: &str) -> String {
    let (folder, run) = (folder.display(), run.display());
    let more = more.replace("{folder}", &folder.to_string());
    // Tests of signatures say that they want them.
    let signatures = if more.contains("signatures = ") { "" } else { "signatures = \"off\"\n" };
    format!(
        "{more}\n{signatures}drivers = \"{folder}/drivers.d\"\nstate = \"{folder}/state\"\nrun = \"{run}\"\nsockets = \"{folder}/csi\"\n\
         instance = \"{folder}\"\n[node]\nname = {node:?}\nroots = [\"{folder}/kubelet\"]\n"
    )
}

/// A driver's file.
pub(crate) fn driver_file(component: &str, volumes: &str, more: &str) -> String {
    format!("component = {component:?}\n[grants.files]\nvolumes = {volumes:?}\n{more}\n")
}

/// A daemon in a folder of its own: `drivers.d`, `plugins`, `volumes`, `kubelet` (the one root), `state`, `run`, `csi`.
pub struct Daemon {
    folder: TempDir,
    endpoint: Endpoint,
    child: Option<Child>,
    setup: Setup,
}

impl Daemon {
    /// Starts a daemon with the `local` driver and waits until it is ready.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    /// Starts a daemon and waits until its driver is ready.
    #[track_caller]
    pub fn with(setup: Setup) -> Self {
        let daemon = Self::unready(setup);
        daemon.wait_ready();
        daemon
    }

    /// Starts a daemon and waits until its socket is there; its driver may never be ready.
    #[track_caller]
    pub fn unready(setup: Setup) -> Self {
        // On a disk: a loop device with direct I/O needs one.
        let folder = tempfile::Builder::new().prefix("wl").tempdir_in("/var/tmp").expect("a folder");
        let endpoint = Endpoint::new(folder.path(), DRIVER);
        let mut daemon = Self { folder, endpoint, child: None, setup };
        for name in FOLDERS {
            std::fs::create_dir(daemon.path(name)).expect("a folder");
        }
        std::fs::copy(component(daemon.setup.component), daemon.path("plugins/local.wasm")).expect("the component");
        daemon.write_driver(DRIVER, &daemon.setup.driver);
        daemon.start_again();
        daemon
    }

    /// See [`Meddler`]: of the calls of [`DRIVER`].
    pub fn put_between(&mut self, meddler: Meddler) {
        self.endpoint.put_between(meddler);
    }

    /// Writes a driver's file, by rename, as a careful operator does.
    pub fn write_driver(&self, driver: &str, more: &str) {
        self.write_driver_of(driver, "plugins/local.wasm", "volumes", more);
    }

    /// The same, with a component and a granted folder of its own.
    pub fn write_driver_of(&self, driver: &str, component: &str, volumes: &str, more: &str) {
        let text = driver_file(&self.text(component), &self.text(volumes), more);
        self.rename_in(text.as_bytes(), &format!("drivers.d/{driver}.toml"));
    }

    /// Adds a second driver with a component, and folders, of its own: `plugins/NAME.wasm` and `volumes-NAME`; waits until it is ready.
    #[track_caller]
    pub fn add_driver(&self, driver: &str, component_name: &str, more: &str) -> Endpoint {
        let (file, volumes) = (format!("plugins/{driver}.wasm"), format!("volumes-{driver}"));
        std::fs::create_dir(self.path(&volumes)).expect("a folder");
        self.put_component(component_name, &file);
        self.write_driver_of(driver, &file, &volumes, more);
        let endpoint = self.driver(driver);
        eventually("the second driver's first answer", || matches!(endpoint.probe(), Ok(true)).then_some(()));
        endpoint
    }

    /// Puts a component in a place by rename.
    pub fn put_component(&self, name: &str, to: &str) {
        self.rename_in(&std::fs::read(component(name)).expect("the component"), to);
    }

    /// Puts a file in its place in one step.
    pub fn rename_in(&self, bytes: &[u8], to: &str) {
        let temporary = self.path(&format!("state/{}.new", to.replace('/', "-")));
        std::fs::write(&temporary, bytes).expect("a file");
        std::fs::rename(&temporary, self.path(to)).expect("a rename");
    }

    /// Starts the daemon in its folder (again) and waits for its socket.
    #[track_caller]
    pub fn start_again(&mut self) {
        let file = self.path("windlass.toml");
        std::fs::write(&file, configuration(self.folder.path(), &self.path("run"), "node-1", &self.setup.config)).expect("the configuration");
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).expect("the log");
        let mut arguments = self.setup.wrapper.clone();
        arguments.extend([binary().display().to_string(), "serve".into(), "--config".into(), file.display().to_string()]);
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]).envs(self.setup.env.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let _ = std::fs::remove_file(self.socket());
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", arguments[0])));
        let mut died = None;
        // The file is there a moment before it listens.
        eventually("the daemon's socket", || {
            died = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            (died.is_some() || std::os::unix::net::UnixStream::connect(self.socket()).is_ok()).then_some(())
        });
        assert!(died.is_none(), "the daemon ended at once ({died:?}):\n{}", self.log());
    }

    /// Waits until Probe says ready.
    #[track_caller]
    pub fn wait_ready(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        while !matches!(self.probe(), Ok(true)) {
            assert!(Instant::now() < until, "the driver is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// kill -9, and the daemon is gone. Its workers end what they are doing.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill(self.pid_of(&child), Signal::SIGKILL);
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill(self.pid_of(&child), Signal::SIGTERM);
            let _ = child.wait();
        }
    }

    /// Waits until the daemon has died by itself.
    pub fn wait_dead(&mut self) {
        eventually("the daemon's death", || self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()));
        self.child = None;
    }

    /// Changes what the next start has in its environment.
    pub fn set_env(&mut self, env: Vec<(String, String)>) {
        self.setup.env = env;
    }

    /// Is it dead?
    pub fn is_dead(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().ok().flatten().is_some())
    }

    /// The daemon's process id (below a wrapper, the wrapper's first child).
    pub fn pid(&self) -> i32 {
        self.pid_of(self.child.as_ref().expect("a running daemon")).as_raw()
    }

    fn pid_of(&self, child: &Child) -> Pid {
        let own = Pid::from_raw(child.id() as i32);
        if self.setup.wrapper.is_empty() {
            return own;
        }
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        children.split_whitespace().next().and_then(|pid| pid.parse().ok()).map_or(own, Pid::from_raw)
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs a command of the binary against this daemon.
    pub fn windlass(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(binary())
            .args(arguments)
            .env("WINDLASS_ADMIN", self.path("run/admin.sock"))
            .env("CSI_ENDPOINT", self.socket())
            .output()
            .expect("the command runs")
    }

    /// `windlass status -o json`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let output = self.windlass(&["status", "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Nothing is mounted, attached or recorded any more, and no lock file is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_eq!(clean::mounts_beneath(self.folder.path()), Vec::<String>::new(), "mounts are left\n{}", self.log());
        assert_eq!(clean::devices_beneath(self.folder.path()), Vec::<String>::new(), "devices are left\n{}", self.log());
        for folder in ["run/journal", "run/locks"] {
            let left: Vec<_> = std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
            assert!(left.is_empty(), "{folder} holds {left:?}\n{}", self.log());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        clean::clean(self.folder.path());
        if std::thread::panicking() {
            eprintln!("---- the daemon's log\n{}", self.log());
        }
    }
}

impl std::ops::Deref for Daemon {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}
