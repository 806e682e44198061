//! The plugin process from its first instruction to serving: walls, then the component, then the last wall, then calls.

use crate::call::{Call, Nature, Shared};
use crate::engine;
use crate::linker::{self, Linked, Unfit};
use crate::serve::{self, Ticker};
use crate::sys::{self, MappedCode};
use crate::text;
use crate::walls::{self, Filter, Room, WallError};
use nix::sys::resource::Resource;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use windlass_wire::frame::{self, FrameError};
use windlass_wire::lane::Lane;
use windlass_wire::plugin::{FromPlugin, Limits, Setup};

/// Until the limits are known: enough to load any component.
pub(crate) const ROOM: Room = Room { files: 64, file_size: 1 << 30, data: 4 << 30, cpu: None };

/// The descriptor of the first lane.
const FIRST_LANE: u32 = 5;

/// Bytes for the process itself, besides its guests.
const OURS: u64 = 96 << 20;

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error("an inherited descriptor is missing")]
    Inherited(#[source] std::io::Error),
    #[error("the plugin process cannot shut itself in")]
    Walls(#[from] WallError),
    #[error("the compiled code cannot be mapped")]
    Map(#[source] std::io::Error),
    #[error("no setup came")]
    Setup(#[source] FrameError),
    #[error("wasmtime does not start with these limits")]
    Engine(#[source] wasmtime::Error),
    #[error("the compiled code was not made by this daemon on this machine, or needs more than its limits allow")]
    Load(#[source] wasmtime::Error),
    #[error("the component cannot be linked")]
    Link(#[source] Unfit),
    #[error("the component could not be started")]
    TryOut(#[source] wasmtime::Error),
    #[error("the component took too long to start, or too much")]
    TryOutLimit(#[source] crate::call::Ended),
    #[error("no threads")]
    Threads(#[source] std::io::Error),
}

/// Runs the plugin process; it ends when the daemon closes a socket. To be called first thing in a process of its own, while it has
/// one thread. Descriptor 3 is the socket to the daemon, 4 the compiled code (a regular file, opened for reading), and the `lanes` that
/// follow are the sockets by which calls come. `uid` is who to become, and wants root; without it the process shuts itself in as far as
/// an ordinary user can.
///
/// It asks to be killed when the *thread* that started it ends, so start it from one that lives as long as the daemon.
pub fn plugin_host(uid: Option<u32>, lanes: u32) -> ExitCode {
    let Ok(socket) = sys::inherited(3).map(UnixStream::from) else { return ExitCode::from(2) };
    match prepare(&socket, uid, lanes) {
        Ok(missing_walls) => match frame::write(&mut &socket, &FromPlugin::Ready { missing_walls }) {
            // Nothing more is said on this socket: its end is the process's end.
            Ok(()) => sys::exit_now(i32::from((&socket).read(&mut [0]).is_ok_and(|length| length > 0))),
            Err(_) => ExitCode::from(2),
        },
        Err(error) => {
            let reason = text::error_line(&wasmtime::Error::new(error));
            let told = frame::write(&mut &socket, &FromPlugin::Unusable { reason });
            ExitCode::from(if told.is_ok() { 1 } else { 2 })
        }
    }
}

/// The walls that are missing. Calls are served from here on.
fn prepare(mut socket: &UnixStream, uid: Option<u32>, lanes: u32) -> Result<Vec<String>, HostError> {
    let code = sys::inherited(4).map_err(HostError::Inherited)?;
    let lanes = (FIRST_LANE..FIRST_LANE + lanes).map(|fd| sys::inherited(fd as i32).map(|fd| Lane::answering(fd.into(), frame::LIMIT)));
    let lanes: Vec<Lane> = lanes.collect::<Result<_, _>>().map_err(HostError::Inherited)?;
    sys::use_one_arena();
    let room = Room { files: ROOM.files + lanes.len() as u64, ..ROOM };
    let missing_walls = walls::shut_in(uid, FIRST_LANE + lanes.len() as u32, &room, Filter::Load)?;

    let setup: Setup = frame::read(&mut socket, frame::LIMIT).map_err(HostError::Setup)?;
    let limits = setup.limits;
    walls::limit(Resource::RLIMIT_DATA, "data", data(&limits))?;
    let engine = engine::for_running(&limits).map_err(HostError::Engine)?;
    let ticker = Ticker::start(&engine).map_err(HostError::Threads)?;
    let component = MappedCode::map(code).map_err(HostError::Map)?.component(&engine).map_err(HostError::Load)?;
    let Linked { exports, .. } = linker::link(&engine, &component).map_err(HostError::Link)?;

    let shared = Arc::new(Shared { config: setup.config, limits, started: Instant::now() });
    let mut store = Call::store(&engine, &shared, None, "its start", Nature::Pure);
    ticker.during(|| exports.try_out(&mut store)).map_err(|error| match error.downcast() {
        Ok(ended) => HostError::TryOutLimit(ended),
        Err(error) => HostError::TryOut(error),
    })?;
    drop(store);

    serve::start(&shared, &engine, exports, &ticker, lanes).map_err(HostError::Threads)?;
    walls::close()?;
    Ok(missing_walls)
}

/// Writable memory that the process may have: what its guests may have together, their stacks, and its own.
fn data(limits: &Limits) -> u64 {
    let call = limits.memory + u64::from(limits.table_elements) * 8 + (4 << 20) + 4 * u64::from(limits.message);
    OURS + (u64::from(limits.concurrency.clamp(1, 64)) + 1) * call
}
