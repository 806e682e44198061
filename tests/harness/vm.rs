//! A virtual machine with the kernel RBD client: this machine's own root below, read-only, and an agent that does what the harness asks.

mod agent;
mod code;
mod cpio;
mod daemon;
pub(crate) mod image;
pub mod protocol;

use crate::network::Network;
use anyhow::{Context, Result, bail, ensure};
pub use daemon::{GuestDaemon, stripped};
use nix::sys::signal::Signal;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a boot may take. It takes some six seconds on an idle machine of two cores.
const BOOT: Duration = Duration::from_secs(90);

/// The size of the disk that outlives a crash, in bytes; it is sparse.
const DISK: u64 = 8 << 30;

/// A machine. Dropped, it is killed.
pub struct Vm {
    network: Arc<Network>,
    name: String,
    address: Ipv4Addr,
    tap: String,
    /// Further words for its kernel.
    words: &'static str,
    emulator: Mutex<Option<Child>>,
    /// Names what is made for this machine apart: relays' folders, background programs' logs.
    count: std::sync::atomic::AtomicU32,
}

impl Vm {
    /// Boots a machine of two processors and 2 GiB on the network, and waits for its agent.
    pub fn start(network: &Arc<Network>, name: &str) -> Result<Self> {
        Self::start_with(network, name, "")
    }

    /// The same with further words for its kernel, such as `security=selinux`.
    pub fn start_with(network: &Arc<Network>, name: &str, words: &'static str) -> Result<Self> {
        let (address, tap) = network.place()?;
        let vm = Self { network: network.clone(), name: name.to_owned(), address, tap, words, emulator: Mutex::new(None), count: Default::default() };
        std::fs::create_dir(vm.file(""))?;
        let disk = std::fs::File::create_new(vm.file("disk"))?;
        disk.set_len(DISK)?;
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"]).arg(vm.file("disk"));
        let output = mkfs.output().context("mkfs.ext4: run `make setup`")?;
        ensure!(output.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr));
        vm.boot()?;
        Ok(vm)
    }

    /// Its name, which is also its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the bridge.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The network it is on.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    fn file(&self, name: &str) -> PathBuf {
        self.network.folder().join(&self.name).join(name)
    }

    /// Switches it on (again), and waits for the agent.
    pub fn boot(&self) -> Result<()> {
        let begun = Instant::now();
        let mut emulator = self.emulator.lock().expect("no panic");
        ensure!(emulator.is_none(), "{} runs", self.name);
        let kernel = image::kernel()?;
        std::fs::write(self.file("initrd"), image::first_file_system(&kernel)?)?;
        let _ = std::fs::remove_file(self.file("console"));
        *emulator = Some(self.network.start(&self.emulator_command(&kernel)?)?);
        drop(emulator);
        self.wait_for_agent(begun + BOOT)?;
        crate::bench::tell(&format!("{} booted in {:.1} s", self.name, begun.elapsed().as_secs_f64()));
        Ok(())
    }

    fn emulator_command(&self, kernel: &std::path::Path) -> Result<Command> {
        let version = std::fs::read_to_string(kernel.join("version"))?;
        let line = format!(
            "console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0 tsc=reliable no_timer_check random.trust_cpu=on \
             windlass.name={} windlass.address={} windlass.version={} windlass.modules={} {}",
            self.name,
            self.address,
            version.trim(),
            kernel.join("modules").display(),
            self.words
        );
        let mut command = Command::new("qemu-system-x86_64");
        // /dev/kvm may be there and hang; software emulation works everywhere. A processor without AVX is quicker to emulate than one with it.
        command.args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "Nehalem", "-smp", "2", "-m", "2048", "-no-reboot"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"]);
        command.arg("-serial").arg(format!("file:{}", self.file("console").display()));
        command.arg("-kernel").arg(kernel.join("vmlinux")).arg("-initrd").arg(self.file("initrd")).args(["-append", &line]);
        command.args(["-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"]);
        command.arg("-drive").arg(format!("file={},if=virtio,format=raw,cache=writeback", self.file("disk").display()));
        command.arg("-netdev").arg(format!("tap,id=net0,ifname={},script=no,downscript=no", self.tap));
        command.arg("-device").arg(format!("virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:57:4c:{:02x}", self.address.octets()[3]));
        Ok(command)
    }

    fn wait_for_agent(&self, until: Instant) -> Result<()> {
        // The console first: asking for an address that is not there yet would have the network remember that it is not.
        while !self.console().contains(protocol::READY) {
            if let Some(status) = self.emulator.lock().expect("no panic").as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("{} ended ({status}) before its agent was there:\n{}\n{}", self.name, self.network.said(), self.console_tail());
            }
            ensure!(Instant::now() < until, "{} has no agent within {BOOT:?}; its console:\n{}", self.name, self.console_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
        loop {
            match self.network.connect(self.address, protocol::PORT, Duration::from_millis(500)) {
                Ok(_) => return Ok(()),
                Err(error) => ensure!(Instant::now() < until, "{error:#}; the console of {}:\n{}", self.name, self.console_tail()),
            }
        }
    }

    /// Cuts its power. What it had not written to its disk is lost, and the cluster sees it fall silent.
    pub fn crash(&self) {
        if let Some(mut emulator) = self.emulator.lock().expect("no panic").take() {
            let _ = emulator.kill();
            let _ = emulator.wait();
        }
    }

    /// Stops its processors between two instructions: to the cluster it falls silent, and when it goes on it knows nothing of that.
    pub fn freeze(&self) {
        self.signal_emulator(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal_emulator(Signal::SIGCONT);
    }

    fn signal_emulator(&self, signal: Signal) {
        if let Some(emulator) = self.emulator.lock().expect("no panic").as_ref() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(emulator.id() as i32), signal).expect("the emulator runs");
        }
    }

    /// Cuts its power and boots it again, under its name and address.
    pub fn reboot(&self) -> Result<()> {
        self.crash();
        self.boot()
    }

    /// What it wrote to its console since the last boot.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.file("console")).unwrap_or_default()).into_owned()
    }

    /// The console's last 40 lines.
    pub fn console_tail(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Runs a program in the guest and returns what it printed. A status other than 0 fails with everything shown.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> String {
        let output = self.output(argv, b"", Duration::from_secs(60));
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{argv:?} on {}: {}\n{stdout}\n{stderr}\n---- console\n{}", self.name, output.status, self.console_tail());
        stdout.into_owned()
    }

    /// Runs a shell script in the guest, like [`Vm::run`]. busybox's shell: it is in the first page cache and starts fastest.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.run(&["/bin/busybox", "sh", "-euc", script])
    }

    /// Runs a program in the guest to its end, whatever that is. Past `limit` it is killed, as by signal 9.
    #[track_caller]
    pub fn output(&self, argv: &[&str], input: &[u8], limit: Duration) -> Output {
        self.try_output(argv, input, limit).unwrap_or_else(|error| panic!("{argv:?} on {}: {error:#}\n---- console\n{}", self.name, self.console_tail()))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.crash();
        if std::thread::panicking() {
            eprintln!("---- the console of {}\n{}", self.name, self.console_tail());
        }
    }
}
