//! What all `vm_` tests of a run share: a cluster, and one or two machines beside it, started when the first of them asks.

use crate::ceph::Cluster;
use crate::network::Network;
use crate::vm::{self, Vm};
use anyhow::{Result, ensure};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A cluster of one OSD and a machine on its network. Nobody drops that of a test run: its programs and its folder go with the process.
pub struct Bench {
    /// The cluster.
    pub cluster: Cluster,
    /// The first machine.
    pub node1: Arc<Vm>,
}

/// The run's bench. When it cannot start, each test that asks fails with the same words, at once.
#[track_caller]
pub fn bench() -> &'static Bench {
    static BENCH: OnceLock<std::result::Result<Bench, String>> = OnceLock::new();
    match BENCH.get_or_init(|| Bench::start().map_err(|error| format!("{error:#}"))) {
        Ok(bench) => bench,
        Err(error) => panic!("the bench of the vm_ tests does not start: {error}"),
    }
}

/// A second machine beside the bench's first, for what needs two nodes.
#[track_caller]
pub fn node2() -> &'static Arc<Vm> {
    static NODE2: OnceLock<std::result::Result<Arc<Vm>, String>> = OnceLock::new();
    let started = NODE2.get_or_init(|| Vm::start(bench().cluster.network(), "node2").map(Arc::new).map_err(|error| format!("{error:#}")));
    started.as_ref().unwrap_or_else(|error| panic!("the second machine does not start: {error}"))
}

impl Bench {
    /// Starts one that is the caller's own, and ends when it is dropped.
    pub fn start() -> Result<Self> {
        require()?;
        let begun = Instant::now();
        let network = Network::new()?;
        let (cluster, vm) = std::thread::scope(|scope| {
            let vm = scope.spawn(|| Vm::start(&network, "node1"));
            (Cluster::start(&network, 1), vm.join().expect("no panic"))
        });
        let bench = Self { cluster: cluster?, node1: Arc::new(vm?) };
        tell(&format!("cluster and node1 together in {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(bench)
    }
}

/// Says in one line what a `vm_` test needs and this machine lacks.
pub fn require() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "vm_ tests need root");
    ensure!(Path::new("/dev/net/tun").exists(), "vm_ tests need /dev/net/tun");
    let programs = ["ceph-mon", "ceph-osd", "ceph-mgr", "rbd", "qemu-system-x86_64", "ip", "busybox", "secilc"];
    let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    let missing: Vec<&str> = programs.into_iter().filter(|name| !folders.iter().any(|folder| Path::new(folder).join(name).exists())).collect();
    ensure!(missing.is_empty(), "vm_ tests need {}: run `make setup-vm`", missing.join(", "));
    vm::image::kernel().map(drop)
}

static TELLER: OnceLock<fn(&str)> = OnceLock::new();

/// Has somebody else say what the bench is at; for programs that are read by people.
pub fn told_by(teller: fn(&str)) {
    let _ = TELLER.set(teller);
}

/// A line on standard error, past the test runner's capture: what the bench costs is seen in every run.
pub(crate) fn tell(line: &str) {
    match TELLER.get() {
        Some(teller) => teller(line),
        None => drop(writeln!(std::io::stderr(), "vm_ bench: {line}")),
    }
}
