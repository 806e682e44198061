//! Exact numbers: programs that the daemon starts, by strace in the machine, and operations that the cluster's OSDs are asked for.

use super::figure::Figure;
use anyhow::{Result, ensure};
use harness::bench::Bench;
use harness::ceph::Cluster;
use harness::rbd::{self, CLUSTER, RbdVolume, secrets};
use harness::vm::GuestDaemon;
use harness::{Endpoint, Setup, mount_as};
use std::time::{Duration, Instant};
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

const TRACE: &str = "/run/bench.strace";

/// How often an operation of the cluster is counted.
const SAMPLES: usize = 5;

/// External programs in each call of a volume's life. With `-D` strace is the daemon's grandchild, so that signals meant for the daemon reach it.
pub(super) fn programs(bench: &Bench) -> Result<Vec<Figure>> {
    let wrapper = ["strace", "-D", "-f", "-qq", "-s", "200", "-e", "trace=execve,execveat", "-o", TRACE].map(str::to_owned).to_vec();
    let mut daemon = GuestDaemon::prepare(&bench.node1, "traced", Setup { wrapper, ..Setup::default() });
    daemon.start_again();
    let driver = rbd::serve(&daemon, &bench.cluster);
    let node = rbd::node_id(&driver)?;
    let mut volume = RbdVolume::create(&driver, &bench.cluster, "traced", mount_as("ext4", Mode::SingleNodeWriter, &[]), 64)?;
    volume.attach(&driver, &node)?;
    let started = |call: &dyn Fn() -> Result<(), tonic::Status>| -> Result<u64> {
        let before = external(bench)?;
        call()?;
        Ok(external(bench)? - before)
    };
    let fresh = started(&|| volume.stage(&driver))?;
    let mut rest = started(&|| volume.publish(&driver, 0))?;
    rest += started(&|| volume.volume.unpublish(&driver, 0))?;
    rest += started(&|| volume.volume.unstage(&driver))?;
    let formatted = started(&|| volume.stage(&driver))?;
    rest += started(&|| volume.volume.unstage(&driver))?;
    volume.detach(&driver, &node)?;
    volume.delete(&driver)?;
    daemon.stop();
    Ok(vec![
        Figure::count("programs: NodeStage, fresh ext4", "programs", fresh, Some(1.0)).beside(5),
        Figure::count("programs: NodeStage, formatted", "programs", formatted, Some(0.0)).beside(5),
        Figure::count("programs: NodePublish, NodeUnpublish, NodeUnstage", "programs", rest, Some(0.0)).beside(4),
    ])
}

/// Programs started so far that are not the daemon's own roles.
fn external(bench: &Bench) -> Result<u64> {
    let trace = String::from_utf8_lossy(&bench.node1.get(TRACE)?).into_owned();
    let started = trace.lines().filter(|line| line.contains(" execve(") || line.contains(" execveat("));
    Ok(started.filter(|line| line.split('"').nth(1) != Some("/proc/self/exe")).count().try_into()?)
}

/// Operations of each call, with so many volumes in the pool. Nothing may be mapped meanwhile: the kernel renews its watches.
pub(super) fn operations(cluster: &Cluster, driver: &Endpoint, volumes: usize) -> Result<Vec<Figure>> {
    let node = rbd::node_id(driver)?;
    let mut counted: [Vec<u64>; 6] = Default::default();
    for sample in 0..SAMPLES {
        let mut volume = None;
        let created = during(cluster, || {
            volume = Some(create(driver, cluster, &format!("counted-{volumes}-{sample}"))?);
            Ok(())
        })?;
        let mut volume = volume.expect("it was made");
        counted[0].push(created);
        counted[1].push(during(cluster, || Ok(volume.attach(driver, &node)?))?);
        counted[2].push(during(cluster, || Ok(volume.expand(driver, 128).map(drop)?))?);
        counted[3].push(during(cluster, || Ok(volume.detach(driver, &node)?))?);
        let before = cluster.osd_ops()?;
        volume.delete(driver)?;
        counted[4].push(cluster.osd_ops()? - before);
        counted[5].push(settled(cluster)? - before);
    }
    // What goes on in the background can only add to a count: the least is the truest.
    let least = counted.map(|counts| counts.into_iter().min().unwrap_or(0));
    let figure = |what: &str, count, goal| Figure::count(format!("OSD operations: {what}, at {volumes} volumes"), "operations", count, goal);
    Ok(vec![
        figure("CreateVolume, 3 metadata", least[0], Some(10.0)),
        figure("ControllerPublish", least[1], None),
        figure("ControllerExpand", least[2], None),
        figure("ControllerUnpublish", least[3], None),
        figure("DeleteVolume", least[4], Some(45.0)),
        figure("the same to the end", least[5], None),
    ])
}

/// A volume with what the provisioner tells of its claim.
fn create(driver: &Endpoint, cluster: &Cluster, name: &str) -> Result<RbdVolume> {
    let (capability, secrets) = (mount_as("ext4", Mode::SingleNodeWriter, &[]), secrets("admin", cluster.admin_key()));
    let mut request = RbdVolume::create_request(name, &capability, 64, "rbd", &secrets);
    ensure!(request.parameters.get("clusterID").is_some_and(|id| id == CLUSTER), "another cluster");
    for (key, value) in [("pv/name", "pvc-0f6d"), ("pvc/name", "data"), ("pvc/namespace", "team")] {
        request.parameters.insert(format!("csi.storage.k8s.io/{key}"), value.to_owned());
    }
    let volume: v1::Volume = driver.create_volume(request)?.volume.unwrap_or_default();
    Ok(RbdVolume { volume: harness::Volume::at(driver, name, volume, capability)?, secrets, publish_context: Default::default() })
}

fn during(cluster: &Cluster, call: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = settled(cluster)?;
    call()?;
    Ok(cluster.osd_ops()? - before)
}

/// The count once it has not changed for half a second.
fn settled(cluster: &Cluster) -> Result<u64> {
    let until = Instant::now() + Duration::from_secs(30);
    let mut last = (cluster.osd_ops()?, Instant::now());
    while last.1.elapsed() < Duration::from_millis(500) {
        ensure!(Instant::now() < until, "the cluster does not come to rest");
        std::thread::sleep(Duration::from_millis(20));
        let now = cluster.osd_ops()?;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    Ok(last.0)
}
