//! Fills a file with what another holds: by sharing its blocks, where the file system can, or byte by byte where there is data.

use crate::sys;
use std::fs::File;
use std::io;

/// Bytes that are copied before it is asked whether to go on: whoever waits for the file waits for so many.
const STRETCH: u64 = 8 << 20;

/// Why a file was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Whoever watches said so.
    #[error("it was not to go on")]
    Stopped,
    /// The file ended before its data did.
    #[error("the file became shorter while it was copied")]
    Shrunk,
    /// The kernel's word.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// Has the empty file `to` share what `from` holds, as it is at one moment, also while it is written. `false`: the file system cannot, or not for this
/// file (one that is in use as swap, for one).
///
/// What is shared stops somewhere when xfs has no room any more, and kernels before 6.13 may answer as if it were whole ("xfs: don't drop errno values
/// when we fail to ficlone the entire range"): a file that is shorter than its source is an error. So is one whose source grew meanwhile.
pub fn share_content(from: &File, to: &File) -> io::Result<bool> {
    match sys::share_blocks(from, to) {
        Ok(()) if to.metadata()?.len() < from.metadata()?.len() => Err(io::Error::other("the file system stopped before the end; it may be full")),
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOSYS | libc::EINVAL | libc::EXDEV)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copies the data of `from` to the same places of the empty file `to`; holes stay holes. After each stretch, and at the end, it is asked
/// whether to go on: what is copied while somebody else writes is nothing that ever was.
pub fn copy_data(from: &File, to: &File, mut goes_on: impl FnMut() -> io::Result<bool>) -> Result<(), CopyError> {
    let mut at = 0;
    while let Some(start) = sys::next_data(from, at)? {
        let end = sys::next_hole(from, start)?;
        at = start;
        while at < end {
            match sys::copy_range(from, to, at, (end - at).min(STRETCH) as usize)? {
                0 => return Err(CopyError::Shrunk),
                copied => at += copied,
            }
            if !goes_on()? {
                return Err(CopyError::Stopped);
            }
        }
    }
    if goes_on()? { Ok(()) } else { Err(CopyError::Stopped) }
}
