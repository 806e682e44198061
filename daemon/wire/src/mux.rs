//! Many threads, one socket: each waits for the frames that carry its call's number.

use crate::frame::{self, FrameError};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

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

impl Numbered for crate::plugin::FromPlugin {
    fn id(&self) -> Option<u64> {
        use crate::plugin::FromPlugin::{Effect, Log, Ready, Return, Unusable};
        match self {
            Effect { id, .. } | Log { id, .. } | Return { id, .. } => Some(*id),
            Ready { .. } | Unusable { .. } => None,
        }
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
}

type Waiting<In> = Arc<Mutex<Option<HashMap<u64, Sender<In>>>>>;

/// One socket shared by many calls.
pub struct Mux<Out, In> {
    writer: Mutex<UnixStream>,
    waiting: Waiting<In>,
    next: AtomicU64,
    _out: std::marker::PhantomData<fn(Out)>,
}

impl<Out: Serialize, In: DeserializeOwned + Numbered + Send + 'static> Mux<Out, In> {
    /// Takes the socket over and starts the one thread that reads it. Frames over `limit` bytes end the connection.
    pub fn start(name: &str, socket: UnixStream, limit: usize) -> std::io::Result<Self> {
        let mut reader = socket.try_clone()?;
        let waiting: Waiting<In> = Arc::new(Mutex::new(Some(HashMap::new())));
        let sorted = waiting.clone();
        std::thread::Builder::new().name(format!("read {name}")).stack_size(256 << 10).spawn(move || {
            loop {
                let frame: In = match frame::read(&mut reader, limit) {
                    Ok(frame) => frame,
                    Err(error) => {
                        if !matches!(error, FrameError::Closed) {
                            tracing::warn!(error = &error as &dyn std::error::Error, "a process sent what it may not send; it is let go");
                        }
                        break;
                    }
                };
                let table = sorted.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(to) = frame.id().and_then(|id| table.as_ref()?.get(&id)) {
                    // A call that has stopped waiting drops its end; its late frames go nowhere.
                    let _ = to.send(frame);
                }
            }
            // Dropping the senders wakes everybody who waits.
            *sorted.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let _ = reader.shutdown(std::net::Shutdown::Both);
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
        let (sender, frames) = channel();
        let mut table = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        table.as_mut().ok_or(WaitError::Lost)?.insert(id, sender);
        Ok(OpenCall { mux: self, id, frames })
    }
}

impl<Out, In> Drop for Mux<Out, In> {
    fn drop(&mut self) {
        let _ = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).shutdown(std::net::Shutdown::Both);
    }
}

/// One call on a shared socket; its number is free again when it is dropped.
pub struct OpenCall<'a, Out, In> {
    mux: &'a Mux<Out, In>,
    /// The call's number.
    pub id: u64,
    frames: Receiver<In>,
}

impl<Out: Serialize, In> OpenCall<'_, Out, In> {
    /// Sends one frame.
    pub fn send(&self, frame: &Out) -> Result<(), WaitError> {
        let mut writer = self.mux.writer.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write(&mut *writer, frame).map_err(|_| WaitError::Lost)
    }

    /// Waits for the next frame of this call.
    pub fn wait(&self, until: Instant) -> Result<In, WaitError> {
        self.frames.recv_timeout(until.saturating_duration_since(Instant::now())).map_err(|error| match error {
            RecvTimeoutError::Timeout => WaitError::TimedOut,
            RecvTimeoutError::Disconnected => WaitError::Lost,
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
    use crate::effects::{Reply, Request};
    use std::time::Duration;
    use windlass_plan::effect::{EffectAnswer, FilesVerb};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn answers_find_their_calls_in_any_order_and_a_loss_wakes_everybody() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mux: Mux<Request, Reply> = Mux::start("test", ours, 4096).unwrap();
        let (one, two) = (mux.call().unwrap(), mux.call().unwrap());
        for call in [&one, &two] {
            call.send(&Request { id: call.id, folder: 0, verb: FilesVerb::Room }).unwrap();
        }
        let asked: Vec<Request> = (0..2).map(|_| frame::read(&mut theirs, 4096).unwrap()).collect();
        for request in asked.iter().rev() {
            frame::write(&mut theirs, &Reply { id: request.id, result: Ok(EffectAnswer::Room { available: request.id, total: 0 }) }).unwrap();
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
}
