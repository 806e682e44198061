//! A node: an engine, its workers' world, and the model beside them.

use crate::Event;
use crate::kernel::{Content, ROOT};
use crate::state::{Call, Facts, STAGES, State, VOLUMES};
use crate::worker::{Shared, World, launch, lock};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use windlass_engine::publish::PublishOrder;
use windlass_engine::record::{PublishFacts, StageFacts};
use windlass_engine::stage::StageOrder;
use windlass_engine::{Engine, Settings, Work};
use windlass_plan::attach::{Content as Made, Filesystem};
use windlass_plan::capability::FilesystemKind;
use windlass_plan::check::{CheckedPlan, CheckedSource};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::format::FormatState;
use windlass_plan::ids::{DriverName, VolumeId, VolumeKey};
use windlass_plan::lower;
use windlass_plan::paths::{HostPath, Place, Root, Roots};
use windlass_plan::step::Writable;

const SIZE: u64 = 16 << 20;
const BOOT: &str = "boot";

pub(crate) struct Node {
    folder: TempDir,
    world: Shared,
    engine: Option<Engine>,
    state: State,
    driver: DriverName,
}

fn file(volume: usize) -> String {
    format!("volume-{volume}")
}

fn place(below: String) -> Place {
    Place { root: 0, below }
}

fn stage_place(stage: usize) -> Place {
    place(format!("stage-{stage}"))
}

fn target_place(target: usize) -> Place {
    place(format!("target-{target}"))
}

fn path(place: &Place) -> String {
    format!("{ROOT}/{}", place.below)
}

/// After these the caller asks again; the others it takes for "nothing is there" (`status.rs` of the daemon).
fn is_final(reason: Reason) -> bool {
    !matches!(reason, Reason::IdentityChanged | Reason::Io | Reason::ProgramTimedOut | Reason::WorkerLost | Reason::LeftBehind | Reason::Journal)
}

impl Node {
    /// Does all of it, and takes everything down.
    pub(crate) fn try_all(events: &[Event]) -> Result<(), String> {
        let mut node = Self::new();
        for event in events {
            node.befall(event).map_err(|why| format!("{event:?}: {why}\n{:#?}", lock(&node.world).kernel))?;
        }
        node.take_down()
    }

    fn new() -> Self {
        // In memory: what is tried is not the disk.
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let mut world = World { kernel: Default::default(), fault: None, has_failed: false, killed: None, folder: folder.path().to_owned() };
        (0..VOLUMES).for_each(|volume| world.kernel.create(&file(volume), SIZE));
        let driver = DriverName::parse("model").expect("a name");
        let mut node = Self { folder, world: Arc::new(Mutex::new(world)), engine: None, state: State::default(), driver };
        node.start();
        node
    }

    fn start(&mut self) {
        let root = HostPath::parse(ROOT).expect("a path");
        let settings = Settings {
            instance: String::new(),
            boot: BOOT.to_owned(),
            roots: Roots::new(vec![Root { spelled: root.clone(), real: root, kept: Vec::new() }]),
            journal: self.folder.path().join("journal"),
            locks: HostPath::parse(&self.folder.path().join("locks").display().to_string()).expect("a path"),
            notes: self.folder.path().join("notes"),
            limited_groups: Vec::new(),
            programs: 1,
        };
        let engine = Engine::start(settings, launch(&self.world)).expect("an engine");
        for record in engine.interrupted() {
            let recovered = engine.open_to_undo(&record.header.driver, &record.header.volume).and_then(|mut work| work.recover());
            recovered.expect("nothing is in the way of recovery");
        }
        self.engine = Some(engine);
    }

    /// Ends the daemon; `written` is what it had written when it was killed.
    fn restart(&mut self, written: Option<BTreeMap<PathBuf, Vec<u8>>>, loses_journal: bool) {
        self.engine = None;
        let journal = self.folder.path().join("journal");
        if let Some(written) = written {
            for folder in [&journal, &self.folder.path().join("notes")] {
                std::fs::read_dir(folder).into_iter().flatten().flatten().for_each(|entry| std::fs::remove_file(entry.path()).expect("a file"));
            }
            written.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("a file"));
        }
        if loses_journal {
            std::fs::read_dir(&journal).expect("the journal").flatten().for_each(|entry| std::fs::remove_file(entry.path()).expect("a file"));
        }
        self.start();
        self.learn_what_is_recorded();
    }

    fn befall(&mut self, event: &Event) -> Result<(), String> {
        let (call, fault, tears, takes_back, loses_journal) = match *event {
            Event::Restart { loses_journal } => {
                self.restart(None, loses_journal);
                return self.compare();
            }
            Event::Call { call, fault, tears, takes_back, loses_journal } => (call, fault, tears, takes_back, loses_journal),
        };
        let (before, mut after) = (self.seen(), self.state.clone());
        let wanted = after.expect(call, self.facts(call.volume()));
        {
            let mut world = lock(&self.world);
            (world.fault, world.has_failed, world.kernel.tears) = (fault, false, tears);
        }
        let answer = self.perform(call);
        let (has_failed, killed) = {
            let mut world = lock(&self.world);
            let is_torn = tears && !std::mem::take(&mut world.kernel.tears);
            world.fault = None;
            (world.has_failed || is_torn, world.killed.take())
        };
        if !has_failed {
            self.state = after;
            return self.check(&answer, wanted);
        }
        if killed.is_some() {
            self.restart(killed, loses_journal);
        } else if let Err(failure) = &answer
            && is_final(failure.reason)
            && self.seen() != before
        {
            return Err(format!("{failure:?} is final, and something is left behind: before {before:?}, now {:?}", self.seen()));
        }
        self.learn_what_is_recorded();
        let next = call.opposite().filter(|_| takes_back).unwrap_or(call);
        let wanted = self.state.expect(next, self.facts(next.volume()));
        let again = self.perform(next);
        self.check(&again, wanted).map_err(|why| format!("it answered {answer:?}; then {next:?}: {why}"))
    }

    /// The answer is the model's, and so is what is seen.
    fn check(&mut self, answer: &Result<(), Failure>, wanted: Result<(), Reason>) -> Result<(), String> {
        if answer.as_ref().map_err(|failure| failure.reason).copied() != wanted {
            return Err(format!("answered {answer:?}, and the model says {wanted:?}; {:?}", self.state));
        }
        self.learn_what_is_recorded();
        self.compare()
    }

    fn compare(&self) -> Result<(), String> {
        let (seen, wanted) = (self.seen(), self.state.seen());
        let staged = self.state.0.iter().filter(|volume| volume.staged.is_some()).count();
        let world = lock(&self.world);
        if let Some(crime) = world.kernel.crimes.first() {
            return Err(crime.clone());
        }
        if seen != (wanted.clone(), staged) {
            return Err(format!("seen: {seen:?}, and the model says {wanted:?} on {staged} devices"));
        }
        let made: Vec<&str> = world.kernel.made.iter().map(|place| place.below.as_str()).filter(|below| !wanted.contains_key(*below)).collect();
        if made.is_empty() { Ok(()) } else { Err(format!("{made:?} is left of a target")) }
    }

    /// Every mount, with its volume and form, and how many devices there are.
    fn seen(&self) -> (BTreeMap<String, (usize, bool, bool)>, usize) {
        let world = lock(&self.world);
        let volume = |device: u32| (0..VOLUMES).find(|volume| world.kernel.devices.get(&device).is_some_and(|found| found.file == file(*volume)));
        let mounts = world
            .kernel
            .mounts
            .iter()
            .map(|mount| (mount.place.below.clone(), (volume(mount.device).unwrap_or(usize::MAX), mount.is_node, mount.is_read_only)));
        (mounts.collect(), world.kernel.devices.len())
    }

    fn facts(&self, volume: usize) -> Facts {
        let note = self.engine().notes().read(&self.key(volume)).expect("a note that can be read");
        let content = lock(&self.world).kernel.files.get(&file(volume)).map_or(Content::Blank, |file| file.content);
        Facts { content, is_finished: note.is_some_and(|note| note.state == FormatState::Finished) }
    }

    /// Which parts of what stands a record explains.
    fn learn_what_is_recorded(&mut self) {
        let records = self.engine().records();
        for (number, volume) in self.state.0.iter_mut().enumerate() {
            let record = records.iter().find(|record| record.header.volume.to_string() == file(number));
            if let Some(staged) = &mut volume.staged {
                staged.is_recorded = record.is_some_and(|record| record.standing_stage().is_some());
            }
            for (target, published) in &mut volume.published {
                published.is_recorded = record.is_some_and(|record| record.publishes().any(|(_, facts)| facts.target == target_place(*target)));
            }
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("a running engine")
    }

    fn id(volume: usize) -> VolumeId {
        VolumeId::parse(&file(volume)).expect("an id")
    }

    fn key(&self, volume: usize) -> VolumeKey {
        self.engine().key(&self.driver, &Self::id(volume))
    }

    fn open(&self, volume: usize) -> Result<Work<'_>, Failure> {
        self.engine().open(&self.driver, &Self::id(volume))
    }

    /// The call as the daemon's stories make it.
    fn perform(&self, call: Call) -> Result<(), Failure> {
        match call {
            Call::Stage { volume, stage, usage } => {
                let (staging, capability) = (stage_place(stage), usage.capability());
                let mut work = self.open(volume)?;
                if work.staged(&staging, &capability, None)?.is_some() {
                    return Ok(());
                }
                let source = CheckedSource::File { folder: HostPath::parse("/volumes").expect("a path"), name: file(volume) };
                let filesystem = (!usage.is_block).then_some(Filesystem { kind: FilesystemKind::Ext4, label: None });
                let plan = CheckedPlan { source, content: Made::Blank, filesystem, is_ours: true };
                let steps = lower::stage(self.key(volume), &plan, &capability, &staging);
                let filesystem = (!usage.is_block).then_some(FilesystemKind::Ext4);
                let facts = StageFacts { path: path(&staging), staging, capability, source: file(volume), filesystem };
                work.stage(StageOrder { facts, steps, content: Made::Blank, is_ours: true, proof: None, key: None }).map(drop)
            }
            Call::Unstage { volume, stage } => self.open(volume)?.unstage(&stage_place(stage)).map(drop),
            Call::Publish { volume, stage, target, usage, is_read_only } => {
                let (capability, staging, target) = (usage.capability(), stage_place(stage), target_place(target));
                let writable = if is_read_only { Writable::ReadOnly } else { Writable::ReadWrite };
                let step = lower::publish(&capability, &staging, &target, writable);
                let facts = PublishFacts { path: path(&target), target, capability, writable, arguments: Some(format!("stage {stage}")) };
                self.open(volume)?.publish(PublishOrder { facts, staging, step }).map(drop)
            }
            Call::Unpublish { volume, target } => self.engine().open_to_undo(&self.driver, &Self::id(volume))?.unpublish(&target_place(target)).map(drop),
            Call::Grow { volume, stage, by } => {
                if let Some(file) = lock(&self.world).kernel.files.get_mut(&file(volume)) {
                    file.size += by << 20;
                }
                let mut work = self.open(volume)?;
                let node = stage_place(stage).join(lower::NODE_NAME);
                let place = if work.is_at(&node)? { node } else { stage_place(stage) };
                work.grow(&place).map(drop)
            }
        }
    }

    fn take_down(&mut self) -> Result<(), String> {
        for volume in 0..VOLUMES {
            let targets: Vec<usize> = self.state.0[volume].published.keys().copied().collect();
            let calls = targets.into_iter().map(|target| Call::Unpublish { volume, target });
            // The other path first: nothing is taken from where it is not asked for.
            let stage = self.state.0[volume].staged.map_or(0, |staged| staged.stage);
            let calls: Vec<Call> = calls.chain([(stage + 1) % STAGES, stage].map(|stage| Call::Unstage { volume, stage })).collect();
            for call in calls {
                let wanted = self.state.expect(call, self.facts(volume));
                let answer = self.perform(call);
                self.check(&answer, wanted).map_err(|why| format!("at the end, {call:?}: {why}"))?;
            }
        }
        let left: Vec<String> =
            std::fs::read_dir(self.folder.path().join("journal")).expect("the journal").flatten().map(|entry| entry.path().display().to_string()).collect();
        let world = lock(&self.world);
        if !left.is_empty() || !world.kernel.devices.is_empty() || !world.kernel.mounts.is_empty() || !world.kernel.made.is_empty() {
            return Err(format!("at the end there is left: {left:?} {:#?}", world.kernel));
        }
        Ok(())
    }
}
