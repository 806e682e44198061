//! The role `effects`: shuts itself in to one granted folder, then does what it is asked, a few things at a time.

use super::files::{Folder, Stale};
use super::refuse;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_plan::plugin::RefusalKind;
use windlass_wire::effects::{Ready, Reply, Request, Setup};
use windlass_wire::frame::{self, FrameError};

/// Effects that are done at once: a folder that hangs at one file may still answer at another.
const THREADS: usize = 4;

/// Runs until the daemon closes the socket, or a thread of it ends.
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
    let missing_walls = windlass_sandbox::walls::confine_effects(std::slice::from_ref(&setup.folder))?;
    let folder = match Folder::open(setup.folder.as_str()) {
        Ok(folder) => Arc::new(folder),
        Err(error) => return Ok(frame::write(&mut socket, &Ready { problem: Some(error.to_string()), missing_walls })?),
    };
    frame::write(&mut socket, &Ready { problem: None, missing_walls })?;

    let writer = Arc::new(Mutex::new(socket.try_clone()?));
    let (queue, work) = channel::<Request>();
    let work = Arc::new(Mutex::new(work));
    for _ in 0..THREADS {
        let end = End(socket.try_clone()?);
        let (folder, writer, work) = (folder.clone(), writer.clone(), work.clone());
        std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            if let Err(error) = thread(&folder, &writer, &work) {
                tracing::error!(error = &error as &dyn std::error::Error, "the effects process ends");
            }
            drop(end);
        })?;
    }
    while let Ok(request) = frame::read(&mut socket, frame::LIMIT) {
        queue.send(request)?;
    }
    Ok(())
}

/// With a thread the process ends, by whatever way it went, a panic too: a process that has fewer than it began with would one day
/// take effects and do none.
struct End(UnixStream);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Why a thread ends.
#[derive(Debug, thiserror::Error)]
enum ThreadError {
    /// The daemon cannot be answered.
    #[error("an effect's answer could not be sent")]
    Answer(#[source] FrameError),
    /// The granted path leads elsewhere.
    #[error("the granted folder was replaced; a new process opens what is there now")]
    Replaced,
}

fn thread(folder: &Folder, writer: &Mutex<UnixStream>, work: &Mutex<Receiver<Request>>) -> Result<(), ThreadError> {
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Request { id, verb }) = next else { return Ok(()) };
        let is_current = folder.is_current();
        let result = match &is_current {
            Ok(()) => folder.perform(verb),
            Err(stale) => Err(refuse(RefusalKind::Unavailable, stale.to_string())),
        };
        answer(&mut writer.lock().unwrap_or_else(PoisonError::into_inner), Reply { id, result }).map_err(ThreadError::Answer)?;
        if let Err(Stale::Replaced) = is_current {
            return Err(ThreadError::Replaced);
        }
    }
}

/// Sends an answer; in the place of one that no frame holds, one that says so.
fn answer(writer: &mut UnixStream, reply: Reply) -> Result<(), FrameError> {
    match frame::write(writer, &reply) {
        Err(FrameError::TooLarge { length, limit }) => {
            let text = format!("the answer is {length} bytes long; {limit} are what a message holds: ask for less at once");
            frame::write(writer, &Reply { id: reply.id, result: Err(refuse(RefusalKind::OutOfRange, text)) })
        }
        sent => sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_plan::effect::{EffectAnswer, FileFacts, FilesVerb};

    #[test]
    fn an_answer_that_no_frame_holds_becomes_one_that_says_so() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let file = FileFacts { name: "n".repeat(frame::LIMIT + 1), size: 0, properties: Default::default() };
        answer(&mut ours, Reply { id: 7, result: Ok(EffectAnswer::File(Some(file))) }).unwrap();
        let reply: Reply = frame::read(&mut theirs, 4096).unwrap();
        assert_eq!((reply.id, reply.result.unwrap_err().kind), (7, RefusalKind::OutOfRange));
    }

    #[test]
    fn a_folder_that_was_replaced_is_refused_and_its_process_ends() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("volumes");
        std::fs::create_dir(&path).unwrap();
        let folder = Folder::open(path.to_str().unwrap()).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (queue, work) = channel();
        let ask = || queue.send(Request { id: 1, verb: FilesVerb::Stat { name: "a".into() } }).unwrap();
        let run = std::thread::spawn(move || thread(&folder, &Mutex::new(ours), &Mutex::new(work)));
        ask();
        assert_eq!(frame::read::<Reply>(&mut theirs, 4096).unwrap().result, Ok(EffectAnswer::File(None)));
        // As when a disk is mounted over it.
        std::fs::rename(&path, dir.path().join("before")).unwrap();
        std::fs::create_dir(&path).unwrap();
        ask();
        let refused = frame::read::<Reply>(&mut theirs, 4096).unwrap().result.unwrap_err();
        assert!(refused.kind == RefusalKind::Unavailable && refused.message.contains("replaced"), "{refused}");
        assert!(matches!(run.join().unwrap(), Err(ThreadError::Replaced)));
    }
}
