//! ControllerPublishVolume and ControllerUnpublishVolume: the plugin claims the volume for a node; what was proven travels to it.

use crate::claims::{Answer, Claim};
use crate::refused::Refused;
use crate::served::Served;
use crate::story::{OTHER_ANSWER, call};
use std::time::{SystemTime, UNIX_EPOCH};
use windlass_plan::capability::Access;
use windlass_plan::check::{HOLD_KEY, IMAGE_KEY, NEVER_WRITTEN_KEY, OWN_PREFIX};
use windlass_plan::lower::writable;
use windlass_plan::plugin::{PluginAnswer, PluginCall, PublishFacts};
use windlass_plan::request::{Call, PublishToNode, UnpublishFromNode};
use windlass_plan::step::Writable;

pub(crate) fn publish(served: &Served, asked: Call<PublishToNode>, _: &mut Claim) -> Result<Answer, Refused> {
    let Call { request, secrets } = asked;
    let generation = served.generation()?;
    let may_format = matches!(request.capability.access, Access::Mount(_)) && writable(&request.capability) == Writable::ReadWrite && !request.readonly;
    let facts = PublishFacts {
        volume: request.volume.to_string(),
        node: request.node,
        capability: request.capability,
        readonly: request.readonly,
        volume_context: request.volume_context,
    };
    let (answer, traces) = call(served, &generation, PluginCall::Publish(facts), &secrets)?;
    let PluginAnswer::Published(mut context) = answer else { return Err(OTHER_ANSWER) };
    if context.keys().any(|key| key.starts_with(OWN_PREFIX)) {
        return Err(Refused::Contract("its publish context holds a key that begins with `windlass.io/`"));
    }
    match &traces.claims[..] {
        [] => {}
        [(claimed, hold)] => {
            context.insert(HOLD_KEY.to_owned(), hold.name().to_owned());
            context.insert(IMAGE_KEY.to_owned(), claimed.identity.to_string());
            // A raw volume is written where nobody can tell, so nothing is said of one.
            if claimed.is_never_written && may_format {
                context.insert(NEVER_WRITTEN_KEY.to_owned(), number_of_this_proof());
            }
        }
        [_, _, ..] => return Err(Refused::Contract("one volume was claimed as several images")),
    }
    Ok(Answer::Context(context))
}

pub(crate) fn unpublish(served: &Served, asked: Call<UnpublishFromNode>, _: &mut Claim) -> Result<Answer, Refused> {
    let Call { request, secrets } = asked;
    let generation = served.generation()?;
    let asked = PluginCall::Unpublish { volume: request.volume.to_string(), node: request.node };
    match call(served, &generation, asked, &secrets)?.0 {
        PluginAnswer::Unpublished => Ok(Answer::Done),
        _ => Err(OTHER_ANSWER),
    }
}

/// Another each time: a node must be able to tell a proof from one that it has used.
fn number_of_this_proof() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", since.as_nanos(), std::process::id())
}
