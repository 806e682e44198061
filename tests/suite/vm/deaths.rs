//! kill -9 at every line of the journal while an image is staged, published and taken down: the same call and the opposite call both
//! converge, with the journal and without it, and nothing is left in the kernel.

use crate::crash::{Content, Journal, Next, Verb};
use harness::bench::bench;
use harness::rbd::{self, RbdVolume};
use harness::vm::GuestDaemon;
use harness::{Endpoint, block, mount_as};
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use windlass_csi::v1::VolumeCapability;
use windlass_csi::v1::volume_capability::AccessType;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// How a death goes on.
pub(super) type Way = (Next, Journal);

/// The two ways that between them have each word once.
pub(super) const TWO: [Way; 2] = [(Next::Same, Journal::Kept), (Next::Opposite, Journal::Lost)];
/// The other two.
pub(super) const OTHER_TWO: [Way; 2] = [(Next::Opposite, Journal::Kept), (Next::Same, Journal::Lost)];

/// How long a call may take to converge. A worker that outlives its daemon ends its step first.
const PATIENCE: Duration = Duration::from_secs(60);

struct Scene {
    daemon: GuestDaemon,
    driver: Endpoint,
    node: String,
    capability: VolumeCapability,
}

impl Scene {
    fn set(capability: VolumeCapability) -> Self {
        let daemon = GuestDaemon::prepared(&bench().node1, "deaths");
        let driver = rbd::serve(&daemon, &bench().cluster);
        let node = rbd::node_id(&driver).unwrap();
        Self { daemon, driver, node, capability }
    }

    /// A volume that this node may have.
    fn volume(&self, name: &str) -> RbdVolume {
        self.daemon.wait_ready(rbd::RBD_DRIVER);
        let mut volume = RbdVolume::create(&self.driver, &bench().cluster, name, self.capability.clone(), 32).unwrap();
        volume.attach(&self.driver, &self.node).unwrap();
        volume
    }

    fn is_raw(&self) -> bool {
        matches!(self.capability.access_type, Some(AccessType::Block(_)))
    }

    fn call(&self, verb: Verb, volume: &RbdVolume) -> Result<(), Status> {
        match verb {
            Verb::Stage => volume.stage(&self.driver),
            Verb::Publish => volume.publish(&self.driver, 0),
            Verb::Unpublish => volume.volume.unpublish(&self.driver, 0),
            Verb::Unstage => volume.volume.unstage(&self.driver),
        }
    }

    /// As kubelet does: asks again while the code says that it may. Where a format was begun and the proof that the image was never written
    /// is older, the way out is the refusal's own: the volume is taken from the node and published anew, which proves it anew.
    #[track_caller]
    fn converge(&self, what: &str, verb: Verb, volume: &mut RbdVolume) {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.call(verb, volume) {
                Ok(()) => return,
                Err(status) if matches!(status.code(), Code::Unavailable | Code::Aborted) => assert!(Instant::now() < until, "{what}: {status}"),
                Err(status) if status.code() == Code::FailedPrecondition && status.message().contains("published anew") => {
                    assert!(Instant::now() < until, "{what}: {status}");
                    println!("{what}: published anew");
                    volume.detach(&self.driver, &self.node).unwrap();
                    volume.attach(&self.driver, &self.node).unwrap();
                }
                Err(status) => panic!("{what}: {verb:?}: {status}\n{}", self.daemon.log()),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its plugin may not be ready yet, which takes longest here: what needs it says so, and is asked again.
    fn start_with(&mut self, env: Vec<(String, String)>) {
        self.daemon.set_env(env);
        self.daemon.start_again();
        harness::eventually("the driver's socket", || self.driver.probe().is_ok().then_some(()));
    }

    /// Calls until it is through, or the daemon is dead: was it through?
    fn is_through(&self, what: &str, verb: Verb, volume: &RbdVolume) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.call(verb, volume);
            if answer.is_ok() || self.daemon.is_dead() {
                return answer.is_ok();
            }
            assert!(Instant::now() < until, "{what}: neither through nor dead: {answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Something to be found again, at the first target.
    fn write(&self, volume: &RbdVolume) {
        let target = volume.volume.target(0);
        let at = if self.is_raw() { target } else { format!("{target}/file") };
        self.daemon.vm().shell(&format!("printf 'written before' | dd of={at} conv=notrunc,fsync 2>/dev/null"));
    }

    #[track_caller]
    fn assert_written(&self, what: &str, volume: &RbdVolume) {
        let target = volume.volume.target(0);
        let at = if self.is_raw() { target } else { format!("{target}/file") };
        assert_eq!(self.daemon.vm().shell(&format!("head -c 14 {at}")), "written before", "{what}");
    }

    /// No mapping, no key, no mount, no record, no lock.
    #[track_caller]
    fn assert_nothing_left(&self, what: &str, volume: &RbdVolume) {
        let left = self.daemon.vm().shell(&format!(
            "ls /sys/bus/rbd/devices; grep windlass: /proc/keys || true; grep /deaths/ /proc/mounts || true; ls /run/deaths/journal /run/deaths/locks | \
             grep -v '^/run\\|^$' || true; ls {} {}",
            volume.volume.staging, volume.volume.pods
        ));
        let own = [format!("{}:", volume.volume.staging), format!("{}:", volume.volume.pods)];
        let left: Vec<&str> = left.lines().filter(|line| !line.is_empty() && !own.iter().any(|own| own == line)).collect();
        assert_eq!(left, Vec::<&str>::new(), "{what}\n{}", self.daemon.log());
    }
}

/// Dies at line 1, 2, ... until the call is through without a death; the number of deaths is the number of lines.
pub(super) fn sweep(verb: Verb, capability: &VolumeCapability, content: Content, lines: u32, ways: &[Way]) {
    let mut scene = Scene::set(capability.clone());
    let with_data = (content == Content::Data).then(|| {
        let mut volume = scene.volume("deaths");
        for verb in [Verb::Stage, Verb::Publish] {
            scene.converge("the first time", verb, &mut volume);
        }
        scene.write(&volume);
        for verb in [Verb::Unpublish, Verb::Unstage] {
            scene.converge("the first time", verb, &mut volume);
        }
        volume
    });
    for (next, journal) in ways.iter().copied() {
        let mut died = 0;
        loop {
            let begun = Instant::now();
            let what = format!("{verb:?}, killed at line {}, then {next:?}, journal {journal:?}", died + 1);
            let mut volume = with_data.clone().unwrap_or_else(|| scene.volume(&format!("deaths-{died}-{next:?}-{journal:?}").to_lowercase()));
            let before: &[Verb] = match verb {
                Verb::Stage => &[],
                Verb::Publish | Verb::Unstage => &[Verb::Stage],
                Verb::Unpublish => &[Verb::Stage, Verb::Publish],
            };
            before.iter().for_each(|verb| scene.converge(&what, *verb, &mut volume));
            scene.daemon.kill();
            scene.start_with(vec![("WINDLASS_DIE_AT_LINE".to_owned(), (died + 1).to_string())]);
            let is_through = scene.is_through(&what, verb, &volume);
            if is_through {
                assert!(!scene.daemon.is_dead(), "{what}: it answered and died");
                scene.daemon.kill();
            } else {
                scene.daemon.kill();
                died += 1;
            }
            if journal == Journal::Lost {
                scene.daemon.vm().shell("rm -rf /run/deaths/journal");
            }
            scene.start_with(Vec::new());
            let last = if next == Next::Same { verb } else { verb.opposite() };
            scene.converge(&what, last, &mut volume);
            scene.converge(&what, last, &mut volume);
            take_down(&scene, &what, last, &mut volume, content);
            println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
            if is_through {
                break;
            }
        }
        assert_eq!(died, lines, "{verb:?} of {capability:?} wrote another number of lines");
    }
    if let Some(volume) = with_data {
        give_back(&scene, &volume);
    }
}

/// After a convergence: what the last call promised is so, the data is there, and everything can be taken down.
fn take_down(scene: &Scene, what: &str, last: Verb, volume: &mut RbdVolume, content: Content) {
    let has_data = content == Content::Data;
    match last {
        Verb::Stage => {
            scene.converge(what, Verb::Publish, volume);
            if has_data {
                scene.assert_written(what, volume);
            }
        }
        Verb::Publish => scene.assert_written(what, volume),
        Verb::Unpublish => assert_eq!(scene.daemon.vm().shell(&format!("ls {}", volume.volume.pods)), "", "{what}: the target is left"),
        Verb::Unstage => scene.assert_nothing_left(what, volume),
    }
    scene.converge(what, Verb::Unpublish, volume);
    scene.converge(what, Verb::Unstage, volume);
    scene.assert_nothing_left(what, volume);
    if !has_data {
        give_back(scene, volume);
    }
}

fn give_back(scene: &Scene, volume: &RbdVolume) {
    scene.daemon.wait_ready(rbd::RBD_DRIVER);
    volume.detach(&scene.driver, &scene.node).unwrap();
    volume.delete(&scene.driver).unwrap();
}

pub(super) fn file_system() -> VolumeCapability {
    mount_as("ext4", Mode::SingleNodeWriter, &[])
}

pub(super) fn raw() -> VolumeCapability {
    block(Mode::SingleNodeWriter)
}

#[test]
fn vm_rbd_a_death_at_any_line_of_staging_is_recovered_from() {
    sweep(Verb::Stage, &file_system(), Content::Nothing, 9, &TWO);
}

#[test]
fn vm_rbd_a_death_at_any_line_of_publishing_and_unpublishing_is_recovered_from() {
    sweep(Verb::Publish, &file_system(), Content::Data, 3, &TWO);
    sweep(Verb::Unpublish, &file_system(), Content::Data, 2, &TWO);
}

#[test]
fn vm_rbd_a_death_at_any_line_of_unstaging_is_recovered_from() {
    sweep(Verb::Unstage, &file_system(), Content::Data, 4, &TWO);
}
