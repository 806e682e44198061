//! The role `effects`: shuts itself in to the granted folders, then does what it is asked, a few things at a time in each folder.

use super::files::Folder;
use super::refuse;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_plan::effect::{EffectAnswer, EffectError, FilesVerb};
use windlass_plan::paths::HostPath;
use windlass_plan::plugin::RefusalKind;
use windlass_wire::effects::{Ready, Reply, Request, Setup};
use windlass_wire::frame;

/// Effects that are done at once in one folder. Each folder has threads of its own: one that hangs holds up itself alone.
const THREADS: usize = 4;

/// Runs until the daemon closes the socket.
pub(crate) fn run() -> ExitCode {
    let Ok(socket) = windlass_linux::inherited_socket(3) else {
        eprintln!("windlass: `effects` is started by the daemon, with its socket as descriptor 3");
        return ExitCode::FAILURE;
    };
    crate::serve::log();
    match serve(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the effects process ends: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut socket: UnixStream) -> anyhow::Result<()> {
    let setup: Setup = frame::read(&mut socket, frame::LIMIT)?;
    let missing_walls = windlass_sandbox::walls::confine_effects(&setup.folders)?;
    frame::write(&mut socket, &Ready { missing_walls })?;
    let writer = Arc::new(Mutex::new(socket.try_clone()?));
    let mut lanes: Vec<Option<Lane>> = setup.folders.iter().map(|_| None).collect();
    while let Ok(request) = frame::read::<Request>(&mut socket, frame::LIMIT) {
        let (Some(path), Some(lane)) = (setup.folders.get(request.folder), lanes.get_mut(request.folder)) else {
            anyhow::bail!("the daemon named folder {}, and there are {}", request.folder, setup.folders.len());
        };
        let lane = match lane {
            Some(lane) => lane,
            None => lane.insert(Lane::open(path, &writer)?),
        };
        lane.0.send(request)?;
    }
    Ok(())
}

/// One folder's threads, by the queue that they take requests from.
struct Lane(Sender<Request>);

impl Lane {
    fn open(path: &HostPath, writer: &Arc<Mutex<UnixStream>>) -> anyhow::Result<Self> {
        let (queue, work) = channel::<Request>();
        let work = Arc::new(Mutex::new(work));
        for _ in 0..THREADS {
            let (path, writer, work) = (path.clone(), writer.clone(), work.clone());
            std::thread::Builder::new().stack_size(256 << 10).spawn(move || thread(&path, &writer, &work))?;
        }
        Ok(Self(queue))
    }
}

fn thread(path: &HostPath, writer: &Mutex<UnixStream>, work: &Mutex<Receiver<Request>>) {
    // Opened here, and not before there is something to do in it: opening may hang as well.
    let mut folder = None;
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(request) = next else { return };
        let reply = Reply { id: request.id, result: perform(path, &mut folder, request.verb) };
        if frame::write(&mut *writer.lock().unwrap_or_else(PoisonError::into_inner), &reply).is_err() {
            return;
        }
    }
}

fn perform(path: &HostPath, folder: &mut Option<Folder>, verb: FilesVerb) -> Result<EffectAnswer, EffectError> {
    let folder = match folder {
        Some(folder) => folder,
        None => {
            let opened = Folder::open(path.as_str());
            folder.insert(opened.map_err(|error| refuse(RefusalKind::Unavailable, format!("the granted folder {path} cannot be used: {error}")))?)
        }
    };
    folder.perform(verb)
}
