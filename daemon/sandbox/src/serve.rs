//! Serves calls: a thread for each lane runs the guests of the calls that come by it, and one ticks while any of them runs.

use crate::call::{Call, Nature, Shared};
use crate::exports::Exports;
use crate::link::{Link, lock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use wasmtime::component::Instance;
use wasmtime::{Engine, Store};
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall};
use windlass_wire::lane::Lane;

/// Between two looks at the clock while a guest runs.
const TICK: Duration = Duration::from_millis(5);

/// Ticks after the last guest, before the clockwork stops: waking it costs a call more than it does to let it run on.
const LINGER: u32 = 40;

/// Stack of a thread that runs guests: theirs, and ours below it.
const STACK: usize = 2 * crate::engine::WASM_STACK;

/// The clockwork of the engine: it stands still while no guest runs.
#[derive(Default)]
pub(crate) struct Ticker {
    state: Mutex<Ticking>,
    woken: Condvar,
}

#[derive(Default)]
struct Ticking {
    guests: usize,
    is_asleep: bool,
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self::default());
        let (this, engine) = (ticker.clone(), engine.clone());
        thread::Builder::new().name("tick".into()).stack_size(64 << 10).spawn(move || {
            let mut quiet = 0;
            loop {
                let mut state = lock(&this.state);
                quiet = if state.guests > 0 { 0 } else { quiet + 1 };
                while quiet > LINGER && state.guests == 0 {
                    state.is_asleep = true;
                    state = this.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.is_asleep = false;
                drop(state);
                thread::sleep(TICK);
                engine.increment_epoch();
            }
        })?;
        Ok(ticker)
    }

    /// Ticks while `work` is done.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut state = lock(&self.state);
        state.guests += 1;
        if state.is_asleep {
            self.woken.notify_one();
        }
        drop(state);
        let done = catch_unwind(AssertUnwindSafe(work));
        lock(&self.state).guests -= 1;
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

const OUR_FAULT: &str = "the plugin process itself failed in this call; this is a fault of Windlass";

/// Starts the threads that run guests, one a lane. From here on the process needs no more of them.
pub(crate) fn start(shared: &Arc<Shared>, engine: &Engine, exports: Exports, ticker: &Arc<Ticker>, lanes: Vec<Lane>) -> std::io::Result<()> {
    let guests = Arc::new(Guests {
        shared: shared.clone(),
        engine: engine.clone(),
        exports,
        ticker: ticker.clone(),
        next: Mutex::new(None),
        is_next_of_use: AtomicBool::new(true),
    });
    for (number, lane) in lanes.into_iter().enumerate() {
        let guests = guests.clone();
        thread::Builder::new().name(format!("guest {number}")).stack_size(STACK).spawn(move || {
            let lane = Arc::new(Mutex::new(lane));
            loop {
                let (link, call) = Link::next(&lane);
                let (result, used) = guests.run(&link, call);
                link.finish(result);
                // The answer waits for neither: the memory of this call is given back, and an instance for the next one is made.
                drop(used);
                guests.make_next();
            }
        })?;
    }
    Ok(())
}

/// What guests are made and run with, and one that is made already: for whichever lane is called next.
struct Guests {
    shared: Arc<Shared>,
    engine: Engine,
    exports: Exports,
    ticker: Arc<Ticker>,
    next: Mutex<Option<Guest>>,
    is_next_of_use: AtomicBool,
}

/// A store and an instance in it, for one call.
struct Guest {
    store: Store<Call>,
    instance: Instance,
}

impl Guests {
    /// One call in a store and an instance of its own. The store is given back, to be dropped after the answer.
    fn run(&self, link: &Link, call: PluginCall) -> (Result<PluginAnswer, CallFailure>, Store<Call>) {
        let nature = if call.has_effects() { Nature::Effectful } else { Nature::Pure };
        let next = lock(&self.next).take();
        let (mut store, instance) = match next {
            Some(Guest { mut store, instance }) => {
                store.data_mut().begin(link.clone(), call.name(), nature);
                (store, Some(instance))
            }
            None => (Call::store(&self.engine, &self.shared, Some(link.clone()), call.name(), nature), None),
        };
        let result = self.ticker.during(|| {
            catch_unwind(AssertUnwindSafe(|| self.exports.call(&mut store, instance, call))).unwrap_or_else(|_| Err(CallFailure::Trapped(OUR_FAULT.to_owned())))
        });
        (result, store)
    }

    /// Makes a guest for the next call, unless there is one. Nobody has called it, so nobody is told what it says when it starts, and it sees no time. A
    /// component that fails there fails again in its call, which says so, and is not tried in advance any more.
    fn make_next(&self) {
        if !self.is_next_of_use.load(Ordering::Relaxed) || lock(&self.next).is_some() {
            return;
        }
        let mut store = Call::store(&self.engine, &self.shared, None, "its start", Nature::Pure);
        let made = self.ticker.during(|| catch_unwind(AssertUnwindSafe(|| self.exports.instantiate(&mut store))));
        match made {
            Ok(Ok(instance)) => drop(lock(&self.next).replace(Guest { store, instance })),
            _ => self.is_next_of_use.store(false, Ordering::Relaxed),
        }
    }
}
