//! One call as its store knows it: what is left of its limits, where its answers come from, and what it may do.

use crate::engine::{INSTANCES, MEMORIES, TABLES};
use crate::link::Link;
use crate::text;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::{ResourceLimiter, Store, Trap};
use windlass_plan::plugin::CallFailure;
use windlass_plan::request::Context;
use windlass_wire::plugin::{FromPlugin, Level, Limits};

/// Log lines of one call that are passed on.
const LOG_LINES: u32 = 200;

/// What all calls of the process share.
pub(crate) struct Shared {
    /// The operator's `[config]` table.
    pub(crate) config: Context,
    /// Limits of each call.
    pub(crate) limits: Limits,
    /// Where the monotonic clock of controller calls begins.
    pub(crate) started: Instant,
}

/// May the call see time and chance, and ask for effects?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// `driver` and `node`: two runs give equal answers.
    Pure,
    /// `controller`.
    Effectful,
}

/// The data of a call's store.
pub(crate) struct Call {
    /// What all calls share.
    pub(crate) shared: Arc<Shared>,
    /// The way to the daemon; `None` while the component is tried out, when nobody listens.
    pub(crate) link: Option<Link>,
    /// The export's name.
    pub(crate) name: &'static str,
    /// What it may do.
    pub(crate) nature: Nature,
    /// When its time is up.
    pub(crate) deadline: Instant,
    /// State of the fixed random numbers.
    pub(crate) random: u64,
    /// Clock subscriptions: when each is ready; `None` is a free slot.
    pub(crate) timers: Vec<Option<Instant>>,
    /// Output that is not a whole line yet, and the last whole line of standard error.
    pub(crate) output: Vec<u8>,
    last_words: String,
    host_calls: u32,
    log_lines: u32,
    memory: usize,
    table_elements: usize,
}

/// Why a call was ended from outside.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// Its time is up.
    #[error("its time is up")]
    TimedOut,
    /// Too much memory.
    #[error("it asked for {asked} bytes of memory; {limit} are allowed (`limits.memory_mib`)")]
    Memory {
        /// Bytes in all.
        asked: usize,
        /// Bytes allowed.
        limit: u64,
    },
    /// Too large tables.
    #[error("it asked for {asked} table elements; {limit} are allowed (`limits.table_elements`)")]
    Table {
        /// Elements in all.
        asked: usize,
        /// Elements allowed.
        limit: u32,
    },
    /// Too many host calls.
    #[error("it made more than {limit} host calls (`limits.host_calls`)")]
    HostCalls {
        /// Calls allowed.
        limit: u32,
    },
    /// Too much in one message.
    #[error("{what} is {size} bytes long; {limit} are allowed (`limits.message_kib`)")]
    Message {
        /// What is too long.
        what: &'static str,
        /// Its size.
        size: u64,
        /// Bytes allowed.
        limit: u32,
    },
    /// Too many timers.
    #[error("it waits for more than {limit} timers at once")]
    Timers {
        /// Timers allowed.
        limit: usize,
    },
    /// It called `exit`.
    #[error("it ended itself by `exit`")]
    Exit,
    /// It used what the floor has only in name.
    #[error("it called `{name}`, which does nothing here: a plugin has no files, no network and no environment")]
    Inert {
        /// The import.
        name: String,
    },
}

impl Call {
    /// A store for one call. Its time begins now.
    pub(crate) fn store(engine: &wasmtime::Engine, shared: &Arc<Shared>, link: Option<Link>, name: &'static str, nature: Nature) -> Store<Call> {
        let limits = shared.limits;
        let call = Call {
            shared: shared.clone(),
            link,
            name,
            nature,
            deadline: Instant::now() + Duration::from_millis(limits.call_ms),
            random: 0,
            timers: Vec::new(),
            output: Vec::new(),
            last_words: String::new(),
            host_calls: limits.host_calls,
            log_lines: LOG_LINES,
            memory: 0,
            table_elements: 0,
        };
        let mut store = Store::new(engine, call);
        store.limiter(|call| call);
        store.set_hostcall_fuel(limits.message as usize);
        store.set_max_component_handles(256);
        store.set_epoch_deadline(1);
        // The wall clock decides, not the number of ticks: a burst of missed ones kills nobody.
        store.epoch_deadline_callback(|store| {
            store.data().alive()?;
            Ok(wasmtime::UpdateDeadline::Continue(1))
        });
        store
    }

    /// Makes it the store of this call, whose time begins now; what its instance has used so far stays used.
    pub(crate) fn begin(&mut self, link: Link, name: &'static str, nature: Nature) {
        self.deadline = Instant::now() + Duration::from_millis(self.shared.limits.call_ms);
        (self.link, self.name, self.nature) = (Some(link), name, nature);
    }

    /// May it go on?
    pub(crate) fn alive(&self) -> Result<(), Ended> {
        if Instant::now() >= self.deadline { Err(Ended::TimedOut) } else { Ok(()) }
    }

    /// Counts a host call.
    pub(crate) fn count_host_call(&mut self) -> Result<(), Ended> {
        self.alive()?;
        self.host_calls = self.host_calls.checked_sub(1).ok_or(Ended::HostCalls { limit: self.shared.limits.host_calls })?;
        Ok(())
    }

    /// Waits until then, or until its time is up.
    pub(crate) fn sleep(&self, until: Instant) -> Result<(), Ended> {
        std::thread::sleep(until.min(self.deadline).saturating_duration_since(Instant::now()));
        if until > self.deadline { Err(Ended::TimedOut) } else { Ok(()) }
    }

    /// A line for the daemon's log: bounded in length and number.
    pub(crate) fn log(&mut self, level: Level, message: &str) {
        let Some(link) = &self.link else { return };
        let message = match self.log_lines {
            0 => return,
            1 => format!("{} wrote more than {LOG_LINES} lines; the rest of this call's is dropped", self.name),
            _ => text::line(message, text::LINE),
        };
        self.log_lines -= 1;
        link.send(&FromPlugin::Log { id: link.id(), level, message });
    }

    /// Output of the guest; whole lines go to the log.
    pub(crate) fn write_output(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = text::LINE.saturating_sub(self.output.len());
            self.output.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.flush_output();
            }
        }
    }

    /// What is left of the output, at the end of a call too.
    pub(crate) fn flush_output(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.output)).trim().to_owned();
        if !line.is_empty() {
            self.log(Level::Warn, &line);
            // What a Rust guest says of itself when it dies is spread over lines; a hint about backtraces is not news.
            if !line.starts_with("note:") {
                let both = if self.last_words.ends_with(':') { format!("{} {line}", self.last_words) } else { line };
                self.last_words = text::line(&both, 400);
            }
        }
    }

    /// How a call that did not return failed.
    pub(crate) fn failure(&mut self, error: &wasmtime::Error) -> CallFailure {
        self.flush_output();
        match error.downcast_ref::<Ended>() {
            Some(Ended::TimedOut) => return CallFailure::TimedOut { limit_ms: self.shared.limits.call_ms },
            Some(Ended::Exit | Ended::Inert { .. }) => return CallFailure::Trapped(text::error_line(error)),
            Some(limit) => return CallFailure::Limit(limit.to_string()),
            None => {}
        }
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            return CallFailure::TimedOut { limit_ms: self.shared.limits.call_ms };
        }
        let said = text::error_line(error);
        // wasmtime's own error for this is private to it; a test holds the words.
        if said.contains("fuel allocated for hostcalls has been exhausted") {
            let limit = self.shared.limits.message;
            return CallFailure::Limit(format!("it returned, or handed over in one host call, more than {limit} bytes (`limits.message_kib`)"));
        }
        if error.downcast_ref::<Trap>().is_none() && said.contains("invalid utf-8") {
            return CallFailure::Limit("it returned text that is not UTF-8".to_owned());
        }
        match self.last_words.as_str() {
            "" => CallFailure::Trapped(said),
            words => CallFailure::Trapped(text::line(&format!("{said}; its last words: {words}"), text::LINE)),
        }
    }
}

/// Memories and tables of all the call's instances are counted together.
impl ResourceLimiter for Call {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let asked = self.memory.saturating_add(desired.saturating_sub(current));
        let limit = self.shared.limits.memory;
        if asked as u64 > limit {
            return Err(Ended::Memory { asked, limit }.into());
        }
        self.memory = asked;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let asked = self.table_elements.saturating_add(desired.saturating_sub(current));
        let limit = self.shared.limits.table_elements;
        if asked > limit as usize {
            return Err(Ended::Table { asked, limit }.into());
        }
        self.table_elements = asked;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }
}
