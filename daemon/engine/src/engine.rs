//! The engine as a whole: what it is set up with, and how work on one volume begins.

use crate::journal::{Journal, Writer};
use crate::notes::Notes;
use crate::pool::Pool;
use crate::process::Launch;
use crate::record::{Header, Record, VERSION};
use crate::work::Work;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use windlass_plan::failure::Failure;
use windlass_plan::ids::{DriverName, VolumeId, VolumeKey};
use windlass_plan::paths::{HostPath, Roots};
use windlass_wire::worker::{Look, Setup, Surveyed};

/// How long a new piece of work waits for a worker of an earlier daemon that still holds the volume.
pub(crate) const PATIENCE_MS: u64 = 5_000;

/// What an engine is set up with.
pub struct Settings {
    /// Tells daemons on one kernel apart.
    pub instance: String,
    /// The kernel's boot id.
    pub boot: String,
    /// Where volumes may be mounted.
    pub roots: Roots,
    /// The journal's folder, in /run.
    pub journal: PathBuf,
    /// The lock files' folder, in /run.
    pub locks: HostPath,
    /// The format notes' folder, in /var/lib.
    pub notes: PathBuf,
    /// The control groups in which I/O is limited; empty: those that Kubernetes has.
    pub limited_groups: Vec<HostPath>,
    /// How many external programs (mkfs, e2fsck) run at once.
    pub programs: usize,
}

/// Carries out plans on this node.
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) pool: Arc<Pool>,
    pub(crate) journal: Journal,
    pub(crate) notes: Notes,
    pub(crate) programs: Semaphore,
}

impl Engine {
    /// Forks the first workers, reads the journal and the notes. Undoing what was half done is [`Engine::recover`]'s.
    pub fn start(settings: Settings, launch: Launch) -> io::Result<Self> {
        std::fs::create_dir_all(settings.locks.as_str())?;
        let pool =
            Pool::start(launch, Setup { roots: settings.roots.clone(), locks: settings.locks.clone(), limited_groups: settings.limited_groups.clone() })?;
        let (journal, unreadable) = Journal::open(&settings.journal, &settings.boot)?;
        for file in unreadable {
            tracing::error!(path = %file.path.display(), error = &file.error as &dyn std::error::Error, "a journal file was put aside; what it was about is found in the kernel instead");
        }
        for record in journal.all() {
            fits(&record, &settings).map_err(io::Error::other)?;
        }
        let notes = Notes::open(&settings.notes)?;
        let programs = Semaphore::new(settings.programs);
        Ok(Self { settings, pool, journal, notes, programs })
    }

    /// The folders that volumes may be mounted beneath.
    pub fn roots(&self) -> &Roots {
        &self.settings.roots
    }

    /// What stands for a volume on this node.
    pub fn key(&self, driver: &DriverName, volume: &VolumeId) -> VolumeKey {
        VolumeKey::derive(&self.settings.instance, driver, volume)
    }

    /// Begins work on one volume: leases a worker, which takes the volume's lock and looks what the kernel shows of it. The caller holds the
    /// volume's claim.
    pub fn open(&self, driver: &DriverName, volume: &VolumeId) -> Result<Work<'_>, Failure> {
        let (key, writer) = self.writer(driver, volume);
        let look = Look { device: Work::hint(&writer) };
        let (lease, seen) = self.pool.lease(key, PATIENCE_MS, Some(look))?;
        Ok(Work::new(self, key, lease, writer, seen))
    }

    /// The same, for work that begins with an undo and asks the kernel later, if at all.
    pub fn open_to_undo(&self, driver: &DriverName, volume: &VolumeId) -> Result<Work<'_>, Failure> {
        let (key, writer) = self.writer(driver, volume);
        let (lease, seen) = self.pool.lease(key, PATIENCE_MS, None)?;
        Ok(Work::new(self, key, lease, writer, seen))
    }

    fn writer(&self, driver: &DriverName, volume: &VolumeId) -> (VolumeKey, Writer<'_>) {
        let key = self.key(driver, volume);
        let roots = self.settings.roots.iter().map(|root| root.real.clone()).collect();
        let header = Header { version: VERSION, boot: self.settings.boot.clone(), driver: driver.clone(), volume: volume.clone(), key, roots };
        (key, self.journal.writer(header))
    }

    /// Is anything recorded of the volume?
    pub fn has_record(&self, driver: &DriverName, volume: &VolumeId) -> bool {
        self.journal.find(&self.key(driver, volume)).is_some()
    }

    /// Is anything recorded of any of the driver's volumes?
    pub fn has_record_of(&self, driver: &DriverName) -> bool {
        self.journal.any(|record| &record.header.driver == driver)
    }

    /// A copy of every record, for status.
    pub fn records(&self) -> Vec<Record> {
        self.journal.all()
    }

    /// Every loop device and mapped image of this kernel, of this daemon, of another, or of anybody.
    pub fn survey(&self) -> Result<Vec<Surveyed>, Failure> {
        self.pool.any()?.survey()
    }

    /// The workers that wait for work, by process id.
    pub fn idle_workers(&self) -> Vec<u32> {
        self.pool.idle_pids()
    }

    /// The workers that cannot let go of a volume, by process id, and for how long.
    pub fn stuck_workers(&self) -> Vec<(u32, Duration)> {
        self.pool.stuck_pids()
    }

    /// Ends the workers that a burst left behind.
    pub fn end_idle(&self) {
        self.pool.end_idle();
    }

    /// The format notes.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }
}

/// Is what was recorded meant for this configuration? Under another instance or other roots the daemon would look for its volumes in
/// the wrong place, find nothing, and call that taken down. What is left of a publish alone, a folder that could not be removed, is
/// nothing to look for.
fn fits(record: &Record, settings: &Settings) -> Result<(), String> {
    let header = &record.header;
    if record.stage().is_none() {
        return Ok(());
    }
    if VolumeKey::derive(&settings.instance, &header.driver, &header.volume) != header.key {
        return Err(format!(
            "`instance` is {:?}, and volume {} was staged under another one; set it back, or unstage what is staged first",
            settings.instance, header.volume
        ));
    }
    let now: Vec<&HostPath> = settings.roots.iter().map(|root| &root.real).collect();
    if header.roots.len() > now.len() || header.roots.iter().zip(&now).any(|(then, now)| then != *now) {
        let then: Vec<&str> = header.roots.iter().map(HostPath::as_str).collect();
        return Err(format!(
            "`node.roots` was {} when volume {} was staged; keep these, in this order, and add others behind them, or unstage what is staged first",
            then.join(", "),
            header.volume
        ));
    }
    Ok(())
}

/// Counts places; the n-plus-first waits.
pub(crate) struct Semaphore {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Semaphore {
    fn new(places: usize) -> Self {
        Self { free: Mutex::new(places.max(1)), freed: Condvar::new() }
    }

    /// Waits so long at the most: whoever has a place may hang with it.
    pub(crate) fn enter(&self, patience: Duration) -> Option<Place<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut free, waited) = self.freed.wait_timeout_while(free, patience, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && *free == 0 {
            return None;
        }
        *free -= 1;
        Some(Place(self))
    }
}

/// A place in a semaphore, until it is dropped.
pub(crate) struct Place<'a>(&'a Semaphore);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Line, PublishFacts, StageFacts, What};
    use windlass_plan::capability::{Access, AccessMode, Capability};
    use windlass_plan::paths::Place;
    use windlass_plan::step::Writable;

    #[test]
    fn what_is_left_of_a_publish_alone_holds_up_no_other_configuration() {
        let settings = Settings {
            instance: "other".into(),
            boot: "b".into(),
            roots: Roots::new(Vec::new()),
            journal: PathBuf::new(),
            locks: HostPath::parse("/run").unwrap(),
            notes: PathBuf::new(),
            limited_groups: Vec::new(),
            programs: 1,
        };
        let (driver, volume) = (DriverName::parse("d").unwrap(), VolumeId::parse("v").unwrap());
        let key = VolumeKey::derive("", &driver, &volume);
        let header = Header { version: VERSION, boot: "b".into(), key, driver, volume, roots: vec![HostPath::parse("/gone").unwrap()] };
        let capability = Capability { access: Access::Block, mode: AccessMode::SingleNodeWriter };
        let (place, path) = (Place { root: 0, below: "s".into() }, "/gone/s".to_owned());
        let mut record = Record::new(header);
        let what = What::Publish(PublishFacts {
            target: place.clone(),
            path: path.clone(),
            capability: capability.clone(),
            writable: Writable::ReadWrite,
            arguments: None,
        });
        record.add(&Line::Begin { strand: 0, what }).unwrap();
        assert_eq!(fits(&record, &settings), Ok(()));
        let what = What::Stage(StageFacts { staging: place, path, capability, source: "file:a/b".into(), filesystem: None });
        record.add(&Line::Begin { strand: 1, what }).unwrap();
        assert!(fits(&record, &settings).unwrap_err().contains("`instance`"));
    }
}
