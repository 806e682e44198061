//! CreateSnapshot and DeleteSnapshot: the plugin cuts and deletes; nobody deletes a volume while it is cut.

use crate::claims::{Answer, Claim, Claimed};
use crate::refused::Refused;
use crate::served::Served;
use crate::story::{OTHER_ANSWER, call};
use windlass_plan::plugin::{PluginAnswer, PluginCall, SnapshotFacts};
use windlass_plan::request::{Call, CreateSnapshot, DeleteSnapshot};

pub(crate) fn create(served: &Served, request: Call<CreateSnapshot>, claim: &mut Claim) -> Result<Answer, Refused> {
    let Call { request: CreateSnapshot { volume, name, parameters }, secrets } = request;
    let generation = served.generation()?;
    claim.share(served.volume(&volume))?;
    let facts = SnapshotFacts { name, volume: volume.to_string(), parameters };
    let mut is_claimed = false;
    loop {
        let PluginAnswer::Snapshot(snapshot) = call(served, &generation, PluginCall::CreateSnapshot(facts.clone()), &secrets)?.0 else {
            return Err(OTHER_ANSWER);
        };
        if snapshot.volume != facts.volume {
            return Err(Refused::Contract("the snapshot is of another volume than the one that was asked for"));
        }
        // As with a new volume: where a delete had it meanwhile, what was just said may be gone.
        let key = Claimed::Snapshot(served.driver.name().clone(), snapshot.snapshot.clone());
        if !claim.holds(&key) {
            if std::mem::replace(&mut is_claimed, true) {
                return Err(Refused::Contract("it gives one name two different ids"));
            }
            if claim.add(key)? {
                continue;
            }
        }
        return Ok(Answer::Snapshot(snapshot));
    }
}

pub(crate) fn delete(served: &Served, request: Call<DeleteSnapshot>, _: &mut Claim) -> Result<Answer, Refused> {
    let Call { request: DeleteSnapshot { snapshot }, secrets } = request;
    let generation = served.generation()?;
    match call(served, &generation, PluginCall::DeleteSnapshot { snapshot: snapshot.to_string() }, &secrets)?.0 {
        PluginAnswer::Deleted => Ok(Answer::Done),
        _ => Err(OTHER_ANSWER),
    }
}
