//! A plugin that misbehaves in every way that was thought of: its call fails with its own code within its deadline, the next call
//! works, and nobody else notices.

use harness::{AtEnd, Daemon, Endpoint, Setup, Volume, block, eventually, mount_as};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

const GOOD: &str = "good.windlass.io";
const CALL_MS: u64 = 1000;

/// The call's own limit, and the way there and back on a loaded machine.
const AT_MOST: Duration = Duration::from_millis(CALL_MS + 1500);

struct Scene {
    good: Endpoint,
    daemon: Daemon,
}

impl Scene {
    /// A hostile driver, which does what volumes' names ask for or what `misbehave` says, beside a good one.
    fn set(misbehave: &str) -> Self {
        let config = if misbehave.is_empty() { String::new() } else { format!("[config]\nmisbehave = {misbehave:?}\n") };
        let driver = format!("[limits]\ncall_ms = {CALL_MS}\nmemory_mib = 16\n{config}");
        let daemon = Daemon::with(Setup { component: "hostile", driver, ..Setup::default() });
        let good = daemon.add_driver(GOOD, "local", "");
        Self { good, daemon }
    }

    /// Does something that must fail in time; the good driver's calls go on all the while, and the hostile one's next call works.
    fn fails<T>(&self, what: &str, call: impl FnOnce() -> Result<T, Status>) -> Status {
        let (is_over, calls) = (AtomicBool::new(false), AtomicU32::new(0));
        let status = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) || calls.load(Ordering::Relaxed) == 0 {
                    let name = format!("good-{}", calls.fetch_add(1, Ordering::Relaxed));
                    let began = Instant::now();
                    lives(&self.good, &name).unwrap_or_else(|status| panic!("{what}: the good driver's call failed: {status:?}"));
                    assert!(began.elapsed() < Duration::from_secs(5), "{what}: the good driver was held up for {:?}", began.elapsed());
                }
            });
            let end = AtEnd(&is_over);
            let began = Instant::now();
            let answer = call();
            drop(end);
            assert!(began.elapsed() < AT_MOST, "{what}: answered after {:?}", began.elapsed());
            answer.err().unwrap_or_else(|| panic!("{what}: it succeeded"))
        });
        assert!(!status.message().is_empty() && status.message().len() < 8 << 10, "{what}: {} bytes of message", status.message().len());
        assert!(!status.message().chars().any(char::is_control), "{what}: {:?}", status.message());
        assert!(self.daemon.probe().unwrap(), "{what}: Probe");
        status
    }
}

fn lives(driver: &Endpoint, name: &str) -> Result<(), Status> {
    Volume::create(driver, name, block(Mode::SingleNodeWriter), 1)?.delete(driver)
}

fn check_all(scene: &Scene, place: &str, cases: &[(&str, Code)], call: impl Fn(&str) -> Result<(), Status>) {
    let mut wrong = Vec::new();
    for (deed, code) in cases {
        let what = format!("{place}: {deed}");
        let status = scene.fails(&what, || call(deed));
        if status.code() != *code {
            wrong.push(format!("{what}: {status:?}, wanted {code:?}"));
        }
        eventually("the next call", || lives(&scene.daemon, "next").ok());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What can be done wrong anywhere.
const ANYWHERE: [(&str, Code); 12] = [
    ("loop", Code::DeadlineExceeded),
    ("memory", Code::Unavailable),
    ("tables-trap", Code::Unavailable),
    ("trap", Code::Unavailable),
    ("long-panic", Code::Unavailable),
    ("recurse", Code::Unavailable),
    ("exit", Code::Unavailable),
    ("host-calls", Code::Unavailable),
    ("long-key", Code::Unavailable),
    ("long-text", Code::Unavailable),
    ("escape-text", Code::InvalidArgument),
    ("refuse", Code::FailedPrecondition),
];

#[test]
fn plugin_a_create_that_misbehaves_fails_alone() {
    let scene = Scene::set("");
    let create = |deed: &str| Volume::create(&scene.daemon, &format!("misbehave.create.{deed}"), block(Mode::SingleNodeWriter), 1).map(drop);
    check_all(&scene, "create", &ANYWHERE, create);
    let own = [
        ("long-id", Code::Unavailable),
        ("empty-id", Code::Unavailable),
        ("control-id", Code::Unavailable),
        ("big-context", Code::Unavailable),
        ("own-key", Code::Unavailable),
        ("huge", Code::Unavailable),
        ("trap-after", Code::Unavailable),
        ("other-folder-file", Code::PermissionDenied),
        ("climb-file", Code::InvalidArgument),
        ("huge-properties", Code::InvalidArgument),
    ];
    check_all(&scene, "create", &own, create);
    let outside: Vec<_> = std::fs::read_dir(scene.daemon.folder()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!outside.contains(&"made-by-hostile".into()), "{outside:?}");
}

#[test]
fn loop_an_attach_that_misbehaves_fails_alone() {
    let scene = Scene::set("");
    let stage = |deed: &str| {
        let capability = mount_as("ext4", Mode::SingleNodeWriter, &[]);
        let volume = Volume::create(&scene.daemon, &format!("misbehave.attach.{deed}"), capability, 16).unwrap();
        let answer = volume.stage(&scene.daemon);
        volume.unstage(&scene.daemon).unwrap();
        volume.delete(&scene.daemon).unwrap();
        answer
    };
    check_all(&scene, "attach", &ANYWHERE, stage);
    // Effects are not for the node's functions.
    let own = [
        ("climb", Code::FailedPrecondition),
        ("absolute", Code::FailedPrecondition),
        // No such file: the test below has one.
        ("other-file", Code::NotFound),
        ("other-folder", Code::FailedPrecondition),
        ("long-folder", Code::Unavailable),
        ("other-filesystem", Code::AlreadyExists),
        ("bad-label", Code::FailedPrecondition),
        ("long-label", Code::Unavailable),
        ("files", Code::PermissionDenied),
        ("files-create", Code::PermissionDenied),
    ];
    check_all(&scene, "attach", &own, stage);
    scene.daemon.assert_nothing_left();
}

#[test]
fn loop_another_volumes_file_is_never_attached() {
    let scene = Scene::set("");
    let capability = mount_as("ext4", Mode::SingleNodeWriter, &[]);
    // The file that the hostile plugin names is there, and is another volume's.
    let victim = scene.daemon.path("volumes/vol-00000000000000000000000000000000");
    std::fs::write(&victim, vec![7; 1 << 20]).unwrap();
    let volume = Volume::create(&scene.daemon, "misbehave.attach.other-file", capability, 16).unwrap();
    let status = scene.fails("another volume's file", || volume.stage(&scene.daemon));
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert_eq!(std::fs::read(&victim).unwrap(), vec![7; 1 << 20]);
    scene.daemon.assert_nothing_left();
}

#[test]
fn plugin_a_list_that_misbehaves_fails_alone() {
    for (deed, code) in [("loop", Code::DeadlineExceeded), ("too-many", Code::Unavailable), ("flood", Code::Unavailable), ("long-token", Code::Unavailable)] {
        let scene = Scene::set(&format!("list:{deed}"));
        let list = || scene.daemon.list_volumes(v1::ListVolumesRequest { max_entries: 10, ..Default::default() });
        let status = scene.fails(deed, list);
        assert_eq!(status.code(), code, "{deed}: {status:?}");
        lives(&scene.daemon, "next").unwrap();
    }
}

#[test]
fn plugin_a_node_info_that_misbehaves_fails_alone() {
    for (deed, code) in [("loop", Code::DeadlineExceeded), ("trap", Code::Unavailable), ("long-id", Code::Unavailable), ("empty-id", Code::Unavailable)] {
        let scene = Scene::set(&format!("node-info:{deed}"));
        let status = scene.fails(deed, || scene.daemon.node_get_info(v1::NodeGetInfoRequest {}));
        assert_eq!(status.code(), code, "{deed}: {status:?}");
        lives(&scene.daemon, "next").unwrap();
    }
}

#[test]
fn plugin_what_floods_the_log_does_no_harm() {
    for deed in ["log-flood", "log-long", "stdout", "stderr"] {
        let scene = Scene::set(&format!("create:{deed}"));
        // It may succeed, be cut off by its limits, or run out of time: never more than that.
        match lives(&scene.daemon, "flood") {
            Ok(()) => {}
            Err(status) => assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{deed}: {status:?}"),
        }
        lives(&scene.good, "good").unwrap();
        let log = scene.daemon.log();
        assert!(log.len() < 4 << 20, "{deed}: {} bytes of log", log.len());
        assert!(!log.contains('\u{1b}') && !log.contains('\u{7}'), "{deed}: control characters in the log");
        assert!(!log.lines().any(|line| line.starts_with("level=ERROR")), "{deed}: a forged line in the log");
    }
}
