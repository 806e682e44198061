//! Recognises formats by their magic bytes: a pure function of what was read.
//!
//! To know a format's name is a help for people. Data that nothing here explains is `Unknown`, which is never formatted, so a format
//! that is missing from the list costs a word and no data.

use super::superblock::{Ext, Implausible, Xfs};
use windlass_plan::capability::FilesystemKind;
use windlass_plan::step::{Doubt, Probe};

/// What was read of a device.
pub(crate) struct Regions {
    /// Its first bytes.
    pub(crate) head: Vec<u8>,
    /// Its last bytes.
    pub(crate) tail: Vec<u8>,
    /// Where `tail` begins.
    pub(crate) tail_at: u64,
    /// How large the device is.
    pub(crate) size: u64,
}

/// Fixed bytes at a fixed offset. `what` is blkid's name.
const MAGICS: &[(&str, usize, &[u8])] = &[
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("crypto_LUKS", 0, b"LUKS\xba\xbe"),
    ("crypto_LUKS", 0x4000, b"SKUL\xba\xbe"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("swap", 4086, b"SWAP-SPACE"),
    ("swap", 8182, b"SWAPSPACE2"),
    ("swap", 16374, b"SWAPSPACE2"),
    ("swap", 65526, b"SWAPSPACE2"),
    ("swsuspend", 4086, b"S1SUSPEND"),
    ("swsuspend", 4086, b"S2SUSPEND"),
    ("LVM2_member", 24, b"LVM2 001"),
    ("LVM2_member", 512 + 24, b"LVM2 001"),
    ("LVM2_member", 1024 + 24, b"LVM2 001"),
    ("LVM2_member", 1536 + 24, b"LVM2 001"),
    ("gpt", 512, b"EFI PART"),
    ("gpt", 4096, b"EFI PART"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("vfat", 54, b"FAT12   "),
    ("vfat", 54, b"FAT16   "),
    ("vfat", 82, b"FAT32   "),
    ("iso9660", 0x8001, b"CD001"),
    ("udf", 0x8001, b"BEA01"),
    ("squashfs", 0, b"hsqs"),
    ("squashfs", 0, b"sqsh"),
    ("cramfs", 0, &[0x45, 0x3D, 0xCD, 0x28]),
    ("erofs", 1024, &[0xE2, 0xE1, 0xF5, 0xE0]),
    ("f2fs", 1024, &[0x10, 0x20, 0xF5, 0xF2]),
    ("hfsplus", 1024, b"H+\0\x04"),
    ("hfsplus", 1024, b"HX\0\x05"),
    ("apfs", 32, b"NXSB"),
    ("jfs", 0x8000, b"JFS1"),
    ("reiserfs", 0x10034, b"ReIsErFs"),
    ("reiserfs", 0x10034, b"ReIsEr2Fs"),
    ("reiserfs", 0x10034, b"ReIsEr3Fs"),
    ("reiser4", 0x10000, b"ReIsEr4"),
    ("gfs2", 0x10000, &[0x01, 0x16, 0x19, 0x70, 0, 0, 0, 1]),
    ("ocfs2", 0x400, b"OCFSV2"),
    ("ocfs2", 0x800, b"OCFSV2"),
    ("ocfs2", 0x1000, b"OCFSV2"),
    ("ocfs2", 0x2000, b"OCFSV2"),
    ("bcache", 4096 + 24, &[0xC6, 0x85, 0x73, 0xF6, 0x4E, 0x1A, 0x45, 0xCA, 0x82, 0x65, 0xF5, 0x7F, 0x48, 0xBA, 0x6D, 0x81]),
    ("bcachefs", 4096 + 24, &[0xC6, 0x85, 0x73, 0xF6, 0x66, 0xCE, 0x90, 0xA9, 0xD9, 0x6A, 0x60, 0xCF, 0x80, 0x3D, 0xF7, 0xEF]),
    ("ceph_bluestore", 0, b"bluestore block device"),
    ("linux_raid_member", 0, &[0xFC, 0x4E, 0x2B, 0xA9, 1, 0, 0, 0]),
    ("linux_raid_member", 4096, &[0xFC, 0x4E, 0x2B, 0xA9, 1, 0, 0, 0]),
    ("DM_verity_hash", 0, b"verity\0\0"),
    ("DM_integrity", 0, b"integrt\0"),
    ("vdo", 0, b"dmvdo001"),
    ("stratis", 512 + 4, b"!Stra0tis\x86\xff\x02^\x41rh"),
    ("oracleasm", 32, b"ORCLDISK"),
    ("vmfs", 0x20_000, b"\x0d\xd0\x01\xc0"),
    ("ubifs", 0, &[0x31, 0x18, 0x10, 0x06]),
    ("zonefs", 0, b"SFOZ"),
];

/// What is on it, or why that cannot be told; `None` where nothing known is.
pub(crate) fn recognise(regions: &Regions) -> Option<Probe> {
    let mut found: Vec<&'static str> = Vec::new();
    let mut kind = None;
    for superblock in [ext(regions), xfs(regions)].into_iter().flatten() {
        match superblock {
            Ok((name, its_kind)) => {
                found.push(name);
                kind = its_kind;
            }
            Err(implausible) => {
                // A superblock that says so itself, with a checksum that is right, is the beginning of a format and no damage.
                let doubt = if implausible == Implausible::InProgress { Doubt::Unexplained } else { Doubt::Damaged };
                return Some(Probe::Unknown { doubt, why: implausible.to_string() });
            }
        }
    }
    let head = regions.head.as_slice();
    let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    found.extend(MAGICS.iter().filter(|(_, at, magic)| has(*at, magic)).map(|(what, ..)| *what));
    found.extend(zfs(head));
    found.extend(raid(regions));
    if found.is_empty() {
        // Signs too weak to say anything beside a real one: a boot sector, two bytes, a backup that a new file system did not reach.
        found.extend(backup_gpt(regions).or_else(|| has(1024 + 6, &[0x34, 0x34]).then_some("nilfs2")).or_else(|| partition_table(head)));
    }
    found.dedup();
    match found.as_slice() {
        [] => None,
        [what] => Some(Probe::Holds { what: (*what).to_owned(), kind }),
        // Two at once, a file system inside a RAID member for one: it is not for us to choose.
        several => Some(Probe::Holds { what: several.join(" and "), kind: None }),
    }
}

type Recognised = Result<(&'static str, Option<FilesystemKind>), Implausible>;

fn ext(regions: &Regions) -> Option<Recognised> {
    let read = Ext::read(&regions.head, regions.size)?;
    Some(read.map(|ext| (ext.name, (ext.name == "ext4").then_some(FilesystemKind::Ext4))))
}

fn xfs(regions: &Regions) -> Option<Recognised> {
    Some(Xfs::read(&regions.head, regions.size)?.map(|_| ("xfs", Some(FilesystemKind::Xfs))))
}

/// An uberblock in the first label: 128 of them from 128 KiB on, in either byte order.
fn zfs(head: &[u8]) -> Option<&'static str> {
    let uberblocks = (128 << 10..256 << 10).step_by(1024).filter_map(|at| head.get(at..at + 8));
    let magics = [0x00BA_B10Cu64.to_le_bytes(), 0x00BA_B10Cu64.to_be_bytes()];
    uberblocks.into_iter().any(|bytes| magics.iter().any(|magic| bytes == magic)).then_some("zfs_member")
}

/// Superblocks of md at the end, which must also name their own place or version: the data of a file may look like anything.
fn raid(regions: &Regions) -> Option<&'static str> {
    const MAGIC: [u8; 4] = 0xA92B_4EFCu32.to_le_bytes();
    let at = |offset: u64, length: usize| {
        let start = usize::try_from(offset.checked_sub(regions.tail_at)?).ok()?;
        regions.tail.get(start..start + length)
    };
    let sectors = regions.size / 512;
    // 1.0: at least 8 KiB before the end, on a 4 KiB boundary; its own sector is noted at 144.
    let newer = sectors.checked_sub(16).map(|sector| sector & !7).is_some_and(|sector| {
        at(sector * 512, 152).is_some_and(|block| block.starts_with(&MAGIC) && block[4..8] == [1, 0, 0, 0] && block[144..152] == sector.to_le_bytes())
    });
    // 0.90: in the last whole 64 KiB but one; its version is 0.90, in the byte order of the machine that made it.
    let older = (regions.size & !0xFFFF).checked_sub(0x1_0000).and_then(|offset| at(offset, 12)).is_some_and(|block| {
        let big: Vec<u8> = MAGIC.iter().rev().copied().collect();
        (block.starts_with(&MAGIC) && block[4..12] == [0, 0, 0, 0, 90, 0, 0, 0]) || (block.starts_with(&big) && block[4..12] == [0, 0, 0, 0, 0, 0, 0, 90])
    });
    (newer || older).then_some("linux_raid_member")
}

fn backup_gpt(regions: &Regions) -> Option<&'static str> {
    let last = regions.tail.len().checked_sub(512)?;
    regions.tail[last..].starts_with(b"EFI PART").then_some("gpt")
}

/// A boot sector ends in 55 AA, with a partition table before it or without: FAT's have none, and a BIOS parameter block in its place.
fn partition_table(head: &[u8]) -> Option<&'static str> {
    let sector = head.get(..512)?;
    if sector[510..] != [0x55, 0xAA] {
        return None;
    }
    let bytes_per_sector = u16::from_le_bytes([sector[11], sector[12]]);
    let has_parameters = matches!(sector[0], 0xE9 | 0xEB) && matches!(bytes_per_sector, 512 | 1024 | 2048 | 4096) && sector[13].is_power_of_two();
    if has_parameters && (1..=2).contains(&sector[16]) {
        return Some("vfat");
    }
    let entries = sector[446..510].chunks_exact(16);
    let is_table = entries.clone().all(|entry| matches!(entry[0], 0 | 0x80)) && entries.into_iter().any(|entry| entry[4] != 0);
    Some(if is_table { "dos" } else { "boot sector" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 8 << 20;

    fn regions(pieces: &[(usize, &[u8])]) -> Regions {
        let mut device = vec![0; SIZE];
        for (at, bytes) in pieces {
            device[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        let tail_at = SIZE - (128 << 10);
        Regions { head: device[..272 << 10].to_vec(), tail: device[tail_at..].to_vec(), tail_at: tail_at as u64, size: SIZE as u64 }
    }

    fn what(pieces: &[(usize, &[u8])]) -> Option<String> {
        match recognise(&regions(pieces))? {
            Probe::Holds { what, kind } => {
                assert_eq!(kind, None);
                Some(what)
            }
            Probe::Unknown { why, .. } => Some(format!("unknown: {why}")),
            Probe::Blank { .. } => panic!("a signature is no proof of blankness"),
        }
    }

    #[test]
    fn every_magic_of_the_table_lies_in_what_is_read_and_is_recognised() {
        for (name, at, magic) in MAGICS {
            assert_eq!(what(&[(*at, magic)]).as_deref(), Some(*name), "{name} at {at}");
        }
    }

    #[test]
    fn formats_that_are_more_than_a_magic() {
        let sector = (SIZE / 512 - 16) as u64;
        let mut md = [0u8; 152];
        md[..8].copy_from_slice(&[0xFC, 0x4E, 0x2B, 0xA9, 1, 0, 0, 0]);
        assert_eq!(what(&[(sector as usize * 512, &md)]), None, "the data of a file");
        md[144..].copy_from_slice(&sector.to_le_bytes());
        assert_eq!(what(&[(sector as usize * 512, &md)]).as_deref(), Some("linux_raid_member"));
        let old = [0xFC, 0x4E, 0x2B, 0xA9, 0, 0, 0, 0, 90, 0, 0, 0];
        assert_eq!(what(&[(SIZE - 0x10000, &old)]).as_deref(), Some("linux_raid_member"));
        assert_eq!(what(&[((128 << 10) + 5 * 1024, &0x00BA_B10Cu64.to_be_bytes())]).as_deref(), Some("zfs_member"));
        assert_eq!(what(&[(SIZE - 512, b"EFI PART")]).as_deref(), Some("gpt"));
        assert_eq!(what(&[(0, b"LUKS\xba\xbe"), (0x4000, b"SKUL\xba\xbe")]).as_deref(), Some("crypto_LUKS"));
    }

    #[test]
    fn a_boot_sector_is_a_partition_table_or_a_fat_or_neither() {
        let table = [0x80, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(what(&[(446, &table), (510, &[0x55, 0xAA])]).as_deref(), Some("dos"));
        let parameters = [0xEB, 0x3C, 0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4, 1, 0, 2];
        assert_eq!(what(&[(0, &parameters), (510, &[0x55, 0xAA])]).as_deref(), Some("vfat"));
        assert_eq!(what(&[(0, b"text"), (510, &[0x55, 0xAA])]).as_deref(), Some("boot sector"));
        assert_eq!(what(&[(512, b"EFI PART"), (446, &table), (510, &[0x55, 0xAA])]).as_deref(), Some("gpt"));
    }

    #[test]
    fn two_at_once_are_none_that_we_mount() {
        assert_eq!(what(&[(0, b"hsqs"), (4086, b"SWAPSPACE2")]).as_deref(), Some("swap and squashfs"));
    }

    #[test]
    fn what_nothing_explains_is_not_recognised() {
        assert_eq!(what(&[(5000, b"hello")]), None);
        assert_eq!(what(&[]), None);
    }
}
