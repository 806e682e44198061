//! Starts the shut-in roles of the binary (plugin process, compile child, effects) with exactly the descriptors that they need.

use command_fds::{CommandFdExt, FdMapping};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

/// The binary, as a path that stays right when it is replaced on disk.
#[derive(Debug, Clone)]
pub struct Binary(pub PathBuf);

impl Binary {
    /// The binary that runs.
    pub fn current() -> Self {
        Self(PathBuf::from("/proc/self/exe"))
    }

    /// Starts a role with an empty environment. Descriptor 3 is a socket to us, `more` are 4 and up; nothing else is inherited.
    pub fn start(&self, arguments: &[String], more: Vec<OwnedFd>) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut mappings = vec![FdMapping { parent_fd: theirs.into(), child_fd: 3 }];
        mappings.extend(more.into_iter().zip(4..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }));
        let mut command = Command::new(&self.0);
        // A group of its own: Ctrl-C at a terminal is meant for the daemon, not for a worker in the middle of a step.
        command.arg0("windlass").process_group(0).args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        for name in ["RUST_BACKTRACE", "WINDLASS_LOG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok((spawn(command)?, ours))
    }
}

/// Starts every child from one thread that lives as long as the daemon: a shut-in role asks to be killed when its parent *thread*
/// ends (PR_SET_PDEATHSIG), and the threads that calls run on come and go.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<io::Result<Sender<Job>>> = LazyLock::new(|| {
        let (jobs, queue) = channel::<Job>();
        let spawner = std::thread::Builder::new().name("spawn".into()).stack_size(128 << 10);
        spawner.spawn(move || queue.into_iter().for_each(|(mut command, reply)| drop(reply.send(command.spawn()))))?;
        Ok(jobs)
    });
    let jobs = SPAWNER.as_ref().map_err(|error| io::Error::other(error.to_string()))?;
    let (reply, child) = channel();
    jobs.send((command, reply)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

/// Ends a child and reaps it. For roles that hold nothing: killing them loses nothing.
pub(crate) fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}
