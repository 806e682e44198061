//! The role `effects`: shuts itself in to one back end, then does what it is asked, a few things at a time.

use super::files::{Folder, Stale};
use super::images::Images;
use super::refuse;
use std::collections::HashMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_plan::effect::{EffectAnswer, EffectError, FilesVerb};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::request::Secret;
use windlass_wire::effects::{BackEnd, Deed, Ready, Reply, Request, Setup};
use windlass_wire::frame::{self, FrameError};

/// Effects that are done at once: a folder that hangs at one file may still answer at another.
const THREADS: usize = 4;

/// The same in a cluster, where most of an effect is waiting for the monitors and for other machines.
const CLUSTER_THREADS: usize = 16;

/// Copies that are made at once in a folder, each on a thread of its own: where blocks cannot be shared one may take minutes, and whoever makes,
/// grows or deletes a volume does not wait for it.
const COPIES: usize = 8;

/// Keys that wait for their effect: one each, and no more than effects wait at once.
const KEYS: usize = 256;

/// Runs until the daemon closes the socket, or a thread of it ends.
pub(crate) fn run() -> ExitCode {
    let Ok(socket) = windlass_linux::inherited_socket(3) else {
        eprintln!("windlass: `effects` is started by the daemon, with its socket as descriptor 3");
        return ExitCode::FAILURE;
    };
    crate::serve::log();
    match serve(socket) {
        Ok(()) => windlass_linux::end_process(0),
        Err(error) => {
            tracing::error!("the effects process ends: {error:#}");
            windlass_linux::end_process(1)
        }
    }
}

fn serve(mut socket: UnixStream) -> anyhow::Result<()> {
    let setup: Setup = frame::read(&mut socket, frame::LIMIT)?;
    let (room, missing_walls) = match Room::enter(&setup)? {
        Ok(entered) => entered,
        Err(problem) => return Ok(frame::write(&mut socket, &Ready { problem: Some(problem), missing_walls: Vec::new() })?),
    };
    frame::write(&mut socket, &Ready { problem: None, missing_walls })?;

    let room = Arc::new(room);
    let writer = Arc::new(Mutex::new(socket.try_clone()?));
    let (queue, work) = channel();
    let work = Arc::new(Mutex::new(work));
    for _ in 0..room.threads() {
        let end = End(Some(socket.try_clone()?));
        let (room, writer, work) = (room.clone(), writer.clone(), work.clone());
        std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
            if let Err(error) = thread(&room, &writer, &work) {
                tracing::error!(error = &error as &dyn std::error::Error, "the effects process ends");
            }
            drop(end);
        })?;
    }
    let (mut keys, copies) = (HashMap::new(), Arc::new(AtomicUsize::new(0)));
    while let Ok(request) = frame::read(&mut socket, frame::LIMIT) {
        match request {
            Request::Key { id, key } if keys.len() < KEYS => drop(keys.insert(id, key.open())),
            Request::Key { .. } => anyhow::bail!("{KEYS} keys wait for their effects: the daemon sends what it may not send"),
            Request::Do { id, deed: deed @ Deed::Files(FilesVerb::Copy { .. }) } => {
                let work = Work { id, deed, key: None };
                if let Err(refused) = copy(&room, &writer, &copies, work, socket.try_clone()?) {
                    answer(&mut writer.lock().unwrap_or_else(PoisonError::into_inner), Reply { id, result: Err(refused) })?;
                }
            }
            Request::Do { id, deed } => queue.send(Work { id, deed, key: keys.remove(&id) })?,
        }
    }
    Ok(())
}

/// Has a copy made on a thread of its own, if there is room for one.
fn copy(room: &Arc<Room>, writer: &Arc<Mutex<UnixStream>>, copies: &Arc<AtomicUsize>, work: Work, socket: UnixStream) -> Result<(), EffectError> {
    let place = Place::take(copies).ok_or_else(|| refuse(RefusalKind::Unavailable, format!("{COPIES} copies are made in the folder already; ask again")))?;
    let (room, writer) = (room.clone(), writer.clone());
    let run = move || {
        let end = End(Some(socket));
        let done = one(&room, &writer, work, || drop(place));
        if let Err(error) = done {
            tracing::error!(error = &error as &dyn std::error::Error, "the effects process ends");
            return;
        }
        end.stays();
    };
    let started = std::thread::Builder::new().name("copy".into()).stack_size(1 << 20).spawn(run);
    started.map(drop).map_err(|error| refuse(RefusalKind::Unavailable, format!("no thread to copy with ({error}); ask again")))
}

/// One of the places for copies.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(copies: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(copies.clone());
        (copies.fetch_add(1, Ordering::SeqCst) < COPIES).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the process talks to.
enum Room {
    Folder(Folder),
    Cluster(Images),
}

impl Room {
    /// Opens what is needed and shuts the process in, whichever must come first. The inner error is the back end's.
    fn enter(setup: &Setup) -> anyhow::Result<Result<(Self, Vec<String>), String>> {
        match &setup.back_end {
            BackEnd::Folder(path) => {
                let missing_walls = windlass_sandbox::walls::confine_to_folder(path)?;
                Ok(Folder::open(path.as_str()).map(|folder| (Self::Folder(folder), missing_walls)).map_err(|error| error.to_string()))
            }
            BackEnd::Cluster(monitors) => match Images::load(monitors) {
                Ok(images) => Ok(Ok((Self::Cluster(images), windlass_sandbox::walls::confine_to_network(setup.uid)?))),
                Err(error) => Ok(Err(error)),
            },
        }
    }

    fn threads(&self) -> usize {
        match self {
            Self::Folder(_) => THREADS,
            Self::Cluster(_) => CLUSTER_THREADS,
        }
    }

    /// Does what is asked, and says whether the process is good for more.
    fn perform(&self, deed: Deed, key: Option<Secret>) -> (Result<EffectAnswer, EffectError>, Result<(), ThreadError>) {
        match (self, deed, key) {
            (Self::Folder(folder), Deed::Files(verb), _) => match folder.is_current() {
                Ok(()) => (folder.perform(verb), Ok(())),
                Err(stale) => {
                    let end = if matches!(stale, Stale::Replaced) { Err(ThreadError::Replaced) } else { Ok(()) };
                    (Err(refuse(RefusalKind::Unavailable, stale.to_string())), end)
                }
            },
            (Self::Cluster(images), Deed::Rbd { user, verb }, Some(key)) => (images.perform(&user, key, verb), Ok(())),
            (Self::Cluster(images), Deed::Background, _) => (Ok(EffectAnswer::Background(images.background())), Ok(())),
            (Self::Folder(_), Deed::Background, _) => (Ok(EffectAnswer::Background(Vec::new())), Ok(())),
            _ => (Err(refuse(RefusalKind::Unavailable, "the effect is not one for this back end, or came without its key".to_owned())), Ok(())),
        }
    }
}

/// An effect that waits for a thread.
struct Work {
    id: u64,
    deed: Deed,
    key: Option<Secret>,
}

/// With a thread the process ends, by whatever way it went, a panic too: a process that has fewer than it began with would one day
/// take effects and do none.
struct End(Option<UnixStream>);

impl End {
    /// The thread did what it was there for, and the process goes on.
    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.as_ref().map(|socket| socket.shutdown(Shutdown::Both));
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

fn thread(room: &Room, writer: &Mutex<UnixStream>, work: &Mutex<Receiver<Work>>) -> Result<(), ThreadError> {
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(next) = next else { return Ok(()) };
        one(room, writer, next, || ())?;
    }
}

/// Does one effect. `done` comes before its answer: who was answered finds the place free.
fn one(room: &Room, writer: &Mutex<UnixStream>, Work { id, deed, key }: Work, done: impl FnOnce()) -> Result<(), ThreadError> {
    let (result, state) = room.perform(deed, key);
    done();
    answer(&mut writer.lock().unwrap_or_else(PoisonError::into_inner), Reply { id, result }).map_err(ThreadError::Answer)?;
    state
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
    use windlass_plan::effect::FileFacts;

    #[test]
    fn an_answer_that_no_frame_holds_becomes_one_that_says_so() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let file = FileFacts { name: "n".repeat(frame::LIMIT + 1), size: 0, properties: Default::default() };
        answer(&mut ours, Reply { id: 7, result: Ok(EffectAnswer::File(Some(file))) }).unwrap();
        let reply: Reply = frame::read(&mut theirs, 4096).unwrap();
        assert_eq!((reply.id, reply.result.unwrap_err().kind), (7, RefusalKind::OutOfRange));
    }

    #[test]
    fn copies_have_threads_of_their_own_and_not_more_than_so_many() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        std::fs::write(dir.path().join("a"), "content").unwrap();
        let room = Arc::new(Room::Folder(Folder::open(dir.path().to_str().unwrap()).unwrap()));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (writer, copies) = (Arc::new(Mutex::new(ours.try_clone().unwrap())), Arc::new(AtomicUsize::new(0)));
        let ask = |id| {
            let verb = FilesVerb::Copy { name: "a".into(), to: "b".into(), size: 0, properties: Default::default() };
            copy(&room, &writer, &copies, Work { id, deed: Deed::Files(verb), key: None }, ours.try_clone().unwrap())
        };
        let places: Vec<Place> = (0..COPIES).map(|_| Place::take(&copies).unwrap()).collect();
        assert_eq!(ask(1).unwrap_err().kind, RefusalKind::Unavailable);
        drop(places);
        // One after the other: a thread that is done leaves its place, and the process goes on.
        for id in 2..=COPIES as u64 + 2 {
            ask(id).unwrap();
            let reply: Reply = frame::read(&mut theirs, 4096).unwrap();
            assert!(reply.id == id && reply.result.is_ok(), "{reply:?}");
        }
        assert_eq!(copies.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_folder_that_was_replaced_is_refused_and_its_process_ends() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("volumes");
        std::fs::create_dir(&path).unwrap();
        let room = Room::Folder(Folder::open(path.to_str().unwrap()).unwrap());
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (queue, work) = channel();
        let ask = || queue.send(Work { id: 1, deed: Deed::Files(FilesVerb::Stat { name: "a".into() }), key: None }).unwrap();
        let run = std::thread::spawn(move || thread(&room, &Mutex::new(ours), &Mutex::new(work)));
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
