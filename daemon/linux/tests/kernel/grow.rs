//! Volumes that became larger: the device takes up its file's size, and the file system the device's.

use crate::bench::{Bench, MIB, mount, place_node, reason};
use std::fs::OpenOptions;
use windlass_linux::privileges;
use windlass_plan::attach::Filesystem;
use windlass_plan::capability::FilesystemKind::{self, Ext4, Xfs};
use windlass_plan::failure::Reason;
use windlass_plan::step::{Outcome, Step, Writable};

fn resize(path: &std::path::Path, size: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(size).unwrap();
}

#[test]
fn loop_xfs_grows_while_it_is_mounted() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 320 * MIB);
    let staging = bench.folder("staging");
    let grow = Step::Grow { place: staging.clone(), kind: Xfs };
    let mut lease = volume.lease();
    volume.staged(&mut lease, Xfs, &staging);
    let before = lease.usage(&staging).unwrap().total;
    resize(&volume.file(), 640 * MIB);
    assert_eq!(lease.apply(&grow), Ok(Outcome::Size(320 * MIB)));
    assert_eq!(lease.apply(&Step::Refresh), Ok(Outcome::Size(640 * MIB)));
    for _ in 0..2 {
        assert_eq!(lease.apply(&grow), Ok(Outcome::Size(640 * MIB)));
    }
    assert!(lease.usage(&staging).unwrap().total > before + 300 * MIB);
    assert_eq!(reason(lease.apply(&Step::Grow { place: staging.clone(), kind: Ext4 })), Reason::HoldsOtherContent);
    volume.gone(lease, &[(&staging, None)]);
}

#[test]
fn loop_ext4_grows_where_the_capability_is_there_and_names_it_where_it_is_not() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 64 * MIB);
    let staging = bench.folder("staging");
    let grow = Step::Grow { place: staging.clone(), kind: Ext4 };
    let mut lease = volume.lease();
    volume.staged(&mut lease, Ext4, &staging);
    resize(&volume.file(), 512 * MIB);
    assert_eq!(lease.apply(&Step::Refresh), Ok(Outcome::Size(512 * MIB)));
    if privileges().sys_resource {
        for _ in 0..2 {
            assert_eq!(lease.apply(&grow), Ok(Outcome::Size(512 * MIB)));
        }
    } else {
        let refused = lease.apply(&grow).unwrap_err();
        assert!(refused.reason == Reason::MissingPrivilege && refused.text.contains("CAP_SYS_RESOURCE"), "{refused}");
    }
    volume.gone(lease, &[(&staging, None)]);
}

#[test]
fn loop_a_fresh_file_system_never_looks_too_small_for_its_device() {
    let bench = Bench::new();
    let staging = bench.folder("staging");
    // Sizes about which mkfs has opinions: last groups that are too small, odd numbers of sectors.
    for (index, (kind, size)) in [
        (Ext4, 2 * MIB),
        (Ext4, 16 * MIB + 512),
        (Ext4, 128 * MIB + 4096),
        (Ext4, 129 * MIB),
        (Ext4, 131 * MIB + 1536),
        (Ext4, 300 * MIB),
        (Ext4, 512 * MIB + 100 * 1024),
        (Ext4, 1025 * MIB),
        (Ext4, 10_000_000_000 / 512 * 512),
        (Xfs, 300 * MIB),
        (Xfs, 301 * MIB + 512),
        (Xfs, 4096 * MIB + 65536),
    ]
    .into_iter()
    .enumerate()
    {
        let volume = bench.volume(&format!("volume-{index}"), size);
        let mut lease = volume.lease();
        volume.staged(&mut lease, kind, &staging);
        let Ok(Outcome::Size(grown)) = lease.apply(&Step::Grow { place: staging.clone(), kind }) else { panic!("{kind} {size}") };
        assert!(grown <= size && grown > size - size / 8, "{kind} {size} {grown}");
        volume.gone(lease, &[(&staging, None)]);
        std::fs::remove_file(volume.file()).unwrap();
    }
}

#[test]
fn loop_only_a_mounted_file_system_of_the_volume_is_grown() {
    let bench = Bench::new();
    let (volume, other) = (bench.volume("volume", 64 * MIB), bench.volume("other", 64 * MIB));
    let (staging, raw) = (bench.folder("staging"), bench.folder("raw").join("device"));
    let grow = |place: &windlass_plan::paths::Place, kind: FilesystemKind| Step::Grow { place: place.clone(), kind };
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    lease.apply(&Step::Format(Filesystem { kind: Ext4, label: None })).unwrap();
    assert_eq!(reason(lease.apply(&grow(&staging, Ext4))), Reason::NotThere);
    lease.apply(&mount(&staging, Ext4, Writable::ReadWrite)).unwrap();
    let mut second = other.lease();
    other.attached(&mut second, Writable::ReadWrite);
    assert_eq!(reason(second.apply(&grow(&staging, Ext4))), Reason::NotThere);
    second.apply(&place_node(&raw)).unwrap();
    assert_eq!(reason(second.apply(&grow(&raw, Ext4))), Reason::NotThere);
    other.gone(second, &[(&raw, Some(windlass_plan::step::TargetKind::File))]);
    volume.gone(lease, &[(&staging, None)]);
}
