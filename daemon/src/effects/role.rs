//! The role `effects`: shuts itself in to the granted folders, then does what it is asked, a few things at a time.

use super::files::Folder;
use super::refuse;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_plan::plugin::RefusalKind;
use windlass_wire::effects::{Ready, Reply, Request, Setup};
use windlass_wire::frame;

/// Effects that are done at once: a folder that hangs must not hold up all others at the first file.
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
    let opened: Vec<std::io::Result<Folder>> = setup.folders.iter().map(|path| Folder::open(path.as_str())).collect();
    let unusable = opened.iter().enumerate().filter_map(|(number, folder)| Some((number, folder.as_ref().err()?.to_string()))).collect();
    frame::write(&mut socket, &Ready { unusable, missing_walls })?;

    let folders = Arc::new(opened);
    let writer = Arc::new(Mutex::new(socket.try_clone()?));
    let (queue, work) = channel::<Request>();
    let work = Arc::new(Mutex::new(work));
    for _ in 0..THREADS {
        let (folders, writer, work) = (folders.clone(), writer.clone(), work.clone());
        std::thread::Builder::new().stack_size(256 << 10).spawn(move || thread(&folders, &writer, &work))?;
    }
    while let Ok(request) = frame::read(&mut socket, frame::LIMIT) {
        queue.send(request)?;
    }
    Ok(())
}

fn thread(folders: &[std::io::Result<Folder>], writer: &Mutex<UnixStream>, work: &Mutex<Receiver<Request>>) {
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(request) = next else { return };
        let result = match folders.get(request.folder) {
            Some(Ok(folder)) => folder.perform(request.verb),
            _ => Err(refuse(RefusalKind::Unavailable, "the folder cannot be used".to_owned())),
        };
        let reply = Reply { id: request.id, result };
        if frame::write(&mut *writer.lock().unwrap_or_else(PoisonError::into_inner), &reply).is_err() {
            return;
        }
    }
}
