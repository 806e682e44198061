//! One message on a stream socket: its length as four bytes, little-endian, then its bytes in postcard.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// The largest frame between the daemon and its own roles. A component's compiled code never travels in a frame.
pub const LIMIT: usize = 4 << 20;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side has gone.
    #[error("the other side closed the connection")]
    Closed,
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// Larger than allowed.
    #[error("a message of {length} bytes; {limit} are allowed")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are no such message.
    #[error("the bytes received are not a message of the expected kind")]
    Malformed(#[source] postcard::Error),
}

/// Writes one message, in one `write` where the socket takes it.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    let mut bytes = postcard::to_extend(message, vec![0; 4]).map_err(FrameError::Malformed)?;
    let length = bytes.len() - 4;
    if length > LIMIT {
        return Err(FrameError::TooLarge { length, limit: LIMIT });
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    to.write_all(&bytes).map_err(|error| if error.kind() == io::ErrorKind::BrokenPipe { FrameError::Closed } else { FrameError::Io(error) })
}

/// Reads one message of at most `limit` bytes; a longer one is refused before any of it is read.
pub fn read<T: DeserializeOwned>(from: &mut impl Read, limit: usize) -> Result<T, FrameError> {
    read_counted(from, limit).map(|(message, _)| message)
}

/// The same, with the message's length on the wire.
pub fn read_counted<T: DeserializeOwned>(from: &mut impl Read, limit: usize) -> Result<(T, usize), FrameError> {
    let mut length = [0; 4];
    read_exact(from, &mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    let mut bytes = vec![0; length];
    read_exact(from, &mut bytes)?;
    postcard::from_bytes(&bytes).map(|message| (message, length)).map_err(FrameError::Malformed)
}

/// Writes in small pieces until a point in time: the socket's own time-out begins anew with each byte that the other side takes.
pub(crate) struct Until<'a> {
    pub(crate) socket: &'a UnixStream,
    pub(crate) until: Instant,
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.write(&bytes[..bytes.len().min(32 << 10)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_exact(from: &mut impl Read, into: &mut [u8]) -> Result<(), FrameError> {
    from.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => FrameError::Closed,
        _ => FrameError::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_went() {
        let mut wire = Vec::new();
        write(&mut wire, &("volume", 7_u64)).unwrap();
        write(&mut wire, &("next", 8_u64)).unwrap();
        let mut from = &wire[..];
        assert_eq!(read::<(String, u64)>(&mut from, 64).unwrap(), ("volume".to_owned(), 7));
        assert_eq!(read::<(String, u64)>(&mut from, 64).unwrap(), ("next".to_owned(), 8));
        assert!(matches!(read::<(String, u64)>(&mut from, 64), Err(FrameError::Closed)));
    }

    #[test]
    fn a_length_that_lies_costs_nothing() {
        let mut from = &[0xff, 0xff, 0xff, 0x7f, 1][..];
        assert!(matches!(read::<u8>(&mut from, 1024), Err(FrameError::TooLarge { .. })));
        let mut from = &[2, 0, 0, 0, 0xff][..];
        assert!(matches!(read::<u16>(&mut from, 1024), Err(FrameError::Closed)));
    }
}
