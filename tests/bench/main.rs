//! `make bench`: figures of one run on this machine. Times are compared as ratios of things done in turn; counts and sizes are exact.
//! `make bench-rbd`: the same of images of a Ceph cluster, in a virtual machine.

mod echo;
mod rbd;
mod sample;

use harness::{DRIVER, Daemon, Setup, Volume, component, mount_as};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sample::{Sample, pss_kib, rss_kib};
use std::time::{Duration, Instant};
use windlass_csi::health::HealthCheckRequest;
use windlass_csi::v1;
use windlass_csi::v1::identity_client::IdentityClient;
use windlass_csi::v1::node_client::NodeClient;
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => files(),
        ["rbd"] => rbd::run(rbd::Form::Table),
        ["rbd", "-o", "json"] => rbd::run(rbd::Form::Json),
        ["rbd-in-guest"] => rbd::in_guest(),
        _ => anyhow::bail!("windlass-bench, windlass-bench rbd, or windlass-bench rbd -o json"),
    }
}

fn files() -> anyhow::Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "the bench attaches and mounts: run it as root");
    println!("{:<66} {:>10} {:>10} {:>8}", "", "p50", "p99", "ratio");
    start()?;
    let daemon = Daemon::start();
    plugin_call(&daemon)?;
    publish(&daemon)?;
    stage(&daemon)?;
    reload(&daemon)?;
    memory()?;
    Ok(())
}

/// From exec to the first answer, and to a driver that is ready, with compiled code in the cache.
fn start() -> anyhow::Result<()> {
    let mut daemon = Daemon::start();
    let (mut answer, mut ready) = (Sample::default(), Sample::default());
    for _ in 0..20 {
        daemon.stop();
        let began = Instant::now();
        daemon.start_again();
        daemon.probe()?;
        answer.add(began.elapsed());
        daemon.wait_ready();
        ready.add(began.elapsed());
    }
    answer.print("start to first answer (goal 50 ms)");
    ready.print("start to a driver that is ready, code cached");
    Ok(())
}

/// A call that goes through the plugin beside one that does not, on one connection: the difference is the way to an instance and back. And
/// beside a plain echo of a server that does nothing else.
fn plugin_call(daemon: &Daemon) -> anyhow::Result<()> {
    let socket = daemon.path("echo.sock");
    echo::serve(&socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = windlass_csi::client::connect(&daemon.socket()).await?;
        let (mut identity, mut node) = (IdentityClient::new(channel.clone()), NodeClient::new(channel));
        let mut echo = echo::client(&socket).await?;
        let (mut plain, mut hop, mut through) = (Sample::default(), Sample::default(), Sample::default());
        for round in 0..3000 {
            let began = Instant::now();
            echo.check(HealthCheckRequest::default()).await?;
            let echoed = Instant::now();
            identity.probe(v1::ProbeRequest {}).await?;
            let between = Instant::now();
            node.node_get_info(v1::NodeGetInfoRequest {}).await?;
            if round >= 200 {
                plain.add(echoed - began);
                hop.add(between - echoed);
                through.add(between.elapsed());
            }
        }
        plain.print("a plain echo by gRPC on a unix socket");
        hop.print_beside("the daemon's own answer (Probe)", &plain);
        through.print("the same with a plugin call (NodeGetInfo), fresh instance each");
        let call = through.median().saturating_sub(hop.median());
        println!(
            "{:<66} {:>7.0} µs {:>10} {:>7.2}x",
            "plugin call, daemon to instance and back (goal: under the echo)",
            call.as_secs_f64() * 1e6,
            "",
            call.as_secs_f64() / plain.median().as_secs_f64()
        );
        anyhow::Ok(())
    })
}

/// NodePublish and NodeUnpublish beside mkdir + bind and umount + rmdir as bare calls.
fn publish(daemon: &Daemon) -> anyhow::Result<()> {
    let volume = Volume::create(daemon, "publish", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64)?;
    volume.stage(daemon)?;
    let bare_target = daemon.path("kubelet/bare");
    let (mut bare_up, mut bare_down, mut up, mut down) = (Sample::default(), Sample::default(), Sample::default(), Sample::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = windlass_csi::client::connect(&daemon.socket()).await?;
        let mut node = NodeClient::new(channel);
        for _ in 0..300 {
            let began = Instant::now();
            std::fs::create_dir(&bare_target)?;
            mount(Some(volume.staging.as_str()), &bare_target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            bare_up.add(began.elapsed());
            let began = Instant::now();
            umount2(&bare_target, MntFlags::UMOUNT_NOFOLLOW)?;
            std::fs::remove_dir(&bare_target)?;
            bare_down.add(began.elapsed());
            let began = Instant::now();
            node.node_publish_volume(volume.publish_request(0)).await?;
            up.add(began.elapsed());
            let began = Instant::now();
            node.node_unpublish_volume(volume.unpublish_request(0)).await?;
            down.add(began.elapsed());
        }
        anyhow::Ok(())
    })?;
    bare_up.print("mkdir and bind, bare");
    up.print_beside("NodePublishVolume (goal: 1 ms over)", &bare_up);
    bare_down.print("umount and rmdir, bare");
    down.print_beside("NodeUnpublishVolume (goal: 1 ms over)", &bare_down);
    volume.unstage(daemon)?;
    volume.delete(daemon)?;
    Ok(())
}

/// NodeStage of a formatted volume beside losetup and mount as programs would do it is unfair; beside itself it shows what it costs.
fn stage(daemon: &Daemon) -> anyhow::Result<()> {
    let volume = Volume::create(daemon, "stage", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64)?;
    let began = Instant::now();
    volume.stage(daemon)?;
    let mut fresh = Sample::default();
    fresh.add(began.elapsed());
    volume.unstage(daemon)?;
    let (mut up, mut again, mut down) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..50 {
        let began = Instant::now();
        volume.stage(daemon)?;
        up.add(began.elapsed());
        let began = Instant::now();
        volume.stage(daemon)?;
        again.add(began.elapsed());
        let began = Instant::now();
        volume.unstage(daemon)?;
        down.add(began.elapsed());
    }
    fresh.print("NodeStageVolume, fresh ext4 (with mkfs), new connection");
    up.print("NodeStageVolume, formatted ext4, new connection");
    again.print("NodeStageVolume, staged already, new connection");
    down.print("NodeUnstageVolume, new connection");
    volume.delete(daemon)?;
    Ok(())
}

/// From the rename of a component to the new version's answer, with both components' code in the cache.
fn reload(daemon: &Daemon) -> anyhow::Result<()> {
    let bytes = [std::fs::read(component("local-v2"))?, std::fs::read(component("local"))?];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut swap = Sample::default();
    runtime.block_on(async {
        let channel = windlass_csi::client::connect(&daemon.socket()).await?;
        let mut identity = IdentityClient::new(channel);
        for round in 0..42 {
            let before = identity.get_plugin_info(v1::GetPluginInfoRequest {}).await?.into_inner().vendor_version;
            let began = Instant::now();
            daemon.rename_in(&bytes[round % 2], "plugins/local.wasm");
            while identity.get_plugin_info(v1::GetPluginInfoRequest {}).await?.into_inner().vendor_version == before {
                anyhow::ensure!(began.elapsed() < Duration::from_secs(10), "the new component does not serve");
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            // The first of each is compiled.
            if round >= 2 {
                swap.add(began.elapsed());
            }
        }
        anyhow::Ok(())
    })?;
    swap.print("rename of a component to the new version serving (goal 50 ms)");
    Ok(())
}

/// Memory of a daemon with one driver: all roles, idle and in use.
fn memory() -> anyhow::Result<()> {
    let daemon = Daemon::with(Setup { config: "limits = { idle_seconds = 1 }\n".into(), ..Setup::default() });
    let volume = Volume::create(&daemon, "memory", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64)?;
    for _ in 0..200 {
        daemon.node_get_info(v1::NodeGetInfoRequest {})?;
    }
    let pid = daemon.pid();
    let roles = |daemon: &Daemon| -> anyhow::Result<Vec<(String, i64)>> {
        let status = daemon.status();
        let mut roles = vec![("daemon".to_owned(), i64::from(pid))];
        roles.extend(status["workers_idle"].as_array().into_iter().flatten().filter_map(|pid| Some(("worker".to_owned(), pid.as_i64()?))));
        roles.extend(status["effects"].as_array().into_iter().flatten().filter_map(|effects| Some(("effects".to_owned(), effects["pid"].as_i64()?))));
        roles.extend(status["drivers"][0]["pid"].as_i64().map(|pid| (format!("plugin {DRIVER}"), pid)));
        Ok(roles)
    };
    let mut total = 0;
    for (role, pid) in roles(&daemon)? {
        let (pss, rss) = (pss_kib(pid), rss_kib(pid));
        total += pss;
        println!("{:<66} {:>7.1} MB {:>7.1} MB", format!("memory in use, {role}: PSS, RSS"), pss as f64 / 1024.0, rss as f64 / 1024.0);
    }
    println!("{:<66} {:>7.1} MB", "memory in use, all roles: PSS", total as f64 / 1024.0);
    harness::eventually("the plugin process to end when idle", || daemon.status()["drivers"][0]["pid"].is_null().then_some(()));
    let idle: u64 = roles(&daemon)?.iter().map(|(_, pid)| pss_kib(*pid)).sum();
    println!("{:<66} {:>7.1} MB", "memory when its plugin is idle, all roles: PSS (goal 24 MB)", idle as f64 / 1024.0);
    volume.delete(&daemon)?;
    Ok(())
}
