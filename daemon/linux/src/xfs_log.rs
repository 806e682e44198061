//! Is there anything in an XFS journal to replay? Answered as the kernel does it, by its head; whatever is doubtful counts as dirty.
//!
//! The journal is a ring of 512-byte blocks. The first word of each is the number of the round in which it was written, but for a
//! block that begins a record, which has a magic number there and the round behind it. The head is where the newer round ends. A
//! clean journal's last record, right before its head, is the one that an unmount writes.

use crate::probe::superblock::Xfs;

const BLOCK: u64 = 512;
const MAGIC: u32 = 0xFEED_BABE;
const UNMOUNTED: u8 = 0x20;

/// The longest way back from the head to the record before it: 256 KiB of data, its headers, and as much padding.
const FARTHEST: u64 = 1100;

/// What is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogState {
    /// Nothing to replay.
    Clean,
    /// Something to replay.
    Dirty,
    /// Not as we know journals to be.
    Unclear(&'static str),
}

/// Looks at the journal through `read`, which gives bytes `from..to` of the device.
pub(crate) fn state<E>(xfs: &Xfs, mut read: impl FnMut(u64, u64) -> Result<Vec<u8>, E>) -> Result<LogState, E> {
    if xfs.log_start == 0 {
        return Ok(LogState::Unclear("it is on another device"));
    }
    let group = xfs.log_start >> xfs.group_shift.min(63);
    let within = xfs.log_start & ((1u64 << xfs.group_shift.min(63)) - 1);
    let Some(start) = group.checked_mul(xfs.group_blocks).and_then(|block| block.checked_add(within)?.checked_mul(xfs.block_size)) else {
        return Ok(LogState::Unclear("it begins nowhere"));
    };
    let Some(length) = xfs.log_blocks.checked_mul(xfs.block_size).filter(|length| xfs.blocks * xfs.block_size >= start.saturating_add(*length)) else {
        return Ok(LogState::Unclear("it ends nowhere"));
    };
    let blocks = length / BLOCK;
    if blocks < 2 {
        return Ok(LogState::Unclear("it is too short"));
    }
    let mut block = |number: u64| read(start + number * BLOCK, start + (number + 1) * BLOCK);
    let head = match find_head(blocks, &mut block)? {
        Some(head) => head,
        None => return Ok(LogState::Unclear("it has no head")),
    };
    judge(head, blocks, &mut block)
}

fn word(block: &[u8], at: usize) -> u32 {
    block.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn round(block: &[u8]) -> u32 {
    if word(block, 0) == MAGIC { word(block, 4) } else { word(block, 0) }
}

/// The block after the last one of the newest round. `None`: never written.
fn find_head<E>(blocks: u64, block: &mut impl FnMut(u64) -> Result<Vec<u8>, E>) -> Result<Option<u64>, E> {
    let first = round(&block(0)?);
    if first == 0 {
        return Ok(None);
    }
    if round(&block(blocks - 1)?) == first {
        return Ok(Some(0));
    }
    // Blocks of the newest round come first; behind them are those of the round before, or blocks that were never written.
    let (mut newest, mut older) = (0, blocks - 1);
    while older - newest > 1 {
        let middle = newest + (older - newest) / 2;
        if round(&block(middle)?) == first {
            newest = middle;
        } else {
            older = middle;
        }
    }
    Ok(Some(older))
}

fn judge<E>(head: u64, blocks: u64, block: &mut impl FnMut(u64) -> Result<Vec<u8>, E>) -> Result<LogState, E> {
    for back in 1..=FARTHEST.min(blocks) {
        let at = (head + blocks - back) % blocks;
        let record = block(at)?;
        if word(&record, 0) != MAGIC {
            continue;
        }
        let (length, operations, size) = (u64::from(word(&record, 12)), word(&record, 40), u64::from(word(&record, 320)));
        // From version 2 on, a record of more than 32 KiB has a further header for each further 32 KiB.
        let headers = if word(&record, 8) & 2 != 0 { size.div_ceil(32 << 10).max(1) } else { 1 };
        let is_last = (at + headers + length.div_ceil(BLOCK)) % blocks == head;
        if operations != 1 || !is_last {
            return Ok(LogState::Dirty);
        }
        let operation = block((at + headers) % blocks)?;
        return Ok(if operation[9] & UNMOUNTED != 0 { LogState::Clean } else { LogState::Dirty });
    }
    Ok(LogState::Unclear("there is no record before its head"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: u64 = 64;

    fn xfs() -> Xfs {
        Xfs { blocks: 1024, block_size: 512, group_blocks: 512, group_shift: 9, log_start: 512 + 8, log_blocks: BLOCKS, needs_repair: false }
    }

    /// A ring whose newest round goes up to `head`, the block before last of which begins a record.
    fn ring(head: usize, older: u32, operations: u32, flags: u8) -> Vec<u8> {
        let mut ring = vec![0; (BLOCKS * BLOCK) as usize];
        for (number, block) in ring.chunks_exact_mut(512).enumerate() {
            block[..4].copy_from_slice(&if number < head { older + 1 } else { older }.to_be_bytes());
        }
        let record = &mut ring[(head - 2) * 512..head * 512];
        record[..4].copy_from_slice(&MAGIC.to_be_bytes());
        record[4..8].copy_from_slice(&(older + 1).to_be_bytes());
        record[8..12].copy_from_slice(&2u32.to_be_bytes());
        record[12..16].copy_from_slice(&512u32.to_be_bytes());
        record[40..44].copy_from_slice(&operations.to_be_bytes());
        record[320..324].copy_from_slice(&32768u32.to_be_bytes());
        record[512 + 9] = flags;
        ring
    }

    fn state_of(ring: &[u8]) -> LogState {
        let base = (512 + 8) * 512;
        state(&xfs(), |from, to| Ok::<_, ()>(ring[from as usize - base..to as usize - base].to_vec())).unwrap()
    }

    #[test]
    fn an_unmount_right_before_the_head_is_clean() {
        for head in [2, 3, 31, 62, 63, 64] {
            for older in [0, 1, 7] {
                assert_eq!(state_of(&ring(head, older, 1, UNMOUNTED)), LogState::Clean, "{head} {older}");
            }
        }
    }

    #[test]
    fn anything_else_is_not() {
        assert_eq!(state_of(&ring(20, 3, 1, 0)), LogState::Dirty);
        assert_eq!(state_of(&ring(20, 3, 4, UNMOUNTED)), LogState::Dirty);
        let mut moved = ring(20, 3, 1, UNMOUNTED);
        moved.copy_within(18 * 512..20 * 512, 10 * 512);
        moved[18 * 512..18 * 512 + 4].copy_from_slice(&4u32.to_be_bytes());
        assert_eq!(state_of(&moved), LogState::Dirty);
        assert_eq!(state_of(&vec![0; (BLOCKS * BLOCK) as usize]), LogState::Unclear("it has no head"));
        let mut external = xfs();
        external.log_start = 0;
        assert_eq!(state(&external, |_, _| Err(())), Ok(LogState::Unclear("it is on another device")));
        external.log_start = 1 << 40;
        assert_eq!(state(&external, |_, _| Err(())), Ok(LogState::Unclear("it ends nowhere")));
    }

    #[test]
    fn a_read_error_is_passed_on() {
        assert_eq!(state(&xfs(), |_, _| Err("EIO")), Err("EIO"));
    }
}
