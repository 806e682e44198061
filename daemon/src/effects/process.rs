//! The daemon's side of the effects process: started on the first effect, started anew when it is lost or a folder is added.

use super::refuse;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use windlass_plan::effect::{EffectAnswer, EffectError, FilesVerb};
use windlass_plan::paths::HostPath;
use windlass_plan::plugin::RefusalKind;
use windlass_plugins::child::Binary;
use windlass_wire::effects::{Ready, Reply, Request, Setup};
use windlass_wire::frame;
use windlass_wire::mux::Mux;

/// How long one effect may take before it is given up. What it does goes on.
const DEADLINE: Duration = Duration::from_secs(30);

/// The effects process of a daemon.
pub(crate) struct EffectsProcess {
    binary: Binary,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    folders: Vec<HostPath>,
    running: Option<Arc<Running>>,
}

struct Running {
    mux: Mux<Request, Reply>,
    child: Mutex<Child>,
    folders: Vec<HostPath>,
    ready: Ready,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its socket closes with the mux; it ends by itself when it has done what it was asked. It is reaped meanwhile.
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl EffectsProcess {
    /// Nothing is started yet.
    pub(crate) fn new(binary: Binary) -> Self {
        Self { binary, state: Mutex::default() }
    }

    /// The folders that drivers were granted now. A new one means a new process: the old one is shut in to what it had.
    pub(crate) fn allow(&self, folders: Vec<HostPath>) {
        let mut state = self.lock();
        if state.folders != folders {
            state.folders = folders;
            state.running = None;
        }
    }

    /// Its process id and missing walls, for status.
    pub(crate) fn view(&self) -> Option<(u32, Vec<String>)> {
        let state = self.lock();
        let running = state.running.as_ref()?;
        let pid = running.child.lock().unwrap_or_else(PoisonError::into_inner).id();
        Some((pid, running.ready.missing_walls.clone()))
    }

    /// Has an effect done that was checked before.
    pub(crate) fn perform(&self, folder: &HostPath, verb: FilesVerb) -> Result<EffectAnswer, EffectError> {
        let unavailable = |text: &str| refuse(RefusalKind::Unavailable, text.to_owned());
        let running = self.running().map_err(|error| unavailable(&format!("the effects process could not be started: {error}")))?;
        let Some(number) = running.folders.iter().position(|other| other == folder) else {
            return Err(unavailable("the folder was granted a moment ago; ask again"));
        };
        if let Some((_, reason)) = running.ready.unusable.iter().find(|(unusable, _)| *unusable == number) {
            return Err(unavailable(&format!("the granted folder {folder} cannot be used: {reason}")));
        }
        let lost = |_| unavailable("the effects process was lost while it worked; ask again");
        let call = running.mux.call().map_err(lost)?;
        call.send(&Request { id: call.id, folder: number, verb }).map_err(lost)?;
        match call.wait(Instant::now() + DEADLINE) {
            Ok(reply) => reply.result,
            Err(windlass_wire::mux::WaitError::TimedOut) => Err(unavailable("the file system of the granted folder does not answer")),
            Err(error @ windlass_wire::mux::WaitError::Lost) => Err(lost(error)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> std::io::Result<Arc<Running>> {
        let mut state = self.lock();
        if let Some(running) = state.running.as_ref().filter(|running| !running.mux.is_lost()) {
            return Ok(running.clone());
        }
        let folders = state.folders.clone();
        let (child, mut socket) = self.binary.start(&["effects".to_owned()], Vec::new())?;
        frame::write(&mut socket, &Setup { folders: folders.clone() }).map_err(std::io::Error::other)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let ready: Ready = frame::read(&mut socket, frame::LIMIT).map_err(std::io::Error::other)?;
        socket.set_read_timeout(None)?;
        let running = Arc::new(Running { mux: Mux::start("effects", socket, frame::LIMIT)?, child: Mutex::new(child), folders, ready });
        state.running = Some(running.clone());
        Ok(running)
    }
}
