//! The controller's other calls: expand, validate, list, capacity.

use crate::claims::{Answer, Claim};
use crate::refused::Refused;
use crate::served::Served;
use crate::story::{OTHER_ANSWER, anywhere, call};
use windlass_plan::plugin::{CapacityAnswer, CapacityFacts, PluginAnswer, PluginCall, ValidateFacts, VolumeAnswer};
use windlass_plan::request::{Call, Capacity, ExpandVolume, ListVolumes, ModifyVolume, Secrets, ValidateVolume};

/// Entries of a page when the caller names no number: far below what grpc-go takes in one message.
const PAGE: u32 = 500;

pub(crate) fn expand(served: &Served, request: Call<ExpandVolume>, _: &mut Claim) -> Result<Answer, Refused> {
    let Call { request, secrets } = request;
    let generation = served.generation()?;
    let asked = PluginCall::Expand { volume: request.volume.to_string(), capacity: request.capacity };
    let (answer, _) = call(served, &generation, asked, &secrets)?;
    let PluginAnswer::Expanded(expanded) = answer else { return Err(OTHER_ANSWER) };
    if expanded.capacity < request.capacity.required {
        return Err(Refused::Contract("the volume is smaller than what was asked for"));
    }
    Ok(Answer::Expanded(expanded.capacity, expanded.node_expansion))
}

pub(crate) fn modify(served: &Served, request: Call<ModifyVolume>, _: &mut Claim) -> Result<Answer, Refused> {
    let Call { request, secrets } = request;
    let generation = served.generation()?;
    let asked = PluginCall::Modify { volume: request.volume.to_string(), parameters: request.parameters };
    match call(served, &generation, asked, &secrets)?.0 {
        PluginAnswer::Modified => Ok(Answer::Done),
        _ => Err(OTHER_ANSWER),
    }
}

/// Nothing, or why not.
pub(crate) fn validate(served: &Served, Call { request, secrets }: Call<ValidateVolume>) -> Result<Option<String>, Refused> {
    let generation = served.generation()?;
    let can_modify = generation.inspection.exports.iter().any(|export| export == "modification");
    if let Some(key) = request.mutable_parameters.keys().next().filter(|_| !can_modify) {
        return Ok(Some(format!("the mutable parameter {key:?} is not supported: this driver has none")));
    }
    let facts = ValidateFacts {
        volume: request.volume.to_string(),
        volume_context: request.volume_context,
        capabilities: request.capabilities,
        parameters: request.parameters,
        mutable_parameters: request.mutable_parameters,
    };
    match call(served, &generation, PluginCall::Validate(facts), &secrets)?.0 {
        PluginAnswer::Validated(words) => Ok(words),
        _ => Err(OTHER_ANSWER),
    }
}

/// One page and the token of the next.
pub(crate) fn list(served: &Served, request: &ListVolumes) -> Result<(Vec<VolumeAnswer>, String), Refused> {
    let generation = served.generation()?;
    let max_entries = if request.max_entries == 0 { PAGE } else { request.max_entries };
    let asked = PluginCall::ListVolumes { max_entries, starting_token: request.starting_token.clone() };
    match call(served, &generation, asked, &Secrets::default())?.0 {
        PluginAnswer::Volumes { entries, .. } if entries.len() > max_entries as usize => Err(Refused::Contract("a page has more entries than were asked for")),
        PluginAnswer::Volumes { entries, next_token } => Ok((entries, next_token)),
        _ => Err(OTHER_ANSWER),
    }
}

/// Room for new volumes.
pub(crate) fn capacity(served: &Served, request: Capacity) -> Result<CapacityAnswer, Refused> {
    let generation = served.generation()?;
    let facts =
        CapacityFacts { capabilities: request.capabilities, parameters: request.parameters, topology: request.topology.and_then(anywhere::forget_place) };
    match call(served, &generation, PluginCall::Capacity(facts), &Secrets::default())?.0 {
        PluginAnswer::Capacity(room) => Ok(room),
        _ => Err(OTHER_ANSWER),
    }
}
