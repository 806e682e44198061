//! One file, one loop device: whoever asks, by whichever way, and however many at once.

use crate::bench::{Bench, MIB, Volume, loops, reason, run};
use std::fs;
use std::path::Path;
use std::sync::Barrier;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::step::{Outcome, Step, Writable};

const ROUNDS: usize = 25;

/// Attaches in every round from all sides at once, each a worker's thread with a descriptor and a lock of its own.
fn at_once<const N: usize>(sides: &[(&Volume<'_>, &str, Step); N], check: impl Fn(&[Result<Outcome, Failure>], usize)) {
    let bench = sides[0].0.bench;
    let is_ours = |backing: &String| Path::new(backing).starts_with(bench.path(""));
    let (start, end) = (Barrier::new(N), Barrier::new(N));
    for _ in 0..ROUNDS {
        let attach = |(volume, locks, step): &(&Volume<'_>, &str, Step)| {
            let mut lease = volume.lease_in(locks);
            start.wait();
            let outcome = lease.apply(step);
            end.wait();
            outcome
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = sides.iter().map(|side| scope.spawn(move || attach(side))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let bound = loops().iter().filter(|(_, backing)| is_ours(backing)).count();
        check(&outcomes, bound);
        for (volume, locks, _) in sides {
            volume.lease_in(locks).undo(&volume.detach()).unwrap();
        }
    }
}

fn only_one_attached(outcomes: &[Result<Outcome, Failure>], bound: usize) {
    let refused: Vec<&Failure> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(refused.len() == outcomes.len() - 1 && refused.iter().all(|failure| failure.reason == Reason::InUse), "{outcomes:?}");
    assert_eq!(bound, 1, "{outcomes:?}");
}

fn same_file<'a>(volume: &Volume<'a>, other: &str) -> Volume<'a> {
    Volume { name: volume.name.clone(), ..volume.bench.existing(other) }
}

#[test]
fn loop_of_volumes_of_one_file_that_are_attached_at_once_one_gets_a_device() {
    let bench = Bench::new();
    let one = bench.volume("file", 16 * MIB);
    let (two, three) = (same_file(&one, "two"), same_file(&one, "three"));
    let step = |volume: &Volume<'_>| volume.attach(Writable::ReadWrite);
    at_once(&[(&one, "locks", step(&one)), (&two, "locks", step(&two)), (&three, "locks", step(&three))], only_one_attached);
}

#[test]
fn loop_two_ways_to_one_folder_do_not_give_two_devices_at_once() {
    let bench = Bench::new();
    let one = bench.volume("file", 16 * MIB);
    let two = same_file(&one, "two");
    alias(&bench, "files", "alias");
    at_once(&[(&one, "locks", one.attach(Writable::ReadWrite)), (&two, "locks", two.attach_from("alias", Writable::ReadWrite))], only_one_attached);
    at_once(&[(&one, "locks", one.attach(Writable::ReadOnly)), (&two, "locks", two.attach_from("alias", Writable::ReadWrite))], only_one_attached);
}

/// Two daemons of one instance: neither sees the other's lock of the volume, and the second finds the first one's device.
#[test]
fn loop_one_volume_that_two_daemons_attach_at_once_gets_one_device() {
    let bench = Bench::new();
    fs::create_dir(bench.path("elsewhere")).unwrap();
    let volume = bench.volume("file", 16 * MIB);
    let step = || volume.attach(Writable::ReadWrite);
    at_once(&[(&volume, "locks", step()), (&volume, "elsewhere", step())], |outcomes, bound| {
        let names: Vec<_> =
            outcomes.iter().map(|outcome| if let Ok(Outcome::Attached(device)) = outcome { device.name.as_str() } else { panic!("{outcomes:?}") }).collect();
        assert!(bound == 1 && names[0] == names[1], "{outcomes:?}");
    });
}

/// A second way to a folder or file.
fn alias(bench: &Bench, of: &str, at: &str) {
    if bench.path(of).is_dir() { fs::create_dir(bench.path(at)) } else { fs::write(bench.path(at), "") }.unwrap();
    run("mount", &["--bind", bench.path(of).to_str().unwrap(), bench.path(at).to_str().unwrap()]);
}

#[test]
fn loop_a_file_that_is_attached_by_another_way_is_in_use() {
    let bench = Bench::new();
    let one = bench.volume("file", 16 * MIB);
    let two = same_file(&one, "two");
    alias(&bench, "files", "alias");
    let mut lease = one.lease();
    let device = one.attached(&mut lease, Writable::ReadWrite);
    for writable in [Writable::ReadWrite, Writable::ReadOnly] {
        let refused = two.lease().apply(&two.attach_from("alias", writable)).unwrap_err();
        assert!(refused.reason == Reason::InUse && refused.text.contains(&device.name), "{refused}");
    }
    // The same volume by the other way is the same volume.
    assert_eq!(lease.apply(&one.attach_from("alias", Writable::ReadWrite)), Ok(Outcome::Attached(device)));
    one.gone(lease, &[]);
    // Somebody else's device, by the folder's second way and by one of the file's own, under another name.
    alias(&bench, "files/file", "single");
    for way in ["alias/file", "single"] {
        let theirs = run("losetup", &["-f", "--show", bench.path(way).to_str().unwrap()]);
        assert_eq!(reason(two.lease().apply(&two.attach(Writable::ReadWrite))), Reason::InUse, "{way}");
        run("losetup", &["-d", theirs.trim()]);
    }
    let mut lease = two.lease();
    two.attached(&mut lease, Writable::ReadWrite);
    two.gone(lease, &[]);
}

#[test]
fn loop_files_of_one_name_in_two_folders_are_two_files() {
    let bench = Bench::new();
    let one = bench.volume("file", 16 * MIB);
    let two = same_file(&one, "two");
    fs::create_dir(bench.path("other")).unwrap();
    fs::File::create_new(bench.path("other/file")).unwrap().set_len(16 * MIB).unwrap();
    let (mut first, mut second) = (one.lease(), two.lease());
    one.attached(&mut first, Writable::ReadWrite);
    assert!(matches!(second.apply(&two.attach_from("other", Writable::ReadWrite)), Ok(Outcome::Attached(_))));
    two.gone(second, &[]);
    one.gone(first, &[]);
}

#[test]
fn loop_a_file_that_somebody_locked_is_in_use_and_a_bound_one_is_not_locked() {
    let bench = Bench::new();
    let volume = bench.volume("file", 16 * MIB);
    let file = fs::File::open(volume.file()).unwrap();
    file.lock().unwrap();
    let mut lease = volume.lease();
    let refused = lease.apply(&volume.attach(Writable::ReadWrite)).unwrap_err();
    assert!(refused.reason == Reason::InUse && refused.text.contains("locked"), "{refused}");
    file.unlock().unwrap();
    volume.attached(&mut lease, Writable::ReadWrite);
    file.try_lock().unwrap();
    file.unlock().unwrap();
    volume.gone(lease, &[]);
}
