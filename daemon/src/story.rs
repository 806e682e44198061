//! The story of each RPC, one file a verb, in the order in which it is read: what is known, what the plugin says, what is done.

mod anywhere;
pub(crate) mod controller;
pub(crate) mod controller_publish;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod look;
pub(crate) mod publish;
pub(crate) mod snapshot;
pub(crate) mod stage;

use crate::effects::{Effects, Traces};
use crate::keys;
use crate::refused::Refused;
use crate::served::Served;
use std::borrow::Cow;
use windlass_engine::Work;
use windlass_plan::attach::{AttachPlan, Source};
use windlass_plan::check::{CheckedPlan, CheckedSource, Told, check, check_source};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::grants::Grants;
use windlass_plan::paths::Place;
use windlass_plan::plugin::{PluginAnswer, PluginCall, VolumeFacts};
use windlass_plan::request::{Call, Secret, Secrets, StageVolume};
use windlass_plugins::generation::Generation;

/// What a plugin answered something else for than it was asked.
pub(crate) const OTHER_ANSWER: Refused = Refused::Contract("it answers another function than the one that was called");

/// Asks the plugin what the volume is.
pub(crate) fn planned(generation: &Generation, request: &StageVolume) -> Result<AttachPlan, Refused> {
    let facts = VolumeFacts {
        volume: request.volume.to_string(),
        volume_context: request.volume_context.clone(),
        publish_context: request.publish_context.clone(),
        capability: request.capability.clone(),
    };
    let PluginAnswer::Plan(plan) = generation.ask(PluginCall::Attach(facts))? else { return Err(OTHER_ANSWER) };
    Ok(plan)
}

/// Asks the plugin what the volume is, and checks its plan against grants and ownership. In between it is looked whether there is
/// anything behind it, by the worker that is leased already: of what does not exist it is not said that it is somebody else's.
pub(crate) fn attach(served: &Served, call: &Call<StageVolume>, work: Option<&mut Work<'_>>) -> Result<Attached, Refused> {
    let generation = served.generation()?;
    let request = &call.request;
    let plan = planned(&generation, request)?;
    let secrets = secrets_for(&plan.source, &generation.spec.grants, &call.secrets)?;
    let told = Told { volume_context: &request.volume_context, publish_context: &request.publish_context, secrets: &secrets };
    if let Some(work) = work {
        require_source(work, &check_source(&plan.source, &generation.spec.grants, told)?)?;
    }
    let checked = check(&plan, &generation.spec.grants, told, &request.capability)?;
    let key = match &plan.source {
        Source::Rbd(rbd) => secrets.get(&rbd.credentials.key),
        Source::File { .. } => None,
    };
    Ok(Attached { plan: checked, source: plan.source, key })
}

/// What a volume is, checked, and the key that it takes to attach it.
pub(crate) struct Attached {
    pub(crate) plan: CheckedPlan,
    pub(crate) source: Source,
    pub(crate) key: Option<Secret>,
}

/// The call's secrets, or the operator's in their place.
fn secrets_for<'a>(source: &Source, grants: &Grants, given: &'a Secrets) -> Result<Cow<'a, Secrets>, Refused> {
    match source {
        Source::File { .. } => Ok(Cow::Borrowed(given)),
        Source::Rbd(rbd) => match grants.cluster(&rbd.at.cluster) {
            Ok(grant) => Ok(keys::complete(grant, &rbd.credentials, given)?),
            // The check that follows says so.
            Err(_) => Ok(Cow::Borrowed(given)),
        },
    }
}

/// Is there such a source? Asked of the worker that is leased already: a second lease inside the first could wait for itself. An image
/// was found by the controller; whether it is there still only mapping it can tell.
pub(crate) fn require_source(work: &mut Work<'_>, source: &CheckedSource) -> Result<(), Refused> {
    let CheckedSource::File { folder, name } = source else { return Ok(()) };
    if work.source_exists(folder.clone(), name.clone())? {
        return Ok(());
    }
    Err(Failure::new(Reason::SourceMissing, format!("there is no such volume: {name} is not in the folder {folder}")).into())
}

/// Calls a function with effects; what they left in the world comes back with the answer.
pub(crate) fn call(served: &Served, generation: &Generation, call: PluginCall, secrets: &Secrets) -> Result<(PluginAnswer, Traces), Refused> {
    let mut effects = Effects { call: call.name(), grants: &generation.spec.grants, secrets, process: &served.house.effects, traces: Traces::default() };
    let answer = generation.call(call, &mut |effect| effects.perform(effect))?;
    Ok((answer, effects.traces))
}

/// Finds the root that a path of a request lies beneath.
pub(crate) fn place(served: &Served, field: &'static str, path: &str) -> Result<Place, Refused> {
    served.engine()?.roots().place(path).map_err(|problem| Refused::Path { field, problem })
}
