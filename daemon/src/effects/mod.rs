//! Effects: what plugins have done in the world while a controller call runs. Checked here, done in processes of their own.

mod files;
mod process;
mod role;

pub(crate) use process::EffectsProcesses;
pub(crate) use role::run;

use windlass_plan::attach::Source;
use windlass_plan::effect::{Effect, EffectAnswer, EffectError, FilesVerb, is_file_name};
use windlass_plan::grants::Grants;
use windlass_plan::plugin::RefusalKind;

/// The effects of one call: what it may, and which source it made or found.
pub(crate) struct Effects<'a> {
    /// What the operator allows the driver.
    pub(crate) grants: &'a Grants,
    /// Who does it.
    pub(crate) process: &'a EffectsProcesses,
    /// The sources that `create` effects of this call made or found, in order.
    pub(crate) sources: Vec<Source>,
}

impl Effects<'_> {
    /// Checks an effect and has it done.
    pub(crate) fn perform(&mut self, effect: Effect) -> Result<EffectAnswer, EffectError> {
        let Effect::Files(files) = effect;
        let Some(folder) = self.grants.files.get(&files.folder) else {
            let shown: String = files.folder.chars().filter(|c| !c.is_control()).take(64).collect();
            return Err(refuse(RefusalKind::PermissionDenied, format!("the folder {shown:?} was not granted to this driver")));
        };
        let name = match &files.verb {
            FilesVerb::Create { name, .. } | FilesVerb::Stat { name } | FilesVerb::Grow { name, .. } | FilesVerb::Delete { name } => Some(name),
            FilesVerb::List { .. } | FilesVerb::Room => None,
        };
        if name.is_some_and(|name| !is_file_name(name)) {
            return Err(refuse(RefusalKind::Invalid, "a file's name is 1 to 200 letters, digits, `-`, `_` or `.`, and does not begin with a dot".to_owned()));
        }
        let source = match &files.verb {
            FilesVerb::Create { name, .. } => Some(Source::File { folder: files.folder.clone(), name: name.clone() }),
            _ => None,
        };
        let answer = self.process.perform(folder, files.verb)?;
        // Made or found, once: a plugin may ask for the same file again.
        self.sources.extend(source.filter(|source| !self.sources.contains(source)));
        Ok(answer)
    }
}

pub(crate) fn refuse(kind: RefusalKind, message: String) -> EffectError {
    EffectError { kind, message }
}
