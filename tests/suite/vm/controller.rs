//! kill -9 of the daemon, and of its effects process alone, in the middle of what a controller does to images: the same call and its
//! opposite converge, and in the end no image, lock, trash entry or other object is left. The daemon runs beside the cluster, without a VM.

use harness::ceph::Cluster;
use harness::network::Network;
use harness::rbd::{self, RbdVolume, secrets};
use harness::{Daemon, Endpoint, Setup, Volume, mount_as};
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// The node that volumes are given to; it need not be there.
const NODE: &str = "node9/10.87.0.9";

/// How long a call may take to converge: the watch of a client that was killed lives on for 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verb {
    Create,
    Publish,
    Expand,
    Unpublish,
    Delete,
}

use Verb::{Create, Delete, Expand, Publish, Unpublish};

/// All that change an image.
pub(super) const ALL: [Verb; 5] = [Create, Delete, Publish, Expand, Unpublish];

impl Verb {
    fn call(self, driver: &Endpoint, volume: &RbdVolume, name: &str) -> Result<(), Status> {
        match self {
            Create => driver.create_volume(request(name, "rbd", &volume.secrets)).map(drop),
            Publish => volume.clone().attach(driver, NODE),
            Expand => volume.expand(driver, 64).map(drop),
            Unpublish => volume.detach(driver, NODE),
            Delete => volume.delete(driver),
        }
    }

    /// What is asked for where somebody has changed his mind.
    fn opposite(self) -> Self {
        match self {
            Create | Expand => Delete,
            Publish => Unpublish,
            Unpublish => Publish,
            Delete => Create,
        }
    }

    fn before(self) -> &'static [Self] {
        match self {
            Create => &[],
            Publish | Expand | Delete => &[Create],
            Unpublish => &[Create, Publish],
        }
    }
}

fn request(name: &str, pool: &str, secrets: &std::collections::BTreeMap<String, String>) -> v1::CreateVolumeRequest {
    RbdVolume::create_request(name, &mount_as("ext4", Mode::SingleNodeWriter, &[]), 32, pool, secrets)
}

/// A volume on which a call was cut off, and what is called next.
struct Cut {
    what: String,
    name: String,
    volume: RbdVolume,
    next: Verb,
}

/// A daemon with the role of a controller beside a cluster of its own, in the cluster's network.
pub(super) struct Scene {
    network: Arc<Network>,
    pub(super) cluster: Cluster,
    daemon: Daemon,
    pub(super) driver: Endpoint,
    /// What is in the pool when no volume is.
    bare: BTreeSet<String>,
}

impl Scene {
    pub(super) fn set() -> Self {
        let network = Network::new().unwrap();
        let cluster = Cluster::start(&network, 1).unwrap();
        cluster.create_pool("ids").unwrap();
        cluster.wait_for_manager().unwrap();
        let daemon = network.enter(|| Daemon::with(Setup::default())).unwrap();
        daemon.rename_in(rbd::driver_file(&cluster).as_bytes(), &format!("drivers.d/{}.toml", rbd::RBD_DRIVER));
        let driver = daemon.driver(rbd::RBD_DRIVER);
        let mut scene = Self { network, cluster, daemon, driver, bare: BTreeSet::new() };
        scene.wait_ready();
        let (volume, name) = (scene.volume("first"), "first");
        Create.call(&scene.driver, &volume, name).unwrap();
        Delete.call(&scene.driver, &volume, name).unwrap();
        scene.wait("the first image is purged", || scene.cluster.rbd(&["trash", "ls", "rbd"]).trim().is_empty());
        scene.bare = scene.objects();
        scene
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}\n{}\n{}", self.daemon.log(), self.told());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_ready(&self) {
        self.wait("the driver is ready", || matches!(self.driver.probe(), Ok(true)));
    }

    fn start_again(&mut self) {
        let daemon = &mut self.daemon;
        self.network.enter(move || daemon.start_again()).unwrap();
        self.wait_ready();
    }

    fn objects(&self) -> BTreeSet<String> {
        self.cluster.tool("rados", &["-p", "rbd", "ls"]).lines().map(str::to_owned).collect()
    }

    /// What the pool says of its images, for the words of a failure.
    fn told(&self) -> String {
        let mut text = String::new();
        for (program, arguments) in [
            ("rbd", &["ls", "rbd"][..]),
            ("rbd", &["trash", "ls", "--all", "rbd"]),
            ("rados", &["-p", "rbd", "listomapvals", "rbd_directory"]),
            ("rados", &["-p", "rbd", "listomapvals", "rbd_trash"]),
            ("rados", &["-p", "rbd", "ls"]),
        ] {
            let output = self.cluster.tool_output(program, arguments);
            let said = output.map_or_else(|error| format!("{error:#}"), |output| String::from_utf8_lossy(&output.stdout).into_owned());
            text += &format!("---- {program} {}\n{said}", arguments.join(" "));
        }
        text
    }

    /// A volume of the pool `rbd` by its name: its id is known before it is made, since it differs from another pool's in the pool alone.
    fn volume(&self, name: &str) -> RbdVolume {
        let secrets = secrets("admin", self.cluster.admin_key());
        let twin = self.surely(name, || self.driver.create_volume(request(name, "ids", &secrets))).volume.unwrap();
        let made = v1::Volume { volume_id: twin.volume_id.replace("/ids/", "/rbd/"), ..twin };
        let volume = Volume::at(&self.driver, name, made, mount_as("ext4", Mode::SingleNodeWriter, &[])).unwrap();
        RbdVolume { volume, secrets, publish_context: Default::default() }
    }

    /// What goes on before an ambush. An earlier one may have killed the process a moment after its call was answered.
    fn surely<T>(&self, name: &str, call: impl Fn() -> Result<T, Status>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            match call() {
                Ok(done) => return done,
                Err(status) => assert!(status.code() == Code::Unavailable && Instant::now() < until, "{name}: {status}\n{}", self.daemon.log()),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A volume on which this can be called.
    fn prepared(&self, verb: Verb, name: &str) -> RbdVolume {
        let volume = self.volume(name);
        for verb in verb.before() {
            self.surely(name, || verb.call(&self.driver, &volume, name));
        }
        volume
    }

    /// The process that talks to the cluster.
    fn effects(&self) -> String {
        let status = self.daemon.status();
        let all = status["effects"].as_array().unwrap();
        let of_cluster = |one: &&serde_json::Value| one["back_end"].as_str().is_some_and(|name| name.contains(&self.cluster.monitor_v1()));
        all.iter().find(of_cluster).unwrap_or_else(|| panic!("{status}"))["pid"].to_string()
    }

    /// As a sidecar does: asks again; twice what comes next, and then for the end of the volume. All volumes in turn, so that what waits
    /// for a dead client's watch waits once. Such a volume is said to be in use for as long.
    fn converge(&self, cuts: Vec<Cut>) {
        let begun = Instant::now();
        let mut open: Vec<(Cut, Vec<Verb>)> = cuts
            .into_iter()
            .map(|cut| {
                let todo = vec![Delete, Delete, Unpublish, cut.next, cut.next];
                (cut, todo)
            })
            .collect();
        let mut waited = 0;
        while !open.is_empty() {
            open.retain_mut(|(Cut { what, name, volume, .. }, todo)| {
                while let Some(call) = todo.last() {
                    match call.call(&self.driver, volume, name) {
                        Ok(()) => drop(todo.pop()),
                        Err(status) => {
                            let is_watched = status.code() == Code::FailedPrecondition && status.message().contains("is in use by");
                            let may_pass = is_watched || matches!(status.code(), Code::Unavailable | Code::Aborted);
                            assert!(may_pass && begun.elapsed() < PATIENCE, "{what}, then {call:?}: {status}\n{}\n{}", self.daemon.log(), self.told());
                            waited += 1;
                            return true;
                        }
                    }
                }
                false
            });
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("all converged after {:.1} s and {waited} refusals", begun.elapsed().as_secs_f64());
    }

    fn end(self) {
        assert_eq!(self.cluster.rbd(&["ls", "rbd"]).trim(), "", "{}", self.told());
        self.wait("the trash is emptied", || self.cluster.rbd(&["trash", "ls", "rbd"]).trim().is_empty());
        let left: Vec<String> = self.objects().difference(&self.bare).cloned().collect();
        assert_eq!(left, Vec::<String>::new(), "objects are left in the pool\n{}", self.daemon.log());
    }
}

/// Kills a process at the N-th time that one of its threads sends or writes.
struct Ambush(Child);

impl Ambush {
    fn lay(scene: &Scene, pid: &str, nth: u32) -> Self {
        let mut command = Command::new("strace");
        command.args(["-qq", "-f", "-p", pid, "-o", "/dev/null", "-e", "trace=sendmsg,write"]);
        command.args(["-e", &format!("inject=sendmsg,write:signal=SIGKILL:when={nth}")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace is missing; apt-get install strace");
        let tracer = child.id().to_string();
        let ambush = Self(child);
        scene.wait("strace at every thread", || {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let statuses: Vec<String> = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok()).collect();
            // A thread of it may have fallen into the ambush already: some tick now and then.
            statuses.iter().all(|status| status.contains(&format!("TracerPid:\t{tracer}\n")))
        });
        ambush
    }
}

impl Drop for Ambush {
    fn drop(&mut self) {
        // Asked to end, it waits for threads that died under it. Killed, the kernel lets go for it of those that live.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every `step`-th message is the last that an effects process sends, until the call is through.
pub(super) fn effects_die(verbs: &[Verb], step: u32) {
    let scene = Scene::set();
    let mut cuts = Vec::new();
    for verb in verbs.iter().copied() {
        let mut deaths = 0;
        for nth in (1..400).step_by(step as usize) {
            let name = format!("effects-{verb:?}-{nth}").to_lowercase();
            // This also starts and connects the process after the last death.
            let volume = scene.prepared(verb, &name);
            let ambush = Ambush::lay(&scene, &scene.effects(), nth);
            let answer = verb.call(&scene.driver, &volume, &name);
            drop(ambush);
            let what = format!("{verb:?}, effects killed at message {nth}");
            if let Err(status) = &answer {
                assert_eq!(status.code(), Code::Unavailable, "{what}: {status}\n{}", scene.daemon.log());
                deaths += 1;
            }
            let next = if deaths % 2 == 0 { verb } else { verb.opposite() };
            cuts.push(Cut { what, name, volume, next });
            if answer.is_ok() {
                break;
            }
        }
        println!("{verb:?}: effects killed at {deaths} messages");
        assert!(deaths > 0, "{verb:?}: it never died");
    }
    scene.converge(cuts);
    scene.end();
}

/// The daemon is killed at so many moments, evenly over the time that a call takes.
pub(super) fn daemon_dies(verbs: &[Verb], moments: u32) {
    let mut scene = Scene::set();
    let mut cuts = Vec::new();
    for verb in verbs.iter().copied() {
        let took = {
            let name = format!("timed-{verb:?}").to_lowercase();
            let volume = scene.prepared(verb, &name);
            let begun = Instant::now();
            verb.call(&scene.driver, &volume, &name).unwrap();
            let took = begun.elapsed();
            cuts.push(Cut { what: format!("{verb:?}, timed"), name, volume, next: verb });
            took
        };
        let mut deaths = 0;
        for moment in 0..moments {
            let name = format!("daemon-{verb:?}-{moment}").to_lowercase();
            let volume = scene.prepared(verb, &name);
            let (driver, after) = (scene.driver.clone(), took * moment / moments);
            let answer = std::thread::scope(|scope| {
                let call = scope.spawn(|| verb.call(&driver, &volume, &name));
                // The moment is what is tried: nothing is waited for.
                std::thread::sleep(after);
                scene.daemon.kill();
                call.join().expect("no panic")
            });
            deaths += u32::from(answer.is_err());
            scene.start_again();
            let next = if moment % 2 == 0 { verb } else { verb.opposite() };
            cuts.push(Cut { what: format!("{verb:?}, daemon killed {after:?} after the call"), name, volume, next });
        }
        println!("{verb:?}: the daemon died in {deaths} of {moments} calls, over {took:?}");
    }
    scene.converge(cuts);
    scene.end();
}

#[test]
fn vm_rbd_effects_killed_in_the_middle_of_a_controllers_call_lose_and_leave_nothing() {
    effects_die(&ALL, 5);
}

#[test]
fn vm_rbd_a_daemon_killed_in_the_middle_of_a_controllers_call_loses_and_leaves_nothing() {
    daemon_dies(&ALL, 4);
}
