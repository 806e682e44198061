//! Serves calls: one thread reads, as many as the limits say run guests, one ticks while any of them runs.

use crate::call::{Call, Nature, Shared};
use crate::exports::Exports;
use crate::link::{Mailbox, lock};
use crate::sys;
use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use wasmtime::Engine;
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall};
use windlass_wire::frame;
use windlass_wire::plugin::{FromPlugin, ToPlugin};

/// Between two looks at the clock while a guest runs.
const TICK: Duration = Duration::from_millis(5);

/// Calls that wait for a thread; the daemon keeps to `concurrency` and a little.
const QUEUE: usize = 1024;

/// Stack of a thread that runs guests: theirs, and ours below it.
const STACK: usize = 2 * crate::engine::WASM_STACK;

/// The clockwork of the engine: it stands still while no guest runs.
#[derive(Default)]
pub(crate) struct Ticker {
    running: Mutex<usize>,
    woken: Condvar,
}

/// Calls that wait for a thread.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<(u64, PluginCall, Arc<Mailbox>)>>,
    arrived: Condvar,
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self::default());
        let (this, engine) = (ticker.clone(), engine.clone());
        thread::Builder::new().name("tick".into()).stack_size(64 << 10).spawn(move || {
            loop {
                let mut running = lock(&this.running);
                while *running == 0 {
                    running = this.woken.wait(running).unwrap_or_else(PoisonError::into_inner);
                }
                drop(running);
                thread::sleep(TICK);
                engine.increment_epoch();
            }
        })?;
        Ok(ticker)
    }

    /// Ticks while `work` is done.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        *lock(&self.running) += 1;
        self.woken.notify_one();
        let done = catch_unwind(AssertUnwindSafe(work));
        *lock(&self.running) -= 1;
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Starts the threads that run guests. From here on the process needs no more of them.
pub(crate) fn start_workers(shared: &Arc<Shared>, engine: &Engine, exports: Exports, ticker: &Arc<Ticker>) -> std::io::Result<Arc<Queue>> {
    let queue = Arc::new(Queue::default());
    let exports = Arc::new(exports);
    for number in 0..shared.limits.concurrency.clamp(1, 64) {
        let (queue, shared, engine, exports, ticker) = (queue.clone(), shared.clone(), engine.clone(), exports.clone(), ticker.clone());
        thread::Builder::new().name(format!("guest {number}")).stack_size(STACK).spawn(move || {
            loop {
                let (id, call, mailbox) = queue.take();
                let result = run(&shared, &engine, &exports, &ticker, id, call, mailbox);
                shared.link.close(id);
                shared.link.send(&FromPlugin::Return { id, result });
            }
        })?;
    }
    Ok(queue)
}

/// Reads the daemon's frames until it is gone, and ends the process then: nothing here is worth more than the daemon's word.
pub(crate) fn read(shared: &Shared, queue: &Queue, mut socket: UnixStream) -> ! {
    loop {
        match frame::read(&mut socket, frame::LIMIT) {
            Ok(ToPlugin::Call { id, call }) => {
                let mailbox = shared.link.open(id);
                if !queue.put(id, call, mailbox) {
                    shared.link.close(id);
                    let failure = CallFailure::Limit(format!("{QUEUE} calls wait already"));
                    shared.link.send(&FromPlugin::Return { id, result: Err(failure) });
                }
            }
            Ok(ToPlugin::EffectDone { id, result }) => {
                if let Some(mailbox) = shared.link.mailbox(id) {
                    mailbox.deliver(result);
                }
            }
            Ok(ToPlugin::Cancel { id }) => {
                if let Some(mailbox) = shared.link.mailbox(id) {
                    mailbox.cancel();
                }
            }
            Err(frame::FrameError::Closed) => sys::exit_now(0),
            Err(_) => sys::exit_now(1),
        }
    }
}

impl Queue {
    fn put(&self, id: u64, call: PluginCall, mailbox: Arc<Mailbox>) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= QUEUE {
            return false;
        }
        waiting.push_back((id, call, mailbox));
        self.arrived.notify_one();
        true
    }

    fn take(&self) -> (u64, PluginCall, Arc<Mailbox>) {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(call) = waiting.pop_front() {
                return call;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One call in a store and an instance of its own, which are gone when it returns.
fn run(
    shared: &Arc<Shared>,
    engine: &Engine,
    exports: &Exports,
    ticker: &Ticker,
    id: u64,
    call: PluginCall,
    mailbox: Arc<Mailbox>,
) -> Result<PluginAnswer, CallFailure> {
    let nature = if call.has_effects() { Nature::Effectful } else { Nature::Pure };
    let mut store = Call::store(engine, shared, Some(id), call.name(), nature, mailbox);
    if let Err(ended) = store.data().alive() {
        return Err(store.data_mut().failure(&ended.into()));
    }
    ticker.during(|| {
        catch_unwind(AssertUnwindSafe(|| exports.call(&mut store, call)))
            .unwrap_or_else(|_| Err(CallFailure::Trapped("the plugin process itself failed in this call; this is a fault of Windlass".to_owned())))
    })
}
