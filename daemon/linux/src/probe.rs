//! Looks at what is on a device and gives one of three answers: blank and proven so, this is on it, could not tell (law 5).

mod checksum;
mod signatures;
pub(crate) mod superblock;

use crate::device::Held;
use crate::sys;
use crate::words;
use signatures::Regions;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::step::{Backing, Doubt, Probe};

/// How much is read at the beginning: up to the last superblock copy that we know of near there (ZFS's, below 256 KiB).
const HEAD: u64 = 272 << 10;

/// How much is read at the end: md's old superblock lies within the last 128 KiB.
const TAIL: u64 = 128 << 10;

/// What could not be read in one piece is read in these, so that the error can be placed.
const PIECE: u64 = 16 << 10;

/// What direct I/O wants of memory and offsets, at most.
const ALIGNMENT: u64 = 4096;

/// How the range before the middle and the one after it are named.
fn ranges(regions: &Regions) -> String {
    format!("bytes 0..{} and {}..{}", regions.head.len(), regions.tail_at, regions.size)
}

/// A probe that cannot even begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("the volume's file is not open here: attach comes before probe")]
    NotAttached,
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        words::failure(Reason::CannotTell, &error)
    }
}

/// Probes the device. Never writes; what others wrote and the kernel still keeps to itself is asked to go to where it belongs first.
///
/// Of a file the kernel knows whether it holds any data. Of an image it does not: there the controller's proof that it was never
/// written counts, if both ends of the device are empty too.
pub(crate) fn probe(held: &mut Held, is_never_written: bool) -> Result<Probe, ProbeError> {
    held.head = None;
    if !held.is_fresh
        && let Err(error) = held.node.sync_all()
    {
        return Ok(damaged(format!("what was written to {} does not go where it belongs: {error}", held.path())));
    }
    match &held.device.backing {
        Backing::File(_) => probe_file(held),
        Backing::Image(_) => Ok(probe_image(held, is_never_written)),
    }
}

fn probe_image(held: &mut Held, is_never_written: bool) -> Probe {
    let regions = match Direct::open(held).and_then(|node| read_regions(&node, held.device.size)) {
        Ok(regions) => regions,
        Err(unread) => return damaged(unread.to_string()),
    };
    if let Some(found) = signatures::recognise(&regions) {
        held.head = Some(regions.head);
        return found;
    }
    let is_empty = regions.head.iter().chain(&regions.tail).all(|byte| *byte == 0);
    let ranges = ranges(&regions);
    match (is_empty, is_never_written) {
        (true, true) => Probe::Blank { proof: format!("the controller found that no object of the image was ever written, and {ranges} are zero") },
        (true, false) => unexplained(format!("{ranges} are zero, but nothing proves that the image was never written")),
        (false, _) => unexplained(format!("there is data in {ranges}, and it is no format that we know")),
    }
}

fn probe_file(held: &mut Held) -> Result<Probe, ProbeError> {
    let backing = held.file.as_ref().ok_or(ProbeError::NotAttached)?;
    let size = held.device.size;
    let first = match sys::next_data(backing, 0) {
        Ok(None) => return Ok(Probe::Blank { proof: format!("the backing file has no data in bytes 0..{size} (SEEK_DATA)") }),
        Ok(Some(first)) => first,
        Err(error) => return Ok(damaged(format!("the file system below does not say where the file has data: {error}"))),
    };
    Ok(match Direct::open(held).and_then(|node| read_regions(&node, size)) {
        Err(unread) => damaged(unread.to_string()),
        Ok(regions) => {
            let found = signatures::recognise(&regions);
            held.head = Some(regions.head);
            found.unwrap_or_else(|| unexplained(format!("there is data from byte {first} on, and it is no format that we know")))
        }
    })
}

fn unexplained(why: String) -> Probe {
    Probe::Unknown { doubt: Doubt::Unexplained, why }
}

fn damaged(why: String) -> Probe {
    Probe::Unknown { doubt: Doubt::Damaged, why }
}

/// A device that could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error("bytes {from}..{to} cannot be read: {error}")]
    Bytes { from: u64, to: u64, error: io::Error },
    #[error("the device cannot be opened for direct reading: {error}")]
    Open { error: io::Error },
}

/// Reads a device past the page cache: XFS writes past it too, and a page that was read long ago hides what a read would say today.
pub(crate) struct Direct(File);

impl Direct {
    pub(crate) fn open(held: &Held) -> Result<Self, Unread> {
        let path = format!("/proc/self/fd/{}", held.node.as_raw_fd());
        let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
        opened.map(Self).map_err(|error| Unread::Open { error })
    }

    /// Bytes `from..to`, both multiples of the sector size.
    pub(crate) fn read(&self, from: u64, to: u64) -> Result<Vec<u8>, Unread> {
        read(&self.0, from, to)
    }
}

fn read_regions(node: &Direct, size: u64) -> Result<Regions, Unread> {
    let head = node.read(0, size.min(HEAD))?;
    // Aligned as the pieces are; where the two overlap, on small devices, they are read twice.
    let tail_at = size.saturating_sub(TAIL) / ALIGNMENT * ALIGNMENT;
    let tail = node.read(tail_at, size)?;
    Ok(Regions { head, tail, tail_at, size })
}

/// Reads bytes `from..to` into memory as direct I/O wants it: in one piece, since each read of an image is a way to its cluster and back.
pub(crate) fn read(node: &File, from: u64, to: u64) -> Result<Vec<u8>, Unread> {
    let length = (to - from) as usize;
    let mut room = vec![0; length + ALIGNMENT as usize];
    let skip = room.as_ptr().align_offset(ALIGNMENT as usize);
    let Err(whole) = node.read_exact_at(&mut room[skip..skip + length], from) else {
        room.truncate(skip + length);
        room.drain(..skip);
        return Ok(room);
    };
    // A read that failed stays failed, also where its pieces can be read a moment later.
    for at in (from..to).step_by(PIECE as usize) {
        let end = to.min(at + PIECE);
        node.read_exact_at(&mut room[skip..skip + (end - at) as usize], at).map_err(|error| Unread::Bytes { from: at, to: end, error })?;
    }
    Err(Unread::Bytes { from, to, error: whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_error_names_the_place() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PIECE + 100).unwrap();
        assert_eq!(read(&file, 0, PIECE).unwrap().len(), PIECE as usize);
        let unread = read(&file, 0, 2 * PIECE).unwrap_err().to_string();
        assert!(unread.starts_with("bytes 16384..32768 cannot be read"), "{unread}");
    }
}
