//! What the pool asks of a worker's process besides its socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::process::Child;

/// A worker's process. The second implementor is the worker of the model test (`tests/model`), a thread: it starts tens of thousands of them.
pub trait Process: Send {
    /// Its process id.
    fn id(&self) -> u32;

    /// Has it ended?
    fn has_ended(&mut self) -> bool;

    /// Waits for its end, which may take as long as the kernel does.
    fn wait(self: Box<Self>);
}

/// Starts a worker and hands over our end of its socket. The daemon's business, since it knows the binary.
pub type Launch = Box<dyn Fn() -> io::Result<(Box<dyn Process>, UnixStream)> + Send + Sync>;

impl Process for Child {
    fn id(&self) -> u32 {
        Child::id(self)
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.try_wait(), Ok(None))
    }

    fn wait(mut self: Box<Self>) {
        let _ = Child::wait(&mut self);
    }
}
