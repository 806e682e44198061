//! Starts the shut-in roles of the binary (plugin process, compile child, effects) with exactly the descriptors that they need.

use command_fds::{CommandFdExt, FdMapping};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// A child that is killed when it is let go of, by whatever way, and reaped by a thread. For roles that hold nothing: killing them
/// loses nothing.
#[derive(Debug)]
pub(crate) struct Mortal {
    pid: u32,
    child: Mutex<Option<Child>>,
}

impl Mortal {
    /// From here on it cannot be forgotten.
    pub(crate) fn new(child: Child) -> Self {
        Self { pid: child.id(), child: Mutex::new(Some(child)) }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it now, whoever else holds it.
    pub(crate) fn kill(&self) {
        let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let _ = child.kill();
        // Whoever kills may hold a lock or have a caller who waits, and dying takes as long as it takes.
        let reaper = std::thread::Builder::new().name("reap".into()).stack_size(64 << 10).spawn(move || child.wait());
        if let Err(error) = reaper {
            tracing::warn!(%error, pid = self.pid, "no thread to reap a process with; it was killed");
        }
    }

    /// How it ended, if it does so by itself within a time.
    pub(crate) fn ends_within(&self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + patience;
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = child.as_mut() else { return Ok(None) };
        loop {
            if let Some(status) = running.try_wait()? {
                *child = None;
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Mortal {
        Mortal::new(Command::new("/bin/sleep").arg("600").spawn().unwrap())
    }
    fn is_there(pid: u32) -> bool {
        std::path::Path::new("/proc").join(pid.to_string()).exists()
    }

    #[test]
    fn a_child_that_is_let_go_of_is_killed_and_reaped() {
        let child = sleeper();
        let pid = child.pid();
        assert!(is_there(pid) && child.ends_within(Duration::ZERO).unwrap().is_none());
        drop(child);
        let until = Instant::now() + Duration::from_secs(10);
        while is_there(pid) {
            assert!(Instant::now() < until, "{pid} is still there");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_child_that_ends_by_itself_says_how() {
        let child = Mortal::new(Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap());
        assert_eq!(child.ends_within(Duration::from_secs(10)).unwrap().unwrap().code(), Some(7));
    }
}
