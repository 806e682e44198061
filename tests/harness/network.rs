//! A network of its own for a cluster and its machines: a namespace without a name, which is gone with the processes in it.

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// This machine's first address on the bridge, at which the first cluster listens.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 1);

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with a bridge, and a folder for what lives on it. Two runs on one machine do not meet.
pub struct Network {
    namespace: File,
    /// To the thread that made the namespace and that starts every program in it. Programs die with the thread that started them
    /// (`PR_SET_PDEATHSIG`), so that has to be one that lives as long as the network, and not a test's.
    keeper: Mutex<Sender<Job>>,
    folder: TempDir,
    /// Ends when its input does, which is when this process is gone, however that came about; then it deletes the folder.
    _sweeper: Child,
    machines: AtomicU8,
    clusters: AtomicU8,
}

impl Network {
    /// Makes one. Needs root, and the programs `ip` and `setpriv`.
    pub fn new() -> Result<Arc<Self>> {
        ensure!(nix::unistd::geteuid().is_root(), "a network of its own needs root");
        let folder = tempfile::Builder::new().prefix("wlvm").tempdir_in("/var/tmp")?;
        let sweeper = sweeper(folder.path())?;
        let (to_keeper, jobs) = channel::<Job>();
        let (answer, namespace) = channel();
        std::thread::Builder::new().name("network".to_owned()).spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from).and_then(|()| File::open("/proc/thread-self/ns/net"));
            let _ = answer.send(made);
            for job in jobs {
                job();
            }
        })?;
        let namespace = namespace.recv().context("the namespace's thread ended")?.context("a network namespace")?;
        let network = Self { namespace, keeper: Mutex::new(to_keeper), folder, _sweeper: sweeper, machines: AtomicU8::new(0), clusters: AtomicU8::new(0) };
        network.ip(&[
            "link set lo up".into(),
            "link add bridge0 type bridge".into(),
            format!("addr add {HOST}/24 dev bridge0"),
            "link set bridge0 up".into(),
        ])?;
        Ok(Arc::new(network))
    }

    /// A folder on a disk, deleted when the network is dropped or this process is gone.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lines for `ip -batch`.
    fn ip(&self, lines: &[String]) -> Result<()> {
        let batch = tempfile::NamedTempFile::new_in(self.folder())?;
        std::fs::write(batch.path(), lines.join("\n") + "\n")?;
        let mut ip = Command::new("ip");
        ip.arg("-batch").arg(batch.path());
        let output = self.run(ip)?;
        ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// A place on the bridge for one machine more: its address, and the tap device that leads to it.
    pub fn place(&self) -> Result<(Ipv4Addr, String)> {
        let number = self.machines.fetch_add(1, Ordering::Relaxed);
        ensure!(number < 100, "too many machines on one network");
        let tap = format!("tap{number}");
        self.ip(&[format!("tuntap add dev {tap} mode tap"), format!("link set {tap} master bridge0 up")])?;
        Ok((Ipv4Addr::new(10, 87, 0, 100 + number), tap))
    }

    /// An address of this machine on the bridge for one cluster more.
    pub fn host(&self) -> Result<Ipv4Addr> {
        let number = self.clusters.fetch_add(1, Ordering::Relaxed);
        ensure!(number < 50, "too many clusters on one network");
        let [a, b, c, d] = HOST.octets();
        let address = Ipv4Addr::new(a, b, c, d + number);
        if address != HOST {
            self.ip(&[format!("addr add {address}/24 dev bridge0")])?;
        }
        Ok(address)
    }

    /// Does something in this network, on a thread that is in it: connects, starts a short program.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| setns(&self.namespace, CloneFlags::CLONE_NEWNET).map(|()| work()));
            match entered.join() {
                Ok(done) => done.context("cannot enter the network namespace"),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a program in this network to its end. For those that cannot hang, or bound themselves.
    pub fn run(&self, mut command: Command) -> Result<Output> {
        let name = command.get_program().display().to_string();
        self.enter(move || command.output())?.with_context(|| format!("cannot run {name}: run `make setup-vm`"))
    }

    /// Starts a program in this network that runs until it is killed, at the latest when this process is gone. What it says is in [`Network::said`].
    pub fn start(&self, command: &Command) -> Result<Child> {
        let said = self.said_file()?;
        self.start_guarded(command, Stdio::null(), said.into())
    }

    /// The same for a program that is talked to, over its standard input and output.
    pub fn start_dialogue(&self, command: &Command) -> Result<Child> {
        self.start_guarded(command, Stdio::piped(), Stdio::piped())
    }

    fn start_guarded(&self, command: &Command, input: Stdio, output: Stdio) -> Result<Child> {
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        guarded.stdin(input).stdout(output).stderr(self.said_file()?);
        let (answer, started) = channel();
        let job: Job = Box::new(move || drop(answer.send(guarded.spawn())));
        self.keeper.lock().expect("no panic").send(job).ok().context("the network's thread ended")?;
        started.recv()?.with_context(|| format!("cannot start {}", command.get_program().display()))
    }

    fn said_file(&self) -> Result<File> {
        Ok(File::options().create(true).append(true).open(self.folder().join("programs.log"))?)
    }

    /// A connection to a machine. Not there yet is an error after `patience`.
    pub fn connect(&self, address: Ipv4Addr, port: u16, patience: Duration) -> Result<TcpStream> {
        let address = SocketAddr::V4(SocketAddrV4::new(address, port));
        let stream = self.enter(|| TcpStream::connect_timeout(&address, patience))?.with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// What the programs said that have no log of their own.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder().join("programs.log")).unwrap_or_default()
    }
}

/// Fixtures that a whole run of tests shares are never dropped, and a run can be killed: neither may leave a folder.
fn sweeper(folder: &Path) -> Result<Child> {
    let script = r#"trap '' INT TERM HUP; read -r _; for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf --one-file-system "$0" && exit; sleep 0.2; done"#;
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", script]).arg(folder).stdin(Stdio::piped());
    match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => Ok(child),
        Err(error) => bail!("cannot run setsid: {error}"),
    }
}
