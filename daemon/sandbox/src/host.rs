//! The imports of `windlass:plugin`: `log` and `config` are answered here, `files` and `rbd` become messages to the daemon.

mod rbd;

use crate::bindings::windlass::plugin as wit;
use crate::call::{Call, Nature};
use crate::from_wit::{self, Malformed};
use crate::text;
use crate::to_wit;
use std::time::Instant;
use windlass_plan::effect::{Effect, EffectAnswer, EffectError, FilesEffect, FilesVerb};
use windlass_plan::plugin::RefusalKind;
use windlass_wire::plugin::{FromPlugin, Level};

use wit::types::Refusal;

/// Lets wasmtime find a call's data.
pub(crate) struct InCall;

impl wasmtime::component::HasData for InCall {
    type Data<'a> = &'a mut Call;
}

impl wit::types::Host for Call {}

impl wit::log::Host for Call {
    fn log(&mut self, level: wit::log::Level, message: String) -> wasmtime::Result<()> {
        self.count_host_call()?;
        let level = match level {
            wit::log::Level::Debug => Level::Debug,
            wit::log::Level::Info => Level::Info,
            wit::log::Level::Warn => Level::Warn,
            wit::log::Level::Error => Level::Error,
        };
        Call::log(self, level, &message);
        Ok(())
    }
}

impl wit::config::Host for Call {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.count_host_call()?;
        Ok(self.shared.config.get(&key).cloned())
    }
}

impl wit::files::Host for Call {
    fn create(&mut self, folder: String, name: String, size: u64, properties: Vec<(String, String)>) -> wasmtime::Result<Result<wit::files::Created, Refusal>> {
        let properties = match from_wit::context(properties, "the properties of `files.create`") {
            Ok(properties) => properties,
            Err(malformed) => return Ok(Err(Refusal::Invalid(malformed.to_string()))),
        };
        self.ask(folder, FilesVerb::Create { name, size, properties }, |answer| match answer {
            EffectAnswer::Created { file, is_new } => Some(wit::files::Created { file: to_wit::file(file), is_new }),
            _ => None,
        })
    }

    fn copy(
        &mut self,
        folder: String,
        name: String,
        to: String,
        size: u64,
        properties: Vec<(String, String)>,
    ) -> wasmtime::Result<Result<wit::files::Created, Refusal>> {
        let properties = match from_wit::context(properties, "the properties of `files.copy`") {
            Ok(properties) => properties,
            Err(malformed) => return Ok(Err(Refusal::Invalid(malformed.to_string()))),
        };
        self.ask(folder, FilesVerb::Copy { name, to, size, properties }, |answer| match answer {
            EffectAnswer::Created { file, is_new } => Some(wit::files::Created { file: to_wit::file(file), is_new }),
            _ => None,
        })
    }

    fn stat(&mut self, folder: String, name: String) -> wasmtime::Result<Result<Option<wit::files::File>, Refusal>> {
        self.ask(folder, FilesVerb::Stat { name }, |answer| match answer {
            EffectAnswer::File(file) => Some(file.map(to_wit::file)),
            _ => None,
        })
    }

    fn grow(&mut self, folder: String, name: String, size: u64) -> wasmtime::Result<Result<wit::files::File, Refusal>> {
        self.ask(folder, FilesVerb::Grow { name, size }, |answer| match answer {
            EffectAnswer::Grown(file) => Some(to_wit::file(file)),
            _ => None,
        })
    }

    fn delete(&mut self, folder: String, name: String) -> wasmtime::Result<Result<(), Refusal>> {
        self.ask(folder, FilesVerb::Delete { name }, |answer| matches!(answer, EffectAnswer::Deleted).then_some(()))
    }

    fn list(&mut self, folder: String, after: String, limit: u32) -> wasmtime::Result<Result<Vec<wit::files::File>, Refusal>> {
        self.ask(folder, FilesVerb::List { after, limit }, |answer| match answer {
            EffectAnswer::Files(files) => Some(files.into_iter().map(to_wit::file).collect()),
            _ => None,
        })
    }

    fn free(&mut self, folder: String) -> wasmtime::Result<Result<wit::files::Room, Refusal>> {
        self.ask(folder, FilesVerb::Room, |answer| match answer {
            EffectAnswer::Room { available, total } => Some(wit::files::Room { available, total }),
            _ => None,
        })
    }
}

impl Call {
    /// Something in a granted folder.
    fn ask<T>(&mut self, folder: String, verb: FilesVerb, read: impl FnOnce(EffectAnswer) -> Option<T>) -> wasmtime::Result<Result<T, Refusal>> {
        self.have_done(|| Ok(Effect::Files(FilesEffect { folder, verb })), read)
    }

    /// Has an effect done by the daemon, which checks it against the grants. Functions that are pure get no effects at all.
    fn have_done<T>(
        &mut self,
        effect: impl FnOnce() -> Result<Effect, Malformed>,
        read: impl FnOnce(EffectAnswer) -> Option<T>,
    ) -> wasmtime::Result<Result<T, Refusal>> {
        self.count_host_call()?;
        let (Nature::Effectful, Some(link)) = (self.nature, &self.link) else {
            let words = format!("{} has no effects: functions of `driver` and `node` may not use `files` and `rbd`", self.name);
            return Ok(Err(Refusal::PermissionDenied(words)));
        };
        let effect = match effect() {
            Ok(effect) => effect,
            Err(malformed) => return Ok(Err(Refusal::Invalid(text::line(&malformed.to_string(), text::LINE)))),
        };
        link.send(&FromPlugin::Effect { id: link.id(), effect });
        let asked = Instant::now();
        let answer = link.answer();
        // The daemon does the effect and bounds its time; the plugin's own clock stood still.
        self.deadline += asked.elapsed();
        Ok(match answer.map(read) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Refusal::Unavailable("the daemon's answer is not one to this question".to_owned())),
            Err(EffectError { kind, message }) => Err(refusal(kind, text::line(&message, text::LINE))),
        })
    }
}

fn refusal(kind: RefusalKind, message: String) -> Refusal {
    match kind {
        RefusalKind::Invalid => Refusal::Invalid(message),
        RefusalKind::NotFound => Refusal::NotFound(message),
        RefusalKind::AlreadyExists => Refusal::AlreadyExists(message),
        RefusalKind::Exhausted => Refusal::Exhausted(message),
        RefusalKind::Precondition => Refusal::Precondition(message),
        RefusalKind::OutOfRange => Refusal::OutOfRange(message),
        RefusalKind::BadToken => Refusal::BadToken(message),
        RefusalKind::PermissionDenied => Refusal::PermissionDenied(message),
        RefusalKind::Unauthenticated => Refusal::Unauthenticated(message),
        RefusalKind::Unavailable => Refusal::Unavailable(message),
        RefusalKind::Unsupported => Refusal::Unsupported(message),
    }
}
