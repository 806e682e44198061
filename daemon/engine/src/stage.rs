//! Stages and unstages a volume: idempotent by what the kernel shows, formatted on proof, undone in whole or standing.

use crate::record::{Line, StageFacts, What};
use crate::work::{Work, place_for_a_program};
use windlass_plan::attach::Content;
use windlass_plan::capability::{Access, Capability, FilesystemKind};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::format::{Decision, Evidence, FormatNote, FormatState, decide};
use windlass_plan::lower;
use windlass_plan::paths::Place;
use windlass_plan::rbd::ImageIdentity;
use windlass_plan::request::Secret;
use windlass_plan::step::{Backing, Device, Observed, Outcome, Probe, Shows, Step, TargetKind, Undo, Writable};

/// Idempotency as a type: the world was so already, or is so now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Nothing was done.
    Already,
    /// It was done now.
    Done,
}

/// What the steps alone do not say about a stage.
pub struct StageOrder {
    /// What will be recorded.
    pub facts: StageFacts,
    /// The steps, from `lower::stage`.
    pub steps: Vec<Step>,
    /// How the volume came into being.
    pub content: Content,
    /// Windlass's controller made it for this volume.
    pub is_ours: bool,
    /// The controller's proof that the volume was never written, where it gave one.
    pub proof: Option<String>,
    /// The key of the user who maps the image.
    pub key: Option<Secret>,
}

impl Work<'_> {
    /// Is the volume staged at the place as `capability` wants it? A volume staged in another way is a failure.
    /// `image` is the one that the controller proved, where it proved one: a device that shows another is not this volume's any more.
    pub fn staged(&mut self, staging: &Place, capability: &Capability, image: Option<&ImageIdentity>) -> Result<Option<Settled>, Failure> {
        self.finish_interrupted(None)?;
        let observed = self.observe()?;
        if let (Some(device), Some(image)) = (observed.devices.first(), image)
            && device.backing != Backing::Image(image.clone())
        {
            return Err(Failure::new(
                Reason::InUse,
                format!("/dev/{} still shows {}, and the volume is the image {image} by now; unstage it first", device.name, device.backing),
            ));
        }
        let at = lower::staged_at(&capability.access, staging);
        let is_seen = !self.seen_at(&observed, &at).is_empty();
        let facts = self.writer.record().standing_stage().map(|(_, facts)| facts.clone());
        match facts {
            Some(facts) if facts.staging != *staging => Err(Failure::new(Reason::Incompatible, format!("the volume is staged at {} already", facts.path))),
            Some(facts) if facts.capability != *capability => Err(Failure::new(
                Reason::Incompatible,
                format!("the volume is staged at {} with another capability ({})", facts.path, describe(&facts.capability)),
            )),
            Some(_) if is_seen => Ok(Some(Settled::Already)),
            // Recorded and not to be seen: somebody unmounted it. While it is published it is mended; otherwise it is begun anew, with
            // nothing left behind by what may be refused next.
            Some(_) if self.published_elsewhere(staging, &observed).is_some() => Ok(None),
            Some(_) => {
                if let Some(stale) = self.stage_strand() {
                    self.unwind(stale.number).map_err(left_behind)?;
                }
                Ok(None)
            }
            None if observed.devices.is_empty() => Ok(None),
            None => self.adopt(staging, capability, &observed),
        }
    }

    /// The journal was lost: takes over what the kernel shows, if it is what is wanted.
    fn adopt(&mut self, staging: &Place, capability: &Capability, observed: &Observed) -> Result<Option<Settled>, Failure> {
        let at = lower::staged_at(&capability.access, staging);
        if observed.mounts.is_empty() {
            // A device that nothing shows: what a death between two steps left. Begin anew.
            self.undo_all(vec![Undo::Detach { volume: self.key }]).map_err(left_behind)?;
            return Ok(None);
        }
        let Some(seen) = self.seen_at(observed, &at).first().map(|seen| (*seen).clone()) else {
            return Err(Failure::new(Reason::Incompatible, format!("the volume is mounted at {} already", observed.mounts[0].path)));
        };
        let device = observed.devices[0].clone();
        let filesystem = match (&seen.shows, &capability.access) {
            (Shows::Filesystem(name), Access::Mount(wish)) => {
                let kind = FilesystemKind::parse(name);
                if kind.is_none() || wish.filesystem.is_some_and(|wish| Some(wish) != kind) {
                    return Err(Failure::new(Reason::Incompatible, format!("the volume is staged at {} as {name}", seen.path)));
                }
                kind
            }
            _ => None,
        };
        if seen.label.as_deref() != capability.label() {
            let label = seen.label.as_deref().unwrap_or("none");
            return Err(Failure::new(Reason::Incompatible, format!("the volume is staged at {} with another SELinux label ({label})", seen.path)));
        }
        let is_read_only = lower::writable(capability) == Writable::ReadOnly;
        if device.is_read_only != is_read_only {
            let how = if device.is_read_only { "read-only" } else { "for writing" };
            return Err(Failure::new(Reason::Incompatible, format!("the volume is staged at {} {how}", seen.path)));
        }
        let source = device.backing.to_string();
        let facts = StageFacts { staging: staging.clone(), path: seen.path.clone(), capability: capability.clone(), source, filesystem };
        let strand = self.writer.record().next_number();
        let undo = |step: &str, undo| Line::Undo { strand, step: step.to_owned(), undo };
        // All or nothing: a death in the middle of these lines would otherwise take the mount from under those who use it.
        self.writer.write_all(&[
            Line::Begin { strand, what: What::Stage(facts) },
            undo("attach", Undo::Detach { volume: self.key }),
            undo("mount", self.unmount_staged(&capability.access, staging)),
            Line::Device { strand, device },
            Line::Complete { strand },
        ])?;
        tracing::info!(path = %seen.path, "the journal was lost; took over a staged volume as the kernel shows it");
        Ok(Some(Settled::Already))
    }

    fn unmount_staged(&self, access: &Access, staging: &Place) -> Undo {
        let made = matches!(access, Access::Block).then_some(TargetKind::File);
        Undo::Unmount { volume: self.key, place: lower::staged_at(access, staging), made }
    }

    /// Does the steps; on a failure all of them are undone.
    pub fn stage(&mut self, mut order: StageOrder) -> Result<Settled, Failure> {
        if let Some(key) = order.key.take() {
            self.lease.give_key(key)?;
        }
        if self.holds_something() {
            return self.mend(&order);
        }
        let strand = self.writer.record().next_number();
        self.writer.write(&Line::Begin { strand, what: What::Stage(order.facts.clone()) })?;
        match self.build(strand, &order).and_then(|()| self.writer.write(&Line::Complete { strand })) {
            Ok(()) => Ok(Settled::Done),
            Err(cause) => Err(self.unwind_after(strand, cause)),
        }
    }

    /// The staging mount was taken away by hand while the volume is published: it is mounted again, and nothing is unwound, since pods
    /// use what is there. How it is undone is recorded already.
    fn mend(&mut self, order: &StageOrder) -> Result<Settled, Failure> {
        for step in &order.steps {
            if matches!(step, Step::AttachFile(_) | Step::MapImage(_) | Step::Mount(_) | Step::PlaceNode(_)) {
                self.lease.apply(std::slice::from_ref(step)).map_err(left_behind)?;
            }
        }
        tracing::warn!(path = %order.facts.path, "a staging mount was gone while its volume was published; it is mounted again");
        Ok(Settled::Done)
    }

    fn build(&mut self, strand: u32, order: &StageOrder) -> Result<(), Failure> {
        let (mut device, mut probe) = (None, None);
        let mut steps = order.steps.as_slice();
        while let Some(step) = steps.first() {
            if let Step::Format(filesystem) = step {
                let (Some(device), Some(probe)) = (&device, &probe) else {
                    return Err(Failure::new(Reason::NoProof, "the steps format a device that was not probed"));
                };
                if self.may_format(order, device, probe, filesystem.kind)? {
                    self.format(strand, step, device, order.proof.as_deref())?;
                }
                steps = &steps[1..];
                continue;
            }
            if let (Step::PlaceNode(_), Some(device)) = (step, &device) {
                self.note_used(order, device, self.engine.notes.read(&self.key)?.as_ref())?;
            }
            if let (Step::Mount(mount), Some(device), Some(probe)) = (step, &device, &probe)
                && mount.writable == Writable::ReadOnly
            {
                self.may_format(order, device, probe, mount.kind)?;
            }
            let outcomes = self.apply_all(strand, &steps[..together(steps)])?;
            steps = &steps[outcomes.len()..];
            for outcome in outcomes {
                match outcome {
                    Outcome::Attached(attached) => {
                        self.writer.write(&Line::Device { strand, device: attached.clone() })?;
                        device = Some(attached);
                    }
                    Outcome::Probed(answer) => probe = Some(answer),
                    Outcome::NeedsPreen => self.apply(strand, &Step::Preen)?,
                    Outcome::Done | Outcome::Already | Outcome::Size(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Decides by [`decide`]: `true` is mkfs first, `false` is mount it as it is, and a failure is neither.
    fn may_format(&self, order: &StageOrder, device: &Device, probe: &Probe, kind: FilesystemKind) -> Result<bool, Failure> {
        let note = self.engine.notes.read(&self.key)?;
        let writable = lower::writable(&order.facts.capability);
        let evidence = Evidence {
            probe,
            backing: &device.backing,
            content: order.content,
            is_ours: order.is_ours,
            note: note.as_ref(),
            kind,
            writable,
            proof: order.proof.as_deref(),
        };
        match decide(&evidence)? {
            Decision::Use => {
                self.note_used(order, device, note.as_ref())?;
                Ok(false)
            }
            Decision::Format { because } => {
                if device.size < kind.smallest() {
                    return Err(Failure::new(Reason::OutOfRange, format!("{kind} needs {} bytes at least; the volume has {}", kind.smallest(), device.size)));
                }
                tracing::info!(device = device.name, %kind, "formatting: {because}");
                Ok(true)
            }
        }
    }

    /// Whatever was begun or allowed before, it ends where the volume is handed out for writing: what is on it from then on is the user's.
    fn note_used(&self, order: &StageOrder, device: &Device, note: Option<&FormatNote>) -> Result<(), Failure> {
        if lower::writable(&order.facts.capability) == Writable::ReadWrite && note.is_some_and(|note| note.state != FormatState::Finished) {
            self.note(device, FormatState::Finished, order.proof.as_deref())?;
        }
        Ok(())
    }

    fn format(&mut self, strand: u32, step: &Step, device: &Device, proof: Option<&str>) -> Result<(), Failure> {
        let place = place_for_a_program(self.engine)?;
        self.note(device, FormatState::Begun, proof)?;
        let formatted = self.apply(strand, step);
        drop(place);
        formatted?;
        self.note(device, FormatState::Finished, proof)
    }

    fn note(&self, device: &Device, state: FormatState, proof: Option<&str>) -> Result<(), Failure> {
        self.engine.notes.write(&self.key, &FormatNote { backing: Some(device.backing.clone()), state, proof: proof.map(str::to_owned) })
    }

    /// Takes the stage down: by the journal, and by what the kernel shows where the journal knows nothing.
    pub fn unstage(&mut self, staging: &Place) -> Result<Settled, Failure> {
        let strand = self.stage_strand();
        if let Some(strand) = &strand
            && let What::Stage(facts) = &strand.what
            && facts.staging != *staging
        {
            // Staged elsewhere, so not staged here.
            return Ok(Settled::Already);
        }
        let observed = self.observe()?;
        if observed.devices.is_empty() && strand.is_none() {
            self.note_if_gone();
            return Ok(Settled::Already);
        }
        if let Some(path) = self.published_elsewhere(staging, &observed) {
            return Err(Failure::new(Reason::InUse, format!("the volume is still published at {path}; unpublish it there first")));
        }
        // Targets that the kernel no longer shows: somebody unmounted them by hand. What is left of them goes with the stage, or stays
        // behind without holding it up.
        if let Err(left) = self.unwind_publishes(|_| true) {
            tracing::warn!("what is left of a publish does not go: {left}");
        }
        match strand {
            Some(strand) => self.unwind(strand.number).map_err(left_behind)?,
            None => {
                let Some(undos) = self.undos_seen(staging, &observed) else { return Ok(Settled::Already) };
                self.undo_all(undos).map_err(left_behind)?;
            }
        }
        Ok(Settled::Done)
    }

    /// How a stage without a record is taken down: exactly what the kernel shows at the staging path, then the device. `None`: it is
    /// mounted, but elsewhere. (What lies *in* a mounted volume under the name that a raw one's node would have is the user's.)
    fn undos_seen(&self, staging: &Place, observed: &Observed) -> Option<Vec<Undo>> {
        let mut undos = Vec::new();
        if !self.seen_at(observed, staging).is_empty() {
            undos.push(self.unmount_staged(&Access::Mount(Default::default()), staging));
        } else if self.seen_at(observed, &staging.join(lower::NODE_NAME)).iter().any(|mount| mount.shows == Shows::Node) {
            undos.push(self.unmount_staged(&Access::Block, staging));
        } else if !observed.mounts.is_empty() {
            return None;
        }
        undos.push(Undo::Detach { volume: self.key });
        Some(undos)
    }

    /// A mount of the volume beneath our roots that is not its staging place: a stage is not taken from under it.
    fn published_elsewhere(&self, staging: &Place, observed: &Observed) -> Option<String> {
        let (folder, node) = (self.path(staging)?, self.path(&staging.join(lower::NODE_NAME))?);
        let roots = &self.engine.settings.roots;
        let other = observed.mounts.iter().find(|mount| mount.path != folder.as_str() && mount.path != node.as_str() && roots.place(&mount.path).is_ok());
        other.map(|mount| mount.path.clone())
    }
}

/// How many of the steps can be done before anybody has to decide anything: what comes of a probe, and whether what is mounted read-only
/// may be mounted at all, is decided here and not by the worker.
fn together(steps: &[Step]) -> usize {
    let goes_with = |pair: &[Step]| match pair {
        [_, Step::Probe { .. } | Step::Grow { .. }] => true,
        [Step::Check { .. }, Step::Mount(mount)] => mount.writable == Writable::ReadWrite,
        _ => false,
    };
    1 + steps.windows(2).take_while(|pair| goes_with(pair)).count()
}

pub(crate) fn left_behind(failure: Failure) -> Failure {
    Failure::new(Reason::LeftBehind, format!("not everything could be taken down yet: {failure}"))
}

/// A capability in a few words.
pub fn describe(capability: &Capability) -> String {
    let access = match &capability.access {
        Access::Block => "block".to_owned(),
        Access::Mount(wish) => wish.filesystem.map_or_else(|| "mount".to_owned(), |kind| format!("mount, {kind}")),
    };
    format!("{access}, {}", capability.mode)
}
