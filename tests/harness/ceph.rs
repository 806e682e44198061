//! A Ceph cluster on a network of its own: a monitor, a manager, one to three OSDs in memory, cephx on, a pool `rbd`.

mod admin;
mod conf;

use crate::network::Network;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long any step of a start may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running cluster. Dropped, it is killed.
pub struct Cluster {
    network: Arc<Network>,
    conf: conf::Conf,
    running: Mutex<BTreeMap<String, Child>>,
    /// A connection to the monitor that stays: `ceph` needs half a second a command before it begins.
    commands: Mutex<Option<(Child, ChildStdin, BufReader<ChildStdout>)>>,
}

impl Cluster {
    /// Starts a cluster with so many OSDs, at an address of its own, and waits until its pool `rbd` can be written to. The manager may come up a little later:
    /// [`Cluster::wait_for_manager`].
    pub fn start(network: &Arc<Network>, osds: usize) -> Result<Self> {
        let begun = Instant::now();
        let address = network.host()?;
        let conf = conf::Conf::write(network, &network.folder().join(format!("ceph-{address}")), address, osds)?;
        let cluster = Self { network: network.clone(), conf, running: Mutex::default(), commands: Mutex::new(None) };
        cluster.bring_up(osds).with_context(|| format!("the cluster does not start:\n{}", cluster.logs()))?;
        crate::bench::tell(&format!("cluster of {osds} OSD up in {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(cluster)
    }

    fn bring_up(&self, osds: usize) -> Result<()> {
        let prepared = std::thread::scope(|scope| {
            let disks: Vec<_> = (0..osds).map(|number| scope.spawn(move || self.prepare_osd(number))).collect();
            self.prepare_monitor()?;
            self.start_again("mon.a")?;
            self.open_commands()?;
            disks.into_iter().try_for_each(|disk| disk.join().expect("no panic"))
        });
        prepared?;
        for number in 0..osds {
            self.command(&json!({"prefix": "osd new", "uuid": self.conf.osd_uuid(number)}))?;
            self.start_again(&format!("osd.{number}"))?;
        }
        self.create_pool("rbd")?;
        self.start_again("mgr.x")
    }

    fn prepare_monitor(&self) -> Result<()> {
        let map = self.conf.folder.join("monmap");
        let mut monmaptool = Command::new("monmaptool");
        monmaptool.args(["--create", "--clobber", "--fsid", &self.conf.fsid, "--addv", "a", &self.conf.monitor_addresses()]).arg(&map);
        self.done(monmaptool)?;
        let mut mkfs = self.program("ceph-mon", "mon.a");
        mkfs.arg("--mkfs").arg("--monmap").arg(&map).arg("--keyring").arg(self.conf.folder.join("keyring"));
        self.done(mkfs)
    }

    fn prepare_osd(&self, number: usize) -> Result<()> {
        let mut mkfs = self.program("ceph-osd", &format!("osd.{number}"));
        // The monitor need not be there for it.
        mkfs.args(["--mkfs", "--no-mon-config", "--osd-uuid", &self.conf.osd_uuid(number)]);
        self.done(mkfs)
    }

    fn program(&self, name: &str, daemon: &str) -> Command {
        let mut command = Command::new(name);
        command.arg("-c").arg(self.conf_path()).args(["--id", daemon.split('.').nth(1).unwrap_or("")]);
        command
    }

    fn done(&self, command: Command) -> Result<()> {
        let name = command.get_program().display().to_string();
        let output = self.network.run(command)?;
        ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The cluster's id.
    pub fn fsid(&self) -> &str {
        &self.conf.fsid
    }

    /// The monitor's address for messenger 2, which libraries prefer.
    pub fn monitor_v2(&self) -> String {
        format!("{}:3300", self.conf.address)
    }

    /// The monitor's address for messenger 1, which the kernel's client uses unless told otherwise.
    pub fn monitor_v1(&self) -> String {
        format!("{}:6789", self.conf.address)
    }

    /// The secret of `client.admin`, as base64.
    pub fn admin_key(&self) -> &str {
        &self.conf.admin_key
    }

    /// The cluster's configuration file, which names the administrator's keyring. The monitor is reachable on the cluster's network only.
    pub fn conf_path(&self) -> PathBuf {
        self.conf.folder.join("ceph.conf")
    }

    /// The network that the cluster is on.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Runs `rbd` as the administrator and returns what it printed. A status other than 0 fails with everything shown.
    #[track_caller]
    pub fn rbd(&self, arguments: &[&str]) -> String {
        self.tool("rbd", arguments)
    }

    /// Runs `rados`, or another of Ceph's programs, like [`Cluster::rbd`].
    #[track_caller]
    pub fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.tool_output(program, arguments).unwrap_or_else(|error| panic!("{error:#}"));
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program} {}: {}\n{stdout}\n{stderr}", arguments.join(" "), output.status);
        stdout.into_owned()
    }

    /// Runs one of Ceph's programs as the administrator to its end, within a minute.
    pub fn tool_output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "60", program]).arg("-c").arg(self.conf_path()).args(arguments);
        self.network.run(command)
    }

    /// Has the monitor do a command, such as `{"prefix": "osd pool ls"}`, and returns what it put out: JSON, where it is asked for or is the default.
    pub fn command(&self, command: &Value) -> Result<Value> {
        self.ask("mon", command)
    }

    /// The same, of the manager.
    pub fn manager_command(&self, command: &Value) -> Result<Value> {
        self.ask("mgr", command)
    }

    fn open_commands(&self) -> Result<()> {
        // The system's own: only that one knows the module `rados`.
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", include_str!("ceph/commands.py")]).arg(self.conf_path());
        let mut child = self.network.start_dialogue(&command)?;
        let (input, output) = (child.stdin.take().context("a pipe")?, child.stdout.take().context("a pipe")?);
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        *self.commands.lock().expect("no panic") = Some((child, input, output));
        ensure!(line.trim() == "connected", "no connection to the monitor: {}", self.network.said());
        Ok(())
    }

    fn ask(&self, whom: &str, command: &Value) -> Result<Value> {
        let mut commands = self.commands.lock().expect("no panic");
        let (_, input, output) = commands.as_mut().context("no connection to the monitor")?;
        writeln!(input, "{}", json!({"to": whom, "command": command}))?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("no answer to {command}"))?;
        ensure!(answer["status"] == 0, "{command}: {} {}", answer["status"], answer["error"]);
        let text = answer["output"].as_str().unwrap_or_default();
        Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
    }

    /// Makes a pool for RBD and waits until it can be written to.
    pub fn create_pool(&self, name: &str) -> Result<()> {
        self.command(&json!({"prefix": "osd pool create", "pool": name, "pg_num": 8, "pgp_num": 8, "pool_type": "replicated"}))?;
        let output = self.tool_output("rbd", &["pool", "init", name])?;
        ensure!(output.status.success(), "rbd pool init {name}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Makes a client with these capabilities, such as `[("mon", "profile rbd"), ("osd", "profile rbd pool=rbd")]`, and returns its key as base64.
    /// The name is what follows `client.`.
    pub fn create_user(&self, name: &str, caps: &[(&str, &str)]) -> Result<String> {
        let caps: Vec<&str> = caps.iter().flat_map(|(service, caps)| [*service, *caps]).collect();
        let answer = self.command(&json!({"prefix": "auth get-or-create", "entity": format!("client.{name}"), "caps": caps, "format": "json"}))?;
        Ok(answer[0]["key"].as_str().with_context(|| format!("no key in {answer}"))?.to_owned())
    }

    /// How many operations the OSDs have been asked for since they started: exact, so that differences are figures.
    pub fn osd_ops(&self) -> Result<u64> {
        let mut sum = 0;
        for name in self.running.lock().expect("no panic").keys().filter(|name| name.starts_with("osd.")) {
            sum += admin::ask(&self.admin_socket(name), "perf dump")?["osd"]["op"].as_u64().context("no osd.op")?;
        }
        Ok(sum)
    }

    fn admin_socket(&self, daemon: &str) -> PathBuf {
        self.conf.folder.join(format!("{daemon}.asok"))
    }

    /// Waits until the manager answers, which `df` and `rbd task` need.
    pub fn wait_for_manager(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.command(&json!({"prefix": "mgr stat", "format": "json"}))?["available"] != true {
            ensure!(Instant::now() < until, "no manager within {PATIENCE:?}:\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Makes a daemon (`mon.a`, `mgr.x`, `osd.0`) unreachable: it stops where it is, and its connections stay open.
    pub fn pause(&self, daemon: &str) -> Result<()> {
        self.signal(daemon, Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self, daemon: &str) -> Result<()> {
        self.signal(daemon, Signal::SIGCONT)
    }

    fn signal(&self, daemon: &str, signal: Signal) -> Result<()> {
        let running = self.running.lock().expect("no panic");
        let child = running.get(daemon).with_context(|| format!("{daemon} does not run"))?;
        kill(Pid::from_raw(child.id() as i32), signal)?;
        Ok(())
    }

    /// Ends a daemon by SIGTERM. A monitor keeps what it knew; an OSD, whose store is in memory, writes it down and has it at its next start.
    pub fn stop(&self, daemon: &str) -> Result<()> {
        self.signal(daemon, Signal::SIGTERM)?;
        let child = self.running.lock().expect("no panic").remove(daemon);
        let until = Instant::now() + PATIENCE;
        let Some(mut child) = child else { bail!("{daemon} does not run") };
        while child.try_wait()?.is_none() {
            ensure!(Instant::now() < until, "{daemon} does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// kill -9. What an OSD held is lost.
    pub fn kill(&self, daemon: &str) -> Result<()> {
        let child = self.running.lock().expect("no panic").remove(daemon);
        let mut child = child.with_context(|| format!("{daemon} does not run"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts a daemon (again). A monitor is waited for.
    pub fn start_again(&self, daemon: &str) -> Result<()> {
        let kind = daemon.split('.').next().unwrap_or_default();
        let _ = std::fs::remove_file(self.admin_socket(daemon));
        let mut command = self.program(&format!("ceph-{kind}"), daemon);
        command.arg("-f");
        let child = self.network.start(&command)?;
        self.running.lock().expect("no panic").insert(daemon.to_owned(), child);
        let until = Instant::now() + PATIENCE;
        while kind == "mon" && !admin::ask(&self.admin_socket(daemon), "mon_status").is_ok_and(|status| status["state"] == "leader") {
            let ended = self.running.lock().expect("no panic").get_mut(daemon).and_then(|child| child.try_wait().ok().flatten());
            ensure!(ended.is_none() && Instant::now() < until, "{daemon} does not lead ({ended:?})");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The end of each daemon's log, and what the programs said.
    pub fn logs(&self) -> String {
        let mut text = self.network.said();
        for daemon in self.running.lock().expect("no panic").keys() {
            let log = std::fs::read(self.conf.folder.join(format!("{daemon}.log"))).unwrap_or_default();
            text += &format!("---- {daemon}\n{}\n", String::from_utf8_lossy(&log[log.len().saturating_sub(1500)..]));
        }
        text
    }

    /// The folder with the daemons' files.
    pub fn folder(&self) -> &Path {
        &self.conf.folder
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let commands = self.commands.lock().ok().and_then(|mut commands| commands.take()).map(|(child, ..)| child);
        let running = self.running.lock().map(|mut running| std::mem::take(&mut *running)).unwrap_or_default();
        for mut child in running.into_values().chain(commands) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
