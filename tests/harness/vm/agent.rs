//! The harness's side of the agent: programs, files and sockets in a guest.

use super::Vm;
use super::protocol::{Connected, Ended, PORT, Program, Request, Started, read_frame, read_value, relay, write_frame, write_value};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the agent may take for what does not run a program.
const PATIENCE: Duration = Duration::from_secs(60);

fn program(argv: &[&str], env: &[(&str, &str)]) -> Program {
    let own = |word: &&str| (*word).to_owned();
    Program { argv: argv.iter().map(own).collect(), env: env.iter().map(|(name, value)| (own(name), own(value))).collect() }
}

impl Vm {
    fn ask(&self, request: &Request, content: Option<&[u8]>, patience: Duration) -> Result<TcpStream> {
        let mut stream = self.network.connect(self.address, PORT, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(patience))?;
        let mut message = Vec::new();
        write_value(&mut message, request)?;
        if let Some(content) = content {
            write_frame(&mut message, content)?;
        }
        std::io::Write::write_all(&mut stream, &message)?;
        Ok(stream)
    }

    /// Runs a program in the guest to its end. Past `limit` its process group is killed. Errors are those of the way to the agent.
    pub fn try_output(&self, argv: &[&str], input: &[u8], limit: Duration) -> Result<Output> {
        let request = Request::Run { program: program(argv, &[]), limit: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) };
        let mut stream = self.ask(&request, Some(input), limit + Duration::from_secs(30))?;
        let ended: Ended = read_value(&mut stream).context("the agent does not answer")?;
        let stdout = read_frame(&mut stream)?;
        let mut stderr = read_frame(&mut stream)?;
        if ended == Ended::TimedOut {
            stderr.extend(format!("(killed after {limit:?})\n").bytes());
        }
        Ok(Output { status: status(ended), stdout, stderr })
    }

    /// Starts a program in the guest and leaves it running; its standard error is appended to `log`. Returns its process id.
    #[track_caller]
    pub fn start_program(&self, argv: &[&str], env: &[(&str, &str)], log: &str) -> i32 {
        let request = Request::Start { program: program(argv, env), log: log.to_owned() };
        let started = self.ask(&request, None, PATIENCE).and_then(|mut stream| Ok(read_value::<Started>(&mut stream)?));
        match started {
            Ok(Ok(pid)) => pid,
            Ok(Err(error)) => panic!("on {}: {error}", self.name),
            Err(error) => panic!("{argv:?} on {}: {error:#}\n---- console\n{}", self.name, self.console_tail()),
        }
    }

    /// How a program of [`Vm::start_program`] ended; nothing while it runs.
    #[track_caller]
    pub fn ended(&self, pid: i32) -> Option<ExitStatus> {
        let answer = self.ask(&Request::Ended { pid }, None, PATIENCE).and_then(|mut stream| Ok(read_value::<Option<Ended>>(&mut stream)?));
        answer.unwrap_or_else(|error| panic!("{}: {error:#}", self.name)).map(status)
    }

    /// Sends a signal to a process of the guest, or with a minus to a process group. Is there such a process?
    #[track_caller]
    pub fn signal(&self, pid: i32, signal: Signal) -> bool {
        let request = Request::Signal { pid, signal: signal as i32 };
        let answer = self.ask(&request, None, PATIENCE).and_then(|mut stream| Ok(read_value::<bool>(&mut stream)?));
        answer.unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }

    /// Writes a file in the guest, with this mode.
    #[track_caller]
    pub fn put(&self, path: &str, mode: u32, content: &[u8]) {
        let request = Request::Put { path: path.to_owned(), mode };
        let put = self.ask(&request, Some(content), PATIENCE).and_then(|mut stream| Ok(read_value::<Connected>(&mut stream)?));
        if let Err(error) = put.and_then(|put| put.map_err(anyhow::Error::msg)) {
            panic!("on {}: {error:#}\n---- console\n{}", self.name, self.console_tail());
        }
    }

    /// Reads a file of the guest.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let mut stream = self.ask(&Request::Get { path: path.to_owned() }, None, PATIENCE)?;
        read_value::<Connected>(&mut stream)?.map_err(anyhow::Error::msg)?;
        Ok(read_frame(&mut stream)?)
    }

    /// A byte-for-byte way to a unix socket in the guest.
    pub fn connect(&self, path: &str) -> Result<TcpStream> {
        let mut stream = self.ask(&Request::Connect { path: path.to_owned() }, None, PATIENCE)?;
        read_value::<Connected>(&mut stream)?.map_err(anyhow::Error::msg)?;
        stream.set_read_timeout(None)?;
        Ok(stream)
    }

    /// A socket on this machine, `at`, whose every connection ends at the socket `path` in the guest. Where nobody answers there, the connection is closed.
    pub fn forward(self: &Arc<Self>, at: &Path, path: &str) -> Result<()> {
        let listener = UnixListener::bind(at).with_context(|| format!("{}", at.display()))?;
        let (vm, path) = (self.clone(), path.to_owned());
        std::thread::Builder::new().name("forward".to_owned()).spawn(move || {
            for caller in listener.incoming().flatten() {
                let (vm, path) = (vm.clone(), path.clone());
                std::thread::spawn(move || vm.connect(&path).and_then(|guest| Ok(relay(guest, caller)?)));
            }
        })?;
        Ok(())
    }

    /// A new folder on this machine for sockets that lead to the guest.
    pub(super) fn new_folder(&self) -> Result<PathBuf> {
        let folder = self.file(&format!("{}", self.count.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }
}

fn status(ended: Ended) -> ExitStatus {
    // As wait(2) has it: the exit status in the second byte, a signal in the first.
    ExitStatus::from_raw(match ended {
        Ended::Exited(status) => status << 8,
        Ended::Killed(signal) => signal,
        Ended::TimedOut => Signal::SIGKILL as i32,
    })
}
