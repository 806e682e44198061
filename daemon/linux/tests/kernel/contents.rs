//! What the probe says of real images, and what the check does about damage.

use crate::bench::{Bench, MIB, Volume, mount, probed, reason, run};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use windlass_plan::attach::Filesystem;
use windlass_plan::capability::FilesystemKind;
use windlass_plan::failure::Reason;
use windlass_plan::step::{Outcome, Probe, Step, Writable};

fn probe_of(volume: &Volume<'_>) -> Probe {
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    let probe = probed(&mut lease);
    volume.gone(lease, &[]);
    probe
}

fn write(volume: &Volume<'_>, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(volume.file()).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn loop_images_of_real_tools_are_recognised() {
    let bench = Bench::new();
    for (index, (program, arguments, what, kind)) in [
        ("mkfs.ext4", &["-Fq"][..], "ext4", Some(FilesystemKind::Ext4)),
        ("mkfs.ext4", &["-Fq", "-O", "^metadata_csum,^64bit"], "ext4", Some(FilesystemKind::Ext4)),
        ("mkfs.ext4", &["-Fq", "-b", "1024"], "ext4", Some(FilesystemKind::Ext4)),
        ("mkfs.ext3", &["-Fq"], "ext3", None),
        ("mkfs.ext2", &["-Fq"], "ext2", None),
        ("mke2fs", &["-Fq", "-O", "journal_dev"], "jbd", None),
        ("mkfs.xfs", &["-qf"], "xfs", Some(FilesystemKind::Xfs)),
        ("mkfs.xfs", &["-qf", "-m", "crc=0"], "xfs", Some(FilesystemKind::Xfs)),
        ("mkfs.xfs", &["-qf", "-s", "size=4096"], "xfs", Some(FilesystemKind::Xfs)),
        ("mkswap", &["-q"], "swap", None),
    ]
    .into_iter()
    .enumerate()
    {
        let volume = bench.volume(&format!("image-{index}"), 320 * MIB);
        run(program, &[arguments, &[volume.file().to_str().unwrap()]].concat());
        assert_eq!(probe_of(&volume), Probe::Holds { what: what.into(), kind }, "{program} {arguments:?}");
        fs::OpenOptions::new().write(true).open(volume.file()).unwrap().set_len(0).unwrap();
    }
}

#[test]
fn loop_magic_bytes_are_recognised_through_the_device() {
    let bench = Bench::new();
    for (index, (at, magic, what)) in [
        (0, &b"LUKS\xba\xbe\x00\x02"[..], "crypto_LUKS"),
        (0x10040, b"_BHRfS_M", "btrfs"),
        (512, b"EFI PART", "gpt"),
        (16 * MIB - 512, b"EFI PART", "gpt"),
        (24, b"LVM2 001", "LVM2_member"),
        (0, b"bluestore block device\n", "ceph_bluestore"),
    ]
    .into_iter()
    .enumerate()
    {
        let volume = bench.volume(&format!("magic-{index}"), 16 * MIB);
        write(&volume, at, magic);
        assert_eq!(probe_of(&volume), Probe::Holds { what: what.into(), kind: None }, "{what}");
    }
}

#[test]
fn loop_data_that_nothing_explains_is_neither_blank_nor_known() {
    let bench = Bench::new();
    for (name, at, bytes) in [("text", 5 * MIB, &b"somebody's data"[..]), ("zeros", 0, &[0; 4096])] {
        let volume = bench.volume(name, 16 * MIB);
        write(&volume, at, bytes);
        let Probe::Unknown { why, .. } = probe_of(&volume) else { panic!("{name}") };
        assert_eq!(why, format!("there is data from byte {at} on, and it is no format that we know"));
    }
    // An ext4 cut short, and one with a byte turned round.
    let short = bench.volume("short", 64 * MIB);
    run("mkfs.ext4", &["-Fq", short.file().to_str().unwrap()]);
    OpenOptions::new().write(true).open(short.file()).unwrap().set_len(32 * MIB).unwrap();
    assert!(matches!(probe_of(&short), Probe::Unknown { why, .. } if why.contains("larger than the device")));
    let turned = bench.volume("turned", 64 * MIB);
    run("mkfs.ext4", &["-Fq", turned.file().to_str().unwrap()]);
    write(&turned, 1024 + 0x78, b"X");
    assert!(matches!(probe_of(&turned), Probe::Unknown { why, .. } if why.contains("checksum")));
    let turned = bench.volume("turned-xfs", 320 * MIB);
    run("mkfs.xfs", &["-qf", turned.file().to_str().unwrap()]);
    write(&turned, 108, b"X");
    assert!(matches!(probe_of(&turned), Probe::Unknown { why, .. } if why.contains("checksum")));
}

#[test]
fn loop_what_was_written_a_moment_ago_is_not_blank() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 16 * MIB);
    let mut lease = volume.lease();
    let name = volume.attached(&mut lease, Writable::ReadWrite).name;
    assert!(matches!(probed(&mut lease), Probe::Blank { .. }));
    drop(lease);
    let node = OpenOptions::new().write(true).open(format!("/dev/{name}")).unwrap();
    // Not synced: the kernel keeps it in the device's page cache, and the file below has still no data.
    node.write_all_at(b"secret", 8 * MIB).unwrap();
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    assert!(matches!(probed(&mut lease), Probe::Unknown { .. }));
    drop(node);
    volume.gone(lease, &[]);
}

#[test]
fn loop_a_file_without_holes_but_never_written_is_blank() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 16 * MIB);
    run("fallocate", &["-l", "16M", volume.file().to_str().unwrap()]);
    assert!(matches!(probe_of(&volume), Probe::Blank { .. }));
}

#[test]
fn loop_damage_is_preened_or_refused() {
    let bench = Bench::new();
    let staging = bench.folder("staging");
    let check = |writable| Step::Check { kind: FilesystemKind::Ext4, writable };
    let marked = |volume: &Volume<'_>, commands: &[&str]| {
        run("mkfs.ext4", &["-Fq", volume.file().to_str().unwrap()]);
        for command in commands {
            run("debugfs", &["-w", "-R", command, volume.file().to_str().unwrap()]);
        }
    };
    let flagged = bench.volume("flagged", 64 * MIB);
    marked(&flagged, &["set_super_value state 3"]);
    let mut lease = flagged.lease();
    flagged.attached(&mut lease, Writable::ReadWrite);
    assert_eq!(reason(lease.apply(&check(Writable::ReadOnly))), Reason::NeedsRepair);
    assert_eq!(lease.apply(&check(Writable::ReadWrite)), Ok(Outcome::NeedsPreen));
    assert_eq!(lease.apply(&Step::Preen), Ok(Outcome::Done));
    assert_eq!(lease.apply(&check(Writable::ReadWrite)), Ok(Outcome::Already));
    assert_eq!(lease.apply(&mount(&staging, FilesystemKind::Ext4, Writable::ReadWrite)), Ok(Outcome::Done));
    flagged.gone(lease, &[(&staging, None)]);

    // The root folder's inode is gone: nothing to be mended without asking.
    let broken = bench.volume("broken", 64 * MIB);
    marked(&broken, &["set_super_value state 3", "set_inode_field <2> mode 0"]);
    let mut lease = broken.lease();
    broken.attached(&mut lease, Writable::ReadWrite);
    let refused = lease.apply(&Step::Preen).unwrap_err();
    assert!(refused.reason == Reason::NeedsRepair && refused.text.contains("e2fsck -p /dev/loop") && refused.text.contains("exit status: 4"), "{refused}");
    broken.gone(lease, &[]);

    let other = bench.volume("other", 320 * MIB);
    run("mkfs.xfs", &["-qf", other.file().to_str().unwrap()]);
    let mut lease = other.lease();
    other.attached(&mut lease, Writable::ReadWrite);
    assert_eq!(reason(lease.apply(&check(Writable::ReadWrite))), Reason::HoldsOtherContent);
    other.gone(lease, &[]);
}

#[test]
fn loop_xfs_that_demands_repair_is_refused() {
    let bench = Bench::new();
    let volume = bench.volume("volume", 320 * MIB);
    let file = volume.file();
    let file = file.to_str().unwrap();
    run("mkfs.xfs", &["-qf", file]);
    let shown = run("xfs_db", &["-r", "-c", "sb 0", "-c", "print features_incompat", file]);
    let bits = u32::from_str_radix(shown.trim().rsplit("0x").next().unwrap(), 16).unwrap_or_else(|_| panic!("{shown}"));
    run("xfs_db", &["-x", "-c", "sb 0", "-c", &format!("write features_incompat {:#x}", bits | 0x10), file]);
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    for writable in [Writable::ReadWrite, Writable::ReadOnly] {
        assert_eq!(reason(lease.apply(&Step::Check { kind: FilesystemKind::Xfs, writable })), Reason::NeedsRepair);
    }
    volume.gone(lease, &[]);
}

#[test]
fn loop_what_cannot_be_formatted_is_left_as_it_is() {
    let bench = Bench::new();
    let format = |kind| Step::Format(Filesystem { kind, label: None });
    let small = bench.volume("small", 100 * MIB);
    let mut lease = small.lease();
    small.attached(&mut lease, Writable::ReadWrite);
    assert_eq!(reason(lease.apply(&format(FilesystemKind::Xfs))), Reason::OutOfRange);
    small.gone(lease, &[]);
    let mut lease = small.lease();
    small.attached(&mut lease, Writable::ReadOnly);
    assert_eq!(reason(lease.apply(&format(FilesystemKind::Ext4))), Reason::Incompatible);
    assert!(matches!(probed(&mut lease), Probe::Blank { .. }));
    small.gone(lease, &[]);
}

#[test]
fn loop_an_ext4_that_finds_an_error_stops_writing_whatever_its_superblock_says() {
    let bench = Bench::new();
    let staging = bench.folder("staging");
    let volume = bench.volume("volume", 64 * MIB);
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    lease.apply(&Step::Format(Filesystem { kind: FilesystemKind::Ext4, label: None })).unwrap();
    let file = volume.file();
    let file = file.to_str().unwrap();
    assert!(run("dumpe2fs", &["-h", file]).lines().any(|line| line.starts_with("Errors behavior:") && line.ends_with("Remount read-only")));
    volume.gone(lease, &[]);
    run("tune2fs", &["-e", "panic", file]);
    let mut lease = volume.lease();
    volume.attached(&mut lease, Writable::ReadWrite);
    assert_eq!(lease.apply(&mount(&staging, FilesystemKind::Ext4, Writable::ReadWrite)), Ok(Outcome::Done));
    let at = bench.at(&staging);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(at.to_str().unwrap())).unwrap();
    assert!(line.split([' ', ',']).any(|option| option == "errors=remount-ro"), "{line}");
    volume.gone(lease, &[(&staging, None)]);
}
