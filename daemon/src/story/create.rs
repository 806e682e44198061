//! CreateVolume: the plugin makes it through effects; the daemon adds what the node will prove ownership by.

use crate::claims::{Answer, Claim, Claimed};
use crate::refused::Refused;
use crate::served::Served;
use crate::story::{OTHER_ANSWER, anywhere, call};
use windlass_plan::check::{OWN_PREFIX, SOURCE_KEY};
use windlass_plan::plugin::{CreateFacts, PluginAnswer, PluginCall, VolumeAnswer};
use windlass_plan::request::{Call, ContentSource, CreateVolume};

pub(crate) fn create(served: &Served, request: Call<CreateVolume>, claim: &mut Claim) -> Result<Answer, Refused> {
    let generation = served.generation()?;
    let Call { request, secrets } = request;
    let facts = CreateFacts {
        name: request.name,
        capacity: request.capacity,
        capabilities: request.capabilities,
        parameters: request.parameters,
        mutable_parameters: request.mutable_parameters,
        source: request.source,
        topology: anywhere::forget(request.topology),
    };
    let driver = served.driver.name();
    match &facts.source {
        None => {}
        // What is copied is not deleted meanwhile.
        Some(ContentSource::Volume(volume)) => claim.share(Claimed::Volume(driver.clone(), volume.clone()))?,
        Some(ContentSource::Snapshot(snapshot)) => claim.share(Claimed::Snapshot(driver.clone(), snapshot.clone()))?,
    }
    let mut is_claimed = false;
    loop {
        let (answer, traces) = call(served, &generation, PluginCall::CreateVolume(facts.clone()), &secrets)?;
        let PluginAnswer::Volume(mut volume) = answer else { return Err(OTHER_ANSWER) };
        check(&volume, &facts)?;
        // From here on the volume's id is claimed as well. Where a delete had it meanwhile, what was just said may be gone: ask again.
        let key = Claimed::Volume(served.driver.name().clone(), volume.volume.clone());
        if !claim.holds(&key) {
            if std::mem::replace(&mut is_claimed, true) {
                return Err(Refused::Contract("it gives one name two different ids"));
            }
            if claim.add(key)? {
                continue;
            }
        }
        match &traces.sources[..] {
            [] => {}
            [source] => drop(volume.context.insert(SOURCE_KEY.to_owned(), source.clone())),
            [_, _, ..] => return Err(Refused::Contract("one volume was made from several files or images")),
        }
        return Ok(Answer::Volume(volume));
    }
}

/// What the wire's own limits do not say.
pub(crate) fn check(volume: &VolumeAnswer, facts: &CreateFacts) -> Result<(), Refused> {
    if volume.context.keys().any(|key| key.starts_with(OWN_PREFIX)) {
        return Err(Refused::Contract("its context holds a key that begins with `windlass.io/`"));
    }
    if volume.source != facts.source {
        return Err(Refused::Contract("the volume was made from another source than the one that was asked for"));
    }
    if volume.capacity != 0 && !facts.capacity.admits(volume.capacity) {
        return Err(Refused::Contract("the volume's size is not within the range that was asked for"));
    }
    Ok(())
}
