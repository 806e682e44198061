//! Runs in a guest and does for the harness what must happen there: programs, files, and the way to the daemon's sockets.

use harness::vm::protocol::{Connected, Duplex as _, Ended, PORT, Program, READY, Request, Started, read_frame, read_value, relay, write_frame, write_value};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Programs of [`Request::Start`] that have ended.
static ENDED: LazyLock<Mutex<HashMap<i32, Ended>>> = LazyLock::new(Mutex::default);

fn main() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    println!("{READY}");
    for connection in listener.incoming() {
        let connection = connection?;
        std::thread::spawn(move || {
            // A connection without a request asks whether anybody is here.
            if let Err(error) = serve(connection)
                && error.kind() != ErrorKind::UnexpectedEof
            {
                println!("windlass-test-agent: {error}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    match read_value(&mut stream)? {
        Request::Run { program, limit } => {
            let input = read_frame(&mut stream)?;
            let (ended, output, error) = run(&program, input, Duration::from_millis(limit));
            let mut answer = Vec::new();
            write_value(&mut answer, &ended)?;
            write_frame(&mut answer, &output)?;
            write_frame(&mut answer, &error)?;
            stream.write_all(&answer)
        }
        Request::Start { program, log } => write_value(&mut stream, &start(&program, Path::new(&log))),
        Request::Ended { pid } => write_value(&mut stream, &ENDED.lock().expect("no panic").get(&pid).copied()),
        Request::Signal { pid, signal } => {
            let signal = Signal::try_from(signal).map_err(std::io::Error::from)?;
            write_value(&mut stream, &kill(Pid::from_raw(pid), signal).is_ok())
        }
        Request::Connect { path } => connect(stream, &path),
        Request::Put { path, mode } => {
            let content = read_frame(&mut stream)?;
            let put: Connected = put(Path::new(&path), mode, &content).map_err(|error| format!("{path}: {error}"));
            write_value(&mut stream, &put)
        }
        Request::Get { path } => match std::fs::read(&path) {
            Ok(content) => {
                write_value(&mut stream, &Connected::Ok(()))?;
                write_frame(&mut stream, &content)
            }
            Err(error) => write_value(&mut stream, &Connected::Err(format!("{path}: {error}"))),
        },
    }
}

fn command(program: &Program) -> Command {
    let mut command = Command::new(program.argv.first().map_or("", String::as_str));
    command.args(program.argv.iter().skip(1)).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    command.envs(program.env.iter().map(|(name, value)| (name, value))).current_dir("/");
    // A group of its own: what it starts is killed with it.
    command.process_group(0);
    command
}

fn run(program: &Program, input: Vec<u8>, limit: Duration) -> (Ended, Vec<u8>, Vec<u8>) {
    let until = Instant::now() + limit;
    let mut child = match command(program).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return (Ended::Exited(127), Vec::new(), format!("{}: {error}\n", program.argv.join(" ")).into_bytes()),
    };
    if let Some(mut stdin) = child.stdin.take() {
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let output = child.stdout.take().map(drain);
    let error = child.stderr.take().map(drain);
    let group = Pid::from_raw(child.id() as i32);
    let mut pause = Duration::from_micros(500);
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break ended(status),
            _ if Instant::now() >= until => {
                let _ = killpg(group, Signal::SIGKILL);
                // What hangs in the kernel does not die; the answer does not wait for it.
                std::thread::spawn(move || child.wait());
                break Ended::TimedOut;
            }
            _ => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    };
    // A program left running in the background may hold the pipes: what it says later is not waited for.
    let patience = if ended == Ended::TimedOut { Duration::from_millis(500) } else { Duration::from_secs(2) };
    (ended, collected(output, patience), collected(error, patience))
}

type Collected = std::sync::mpsc::Receiver<Vec<u8>>;

fn drain(mut pipe: impl Read + Send + 'static) -> Collected {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = pipe.read(&mut piece) {
            if sender.send(piece[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn collected(pieces: Option<Collected>, patience: Duration) -> Vec<u8> {
    let until = Instant::now() + patience;
    let mut all = Vec::new();
    if let Some(pieces) = pieces {
        while let Ok(piece) = pieces.recv_timeout(until.saturating_duration_since(Instant::now())) {
            all.extend(piece);
        }
    }
    all
}

fn ended(status: ExitStatus) -> Ended {
    status.code().map_or_else(|| Ended::Killed(status.signal().unwrap_or(0)), Ended::Exited)
}

fn start(program: &Program, log: &Path) -> Started {
    let say = |error: std::io::Error| format!("{}: {error}", program.argv.join(" "));
    let log = std::fs::File::options().create(true).append(true).open(log).map_err(say)?;
    let mut child = command(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(say)?;
    let pid = child.id() as i32;
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            ENDED.lock().expect("no panic").insert(pid, ended(status));
        }
    });
    Ok(pid)
}

fn connect(mut stream: TcpStream, path: &str) -> Result<()> {
    match UnixStream::connect(path) {
        Ok(socket) => {
            write_value(&mut stream, &Connected::Ok(()))?;
            relay(stream.twin()?, socket)
        }
        Err(error) => write_value(&mut stream, &Connected::Err(format!("{path}: {error}"))),
    }
}

fn put(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // A new file: the old one may be running.
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    std::fs::File::options().write(true).create_new(true).mode(mode).open(path)?.write_all(content)
}
