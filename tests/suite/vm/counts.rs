//! What CreateVolume costs the cluster's OSDs, exactly, however many volumes there are.

use super::controller::Scene;
use harness::mount_as;
use harness::rbd::{RbdVolume, secrets};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// How often a call is counted. What goes on in the background can only add: the least is the truest.
const SAMPLES: usize = 9;

/// Calls at once while the pool is filled.
const AT_ONCE: usize = 8;

fn request(scene: &Scene, name: &str) -> v1::CreateVolumeRequest {
    let (capability, secrets) = (mount_as("ext4", Mode::SingleNodeWriter, &[]), secrets("admin", scene.cluster.admin_key()));
    let mut request = RbdVolume::create_request(name, &capability, 64, "rbd", &secrets);
    // What the provisioner tells of the claim.
    for (key, value) in [("pv/name", "pvc-0f6d"), ("pvc/name", "data"), ("pvc/namespace", "team")] {
        request.parameters.insert(format!("csi.storage.k8s.io/{key}"), value.to_owned());
    }
    request
}

/// Fills the pool to each of these numbers of volumes, and counts there. At most ten operations a volume, and the same everywhere.
pub(super) fn creating_costs_the_same(at: &[usize]) {
    let scene = Scene::set();
    let made = AtomicUsize::new(0);
    let mut counted = Vec::new();
    for volumes in at.iter().copied() {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    // The numbers are given out before: no two threads make the same.
                    while let Ok(number) = made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |made| (made < volumes).then_some(made + 1)) {
                        scene.driver.create_volume(request(&scene, &format!("fill-{number}"))).unwrap();
                    }
                });
            }
        });
        println!("{volumes} volumes, {AT_ONCE} at once: the last of them made after {:.1} s", begun.elapsed().as_secs_f64());
        let least = (0..SAMPLES).map(|sample| count(&scene, &format!("counted-{volumes}-{sample}"))).min().unwrap_or(u64::MAX);
        println!("CreateVolume with three keys of metadata, at {volumes} volumes: {least} OSD operations");
        counted.push(least);
    }
    assert!(counted.iter().all(|count| *count <= 10 && *count == counted[0]), "{counted:?} at {at:?} volumes");
}

fn count(scene: &Scene, name: &str) -> u64 {
    let before = at_rest(scene);
    scene.driver.create_volume(request(scene, name)).unwrap();
    scene.cluster.osd_ops().unwrap() - before
}

/// The count once it has not changed for a quarter of a second.
fn at_rest(scene: &Scene) -> u64 {
    let until = Instant::now() + Duration::from_secs(60);
    let mut last = (scene.cluster.osd_ops().unwrap(), Instant::now());
    while last.1.elapsed() < Duration::from_millis(250) {
        assert!(Instant::now() < until, "the cluster does not come to rest");
        std::thread::sleep(Duration::from_millis(10));
        let now = scene.cluster.osd_ops().unwrap();
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}

#[test]
fn vm_rbd_creating_costs_the_same_at_ten_volumes_and_at_a_thousand() {
    creating_costs_the_same(&[10, 1000]);
}
