//! `make demo-rbd`: a volume's life in a Ceph cluster, with a node in a virtual machine whose kernel has the RBD client.

use crate::told::{self, ok, say, scene, timed};
use harness::bench::{self, Bench};
use harness::rbd::{self, RbdVolume};
use harness::vm::{GuestDaemon, Vm};
use harness::{Endpoint, eventually, mount_as};
use serde_json::Value;
use tonic::Status;
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// What writes while the daemon dies: blocks that say which they are, each on the disk before it is counted.
const WRITER: &str = "i=0; rm -f /run/demo.stop; while [ ! -e /run/demo.stop ]; do \
     yes \"block $i\" | head -c 4096 | dd of=\"$0\" bs=4096 seek=$i conv=notrunc,fsync iflag=fullblock 2>/dev/null; i=$((i+1)); \
     echo $i >/run/demo.new; mv /run/demo.new /run/demo.blocks; done";

/// The same blocks once more, compared with what is there.
const READER: &str = "i=0; n=$(cat /run/demo.blocks); while [ $i -lt $n ]; do yes \"block $i\" | head -c 4096; i=$((i+1)); done | cmp - FILE";

pub(crate) fn tell() -> Result<(), Status> {
    println!("Windlass and Ceph RBD: images managed through librbd, mapped by the kernel's own client, without the program `rbd` and without udev.");
    println!("The cluster is a real one on this machine; the node is a virtual machine with Debian's kernel, emulated, so its times are long ones.");

    scene("Start a Ceph cluster, and a node beside it");
    bench::told_by(say);
    say("a monitor, a manager and an OSD; a machine of two processors and 2 GiB: some twenty seconds");
    let Bench { cluster, node1: vm } = told::waiting("both are up", Bench::start).map_err(|error| Status::unavailable(format!("{error:#}")))?;

    scene("Start the daemon on the node");
    let mut daemon = timed("windlass serve", || GuestDaemon::prepared(&vm, "demo"));
    let driver = told::waiting("the driver's file names a cluster; its plugin was compiled, started, proven", || rbd::serve(&daemon, &cluster));
    told::indent(&rbd::driver_file(&cluster));
    let info = timed("NodeGetInfo", || driver.node_get_info(v1::NodeGetInfoRequest {}))?;
    say(&format!("node {}: its name, and the address by which it can be shut out of the cluster", info.node_id));

    scene("Create");
    let capability = mount_as("ext4", Mode::SingleNodeWriter, &[]);
    let mut volume = timed("CreateVolume of 1 GiB: the plugin asks for an image, the effects process makes it", || {
        RbdVolume::create(&driver, &cluster, "demo", capability, 1024)
    })?;
    let image = format!("rbd/{}", volume.image());
    say(&format!("volume {}", volume.volume.id()));
    told::indent(&only(&cluster.rbd(&["info", &image]), &["size", "id:", "features", "create_timestamp"]));
    told::indent(&cluster.rbd(&["image-meta", "list", &image]));

    scene("Give it to this node, and to no other");
    timed("ControllerPublishVolume: which image it is, that it was never written, and the lock", || volume.attach(&driver, &info.node_id))?;
    say("publish_context, which carries the proof to the node:");
    for (key, value) in &volume.publish_context {
        say(&format!("   {key} = {value}"));
    }
    say("the lock in the cluster:");
    let header = header(&cluster.rbd(&["info", "--format", "json", &image]))?;
    let locked = |volume: &RbdVolume| locker(&cluster.tool("rados", &["-p", "rbd", "lock", "info", &header, "windlass"])).unwrap_or_else(|| volume.image());
    say(&format!("   {}", locked(&volume)));
    let refused = timed("ControllerPublishVolume to another node", || volume.clone().attach(&driver, "node2/10.87.0.102"));
    ok(&format!("refused, by name: {}", refusal(refused)?));

    scene("Stage, publish, write");
    timed("NodeStageVolume: key to the kernel, map, compare, probe (proven blank), mkfs.ext4, mount", || volume.stage(&driver))?;
    say("what the kernel shows:");
    told::indent(&vm.shell(
        "cd /sys/bus/rbd/devices/*; for file in pool name image_id cluster_fsid size config_info; do printf '%-13s %s\\n' $file \"$(cat $file)\"; done",
    ));
    say("`key=windlass:...` is a mark, by which the device is found without any record; the key itself is no longer in the keyring");
    timed("NodePublishVolume: one bind, by descriptor", || volume.publish(&driver, 0))?;
    let target = volume.volume.target(0);
    told::indent(&vm.shell(&format!("grep ' {target} ' /proc/mounts")));
    timed("8 MiB written and synced", || vm.shell(&format!("cd {target}; dd if=/dev/urandom of=kept bs=1M count=8 2>/dev/null; sync; sha256sum kept >sum")));
    told::indent(&vm.shell(&format!("cat {target}/sum")));

    scene("kill -9 the daemon while data is being written");
    let file = format!("{target}/blocks");
    let writer = vm.start_program(&["/bin/busybox", "sh", "-c", WRITER, &file], &[], "/run/demo.log");
    eventually("the first blocks", || (blocks(&vm) > 5).then_some(()));
    daemon.kill();
    let before = blocks(&vm);
    eventually("more blocks while no daemon runs", || (blocks(&vm) > before + 20).then_some(()));
    ok(&format!("{} blocks were written while no daemon ran", blocks(&vm) - before));
    timed("a successor: the journal and the kernel agree", || {
        daemon.start_again();
        daemon.wait_ready(rbd::RBD_DRIVER);
    });
    timed("NodeStageVolume again: already staged, nothing done", || volume.stage(&driver))?;

    scene("Expand, online");
    say(&df(&vm, &target));
    timed("ControllerExpandVolume to 2 GiB", || volume.expand(&driver, 2048))?;
    timed("NodeExpandVolume: the image's header read anew, ext4 grown by ioctl", || volume.grow(&driver, 0))?;
    say(&df(&vm, &target));
    vm.shell("touch /run/demo.stop");
    eventually("the writer's end", || vm.ended(writer).map(drop));
    let written = blocks(&vm);
    vm.shell(&format!("cd {target}; {}", READER.replace("FILE", "blocks")));
    ok(&format!("{written} blocks written through kill -9 and growth; every one read back as it was written"));

    scene("A look at the state");
    let status = daemon.windlass(&["status"]);
    told::indent(&String::from_utf8_lossy(&status.stdout).replace(&daemon.text(""), "DIR/"));

    scene("Take down, with the plugin gone");
    daemon.kill();
    vm.run(&["/bin/busybox", "rm", &daemon.text(&format!("drivers.d/{}.toml", rbd::RBD_DRIVER))]);
    daemon.start_again();
    eventually("the driver is served for teardown", || driver.probe().is_ok().then_some(()));
    say("the daemon was killed and its driver's file removed; the successor serves what is left of it");
    timed("NodeUnpublishVolume", || volume.volume.unpublish(&driver, 0))?;
    timed("NodeUnstageVolume: unmounted, flushed, unmapped; found by its mark", || volume.volume.unstage(&driver))?;
    let driver = rbd::serve(&daemon, &cluster);
    say("the driver's file is back");

    scene("Once more, to see that it is all there");
    timed("NodeStageVolume: formatted, so no program is started", || volume.stage(&driver))?;
    timed("NodePublishVolume", || volume.publish(&driver, 0))?;
    ok(vm.shell(&format!("cd {target} && sha256sum -c sum")).trim());
    timed("NodeUnpublishVolume", || volume.volume.unpublish(&driver, 0))?;
    timed("NodeUnstageVolume", || volume.volume.unstage(&driver))?;

    scene("Take back, delete");
    let refused = timed("DeleteVolume, while the node still has it", || volume.delete(&driver));
    ok(&format!("refused: {}", refusal(refused)?));
    timed("ControllerUnpublishVolume: the lock is released", || volume.detach(&driver, &info.node_id))?;
    timed("DeleteVolume: into the pool's trash, which is emptied in the background", || volume.delete(&driver))?;
    nothing_is_left(&driver, &cluster, &vm)?;
    daemon.stop();
    println!();
    Ok(())
}

fn nothing_is_left(driver: &Endpoint, cluster: &harness::ceph::Cluster, vm: &Vm) -> Result<(), Status> {
    timed("the trash is empty", || eventually("an empty trash", || cluster.rbd(&["trash", "ls", "rbd"]).trim().is_empty().then_some(())));
    let left = [
        ("mappings", vm.shell("ls /sys/bus/rbd/devices")),
        ("keys in the keyring", vm.shell("grep windlass: /proc/keys || true")),
        ("mounts", vm.shell(&format!("grep ' {}' /proc/mounts || true", driver.text("kubelet")))),
        ("images", cluster.rbd(&["ls", "rbd"])),
        ("objects of images", only(&cluster.tool("rados", &["-p", "rbd", "ls"]), &["rbd_data.", "rbd_header.", "rbd_id.", "rbd_object_map."])),
    ];
    for (what, found) in &left {
        if !found.trim().is_empty() {
            return Err(Status::internal(format!("{what} are left: {found}")));
        }
    }
    ok(&format!("nothing left: no {}", left.map(|(what, _)| what).join(", no ")));
    Ok(())
}

/// The lines of a program's output that hold any of these words.
fn only(text: &str, words: &[&str]) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| words.iter().any(|word| line.starts_with(word))).collect();
    lines.join("\n")
}

/// The object with an image's header, on which its lock is.
fn header(info: &str) -> Result<String, Status> {
    let info: Value = serde_json::from_str(info).map_err(|error| Status::internal(error.to_string()))?;
    info["id"].as_str().map(|id| format!("rbd_header.{id}")).ok_or_else(|| Status::internal("an image without an id"))
}

/// Who holds a lock, as `rados lock info` says it.
fn locker(info: &str) -> Option<String> {
    let info: Value = serde_json::from_str(info).ok()?;
    let locker = info["lockers"].get(0)?;
    Some(format!("{} {}, held by {}: {}", info["type"].as_str()?, info["name"].as_str()?, locker["cookie"].as_str()?, locker["description"].as_str()?))
}

fn refusal(answer: Result<(), Status>) -> Result<String, Status> {
    answer.map_or_else(|status| Ok(format!("{:?}, {}", status.code(), status.message())), |()| Err(Status::internal("it was not refused")))
}

fn blocks(vm: &Vm) -> u64 {
    vm.shell("cat /run/demo.blocks 2>/dev/null || echo 0").trim().parse().unwrap_or(0)
}

fn df(vm: &Vm, target: &str) -> String {
    vm.shell(&format!("df -h {target} | tail -n 1")).split_whitespace().take(4).collect::<Vec<_>>().join("  ")
}
