//! `make demo`: the daemon's main job on this machine's real kernel, told step by step. `make demo-rbd`: the same for images of a Ceph cluster.

mod rbd;
mod told;

use harness::{AtEnd, Daemon, Volume, component, devices_beneath, eventually, mount_as, mounts_beneath};
use std::io::Write;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use told::{ok, say, scene, shell, timed};
use tonic::Status;
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => ended(files()),
        Some("rbd") => ended(rbd::tell()),
        Some(other) => ended(Err(Status::invalid_argument(format!("there is no demo called {other}; there is one without a name, and `rbd`")))),
    }
}

fn ended(told: Result<(), Status>) -> ExitCode {
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(status) => {
            eprintln!("\nthe demo failed: {:?}: {}", status.code(), status.message());
            ExitCode::FAILURE
        }
    }
}

fn files() -> Result<(), Status> {
    if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/loop-control").exists() {
        return Err(Status::failed_precondition("the demo attaches and mounts real devices: it needs root and /dev/loop-control"));
    }
    println!("Windlass: one daemon a node, every vendor's storage logic a sandboxed WebAssembly component.");
    println!("Everything below happens on this machine's kernel: real loop devices, real file systems, real kill -9.");

    scene("Start the daemon");
    let mut daemon = timed("windlass serve: workers forked, plugin compiled in a shut-in child, started, proven", Daemon::start);
    let status = daemon.status();
    let driver = &status["drivers"][0];
    say(&format!("driver {} {}, exports {}", driver["name"].as_str().unwrap_or("?"), driver["version"].as_str().unwrap_or("?"), driver["exports"]));
    show_walls(driver["pid"].as_i64());

    scene("Create, stage, publish");
    let volume = timed("CreateVolume: the plugin makes a sparse file through a granted effect", || {
        Volume::create(&daemon, "demo", mount_as("xfs", Mode::SingleNodeWriter, &[]), 320)
    })?;
    say(&format!("volume {}", volume.id()));
    timed("NodeStageVolume: attach, probe (proven blank), mkfs.xfs, mount", || volume.stage(&daemon))?;
    timed("NodePublishVolume: one bind, by descriptor, no program started", || volume.publish(&daemon, 0))?;
    say("what the kernel shows:");
    for device in devices_beneath(daemon.folder()) {
        shell(Command::new("losetup").args(["--list", "--noheadings", "--output", "NAME,DIO,BACK-FILE"]).arg(format!("/dev/{device}")));
    }
    shell(Command::new("findmnt").args(["-n", "-o", "SOURCE,FSTYPE,SIZE,TARGET"]).arg(volume.target(0)));

    scene("Replace the plugin while it serves");
    let writer = Writer::start(&volume.target(0));
    reload_under_load(&daemon)?;

    scene("Offer it a broken plugin");
    let good = std::fs::read(component("local-v2")).map_err(told::io)?;
    daemon.rename_in(&good[..good.len() / 2], "plugins/local.wasm");
    let refused = eventually("the refusal", || daemon.status()["drivers"][0]["refused"].as_str().map(str::to_owned));
    say(&format!("refused: {refused}"));
    let serving = daemon.status();
    ok(&format!("version {} goes on serving, generation {}", serving["drivers"][0]["version"].as_str().unwrap_or("?"), serving["drivers"][0]["generation"]));
    daemon.rename_in(&good, "plugins/local.wasm");

    scene("kill -9 the daemon while data is being written");
    let before = writer.blocks();
    let pid = daemon.pid();
    daemon.kill();
    say(&format!("process {pid} is gone; the volume is not in its hands"));
    eventually("more blocks while no daemon runs", || (writer.blocks() > before + 20).then_some(()));
    ok(&format!("{} blocks were written while no daemon ran", writer.blocks() - before));
    timed("started again: the journal and the kernel agree", || {
        daemon.start_again();
        daemon.wait_ready();
    });
    timed("NodeStageVolume again: already staged, nothing done", || volume.stage(&daemon))?;

    scene("Expand, online");
    let bytes = 512 << 20;
    timed("ControllerExpandVolume to 512 MiB", || {
        daemon.controller_expand_volume(v1::ControllerExpandVolumeRequest {
            volume_id: volume.id(),
            capacity_range: Some(v1::CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            ..Default::default()
        })
    })?;
    timed("NodeExpandVolume: the device is refreshed, XFS grown by ioctl", || {
        daemon.node_expand_volume(v1::NodeExpandVolumeRequest {
            volume_id: volume.id(),
            volume_path: volume.target(0),
            capacity_range: Some(v1::CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            ..Default::default()
        })
    })?;
    shell(Command::new("findmnt").args(["-n", "-o", "SOURCE,FSTYPE,SIZE,TARGET"]).arg(volume.target(0)));
    let blocks = writer.finish().map_err(told::io)?;
    ok(&format!("{blocks} blocks written through reload, kill -9 and growth; every one read back as it was written"));

    scene("A look at the state");
    let output = daemon.windlass(&["status"]);
    told::indent(&String::from_utf8_lossy(&output.stdout).replace(&daemon.text(""), "DIR/"));

    scene("Take down");
    timed("NodeUnpublishVolume", || volume.unpublish(&daemon, 0))?;
    timed("NodeUnstageVolume", || volume.unstage(&daemon))?;
    timed("DeleteVolume", || volume.delete(&daemon))?;
    daemon.assert_nothing_left();
    ok(&format!(
        "nothing left: {} mounts, {} devices, {} files",
        mounts_beneath(daemon.folder()).len(),
        devices_beneath(daemon.folder()).len(),
        std::fs::read_dir(daemon.path("volumes")).map_err(told::io)?.count()
    ));
    daemon.stop();
    println!();
    Ok(())
}

fn show_walls(pid: Option<i64>) {
    let Some(pid) = pid else { return };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    let uid = field("Uid:").split_whitespace().next().unwrap_or("?").to_owned();
    say(&format!("its process {pid}: uid {uid}, capabilities {}, no_new_privs {}, seccomp mode {}", field("CapEff:"), field("NoNewPrivs:"), field("Seccomp:")));
}

/// Creates and deletes volumes from four threads while the plugin is swapped ten times.
fn reload_under_load(daemon: &Daemon) -> Result<(), Status> {
    let (calls, failed, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let before = daemon.status()["drivers"][0]["generation"].as_u64().unwrap_or(0);
    let mut slowest = Duration::ZERO;
    std::thread::scope(|threads| {
        let _end = AtEnd(&is_over);
        for thread in 0..4 {
            let (calls, failed, is_over) = (&calls, &failed, &is_over);
            threads.spawn(move || {
                let capability = mount_as("ext4", Mode::SingleNodeWriter, &[]);
                for n in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let made = daemon.create_volume(Volume::create_request(&format!("load-{thread}-{n}"), &capability, 16));
                    let id = made.as_ref().ok().and_then(|made| made.volume.as_ref()).map(|volume| volume.volume_id.clone()).unwrap_or_default();
                    let deleted = daemon.delete_volume(v1::DeleteVolumeRequest { volume_id: id, ..Default::default() });
                    calls.fetch_add(2, Ordering::Relaxed);
                    failed.fetch_add(u64::from(made.is_err()) + u64::from(deleted.is_err()), Ordering::Relaxed);
                }
            });
        }
        for n in 1..=10 {
            let name = if n % 2 == 1 { "local-v2" } else { "local" };
            let Ok(bytes) = std::fs::read(component(name)) else { break };
            let began = Instant::now();
            daemon.rename_in(&bytes, "plugins/local.wasm");
            eventually("the new generation", || (daemon.status()["drivers"][0]["generation"].as_u64() >= Some(before + n)).then_some(()));
            slowest = slowest.max(began.elapsed());
        }
    });
    let (calls, failed) = (calls.into_inner(), failed.into_inner());
    let line =
        format!("10 swaps under load, the slowest seen after {} ms (asked by a new process each time): {calls} calls, {failed} failed", slowest.as_millis());
    if failed > 0 {
        return Err(Status::internal(line));
    }
    ok(&line);
    Ok(())
}

/// Writes blocks that say what they are, and reads all of them again at the end.
struct Writer {
    path: std::path::PathBuf,
    is_over: Arc<AtomicBool>,
    blocks: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<std::io::Result<()>>,
}

fn block(number: u64) -> Vec<u8> {
    (0..512_u64).flat_map(|word| (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ word).to_le_bytes()).collect()
}

impl Writer {
    fn start(target: &str) -> Self {
        let path = std::path::Path::new(target).join("data");
        let (is_over, blocks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, count, file) = (is_over.clone(), blocks.clone(), path.clone());
        let thread = std::thread::spawn(move || {
            let mut file = std::fs::File::create(file)?;
            while !over.load(Ordering::Relaxed) {
                file.write_all(&block(count.load(Ordering::Relaxed)))?;
                file.sync_data()?;
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        Self { path, is_over, blocks, thread }
    }

    fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    fn finish(self) -> std::io::Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| std::io::Error::other("the writer panicked"))??;
        let bytes = std::fs::read(self.path)?;
        let blocks = self.blocks.load(Ordering::Relaxed);
        let is_right = bytes.len() as u64 == blocks * 4096 && bytes.chunks(4096).enumerate().all(|(number, chunk)| chunk == block(number as u64));
        if is_right { Ok(blocks) } else { Err(std::io::Error::other("what was read is not what was written")) }
    }
}
