//! The daemon as a whole: what all drivers share, which drivers there are, and how a change in their files is taken up.

use crate::claims::{Claimed, Claims};
use crate::config::{self, Config, ConfigError, Role};
use crate::effects::EffectsProcesses;
use crate::registration::Registrar;
use crate::served::Served;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use windlass_engine::process::Process;
use windlass_engine::record::Record;
use windlass_engine::{Engine, Settings};
use windlass_plan::grants::Grants;
use windlass_plan::ids::DriverName;
use windlass_plan::paths::HostPath;
use windlass_plugins::cache::Cache;
use windlass_plugins::child::Binary;
use windlass_plugins::component::Source;
use windlass_plugins::driver::Driver;
use windlass_plugins::floor::FloorError;
use windlass_plugins::generation::{DriverSpec, Workshop};
use windlass_plugins::signature::{self, Trust};
use windlass_wire::effects::BackEnd;
use windlass_wire::worker::Surveyed;

/// How long after a refusal that may pass the same files are tried again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(15);

/// What all drivers share.
pub(crate) struct House {
    pub(crate) config: Config,
    /// Of the node role.
    pub(crate) engine: Option<Engine>,
    pub(crate) claims: Arc<Claims>,
    /// Of the controller role.
    pub(crate) effects: EffectsProcesses,
    pub(crate) drivers: RwLock<BTreeMap<DriverName, Arc<Served>>>,
    /// Devices with a mark that no record explained at start.
    pub(crate) unowned: Mutex<Vec<Surveyed>>,
    pub(crate) started: std::time::SystemTime,
    /// Of the node role, where there is a kubelet.
    pub(crate) registrar: Registrar,
    workshop: Workshop,
    looked_at: Mutex<BTreeMap<DriverName, Seen>>,
    // One look at a time: the next finds what the last one has not seen.
    looking: Mutex<()>,
    has_unexplained: AtomicBool,
}

/// What a driver's files looked like when they were loaded last: another look is only worth while when this differs.
#[derive(PartialEq, Eq)]
struct Seen {
    spec: Result<DriverSpec, String>,
    component: Option<FileState>,
    /// The file of its signature, where one is asked for: it may come before the component, or after it.
    signature: Option<FileState>,
}

#[derive(PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl House {
    /// Forks the workers and reads the journal; loads nothing and listens nowhere yet.
    pub(crate) fn build(config: Config) -> anyhow::Result<Arc<Self>> {
        use anyhow::Context;
        use std::os::unix::fs::DirBuilderExt;
        let mut folders = std::fs::DirBuilder::new();
        folders.recursive(true).mode(0o700);
        let folder = |path: PathBuf| folders.create(&path).with_context(|| format!("cannot make the folder {}", path.display()));
        folder(config.run.clone())?;
        folder(config.state.join("drivers"))?;
        folder(config.state.join("versions"))?;
        let binary = Binary::current();
        let engine = if config.has(Role::Node) {
            let settings = Settings {
                instance: config.instance.clone(),
                boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the kernel's boot id")?.trim().to_owned(),
                roots: config.roots.clone(),
                journal: config.run.join("journal"),
                locks: HostPath::parse(&config.run.join("locks").to_string_lossy())?,
                notes: config.state.join("formats"),
                limited_groups: config.limited_groups.clone(),
                programs: config.programs,
            };
            let launcher = binary.clone();
            let launch = Box::new(move || {
                let (child, socket) = launcher.start(&["worker".to_owned()], Vec::new())?;
                Ok((Box::new(child) as Box<dyn Process>, socket))
            });
            Some(Engine::start(settings, launch).context("cannot start the engine")?)
        } else {
            None
        };
        let cache = Cache::open(&config.state.join("code"), &windlass_sandbox::engine_key()).context("cannot open the folder of compiled code")?;
        Ok(Arc::new(Self {
            engine,
            claims: Claims::new(),
            effects: EffectsProcesses::new(binary.clone(), config::storage_uid(&config.instance)),
            drivers: RwLock::default(),
            unowned: Mutex::default(),
            started: std::time::SystemTime::now(),
            registrar: Registrar::new(config.registry.clone()),
            workshop: Workshop { binary, cache, death_words: windlass_sandbox::death_words },
            looked_at: Mutex::default(),
            looking: Mutex::default(),
            has_unexplained: AtomicBool::new(false),
            config,
        }))
    }

    /// Every driver that has a file in drivers.d or a record on this node, by name; and where there are devices that no record explains,
    /// every driver that ever served here, since they may be its: it has to be there for whoever takes them down (law 17). New ones are added; none is ever taken away, since
    /// what it staged must still be taken down.
    pub(crate) fn find_drivers(self: &Arc<Self>) -> Result<Vec<Arc<Served>>, ConfigError> {
        let mut names: BTreeSet<DriverName> = self.records().into_iter().map(|record| record.header.driver).collect();
        if self.has_unexplained.load(Ordering::Relaxed) {
            names.extend(self.remembered());
        }
        for file in self.driver_files() {
            match config::driver_of(&file) {
                Some(Ok(name)) => drop(names.insert(name)),
                Some(Err(error)) => tracing::error!("a drivers.d file was refused: {error}"),
                None => {}
            }
        }
        let known: BTreeSet<DriverName> = self.all().iter().map(|served| served.driver.name().clone()).collect();
        let mut new = Vec::new();
        for name in names.into_iter().filter(|name| !known.contains(name)) {
            // Read before the table is locked: everybody who asks for anything looks into it.
            let kept = |folder: &str| self.config.state.join(folder).join(format!("{name}.json"));
            let driver = Driver::new(name.clone(), self.workshop.clone(), kept("drivers"), kept("versions"));
            let served = Arc::new(Served::new(driver, self.clone()));
            self.drivers.write().unwrap_or_else(PoisonError::into_inner).insert(name, served.clone());
            new.push(served);
        }
        Ok(new)
    }

    /// Looks at every driver's files and loads what has changed. Returns the folders that are worth watching.
    pub(crate) fn look(&self) -> BTreeSet<PathBuf> {
        let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_now()
    }

    fn look_now(&self) -> BTreeSet<PathBuf> {
        let mut watched: BTreeSet<PathBuf> = [self.config.drivers.clone()].into();
        let mut granted = BTreeSet::new();
        let mut loads = Vec::new();
        for served in self.all() {
            let name = served.driver.name().clone();
            let file = self.config.drivers.join(format!("{name}.toml"));
            // A file that cannot be looked at is not one that is gone: it is refused below, and what serves goes on.
            if matches!(file.try_exists(), Ok(false)) {
                if self.lock_looked_at().remove(&name).is_some() || !served.driver.has_tried() {
                    served.driver.remove();
                }
                continue;
            }
            // What serves keeps what it was granted, also while a later file is refused.
            if let Ok(serving) = served.driver.generation() {
                granted.extend(back_ends(&serving.spec.grants));
            }
            let spec = config::driver(&file, &name, &self.config).map_err(|error| error.to_string());
            let mut seen = Seen { spec, component: None, signature: None };
            if let Ok(spec) = &seen.spec {
                granted.extend(back_ends(&spec.grants));
                if let Source::File(path) = &spec.source {
                    watched.extend(path.parent().map(PathBuf::from));
                    seen.component = file_state(path);
                    seen.signature = matches!(spec.trust, Trust::Keys(_)).then(|| file_state(&signature::beside(path))).flatten();
                }
            }
            if self.lock_looked_at().get(&name) == Some(&seen) {
                continue;
            }
            loads.push((served, seen));
        }
        if self.config.has(Role::Controller) {
            self.effects.allow(granted);
        }
        for (served, seen) in loads {
            match &seen.spec {
                Ok(spec) => drop(served.driver.load(spec)),
                Err(reason) => served.driver.refuse(reason.clone()),
            }
            self.lock_looked_at().insert(served.driver.name().clone(), seen);
        }
        watched
    }

    /// Looks for devices that carry a mark and that no record explains, before anything else is done.
    pub(crate) fn survey(&self) {
        let Some(engine) = &self.engine else { return };
        match engine.unowned() {
            Ok(unowned) => {
                self.has_unexplained.store(!unowned.is_empty(), Ordering::Relaxed);
                for marked in &unowned {
                    tracing::warn!(
                        device = marked.device,
                        backing = marked.backing,
                        "a device carries a mark that no record explains; it is left alone until its volume is unstaged"
                    );
                }
                *self.unowned.lock().unwrap_or_else(PoisonError::into_inner) = unowned;
            }
            Err(failure) => {
                // Nobody knows: there may be some.
                self.has_unexplained.store(true, Ordering::Relaxed);
                tracing::error!("the devices of this node could not be surveyed: {failure}");
            }
        }
    }

    /// Undoes what an earlier daemon was in the middle of, volume by volume, and tries again for as long as something is left.
    pub(crate) fn recover(self: &Arc<Self>) {
        let Some(engine) = &self.engine else { return };
        for record in engine.interrupted() {
            let house = self.clone();
            let started = std::thread::Builder::new().name("recover".into()).stack_size(512 << 10).spawn(move || house.recover_volume(&record));
            if let Err(error) = started {
                tracing::error!(%error, "no thread to recover a volume with; the next call for it does so");
            }
        }
    }

    fn recover_volume(&self, record: &Record) {
        let Some(engine) = &self.engine else { return };
        let (driver, volume) = (&record.header.driver, &record.header.volume);
        let key = Claimed::Volume(driver.clone(), volume.to_string());
        for attempt in 0..u32::MAX {
            // A call may do it in our stead, or may hold the volume and leave it to us after all.
            if !engine.interrupted().iter().any(|other| other.header.key == record.header.key) {
                return;
            }
            if let Some(_claim) = self.claims.claim_own(&key, "recovery") {
                match engine.open_to_undo(driver, volume).and_then(|mut work| work.recover()) {
                    Ok(()) => {
                        tracing::info!(%driver, %volume, "what an earlier daemon was in the middle of is undone");
                        return;
                    }
                    Err(failure) => tracing::warn!(%driver, %volume, attempt, "what an earlier daemon was in the middle of is not undone yet: {failure}"),
                }
            }
            std::thread::sleep(std::time::Duration::from_secs(1 << attempt.min(5)));
        }
    }

    /// Ends plugin processes and workers that nobody has needed for a while.
    pub(crate) fn end_idle(&self) {
        if let Some(engine) = &self.engine {
            engine.end_idle();
        }
        self.effects.end_idle(self.config.idle);
        for served in self.all() {
            if let Ok(generation) = served.driver.generation() {
                generation.process().end_if_idle(self.config.idle);
            }
        }
    }

    /// Looks again at drivers that were refused for a reason that may have passed (no memory, a lost process). Not while somebody looks.
    pub(crate) fn try_again(&self) {
        let Ok(_one) = self.looking.try_lock() else { return };
        let mut has_any = false;
        for served in self.all() {
            if served.driver.is_worth_another_try(RETRY) {
                self.lock_looked_at().remove(served.driver.name());
                has_any = true;
            }
        }
        if has_any {
            self.look_now();
        }
    }

    /// Lets the driver's next version be lower than what has served, and looks at once whether one waits; says what has served.
    pub(crate) fn allow_downgrade(&self, served: &Served) -> Result<Option<String>, FloorError> {
        let highest = served.driver.allow_downgrade()?;
        if served.driver.is_refused() {
            let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
            self.lock_looked_at().remove(served.driver.name());
            self.look_now();
        }
        Ok(highest)
    }

    /// All drivers.
    pub(crate) fn all(&self) -> Vec<Arc<Served>> {
        self.drivers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What is recorded on this node.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.engine.as_ref().map(Engine::records).unwrap_or_default()
    }

    /// May there be something of the driver's on this node that has to be taken down?
    pub(crate) fn has_something_of(&self, driver: &DriverName) -> bool {
        let has_record = self.engine.as_ref().is_some_and(|engine| engine.has_record_of(driver));
        // A device that no record explains may be that of any driver that ever served here.
        let has_served = || self.all().iter().any(|served| served.driver.name() == driver && served.driver.advertised().is_some());
        has_record || (self.has_unexplained.load(Ordering::Relaxed) && has_served())
    }

    /// Has the driver a file in drivers.d, as far as it was looked for?
    pub(crate) fn has_file(&self, driver: &DriverName) -> bool {
        let is_looked_for = self.all().iter().any(|served| served.driver.name() == driver && !served.driver.has_tried());
        is_looked_for || self.lock_looked_at().contains_key(driver)
    }

    /// The drivers that ever served here, by what is kept of each.
    fn remembered(&self) -> Vec<DriverName> {
        let entries = std::fs::read_dir(self.config.state.join("drivers")).into_iter().flatten().flatten();
        entries.filter_map(|entry| DriverName::parse(entry.file_name().to_str()?.strip_suffix(".json")?).ok()).collect()
    }

    fn driver_files(&self) -> Vec<PathBuf> {
        match std::fs::read_dir(&self.config.drivers) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) => {
                tracing::warn!(folder = %self.config.drivers.display(), %error, "the folder of drivers cannot be read");
                Vec::new()
            }
        }
    }

    fn lock_looked_at(&self) -> std::sync::MutexGuard<'_, BTreeMap<DriverName, Seen>> {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the effects of a driver with these grants talk to.
fn back_ends(grants: &Grants) -> impl Iterator<Item = BackEnd> {
    let folders = grants.files.values().cloned().map(BackEnd::Folder);
    folders.chain(grants.rbd.values().map(|cluster| BackEnd::Cluster(cluster.monitors.clone())))
}

fn file_state(path: &std::path::Path) -> Option<FileState> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some(FileState { device: meta.dev(), inode: meta.ino(), size: meta.size(), changed: (meta.ctime(), meta.ctime_nsec()) })
}
