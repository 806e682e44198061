//! Many threads, one socket: each waits for the frames that carry its call's number.

use crate::frame::{self, FrameError};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the other side may leave a frame unread before it is taken for lost: whoever writes holds up all others who want to.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of one call's frames, above the largest single one, that may wait for its thread: all log lines that a call has.
const QUEUED: usize = 512 << 10;
/// What a queued frame costs at the least.
const OVERHEAD: usize = 64;

/// A frame that belongs to a call.
pub trait Numbered {
    /// The call's number; `None` for frames that belong to nobody and are dropped.
    fn id(&self) -> Option<u64>;
}

impl Numbered for crate::effects::Reply {
    fn id(&self) -> Option<u64> {
        Some(self.id)
    }
}

/// Why a call got no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The other side has gone, or sent what it may not send.
    #[error("the process at the other end is gone")]
    Lost,
    /// The deadline came first.
    #[error("no answer in time")]
    TimedOut,
    /// The frame is too large to be sent; nothing of it was.
    #[error("the message is larger than a frame may be")]
    TooLarge,
}

/// A call's end of the queue that the reading thread fills, and how many bytes are in it.
struct Slot<In> {
    to: Sender<(In, usize)>,
    queued: Arc<AtomicUsize>,
}

type Waiting<In> = Arc<Mutex<Option<HashMap<u64, Slot<In>>>>>;

/// One socket shared by many calls.
pub struct Mux<Out, In> {
    writer: Mutex<UnixStream>,
    waiting: Waiting<In>,
    next: AtomicU64,
    _out: std::marker::PhantomData<fn(Out)>,
}

impl<Out: Serialize, In: DeserializeOwned + Numbered + Send + 'static> Mux<Out, In> {
    /// Takes the socket over and starts the one thread that reads it. A frame over `limit` bytes ends the connection, and so does a call
    /// whose frames come faster than its thread takes them, by more than any honest call has.
    pub fn start(name: &str, socket: UnixStream, limit: usize) -> io::Result<Self> {
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut reader = socket.try_clone()?;
        let waiting: Waiting<In> = Arc::new(Mutex::new(Some(HashMap::new())));
        let sorted = waiting.clone();
        std::thread::Builder::new().name(format!("read {name}")).stack_size(256 << 10).spawn(move || {
            if let Err(error) = sort(&mut reader, limit, &sorted)
                && !matches!(error, SortError::Frame(FrameError::Closed))
            {
                tracing::warn!(error = &error as &dyn std::error::Error, "a process sent what it may not send; it is let go");
            }
            // Dropping the senders wakes everybody who waits.
            *sorted.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let _ = reader.shutdown(Shutdown::Both);
        })?;
        Ok(Self { writer: Mutex::new(socket), waiting, next: AtomicU64::new(1), _out: std::marker::PhantomData })
    }

    /// Has the other side gone?
    pub fn is_lost(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// How many calls wait.
    pub fn in_flight(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, HashMap::len)
    }

    /// Opens a call with a number of its own.
    pub fn call(&self) -> Result<OpenCall<'_, Out, In>, WaitError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (to, frames) = channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let mut table = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        table.as_mut().ok_or(WaitError::Lost)?.insert(id, Slot { to, queued: queued.clone() });
        Ok(OpenCall { mux: self, id, frames, queued })
    }
}

/// Why the reading thread stopped.
#[derive(Debug, thiserror::Error)]
enum SortError {
    /// No frame.
    #[error("no frame can be read")]
    Frame(#[from] FrameError),
    /// A call's frames pile up.
    #[error("one call sent {0} bytes that nobody has taken yet")]
    Flood(usize),
}

/// Hands every frame to its call. A call that has stopped waiting has taken its slot away; its late frames go nowhere.
fn sort<In: DeserializeOwned + Numbered>(reader: &mut UnixStream, limit: usize, waiting: &Waiting<In>) -> Result<(), SortError> {
    loop {
        let (frame, length): (In, usize) = frame::read_counted(reader, limit)?;
        let cost = length + OVERHEAD;
        let table = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = frame.id().and_then(|id| table.as_ref()?.get(&id)) {
            let queued = slot.queued.fetch_add(cost, Ordering::Relaxed) + cost;
            if queued > limit.saturating_add(QUEUED) {
                return Err(SortError::Flood(queued));
            }
            let _ = slot.to.send((frame, cost));
        }
    }
}

impl<Out, In> Drop for Mux<Out, In> {
    fn drop(&mut self) {
        let _ = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
    }
}

/// One call on a shared socket; its number is free again when it is dropped.
pub struct OpenCall<'a, Out, In> {
    mux: &'a Mux<Out, In>,
    /// The call's number.
    pub id: u64,
    frames: Receiver<(In, usize)>,
    queued: Arc<AtomicUsize>,
}

impl<Out: Serialize, In> OpenCall<'_, Out, In> {
    /// Sends one frame. A process that does not read it in time is lost, as is one that has read half of it.
    pub fn send(&self, frame: &Out) -> Result<(), WaitError> {
        let writer = self.mux.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = frame::write(&mut frame::Until { socket: &writer, until: Instant::now() + PATIENCE }, frame);
        sent.map_err(|error| match error {
            FrameError::TooLarge { .. } => WaitError::TooLarge,
            FrameError::Closed | FrameError::Io(_) | FrameError::Malformed(_) => {
                // Wakes the reading thread, which tells all others.
                let _ = writer.shutdown(Shutdown::Both);
                WaitError::Lost
            }
        })
    }

    /// Waits for the next frame of this call.
    pub fn wait(&self, until: Instant) -> Result<In, WaitError> {
        let received = self.frames.recv_timeout(until.saturating_duration_since(Instant::now()));
        self.taken(received.map_err(|error| match error {
            RecvTimeoutError::Timeout => WaitError::TimedOut,
            RecvTimeoutError::Disconnected => WaitError::Lost,
        }))
    }

    /// Waits for the next frame of this call for as long as the process lives.
    pub fn wait_until_lost(&self) -> Result<In, WaitError> {
        self.taken(self.frames.recv().map_err(|_| WaitError::Lost))
    }

    fn taken(&self, received: Result<(In, usize), WaitError>) -> Result<In, WaitError> {
        received.map(|(frame, cost)| {
            self.queued.fetch_sub(cost, Ordering::Relaxed);
            frame
        })
    }
}

impl<Out, In> Drop for OpenCall<'_, Out, In> {
    fn drop(&mut self) {
        if let Some(table) = self.mux.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            table.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Deed;
    use crate::effects::{Reply, Request};
    use std::time::Duration;
    use windlass_plan::effect::{EffectAnswer, FilesVerb};

    fn number(request: &Request) -> u64 {
        match request {
            Request::Key { id, .. } | Request::Do { id, .. } => *id,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn answers_find_their_calls_in_any_order_and_a_loss_wakes_everybody() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mux: Mux<Request, Reply> = Mux::start("test", ours, 4096).unwrap();
        let (one, two) = (mux.call().unwrap(), mux.call().unwrap());
        for call in [&one, &two] {
            call.send(&Request::Do { id: call.id, deed: Deed::Files(FilesVerb::Room) }).unwrap();
        }
        let asked: Vec<Request> = (0..2).map(|_| frame::read(&mut theirs, 4096).unwrap()).collect();
        for request in asked.iter().rev() {
            frame::write(&mut theirs, &Reply { id: number(request), result: Ok(EffectAnswer::Room { available: number(request), total: 0 }) }).unwrap();
        }
        for call in [&one, &two] {
            let reply = call.wait(soon()).unwrap();
            assert_eq!(reply.result, Ok(EffectAnswer::Room { available: call.id, total: 0 }));
        }
        assert_eq!(one.wait(Instant::now()).unwrap_err(), WaitError::TimedOut);
        drop(theirs);
        assert_eq!(one.wait(soon()).unwrap_err(), WaitError::Lost);
        drop((one, two));
        assert!(mux.is_lost() && mux.call().is_err());
    }
    #[test]
    fn a_process_that_stops_reading_is_lost_and_holds_nobody_up() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mux: Mux<Request, Reply> = Mux::start("test", ours, 4096).unwrap();
        let waits = mux.call().unwrap();
        let began = Instant::now();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let call = mux.call().unwrap();
                        let name = "n".repeat(1 << 20);
                        let ask = Request::Do { id: call.id, deed: Deed::Files(FilesVerb::Stat { name }) };
                        (0..16).find_map(|_| call.send(&ask).err())
                    })
                })
                .collect();
            assert_eq!(waits.wait(soon()).unwrap_err(), WaitError::Lost, "who waits for an answer is told");
            assert!(writers.into_iter().all(|writer| writer.join().unwrap() == Some(WaitError::Lost)));
        });
        assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
        assert!(mux.is_lost());
        drop((waits, theirs));
    }

    #[test]
    fn a_frame_that_is_too_large_is_not_sent_and_costs_nothing_else() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mux: Mux<Request, Reply> = Mux::start("test", ours, 4096).unwrap();
        let call = mux.call().unwrap();
        let ask = |verb| call.send(&Request::Do { id: call.id, deed: Deed::Files(verb) });
        assert_eq!(ask(FilesVerb::Stat { name: "n".repeat(frame::LIMIT + 1) }), Err(WaitError::TooLarge));
        assert_eq!(ask(FilesVerb::Room), Ok(()));
        assert!(matches!(frame::read(&mut theirs, 4096).unwrap(), Request::Do { deed: Deed::Files(FilesVerb::Room), .. }));
    }

    #[test]
    fn a_call_whose_frames_nobody_takes_may_not_fill_the_memory() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mux: Mux<Request, Reply> = Mux::start("test", ours, 4096).unwrap();
        let call = mux.call().unwrap();
        let reply = Reply { id: call.id, result: Ok(EffectAnswer::Deleted) };
        let most = (4096 + QUEUED) / OVERHEAD;
        let sent = (0..2 * most).take_while(|_| frame::write(&mut theirs, &reply).is_ok()).count();
        assert!(sent < 2 * most, "{sent} frames were taken");
        assert!((0..2 * most).any(|_| matches!(call.wait(soon()), Err(WaitError::Lost))));
    }
}
