//! A socket for one call at a time: who sends on it also reads the answer, so that no thread is woken on the way but the two that talk.

use crate::frame::{self, FrameError};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long the other side may leave a frame unread before it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at the clock while nothing comes.
const LOOK: Duration = Duration::from_millis(250);

/// One end.
#[derive(Debug)]
pub struct Lane {
    socket: BufReader<UnixStream>,
    limit: usize,
}

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum NoFrame {
    /// The deadline came first; half a frame may have been read.
    #[error("no answer in time")]
    TimedOut,
    /// There is no other side, or it sent what it may not send.
    #[error("the process at the other end is gone")]
    Lost(#[source] FrameError),
}

impl Lane {
    /// The end that waits for questions, for ever.
    pub fn answering(socket: UnixStream, limit: usize) -> Self {
        Self { socket: BufReader::new(socket), limit }
    }

    /// The end that asks, and waits until a time. A frame over `limit` bytes is refused before any of it is read.
    pub fn asking(socket: UnixStream, limit: usize) -> io::Result<Self> {
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::answering(socket, limit))
    }

    /// The socket again, for whoever has read all that was to be read.
    pub fn into_socket(self) -> UnixStream {
        self.socket.into_inner()
    }

    /// Sends one frame. After any error but `TooLarge`, of which nothing was sent, half of it may be on the way.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        frame::write(&mut frame::Until { socket: self.socket.get_ref(), until: Instant::now() + PATIENCE }, message)
    }

    /// The next frame, whenever it comes.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        frame::read(&mut self.socket, self.limit)
    }

    /// The next frame of the end that asks, if it comes in time.
    pub fn receive_until<T: DeserializeOwned>(&mut self, until: Instant) -> Result<T, NoFrame> {
        frame::read(&mut Patient { socket: &mut self.socket, until }, self.limit).map_err(|error| match error {
            FrameError::Io(error) if error.kind() == io::ErrorKind::TimedOut => NoFrame::TimedOut,
            error => NoFrame::Lost(error),
        })
    }
}

/// Reads until a point in time; the socket's own time-out begins anew with each byte.
struct Patient<'a> {
    socket: &'a mut BufReader<UnixStream>,
    until: Instant,
}

impl Read for Patient<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            // What was received already came in time.
            if self.socket.buffer().is_empty() && Instant::now() >= self.until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.socket.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pair() -> (Lane, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Lane::asking(ours, 4096).unwrap(), theirs)
    }

    #[test]
    fn frames_come_one_by_one_however_they_were_sent() {
        let (mut lane, mut theirs) = pair();
        let mut both = Vec::new();
        frame::write(&mut both, &1_u64).unwrap();
        frame::write(&mut both, &"second").unwrap();
        theirs.write_all(&both).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        assert_eq!(lane.receive_until::<u64>(until).unwrap(), 1);
        assert_eq!(lane.receive_until::<String>(until).unwrap(), "second");
        drop(theirs);
        assert!(matches!(lane.receive_until::<u64>(until), Err(NoFrame::Lost(FrameError::Closed))));
    }

    #[test]
    fn a_process_that_answers_byte_by_byte_gains_no_time() {
        let (mut lane, mut theirs) = pair();
        let dripping = std::thread::spawn(move || {
            let drops = [1000_u32.to_le_bytes().to_vec(), vec![0; 400]].concat();
            drops.iter().take_while(|one| theirs.write_all(&[**one]).map(|()| std::thread::sleep(Duration::from_millis(20))).is_ok()).count()
        });
        let began = Instant::now();
        assert!(matches!(lane.receive_until::<u64>(began + Duration::from_millis(300)), Err(NoFrame::TimedOut)));
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        drop(lane);
        assert!(dripping.join().unwrap() < 400);
    }

    #[test]
    fn a_process_that_reads_nothing_is_lost_in_time() {
        let (mut lane, _theirs) = pair();
        let began = Instant::now();
        let message = "n".repeat(1 << 20);
        assert!((0..16).any(|_| lane.send(&message).is_err()));
        assert!(began.elapsed() < PATIENCE * 3, "{:?}", began.elapsed());
    }
}
