//! A disk that does not answer: its volume waits, all others go on, the daemon can be killed, and its successor serves beside it.

mod disk;
mod state;

use disk::{Disk, Hang};
use harness::{AtEnd, Daemon, Endpoint, Volume, block, eventually, mount_as};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// The driver whose one volume hangs.
const HUNG: &str = "hung.windlass.io";

/// The deadline of calls that are known to hang, and how much later than it they may end on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_millis(700);

/// A daemon with a driver whose volume's file can be made to hang, and one whose volumes cannot.
struct Scene {
    // The disk first: it must be healed when the daemon is cleaned up after.
    disk: Disk,
    volume: Volume,
    hung: Endpoint,
    daemon: Daemon,
}

impl Scene {
    fn set() -> Self {
        let daemon = Daemon::start();
        let hung = daemon.add_driver(HUNG, "local", "");
        let volume = Volume::create(&hung, "hung", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
        let disk = Disk::over(&daemon.path(&format!("volumes-{HUNG}")), &volume.id());
        let scene = Self { disk, volume, hung, daemon };
        // As long as it answers it is a disk like any other.
        scene.volume.stage(&scene.hung).unwrap();
        scene.volume.publish(&scene.hung, 0).unwrap();
        std::fs::write(scene.file(), b"before").unwrap();
        scene.volume.unpublish(&scene.hung, 0).unwrap();
        scene.volume.unstage(&scene.hung).unwrap();
        scene
    }

    fn file(&self) -> std::path::PathBuf {
        Path::new(&self.volume.target(0)).join("file")
    }

    /// The process that holds the volume's lock.
    fn worker(&self) -> String {
        let locks = std::fs::read_dir(self.daemon.path("run/locks")).unwrap().flatten();
        let held: Vec<String> = locks.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).filter(|pid| !pid.is_empty()).collect();
        assert_eq!(held.len(), 1, "one volume is worked on: {held:?}");
        held[0].clone()
    }

    /// Does `call` with a deadline while other volumes live and Probe is asked; it must end at its deadline, and nothing else may notice.
    fn waits(&self, what: &str, call: impl FnOnce() -> Result<(), Status> + Send) -> Status {
        let (is_over, lives) = (AtomicBool::new(false), AtomicU32::new(0));
        let status = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    live(&self.daemon, lives.fetch_add(1, Ordering::Relaxed));
                }
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for driver in [&self.hung, &*self.daemon] {
                        let asked = Instant::now();
                        let answer = driver.probe();
                        assert!(matches!(answer, Ok(true)), "Probe: {answer:?}, {:?} after it was asked", asked.elapsed());
                    }
                }
            });
            let end = AtEnd(&is_over);
            let began = Instant::now();
            let status = call().expect_err(what);
            drop(end);
            assert!(began.elapsed() < DEADLINE + LATER, "{what}: answered after {:?}", began.elapsed());
            status
        });
        assert!(lives.load(Ordering::Relaxed) > 1, "{what}: no other volume lived meanwhile");
        status
    }

    fn stage_waits(&self) -> Status {
        self.waits("a stage that hangs", || self.hung.stage_within(self.volume.stage_request(), DEADLINE))
    }

    fn unstage_waits(&self) -> Status {
        self.waits("an unstage that hangs", || self.hung.unstage_within(self.volume.unstage_request(), DEADLINE))
    }

    /// kill -9, a successor, and the calls of all others: beside a worker that is stuck where no signal reaches it.
    fn succeed(&mut self) {
        let worker = self.worker();
        assert!(self.disk.held() > 0, "nothing hangs");
        let began = Instant::now();
        self.daemon.kill();
        assert!(began.elapsed() < Duration::from_secs(1), "the daemon took {:?} to die", began.elapsed());
        assert!(Path::new("/proc").join(&worker).exists(), "the worker that hangs is gone");
        let began = Instant::now();
        self.daemon.start_again();
        self.daemon.wait_ready();
        let took = began.elapsed();
        println!("ready {took:?} after the start, beside a worker in state {}", state(&worker));
        assert!(took < Duration::from_secs(5), "the successor took {took:?}");
        live(&self.daemon, 1000);
        assert!(Path::new("/proc").join(&worker).exists() && self.disk.held() > 0, "the worker that hangs is gone");
        eventually("the hung driver's plugin", || matches!(self.hung.probe(), Ok(true)).then_some(()));
    }

    fn heal(&self) {
        let worker = self.worker();
        self.disk.heal();
        eventually("the end of the worker that hung", || (state(&worker) != 'D').then_some(()));
    }

    /// Everything is as if nothing had happened, and nothing is left.
    fn end(self) {
        let Self { disk, volume, hung, mut daemon } = self;
        let converge = |what: &str, call: &dyn Fn() -> Result<(), Status>| {
            eventually(what, || match call() {
                Ok(()) => Some(()),
                Err(status) if matches!(status.code(), Code::Unavailable | Code::Aborted | Code::DeadlineExceeded) => None,
                Err(status) => panic!("{what}: {status:?}"),
            });
        };
        converge("unstage", &|| volume.unstage(&hung));
        converge("stage", &|| volume.stage(&hung));
        converge("publish", &|| volume.publish(&hung, 0));
        assert_eq!(std::fs::read(Path::new(&volume.target(0)).join("file")).unwrap(), b"before");
        converge("unpublish", &|| volume.unpublish(&hung, 0));
        converge("unstage", &|| volume.unstage(&hung));
        // The effects process has the granted folder open for as long as it lives.
        daemon.stop();
        disk.close();
        daemon.start_again();
        eventually("the driver's plugin", || matches!(hung.probe(), Ok(true)).then_some(()));
        volume.delete(&hung).unwrap();
        daemon.assert_nothing_left();
    }
}

/// The kernel's letter for what a process does; `X` for one that is gone.
fn state(pid: &str) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('X')
}

/// Another volume lives its life.
fn live(daemon: &Daemon, n: u32) {
    let capability = if n.is_multiple_of(2) { block(Mode::SingleNodeWriter) } else { mount_as("ext4", Mode::SingleNodeWriter, &[]) };
    let volume = Volume::create(daemon, &format!("other-{n}"), capability, 16).unwrap();
    volume.stage(daemon).unwrap();
    volume.publish(daemon, 0).unwrap();
    volume.unpublish(daemon, 0).unwrap();
    volume.unstage(daemon).unwrap();
    volume.delete(daemon).unwrap();
}

const PASSING: [Code; 3] = [Code::Unavailable, Code::Aborted, Code::DeadlineExceeded];

fn a_stage_that_hangs(hang: Hang) {
    let mut scene = Scene::set();
    scene.disk.hang(hang);
    let status = scene.stage_waits();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    // The same call joins the one that waits; another one waits for its turn.
    assert_eq!(scene.stage_waits().code(), Code::DeadlineExceeded);
    let going = scene.daemon.status()["going"].clone();
    assert_eq!(going.as_array().map(Vec::len), Some(1), "{going}");
    assert_eq!((&going[0]["on"], &going[0]["verb"]), (&scene.volume.id().into(), &"NodeStageVolume".into()));
    // The devices of the node are shown all the same: they are not asked.
    let began = Instant::now();
    let shown = scene.daemon.windlass(&["devices", "-o", "json"]);
    assert!(shown.status.success() && began.elapsed() < Duration::from_secs(5), "{:?}: {shown:?}", began.elapsed());
    scene.succeed();
    for status in [scene.stage_waits(), scene.unstage_waits()] {
        assert!(PASSING.contains(&status.code()), "{status:?}");
    }
    scene.heal();
    scene.end();
}

fn an_unstage_that_hangs(hang: Hang) {
    let mut scene = Scene::set();
    scene.volume.stage(&scene.hung).unwrap();
    scene.volume.publish(&scene.hung, 0).unwrap();
    // Not flushed: it is the kernel's to write when the volume is unmounted.
    std::fs::write(Path::new(&scene.volume.target(0)).join("late"), vec![1; 1 << 20]).unwrap();
    scene.disk.hang(hang);
    // Unpublish takes a mount away and may or may not ask the device; it is asked for with a deadline like everything else.
    let unpublished = scene.volume.unpublish(&scene.hung, 0);
    unpublished.unwrap_or_else(|status| assert!(PASSING.contains(&status.code()), "{status:?}"));
    let status = scene.unstage_waits();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    scene.succeed();
    for status in [scene.unstage_waits(), scene.stage_waits()] {
        assert!(PASSING.contains(&status.code()), "{status:?}");
    }
    scene.heal();
    scene.end();
}

#[test]
fn loop_a_stage_whose_disk_stops_reading_and_writing_holds_up_itself_alone() {
    a_stage_that_hangs(Hang::Data);
}

#[test]
fn loop_a_stage_whose_disk_answers_nothing_holds_up_itself_alone() {
    a_stage_that_hangs(Hang::Everything);
}

/// The kernel flushes the file while it binds the device, under the device's own lock, and still calls the device free.
#[test]
fn loop_a_stage_whose_disk_hangs_while_the_device_is_bound_holds_up_itself_alone() {
    a_stage_that_hangs(Hang::AtFlush(2));
}

#[test]
fn loop_an_unstage_that_cannot_write_its_last_data_holds_up_itself_alone() {
    an_unstage_that_hangs(Hang::Data);
}

#[test]
fn loop_a_granted_folder_that_hangs_holds_up_no_other_drivers_controller() {
    let mut scene = Scene::set();
    // The effects process enters the folder anew, so that it finds the disk in its place.
    scene.daemon.stop();
    scene.daemon.start_again();
    scene.daemon.wait_ready();
    eventually("the hung driver's plugin", || matches!(scene.hung.probe(), Ok(true)).then_some(()));
    scene.disk.hang(Hang::Everything);
    std::thread::scope(|scope| {
        let hung = &scene.hung;
        let create = |n| move || Volume::create(hung, &format!("hung-{n}"), block(Mode::SingleNodeWriter), 1).map(drop);
        let calls: Vec<_> = (0..8).map(|n| scope.spawn(create(n))).collect();
        let going = || scene.daemon.status()["going"].as_array().map_or(0, Vec::len);
        eventually("eight calls that wait for the folder", || (going() == 8 && scene.disk.held() > 0).then_some(()));
        for n in 0..4 {
            let began = Instant::now();
            live(&scene.daemon, n);
            assert!(began.elapsed() < Duration::from_secs(5), "another driver's volume took {:?}", began.elapsed());
        }
        assert_eq!(going(), 8, "the calls did not wait");
        scene.disk.heal();
        for call in calls {
            // This folder can hold no second file; what counts is that the call ends.
            call.join().unwrap().unwrap_err();
        }
    });
    scene.end();
}

/// Two volumes whose mkfs hangs have every place for a program. What needs none goes on.
#[test]
fn loop_two_programs_that_hang_hold_up_no_volume_that_needs_none() {
    let mut daemon = Daemon::start();
    let clean = Volume::create(&daemon, "clean", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
    clean.stage(&daemon).unwrap();
    clean.unstage(&daemon).unwrap();
    let hung = ["one.windlass.io", "other.windlass.io"].map(|name| {
        let driver = daemon.add_driver(name, "local", "");
        let volume = Volume::create(&driver, name, mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
        let disk = Disk::over(&daemon.path(&format!("volumes-{name}")), &volume.id());
        disk.hang(Hang::Writes);
        (disk, driver, volume)
    });
    std::thread::scope(|scope| {
        for (_, driver, volume) in &hung {
            scope.spawn(|| volume.stage(driver).unwrap());
        }
        eventually("two formats that hang", || hung.iter().all(|(disk, ..)| disk.held() > 0).then_some(()));
        let began = Instant::now();
        clean.stage(&daemon).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "a clean volume took {:?}", began.elapsed());
        // One that needs a program is told so in the end, and no format of it is noted: none was begun.
        let new = Volume::create(&daemon, "new", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
        let refused = new.stage(&daemon).unwrap_err();
        assert!(refused.code() == Code::Unavailable && refused.message().contains("every place"), "{refused}");
        let notes = std::fs::read_dir(daemon.path("state/formats")).unwrap().flatten();
        let begun = notes.filter(|note| std::fs::read_to_string(note.path()).unwrap().contains("begun")).count();
        assert_eq!(begun, hung.len());
        for (disk, ..) in &hung {
            disk.heal();
        }
    });
    clean.unstage(&daemon).unwrap();
    for (_, driver, volume) in &hung {
        volume.unstage(driver).unwrap();
    }
    // The effects processes have the granted folders open for as long as they live.
    daemon.stop();
    hung.into_iter().for_each(|(disk, ..)| disk.close());
    daemon.assert_nothing_left();
}
