//! DeleteVolume: refused while anything of the volume is on this node; otherwise the plugin's.

use crate::claims::{Answer, Claim};
use crate::refused::Refused;
use crate::served::Served;
use crate::story::{OTHER_ANSWER, call};
use windlass_plan::plugin::{PluginAnswer, PluginCall};
use windlass_plan::request::{Call, DeleteVolume};

pub(crate) fn delete(served: &Served, request: Call<DeleteVolume>, _: &mut Claim) -> Result<Answer, Refused> {
    let Call { request: DeleteVolume { volume }, secrets } = request;
    let generation = served.generation()?;
    if let Some(engine) = &served.house.engine
        && !engine.open(served.driver.name(), &volume)?.is_absent()?
    {
        return Err(Refused::InUse(volume));
    }
    let (answer, _) = call(served, &generation, PluginCall::DeleteVolume { volume: volume.to_string() }, &secrets)?;
    let PluginAnswer::Deleted = answer else { return Err(OTHER_ANSWER) };
    if let Some(engine) = &served.house.engine
        && let Err(error) = engine.notes().forget(&engine.key(served.driver.name(), &volume))
    {
        tracing::warn!(%volume, %error, "the volume is deleted, its format note is not: a new volume of this id is formatted on this node only if the operator allows it");
    }
    Ok(Answer::Done)
}
