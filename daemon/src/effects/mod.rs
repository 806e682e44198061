//! Effects: what plugins have done in the world while a controller call runs. Checked here, done in processes of their own.

mod board;
mod files;
mod images;
mod mortal;
mod process;
mod role;
mod sweep;

pub(crate) use process::EffectsProcesses;
pub(crate) use role::run;

use crate::keys;
use windlass_plan::attach::Source;
use windlass_plan::check::secret;
use windlass_plan::effect::{Effect, EffectAnswer, EffectError, FilesEffect, FilesVerb, ImageVerb, PoolVerb, RbdAnswer, RbdEffect, RbdVerb, is_file_name};
use windlass_plan::failure::Failure;
use windlass_plan::grants::{Grants, Ungranted};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::rbd::{Claimed, Hold, ImageAt, PoolAt, RbdName};
use windlass_plan::request::{Context, Secrets};
use windlass_wire::effects::{BackEnd, Deed};

/// The effects of one call: what it may, and what it made, found and claimed.
pub(crate) struct Effects<'a> {
    /// Which call it is: what changes a cluster belongs to one of them.
    pub(crate) call: &'static str,
    /// What the operator allows the driver.
    pub(crate) grants: &'a Grants,
    /// The call's secrets, which a plugin can name and never see.
    pub(crate) secrets: &'a Secrets,
    /// Who does it.
    pub(crate) process: &'a EffectsProcesses,
    /// What has come of it so far.
    pub(crate) traces: Traces,
}

/// What the effects of one call left in the world that its answer has to tell.
#[derive(Default)]
pub(crate) struct Traces {
    /// The canonical names of the sources that effects made, found as what they would have made, or grew, in order.
    pub(crate) sources: Vec<String>,
    /// What `claim` effects proved, and for which use.
    pub(crate) claims: Vec<(Claimed, Hold)>,
}

impl Effects<'_> {
    /// Checks an effect and has it done.
    pub(crate) fn perform(&mut self, effect: Effect) -> Result<EffectAnswer, EffectError> {
        match effect {
            Effect::Files(effect) => self.files(effect),
            Effect::Rbd(effect) => self.rbd(effect),
        }
    }

    fn files(&mut self, FilesEffect { folder, verb }: FilesEffect) -> Result<EffectAnswer, EffectError> {
        let Some(path) = self.grants.files.get(&folder) else {
            let shown: String = folder.chars().filter(|c| !c.is_control()).take(64).collect();
            return Err(refuse(RefusalKind::PermissionDenied, format!("the folder {shown:?} was not granted to this driver")));
        };
        let names = match &verb {
            FilesVerb::Create { name, .. } | FilesVerb::Stat { name } | FilesVerb::Grow { name, .. } | FilesVerb::Delete { name } => vec![name],
            FilesVerb::Copy { name, to, .. } => vec![name, to],
            FilesVerb::List { .. } | FilesVerb::Room => Vec::new(),
        };
        if names.into_iter().any(|name| !is_file_name(name)) {
            return Err(refuse(RefusalKind::Invalid, "a file's name is 1 to 200 letters, digits, `-`, `_` or `.`, and does not begin with a dot".to_owned()));
        }
        let source = match &verb {
            FilesVerb::Create { name, .. } | FilesVerb::Copy { to: name, .. } => Some(Source::File { folder, name: name.clone() }.to_string()),
            _ => None,
        };
        let answer = self.process.perform(&BackEnd::Folder(path.clone()), Deed::Files(verb), None)?;
        self.made(source);
        Ok(answer)
    }

    fn rbd(&mut self, RbdEffect { cluster, credentials, verb }: RbdEffect) -> Result<EffectAnswer, EffectError> {
        self.belongs(&verb)?;
        let grant = self.grants.cluster(&cluster).map_err(ungranted)?;
        if let Some(at) = pool_of(&verb) {
            self.grants.pool(&cluster, at).map_err(ungranted)?;
        }
        if let RbdVerb::Image { verb: ImageVerb::Copy { to, .. }, .. } = &verb {
            self.grants.pool(&cluster, to).map_err(ungranted)?;
        }
        let data_pool = match &verb {
            RbdVerb::Image { verb: ImageVerb::Create(wish), .. } => wish.data_pool.as_ref(),
            RbdVerb::Image { verb: ImageVerb::Copy { wish, .. }, .. } => wish.data_pool.as_ref(),
            _ => None,
        };
        if let Some(pool) = data_pool {
            self.grants.data_pool(&cluster, pool).map_err(ungranted)?;
        }
        let secrets = keys::complete(grant, &credentials, self.secrets).map_err(invalid)?;
        let user = secret(&secrets, &credentials.user).map_err(invalid)?;
        let user = RbdName::parse(user.reveal())
            .map_err(|problem| refuse(RefusalKind::Invalid, format!("the secret `{}` is not a Ceph user: {problem}", credentials.user)))?;
        let key = secret(&secrets, &credentials.key).map_err(invalid)?;
        let source = match &verb {
            RbdVerb::Image { at, image, verb: ImageVerb::Create(_) | ImageVerb::Resize { .. } } => {
                Some(ImageAt { cluster: cluster.clone(), at: at.clone(), image: image.clone() }.to_string())
            }
            RbdVerb::Image { verb: ImageVerb::Copy { to, copy, .. }, .. } => {
                Some(ImageAt { cluster: cluster.clone(), at: to.clone(), image: copy.clone() }.to_string())
            }
            _ => None,
        };
        let hold = match &verb {
            RbdVerb::Image { verb: ImageVerb::Claim { hold, .. }, .. } => Some(*hold),
            _ => None,
        };
        let answer = self.process.perform(&BackEnd::Cluster(grant.monitors.clone()), Deed::Rbd { user, verb }, Some(key))?;
        self.made(source);
        if let (EffectAnswer::Rbd(RbdAnswer::Claimed(claimed)), Some(hold)) = (&answer, hold) {
            self.traces.claims.push((claimed.clone(), hold));
        }
        Ok(answer)
    }

    /// A look belongs everywhere. What changes an image belongs to the call that asks for it, so that a plugin which is asked for free room
    /// deletes nothing.
    fn belongs(&self, verb: &RbdVerb) -> Result<(), EffectError> {
        const DELETES: &[&str] = &["controller.delete-volume", "snapshots.delete-snapshot"];
        const COPIES: &[&str] = &["controller.create-volume", "snapshots.create-snapshot"];
        let verb = match verb {
            RbdVerb::Image { verb, .. } => verb,
            RbdVerb::Pool { verb: PoolVerb::RemoveFromJournal { .. }, .. } => return self.one_of("remove-from-journal", DELETES),
            RbdVerb::PoolName { .. } | RbdVerb::Pool { .. } => return Ok(()),
        };
        let (name, calls): (_, &[&str]) = match verb {
            ImageVerb::Stat => return Ok(()),
            ImageVerb::Create(wish) => {
                own_keys(&wish.metadata)?;
                ("create", &["controller.create-volume"])
            }
            ImageVerb::SetMetadata(metadata) => {
                own_keys(metadata)?;
                ("set-metadata", &["controller.create-volume", "controller.expand", "modification.modify-volume"])
            }
            ImageVerb::Resize { .. } => ("resize", &["controller.create-volume", "controller.expand"]),
            ImageVerb::Delete => ("delete", DELETES),
            ImageVerb::TakeSnapshot { snapshot } => {
                own_snapshot(snapshot)?;
                ("take-snapshot", COPIES)
            }
            // One that was left is taken anew.
            ImageVerb::DeleteSnapshot { snapshot } if own_snapshot(snapshot).is_ok() && COPIES.contains(&self.call) => return Ok(()),
            ImageVerb::DeleteSnapshot { .. } => ("delete-snapshot", DELETES),
            ImageVerb::Copy { wish, .. } => {
                own_keys(&wish.metadata)?;
                ("copy", COPIES)
            }
            ImageVerb::Claim { .. } => ("claim", &["publishing.publish"]),
            ImageVerb::Release { .. } => ("release", &["publishing.unpublish"]),
        };
        self.one_of(name, calls)
    }

    fn one_of(&self, name: &str, calls: &[&str]) -> Result<(), EffectError> {
        if calls.contains(&self.call) {
            return Ok(());
        }
        Err(refuse(RefusalKind::PermissionDenied, format!("`rbd.{name}` belongs to {}, and this is {}", calls.join(" and "), self.call)))
    }

    /// Made or found, once: a plugin may ask for the same again.
    fn made(&mut self, source: Option<String>) {
        let sources = &mut self.traces.sources;
        sources.extend(source.filter(|source| !sources.contains(source)));
    }
}

/// The keys of an image's metadata that a plugin may write. Others have a meaning to librbd (`conf_`) or to other programs.
fn own_keys(metadata: &Context) -> Result<(), EffectError> {
    match metadata.keys().find(|key| !["windlass.", "csi.storage.k8s.io/"].iter().any(|prefix| key.starts_with(prefix))) {
        None => Ok(()),
        Some(key) => Err(refuse(RefusalKind::PermissionDenied, format!("the metadata's key {key:?} does not begin with `windlass.` or `csi.storage.k8s.io/`"))),
    }
}

/// A snapshot that a plugin may take: one that is purged with its image.
fn own_snapshot(snapshot: &RbdName) -> Result<(), EffectError> {
    match snapshot.as_str().starts_with(windlass_ceph::OUR_SNAPSHOTS) {
        true => Ok(()),
        false => Err(refuse(RefusalKind::PermissionDenied, format!("the snapshot's name {snapshot} does not begin with `{}`", windlass_ceph::OUR_SNAPSHOTS))),
    }
}

fn pool_of(verb: &RbdVerb) -> Option<&PoolAt> {
    match verb {
        RbdVerb::PoolName { .. } => None,
        RbdVerb::Pool { at, .. } | RbdVerb::Image { at, .. } => Some(at),
    }
}

fn invalid(failure: Failure) -> EffectError {
    refuse(RefusalKind::Invalid, failure.text)
}

/// What an operator did not grant is named with what was, so that a wrong parameter of a storage class can be mended.
fn ungranted(problem: Ungranted) -> EffectError {
    refuse(RefusalKind::Invalid, problem.to_string())
}

pub(crate) fn refuse(kind: RefusalKind, message: String) -> EffectError {
    EffectError { kind, message }
}
