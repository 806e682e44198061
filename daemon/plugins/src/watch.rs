//! Notices that a component or a drivers.d file was renamed in, edited or swapped, and says so once things are quiet.

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long nothing must have happened: a rename is one event, an editor's save is several.
const QUIET: Duration = Duration::from_millis(10);
/// A folder in which something happens all the time is looked at all the same.
const AT_MOST: u32 = 50;

/// Watches folders. Events say only *that* something happened: what it was is found by looking again, so a lost event in a burst
/// (the kernel's queue overflows) or a `..data` swap needs no case of its own.
pub struct Watch {
    watcher: Mutex<(RecommendedWatcher, BTreeSet<PathBuf>)>,
}

impl Watch {
    /// Calls `look` on a thread of its own after each burst of changes.
    pub fn start(look: impl Fn() + Send + 'static) -> notify::Result<Self> {
        let (happened, events): (Sender<()>, Receiver<()>) = channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a component is an event as well; looking at it must not make us look again. An error may hide anything.
            if event.is_ok_and(|event| {
                matches!(
                    event.kind,
                    EventKind::Access(notify::event::AccessKind::Open(_) | notify::event::AccessKind::Read)
                        | EventKind::Access(notify::event::AccessKind::Close(notify::event::AccessMode::Read))
                )
            }) {
                return;
            }
            let _ = happened.send(());
        })?;
        std::thread::Builder::new().name("watch".into()).stack_size(512 << 10).spawn(move || {
            while events.recv().is_ok() {
                for _ in 0..AT_MOST {
                    match events.recv_timeout(QUIET) {
                        Ok(()) => {}
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
                look();
            }
        })?;
        Ok(Self { watcher: Mutex::new((watcher, BTreeSet::new())) })
    }

    /// Watches exactly these folders from now on. One that does not exist (yet) is tried again at the next call.
    ///
    /// True if one of them was not watched before: what happened in it until now is seen only by looking again.
    pub fn set(&self, folders: BTreeSet<PathBuf>) -> bool {
        let mut guard = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let (watcher, watched) = &mut *guard;
        for gone in watched.difference(&folders) {
            let _ = watcher.unwatch(gone);
        }
        let before = std::mem::take(watched);
        *watched = folders
            .into_iter()
            .filter(|folder| {
                let is_watched = watcher.watch(folder, RecursiveMode::NonRecursive);
                if let Err(error) = &is_watched {
                    tracing::warn!(folder = %folder.display(), %error, "a folder is not watched; changes in it need a restart");
                }
                is_watched.is_ok()
            })
            .collect();
        !watched.is_subset(&before)
    }
}
