//! The superblocks of the file systems that we mount: what they say of themselves, and whether it can be true.

use super::checksum::crc32c;

/// An ext2, ext3 or ext4 superblock: the 1024 bytes at 1024.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ext {
    pub(crate) blocks: u64,
    pub(crate) block_size: u64,
    pub(crate) first_block: u64,
    pub(crate) blocks_per_group: u64,
    /// Blocks that a last group of its own would need at least, by mke2fs's rule.
    pub(crate) least_group: u64,
    /// `ext2`, `ext3`, `ext4` or `jbd`.
    pub(crate) name: &'static str,
    pub(crate) has_journal: bool,
    /// The journal holds what the file system does not yet.
    pub(crate) needs_replay: bool,
    /// Was unmounted, or never mounted.
    pub(crate) is_clean: bool,
    /// The kernel found an error in it.
    pub(crate) has_error: bool,
}

/// An XFS superblock: the first sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Xfs {
    pub(crate) blocks: u64,
    pub(crate) block_size: u64,
    pub(crate) group_blocks: u64,
    pub(crate) group_shift: u32,
    /// Where the journal begins, as a file system block; 0 where it is on another device.
    pub(crate) log_start: u64,
    pub(crate) log_blocks: u64,
    /// xfs_repair was begun and not finished, or is demanded.
    pub(crate) needs_repair: bool,
}

/// A superblock that has the magic number and cannot be true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Implausible {
    #[error("it has an {0} superblock whose checksum is wrong")]
    Checksum(&'static str),
    #[error("it has an {0} superblock that makes no sense")]
    Geometry(&'static str),
    #[error("its {name} file system is {bytes} bytes large, larger than the device with {device}")]
    TooLarge { name: &'static str, bytes: u128, device: u64 },
    #[error("mkfs.xfs did not finish on it")]
    InProgress,
}

fn le16(bytes: &[u8], at: usize) -> u64 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}
fn le32(bytes: &[u8], at: usize) -> u64 {
    le16(bytes, at) | le16(bytes, at + 2) << 16
}
fn be16(bytes: &[u8], at: usize) -> u64 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]]).into()
}
fn be32(bytes: &[u8], at: usize) -> u64 {
    be16(bytes, at) << 16 | be16(bytes, at + 2)
}
fn be64(bytes: &[u8], at: usize) -> u64 {
    be32(bytes, at) << 32 | be32(bytes, at + 4)
}

fn fits(name: &'static str, blocks: u64, block_size: u64, device: u64) -> Result<(), Implausible> {
    let bytes = u128::from(blocks) * u128::from(block_size);
    if bytes > device.into() { Err(Implausible::TooLarge { name, bytes, device }) } else { Ok(()) }
}

impl Ext {
    /// Reads the superblock of a device of `device` bytes that begins with `head`. `None`: there is none.
    pub(crate) fn read(head: &[u8], device: u64) -> Option<Result<Self, Implausible>> {
        let block = head.get(1024..2048)?;
        (le16(block, 0x38) == 0xEF53).then(|| Self::interpret(block, device))
    }

    fn interpret(block: &[u8], device: u64) -> Result<Self, Implausible> {
        let (compatible, incompatible, read_only) = (le32(block, 0x5C), le32(block, 0x60), le32(block, 0x64));
        // What ext3 knows; anything else in these words is ext4's.
        let is_ext4 = incompatible & !(0x2 | 0x4 | 0x8 | 0x10) != 0 || read_only & !(0x1 | 0x2 | 0x4) != 0;
        let has_journal = compatible & 0x4 != 0;
        let name = match (incompatible & 0x8 != 0, is_ext4, has_journal) {
            (true, ..) => "jbd",
            (_, true, _) => "ext4",
            (_, _, true) => "ext3",
            _ => "ext2",
        };
        if read_only & 0x400 != 0 && le32(block, 0x3FC) != u64::from(crc32c(!0, &block[..0x3FC])) {
            return Err(Implausible::Checksum(name));
        }
        let is_64 = incompatible & 0x80 != 0;
        let blocks = le32(block, 0x4) | if is_64 { le32(block, 0x150) << 32 } else { 0 };
        let shift = le32(block, 0x18);
        let (first_block, blocks_per_group, inodes_per_group) = (le32(block, 0x14), le32(block, 0x20), le32(block, 0x28));
        if shift > 6 || blocks == 0 || first_block > 1 || (name != "jbd" && (blocks_per_group == 0 || inodes_per_group == 0)) {
            return Err(Implausible::Geometry(name));
        }
        let block_size = 1024 << shift;
        fits(name, blocks, block_size, device)?;
        let inode_size = if le32(block, 0x4C) == 0 { 128 } else { le16(block, 0x58) };
        let groups = blocks.div_ceil(blocks_per_group.max(1));
        let descriptors = (groups * if is_64 { le16(block, 0xFE).max(32) } else { 32 }).div_ceil(block_size);
        let least_group = 2 + (inodes_per_group * inode_size).div_ceil(block_size) + 1 + descriptors + le16(block, 0xCE) + 50;
        let state = le16(block, 0x3A);
        Ok(Self {
            blocks,
            block_size,
            first_block,
            blocks_per_group,
            least_group,
            name,
            has_journal,
            needs_replay: incompatible & 0x4 != 0,
            is_clean: state & 0x1 != 0,
            has_error: state & 0x2 != 0,
        })
    }

    /// How many blocks it would have on a device of `device` bytes; `None` where that is nothing to speak of. mke2fs leaves out a last
    /// group that is too small to be worth it, and what does not fill a page of memory (64 KiB on some processors): a file system as it
    /// made it must not look as if it had to be grown.
    pub(crate) fn can_grow_to(&self, device: u64) -> Option<u64> {
        const LARGEST_PAGE: u64 = 64 << 10;
        let target = device / self.block_size;
        let gap = target.saturating_sub(self.blocks);
        let is_whole = self.blocks.saturating_sub(self.first_block).is_multiple_of(self.blocks_per_group.max(1));
        let is_enough = gap * self.block_size >= LARGEST_PAGE && (!is_whole || gap >= self.least_group);
        is_enough.then_some(target)
    }
}

impl Xfs {
    /// Reads the superblock of a device of `device` bytes that begins with `head`. `None`: there is none.
    pub(crate) fn read(head: &[u8], device: u64) -> Option<Result<Self, Implausible>> {
        let block = head.get(..512)?;
        block.starts_with(b"XFSB").then(|| Self::interpret(head, device))
    }

    fn interpret(head: &[u8], device: u64) -> Result<Self, Implausible> {
        let (blocks, block_size, sector) = (be64(head, 8), be32(head, 4), be16(head, 102));
        let (group_blocks, groups) = (be32(head, 84), be32(head, 88));
        let is_power = |value: u64, least: u64, most: u64| value.is_power_of_two() && (least..=most).contains(&value);
        if !is_power(block_size, 512, 65536) || !is_power(sector, 512, 32768) || group_blocks == 0 || groups == 0 || blocks == 0 {
            return Err(Implausible::Geometry("xfs"));
        }
        let is_v5 = be16(head, 100) & 0xF == 5;
        if is_v5 {
            let Some(block) = head.get(..sector as usize) else { return Err(Implausible::Geometry("xfs")) };
            let mut blanked = block.to_vec();
            blanked[224..228].fill(0);
            if u64::from(!crc32c(!0, &blanked)) != le32(head, 224) {
                return Err(Implausible::Checksum("xfs"));
            }
        }
        if head[126] != 0 {
            return Err(Implausible::InProgress);
        }
        fits("xfs", blocks, block_size, device)?;
        Ok(Self {
            blocks,
            block_size,
            group_blocks,
            group_shift: head[124].into(),
            log_start: be64(head, 48),
            log_blocks: be32(head, 96),
            needs_repair: is_v5 && be32(head, 216) & 0x10 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ext(blocks: u32, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut head = vec![0; 4096];
        let block = &mut head[1024..2048];
        block[0x38..0x3A].copy_from_slice(&0xEF53u16.to_le_bytes());
        block[0x4..0x8].copy_from_slice(&blocks.to_le_bytes());
        block[0x18] = 2;
        block[0x20..0x24].copy_from_slice(&32768u32.to_le_bytes());
        block[0x28..0x2C].copy_from_slice(&8192u32.to_le_bytes());
        block[0x3A] = 1;
        change(block);
        head
    }

    #[test]
    fn the_three_generations_and_what_cannot_be() {
        let read = |head: &[u8]| Ext::read(head, 1000 * 4096).unwrap().map(|ext| ext.name);
        assert_eq!(read(&ext(1000, |_| ())), Ok("ext2"));
        assert_eq!(read(&ext(1000, |b| b[0x5C] = 4)), Ok("ext3"));
        assert_eq!(read(&ext(1000, |b| b[0x60] = 0x40)), Ok("ext4"));
        assert_eq!(read(&ext(1000, |b| b[0x60] = 0x8)), Ok("jbd"));
        assert_eq!(read(&ext(1001, |_| ())), Err(Implausible::TooLarge { name: "ext2", bytes: 1001 * 4096, device: 1000 * 4096 }));
        assert_eq!(read(&ext(1000, |b| b[0x18] = 7)), Err(Implausible::Geometry("ext2")));
        assert_eq!(read(&ext(0, |_| ())), Err(Implausible::Geometry("ext2")));
        assert_eq!(read(&ext(1000, |b| b[0x65] = 0x4)), Err(Implausible::Checksum("ext4")));
        assert_eq!(Ext::read(&vec![0; 4096], 4096), None);
        assert_eq!(Ext::read(&[0; 100], 100), None);
    }

    #[test]
    fn a_file_system_as_mkfs_left_it_does_not_look_too_small() {
        let of = |blocks: u32| Ext::read(&ext(blocks, |_| ()), 1 << 40).unwrap().unwrap();
        let whole = of(2 * 32768);
        assert_eq!(whole.can_grow_to(2 * 32768 * 4096), None);
        assert_eq!(whole.can_grow_to(2 * 32768 * 4096 + 100 * 4096), None);
        assert_eq!(whole.can_grow_to(3 * 32768 * 4096), Some(3 * 32768));
        assert_eq!(of(1000).can_grow_to(1000 * 4096 + 4095), None);
        assert_eq!(of(1000).can_grow_to(1015 * 4096), None);
        assert_eq!(of(1000).can_grow_to(1016 * 4096), Some(1016));
        assert_eq!(of(1000).can_grow_to(10), None);
    }
}
