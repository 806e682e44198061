//! What the harness and the agent in a guest say to each other: one request a connection, frames of four length bytes and content.

use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, Read, Result, Write};

/// The agent's port.
pub const PORT: u16 = 700;

/// The agent's first words on the console.
pub const READY: &str = "windlass-test-agent listens";

/// The longest frame, in bytes: a debug binary fits.
const LONGEST: u32 = 1 << 30;

/// A program to run.
#[derive(Serialize, Deserialize)]
pub struct Program {
    /// The program, by path or by name in the guest's PATH, and its arguments.
    pub argv: Vec<String>,
    /// Variables beside PATH and HOME, which are always there.
    pub env: Vec<(String, String)>,
}

/// The first frame of a connection, as JSON.
#[derive(Serialize, Deserialize)]
pub enum Request {
    /// Runs a program to its end; a frame with its standard input follows. Answered by [`Ended`] and two frames: standard output and error.
    Run {
        /// What to run.
        program: Program,
        /// After so many milliseconds its process group is killed.
        limit: u64,
    },
    /// Starts a program and leaves it running. Answered by [`Started`].
    Start {
        /// What to start.
        program: Program,
        /// The file in the guest that its standard error is appended to.
        log: String,
    },
    /// How a program of [`Request::Start`] ended. Answered by `Option<Ended>`.
    Ended {
        /// Its process id.
        pid: i32,
    },
    /// Sends a signal. Answered by `bool`: was there such a process?
    Signal {
        /// The process id, or a process group's with a minus.
        pid: i32,
        /// The signal's number.
        signal: i32,
    },
    /// Connects to a unix socket. Answered by [`Connected`]; from then on bytes are carried between the two, both ways.
    Connect {
        /// The socket.
        path: String,
    },
    /// Writes a file, in a folder that is made where it is missing; a frame with its content follows. Answered by [`Connected`].
    Put {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Reads a file. Answered by [`Connected`] and, without an error, a frame with its content.
    Get {
        /// The file.
        path: String,
    },
}

/// Has it begun? The error's text if not.
pub type Connected = std::result::Result<(), String>;

/// The process id, or why there is none.
pub type Started = std::result::Result<i32, String>;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// By itself, with this status. 127 if there is no such program.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Its time was up, and it was killed.
    TimedOut,
}

/// Writes one frame.
pub fn write_frame(to: &mut impl Write, content: &[u8]) -> Result<()> {
    let length = u32::try_from(content.len()).map_err(|_| Error::from(ErrorKind::InvalidInput))?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(content)
}

/// Reads one frame.
pub fn read_frame(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(Error::new(ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let mut content = Vec::new();
    if from.take(length.into()).read_to_end(&mut content)? < length as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(content)
}

/// Writes a value as one frame of JSON.
pub fn write_value(to: &mut impl Write, value: &impl Serialize) -> Result<()> {
    write_frame(to, &serde_json::to_vec(value)?)
}

/// Reads a value that [`write_value`] wrote.
pub fn read_value<T: for<'de> Deserialize<'de>>(from: &mut impl Read) -> Result<T> {
    Ok(serde_json::from_slice(&read_frame(from)?)?)
}

/// A stream whose two directions can be used, and ended, apart.
pub trait Duplex: Read + Write + Send + Sized + 'static {
    /// A second handle of the same stream.
    fn twin(&self) -> Result<Self>;
    /// Says that nothing more will be written.
    fn end(&self);
}

impl Duplex for std::net::TcpStream {
    fn twin(&self) -> Result<Self> {
        self.try_clone()
    }

    fn end(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

impl Duplex for std::os::unix::net::UnixStream {
    fn twin(&self) -> Result<Self> {
        self.try_clone()
    }

    fn end(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

/// Carries bytes between the two, both ways, until both have ended.
pub fn relay(one: impl Duplex, other: impl Duplex) -> Result<()> {
    let (mut from_one, mut to_other) = (one.twin()?, other.twin()?);
    let forth = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_one, &mut to_other);
        to_other.end();
    });
    let (mut from_other, mut to_one) = (other, one);
    let _ = std::io::copy(&mut from_other, &mut to_one);
    to_one.end();
    let _ = forth.join();
    Ok(())
}
