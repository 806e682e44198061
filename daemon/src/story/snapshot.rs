//! CreateSnapshot, DeleteSnapshot and ListSnapshots: the plugin cuts, deletes and lists; nobody deletes a volume while it is cut.

use crate::claims::{Answer, Claim, Claimed};
use crate::refused::Refused;
use crate::served::Served;
use crate::story::{OTHER_ANSWER, call};
use windlass_plan::plugin::{PluginAnswer, PluginCall, SnapshotAnswer, SnapshotFacts};
use windlass_plan::request::{Call, CreateSnapshot, DeleteSnapshot, ListSnapshots, Secrets};

/// Entries of a page when the caller names no number.
const PAGE: u32 = 500;

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

/// One page and the token of the next. What the filters do not let through would be taken by the orchestrator for what it asked for.
pub(crate) fn list(served: &Served, request: ListSnapshots) -> Result<(Vec<SnapshotAnswer>, String), Refused> {
    let generation = served.generation()?;
    let ListSnapshots { snapshot, volume, max_entries, starting_token } = request;
    let max_entries = if max_entries == 0 { PAGE } else { max_entries };
    let (snapshot, volume) = (snapshot.map(|id| id.to_string()), volume.map(|id| id.to_string()));
    let asked = PluginCall::ListSnapshots { snapshot: snapshot.clone(), volume: volume.clone(), max_entries, starting_token };
    let PluginAnswer::Snapshots { entries, next_token } = call(served, &generation, asked, &Secrets::default())?.0 else { return Err(OTHER_ANSWER) };
    if entries.len() > max_entries as usize {
        return Err(Refused::Contract("a page has more entries than were asked for"));
    }
    let is_wanted = |entry: &SnapshotAnswer| snapshot.as_ref().is_none_or(|id| *id == entry.snapshot) && volume.as_ref().is_none_or(|id| *id == entry.volume);
    if !entries.iter().all(is_wanted) {
        return Err(Refused::Contract("a page has snapshots that the filters exclude"));
    }
    Ok((entries, next_token))
}
