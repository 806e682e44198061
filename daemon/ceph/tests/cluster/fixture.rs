//! One small cluster for all tests of this binary: a monitor, an OSD in memory, and a manager for those that ask for one.
//!
//! It listens on free ports of 127.0.0.1 and lives in a folder of its own. A shell that reads from a pipe of ours ends it when the pipe
//! closes, however this process ends.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use windlass_ceph::{Cluster, ClusterAccess, ClusterKey, Clusters, Limits};
use windlass_plan::rbd::{Feature, ImageWish, PoolAt, RbdName};

/// How long anything here may take: two cores may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// The cluster.
pub(crate) struct Ceph {
    folder: PathBuf,
    address: String,
    janitor: Mutex<ChildStdin>,
    daemons: Mutex<Vec<(String, u32)>>,
    clusters: Clusters,
    manager: OnceLock<()>,
}

/// The cluster that all tests share.
pub(crate) fn ceph() -> &'static Ceph {
    static CEPH: OnceLock<Ceph> = OnceLock::new();
    CEPH.get_or_init(|| Ceph::start().expect("a cluster (packages ceph-mon ceph-osd ceph-mgr ceph-common)"))
}

/// A name that is one.
pub(crate) fn name(text: &str) -> RbdName {
    RbdName::parse(text).expect("a name")
}

/// An image with the five features and three keys of metadata.
pub(crate) fn wish(size: u64) -> ImageWish {
    let metadata = [("windlass.driver", "rbd"), ("b", "2"), ("c", "ä 3")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    ImageWish { size, features: Feature::ALL.to_vec(), object_size: None, striping: None, data_pool: None, metadata: metadata.into() }
}

/// Tests that count the OSD's operations, or change the whole cluster, have it to themselves; the others share it.
static TURN: RwLock<()> = RwLock::new(());

/// A share of the cluster.
pub(crate) struct Shared(#[allow(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>);

impl Shared {
    pub(crate) fn take() -> Self {
        Self(TURN.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The whole cluster.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// What something costs the OSD: the least of three rounds, since a manager, once it runs, has a few operations of its own.
pub(crate) fn operations_of(mut work: impl FnMut(usize)) -> u64 {
    let mut rounds = (0..3).map(|round| {
        let before = ceph().operations();
        work(round);
        ceph().operations() - before
    });
    let first = rounds.next().unwrap_or(0);
    rounds.fold(first, u64::min)
}

/// Waits for a fact.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

impl Ceph {
    fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("windlass-ceph-").tempdir()?.keep();
        let janitor = Command::new("/bin/sh")
            .args(["-c", "while read -r pid; do pids=\"$pids $pid\"; done; kill -9 $pids; sleep 0.2; rm -r -- \"$0\""])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            // What ends this process by its group does not end the janitor.
            .process_group(0)
            .spawn()?;
        let (v2, v1) = (free_port()?, free_port()?);
        let address = format!("[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]");
        let limits = Limits { osd: Duration::from_secs(20), monitor: Duration::from_secs(20), connect: Duration::from_secs(10) };
        let janitor = Mutex::new(janitor.stdin.context("a pipe")?);
        let ceph = Self { folder, address, janitor, daemons: Mutex::default(), clusters: Clusters::new(limits), manager: OnceLock::new() };
        ceph.configure()?;
        ceph.start_monitor()?;
        ceph.start_osd()?;
        Ok(ceph)
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn configure(&self) -> Result<()> {
        let at = self.folder.display();
        let fsid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        let text = format!(
            "[global]
fsid = {}
mon_host = {}
public_network = 127.0.0.0/8
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_allow_pool_delete = true
osd_crush_chooseleaf_type = 0
run_dir = {at}
log_file = {at}/$name.log
admin_socket = {at}/$name.asok
auth_allow_insecure_global_id_reclaim = false
[mon]
keyring = {at}/mon.keyring
mon_data = {at}/mon
mon_cluster_log_file = {at}/cluster.log
mon_data_avail_crit = 1
[osd]
keyring = {at}/osd/keyring
osd_data = {at}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_numa_auto_affinity = false
osd_class_load_list = *
osd_class_default_list = *
[mgr]
keyring = {at}/mgr.keyring
mgr_data = {at}
mgr_initial_modules =
[client]
keyring = {at}/client.keyring
",
            fsid.trim(),
            self.address
        );
        fs::write(self.folder.join("ceph.conf"), text)?;
        for folder in ["mon", "osd"] {
            fs::create_dir(self.folder.join(folder))?;
        }
        Ok(())
    }

    fn start_monitor(&self) -> Result<()> {
        let (mon, client, manager) = (self.path("mon.keyring"), self.path("client.keyring"), self.path("mgr.keyring"));
        let all = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"];
        self.run("ceph-authtool", &["-C", &mon, "-g", "-n", "mon.", "--cap", "mon", "allow *"])?;
        self.run("ceph-authtool", &[["-C", &client, "-g", "-n", "client.admin"].as_slice(), &all].concat())?;
        self.run("ceph-authtool", &["-C", &manager, "-g", "-n", "mgr.x", "--cap", "mon", "allow profile mgr", "--cap", "osd", "allow *"])?;
        self.run("ceph-authtool", &[&mon, "--import-keyring", &client])?;
        self.run("ceph-authtool", &[&mon, "--import-keyring", &manager])?;
        let fsid = self.run("ceph-conf", &["-c", &self.path("ceph.conf"), "--lookup", "fsid"])?;
        self.run("monmaptool", &["--create", "--fsid", fsid.trim(), "--addv", "a", &self.address, &self.path("monmap")])?;
        self.run("ceph-mon", &["-c", &self.path("ceph.conf"), "--mkfs", "-i", "a", "--monmap", &self.path("monmap"), "--keyring", &mon])?;
        fs::copy(&mon, self.folder.join("mon/keyring"))?;
        self.daemon("ceph-mon", &["-i", "a"])
    }

    fn start_osd(&self) -> Result<()> {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        self.ceph(&["osd", "new", uuid.trim()])?;
        let caps = ["mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"];
        self.ceph(&[["auth", "get-or-create", "osd.0"].as_slice(), &caps, &["-o", &self.path("osd/keyring")]].concat())?;
        self.run("ceph-osd", &["-c", &self.path("ceph.conf"), "-i", "0", "--mkfs", "--osd-uuid", uuid.trim(), "--no-mon-config"])?;
        self.daemon("ceph-osd", &["-i", "0"])
    }

    /// Starts a manager, which alone knows how much room there is.
    pub(crate) fn manager(&self) {
        self.manager.get_or_init(|| self.daemon("ceph-mgr", &["-i", "x"]).expect("a manager"));
    }

    fn daemon(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let log = fs::File::create(self.folder.join(format!("{program}.err")))?;
        let child = Command::new(program)
            .args(["-f", "-c", &self.path("ceph.conf")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| program.to_owned())?;
        writeln!(self.janitor.lock().expect("no panic"), "{}", child.id())?;
        self.daemons.lock().expect("no panic").push((program.to_owned(), child.id()));
        Ok(())
    }

    /// Lets a daemon say nothing until the answer is dropped.
    pub(crate) fn silence(&self, program: &str) -> Silence {
        let daemons = self.daemons.lock().expect("no panic");
        let (_, pid) = daemons.iter().find(|(name, _)| name == program).expect("it runs");
        signal("STOP", *pid);
        let silence = Silence(*pid);
        eventually("each of its threads stops", || is_stopped(*pid).then_some(()));
        silence
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new("timeout").args(["60", program]).args(arguments).stdin(Stdio::null()).output().with_context(|| program.to_owned())?;
        ensure!(output.status.success(), "{program} {arguments:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Ceph's own command line, as the administrator.
    pub(crate) fn ceph(&self, arguments: &[&str]) -> Result<String> {
        self.run("ceph", &[["-c", &self.path("ceph.conf"), "--connect-timeout", "30"].as_slice(), arguments].concat())
    }

    /// `rbd`, as the administrator.
    pub(crate) fn rbd(&self, arguments: &[&str]) -> Result<String> {
        self.run("rbd", &[["-c", &self.path("ceph.conf")].as_slice(), arguments].concat())
    }

    /// `rados`, as the administrator.
    pub(crate) fn rados(&self, arguments: &[&str]) -> Result<String> {
        self.run("rados", &[["-c", &self.path("ceph.conf")].as_slice(), arguments].concat())
    }

    /// A program that runs beside the test until it is let go, with the configuration's path in CEPH_CONF.
    pub(crate) fn beside(&self, program: &str, arguments: &[&str]) -> Beside {
        let child = Command::new(program).args(arguments).env("CEPH_CONF", self.path("ceph.conf")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Beside(child.expect("a program"))
    }

    /// A new pool.
    pub(crate) fn pool(&self, pool: &str) -> PoolAt {
        self.ceph(&["osd", "pool", "create", pool, "4", "4"]).expect("a pool");
        PoolAt { pool: name(pool), namespace: None }
    }

    /// The key of a user.
    pub(crate) fn key(&self, user: &str) -> ClusterKey {
        ClusterKey::new(self.ceph(&["auth", "print-key", &format!("client.{user}")]).expect("a key").trim().to_owned())
    }

    /// As whom to talk to it.
    pub(crate) fn access(&self, user: &str) -> ClusterAccess {
        ClusterAccess { monitors: vec![self.address.clone()], user: name(user), key: self.key(user) }
    }

    /// The connection that the tests share, as the administrator.
    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        static ACCESS: OnceLock<ClusterAccess> = OnceLock::new();
        self.clusters.connect(ACCESS.get_or_init(|| self.access("admin"))).expect("a connection")
    }

    /// Operations that the OSD has done since it began.
    pub(crate) fn operations(&self) -> u64 {
        let text = self.run("ceph", &["daemon", &self.path("osd.0.asok"), "perf", "dump", "osd", "op"]).expect("the OSD's counters");
        let counters: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        counters["osd"]["op"].as_u64().expect("a count")
    }
}

/// A daemon that says nothing.
pub(crate) struct Silence(u32);

impl Drop for Silence {
    fn drop(&mut self) {
        signal("CONT", self.0);
    }
}

fn is_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let mut states = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    states.all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
}

fn signal(signal: &str, pid: u32) {
    let sent = Command::new("/bin/kill").args(["-s", signal, &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "{signal} to {pid}");
}

/// A child that ends with the test.
pub(crate) struct Beside(pub(crate) Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
