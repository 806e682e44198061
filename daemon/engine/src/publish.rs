//! Publishes and unpublishes a staged volume, by the table under NodePublishVolume in the specification.

use crate::record::{Line, PublishFacts, What};
use crate::stage::{Settled, left_behind};
use crate::work::Work;
use windlass_plan::capability::{Access, Capability};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::lower;
use windlass_plan::paths::Place;
use windlass_plan::step::{Observed, SeenMount, Shows, Step, TargetKind, Undo, Writable};

/// What a publish is to do.
#[derive(Debug, Clone)]
pub struct PublishOrder {
    /// What will be recorded.
    pub facts: PublishFacts,
    /// Where the volume is staged.
    pub staging: Place,
    /// The one step, from `lower::publish`.
    pub step: Step,
}

impl Work<'_> {
    /// Shows the staged volume at the target.
    pub fn publish(&mut self, order: PublishOrder) -> Result<Settled, Failure> {
        self.finish_interrupted(Some(&order.facts.target))?;
        let observed = self.observe()?;
        // At the same target other arguments are other arguments, also those that could be had nowhere: this comes first.
        let is_published = self.is_published(&order, &observed)?;
        self.require_staged(&order, &observed)?;
        if is_published {
            return Ok(Settled::Already);
        }
        self.refuse_second_target(&order, &observed)?;
        // Recorded there and not to be seen: somebody unmounted it. One target has one strand.
        self.unwind_publishes(|facts| facts.target == order.facts.target).map_err(left_behind)?;
        let (strand, target) = (self.writer.record().next_number(), order.facts.target.clone());
        self.writer.write(&Line::Begin { strand, what: What::Publish(order.facts) })?;
        match self.apply(strand, &order.step).and_then(|_| self.writer.write(&Line::Complete { strand })) {
            Ok(()) => Ok(Settled::Done),
            // The path was refused before anything was made of it. What is there (a folder with somebody's files) is not ours to remove.
            Err(cause) if cause.reason == Reason::BadPath && !self.is_at(&target)? => {
                self.abandon(strand)?;
                Err(cause)
            }
            Err(cause) => Err(self.unwind_after(strand, cause)),
        }
    }

    fn require_staged(&self, order: &PublishOrder, observed: &Observed) -> Result<(), Failure> {
        let at = lower::staged_at(&order.facts.capability.access, &order.staging);
        let not_staged = |text: String| Err(Failure::new(Reason::NotStaged, text));
        if let Some((_, facts)) = self.writer.record().standing_stage() {
            if facts.staging != order.staging {
                return not_staged(format!("the volume is staged at {}, not at staging_target_path", facts.path));
            }
            if !is_same_kind(&facts.capability, &order.facts.capability) {
                return Err(Failure::new(Reason::Incompatible, format!("the volume is staged as {}", crate::stage::describe(&facts.capability))));
            }
        }
        let seen = self.seen_at(observed, &at);
        let Some(seen) = seen.last() else {
            return not_staged("the volume is not staged at staging_target_path; NodeStageVolume comes first".to_owned());
        };
        // A bind shows the labels of the file system, and nothing can give it others. The record has the label as it was asked for.
        let record = self.writer.record();
        let staged = record.standing_stage().map_or(seen.label.as_deref(), |(_, facts)| facts.capability.label());
        if let Some(wanted) = order.facts.capability.label()
            && staged != Some(wanted)
        {
            let staged = staged.map_or_else(|| "without an SELinux label".to_owned(), |label| format!("with the SELinux label {label}"));
            return not_staged(format!("the volume is staged {staged}, so it cannot be published with context={wanted}; stage it with that label"));
        }
        let wants_writing = order.facts.writable == Writable::ReadWrite && lower::writable(&order.facts.capability) == Writable::ReadWrite;
        if wants_writing && seen.is_superblock_read_only {
            return not_staged(format!("the file system at {} is read-only: an error turned it so, or it was staged read-only", seen.path));
        }
        if seen.shows == Shows::Node && observed.devices.iter().any(|device| device.is_read_only == wants_writing) {
            // A read-only bind of a node does not keep anybody from writing through it (law 11).
            let (staged, wanted) = if wants_writing { ("read-only", "for writing") } else { ("for writing", "read-only") };
            return not_staged(format!("the raw volume is staged {staged}, so it cannot be published {wanted}"));
        }
        Ok(())
    }

    /// The table's half for the same target: is it published there, with the same arguments?
    fn is_published(&self, order: &PublishOrder, observed: &Observed) -> Result<bool, Failure> {
        let at_target = self.seen_at(observed, &order.facts.target);
        let record = self.writer.record();
        let recorded = record.publishes().find(|(_, facts)| facts.target == order.facts.target).map(|(_, facts)| facts);
        let Some(seen) = at_target.last() else { return Ok(false) };
        let is_same = match recorded {
            Some(facts) => facts.is_same(&order.facts),
            None => is_like(seen, &order.facts),
        };
        if !is_same {
            return Err(Failure::new(Reason::Incompatible, format!("the volume is published at {} already, with other arguments", order.facts.path)));
        }
        Ok(true)
    }

    /// The table's half for another target: whether there may be a second one.
    fn refuse_second_target(&self, order: &PublishOrder, observed: &Observed) -> Result<(), Failure> {
        if !order.facts.capability.mode.allows_many_targets()
            && let Some(other) = self.other_target(order, observed)
        {
            return Err(Failure::new(
                Reason::SecondWriter,
                format!("the volume is published at {other}, and {} allows one target", order.facts.capability.mode),
            ));
        }
        Ok(())
    }

    fn other_target(&self, order: &PublishOrder, observed: &Observed) -> Option<String> {
        let staged = self.path(&lower::staged_at(&order.facts.capability.access, &order.staging))?;
        let roots = &self.engine.settings.roots;
        (observed.mounts.iter()).find(|mount| mount.path != staged.as_str() && roots.place(&mount.path).is_ok()).map(|mount| mount.path.clone())
    }

    /// Takes the volume away from the target, and the target with it.
    pub fn unpublish(&mut self, target: &Place) -> Result<Settled, Failure> {
        let staged = self.writer.record().stage().and_then(|strand| match &strand.what {
            What::Stage(facts) => Some((facts.staging.clone(), facts.path.clone())),
            What::Publish(_) => None,
        });
        if let Some((staging, path)) = staged
            && (staging == *target || staging.join(lower::NODE_NAME) == *target)
        {
            return Err(Failure::new(Reason::BadPath, format!("{path} is where the volume is staged, not a target of it; NodeUnstageVolume takes it down")));
        }
        if !self.unwind_publishes(|facts| facts.target == *target).map_err(left_behind)? {
            let is_there = self.is_at(target)?;
            let undo = Undo::Unmount { volume: self.key, place: target.clone(), made: Some(TargetKind::Either) };
            // A wrong path stays wrong, however often it is asked for. One where the volume was seen is not wrong, and nobody knows how far this came.
            let is_wrong = |failure: &Failure| failure.reason == Reason::BadPath && !is_there;
            self.undo_all(vec![undo]).map_err(|failure| if is_wrong(&failure) { failure } else { left_behind(failure) })?;
        }
        Ok(Settled::Done)
    }

    /// Is the volume to be seen at exactly this place?
    pub fn is_at(&mut self, place: &Place) -> Result<bool, Failure> {
        let observed = self.observe()?;
        Ok(!self.seen_at(&observed, place).is_empty())
    }
}

impl PublishFacts {
    /// Same arguments, whatever the target. Where the journal was lost the digest is unknown, and the rest decides.
    fn is_same(&self, other: &PublishFacts) -> bool {
        let digests = self.arguments.as_ref().zip(other.arguments.as_ref());
        self.capability == other.capability && self.writable == other.writable && digests.is_none_or(|(one, two)| one == two)
    }
}

fn is_same_kind(one: &Capability, two: &Capability) -> bool {
    matches!((&one.access, &two.access), (Access::Block, Access::Block) | (Access::Mount(_), Access::Mount(_)))
}

fn is_like(seen: &SeenMount, facts: &PublishFacts) -> bool {
    let is_read_only = facts.writable == Writable::ReadOnly || lower::writable(&facts.capability) == Writable::ReadOnly;
    match (&seen.shows, &facts.capability.access) {
        (Shows::Node, Access::Block) => true,
        (Shows::Filesystem(_), Access::Mount(_)) => (seen.is_read_only || seen.is_superblock_read_only) == is_read_only,
        _ => false,
    }
}
