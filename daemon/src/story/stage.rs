//! NodeStageVolume and NodeUnstageVolume.

use crate::claims::{Answer, Claim};
use crate::refused::Refused;
use crate::served::Served;
use crate::story::{Attached, attach, place};
use windlass_engine::Work;
use windlass_engine::record::StageFacts;
use windlass_engine::stage::StageOrder;
use windlass_plan::check::IMAGE_KEY;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::lower;
use windlass_plan::paths::Place;
use windlass_plan::rbd::ImageIdentity;
use windlass_plan::request::{Call, StageVolume, UnstageVolume};

pub(crate) fn stage(served: &Served, call: Call<StageVolume>, _: &mut Claim) -> Result<Answer, Refused> {
    let request = &call.request;
    let mut work = served.engine()?.open(served.driver.name(), &request.volume)?;
    let staging = place(served, "staging_target_path", &request.staging_path);
    let proven = request.publish_context.get(IMAGE_KEY).and_then(|image| ImageIdentity::parse(image));
    match &staging {
        Ok(staging) if work.staged(staging, &request.capability, proven.as_ref())?.is_some() => return Ok(Answer::Done),
        Ok(_) => {}
        // Nothing will be done. The look tells the lease whether anything of the volume is here, or its lock can go.
        Err(_) => drop(work.is_absent()?),
    }
    stage_anew(served, &call, staging, &mut work).map_err(|refused| {
        // The volume is still published and only its staging mount is gone, or an earlier stage could not be undone: kubelet must not take a
        // refusal for "nothing is here".
        if work.holds_something() {
            Failure::new(Reason::LeftBehind, format!("{refused}; something of the volume is still on this node")).into()
        } else {
            refused
        }
    })?;
    Ok(Answer::Done)
}

fn stage_anew(served: &Served, call: &Call<StageVolume>, staging: Result<Place, Refused>, work: &mut Work<'_>) -> Result<(), Refused> {
    let Attached { plan, source, key } = attach(served, call, Some(work))?;
    let request = &call.request;
    // A path is looked at after the volume is known: whoever asks for nothing learns that first.
    let staging = staging?;
    let facts = StageFacts {
        path: request.staging_path.clone(),
        capability: request.capability.clone(),
        source: source.to_string(),
        filesystem: plan.filesystem.as_ref().map(|filesystem| filesystem.kind),
        staging,
    };
    let steps = lower::stage(served.engine()?.key(served.driver.name(), &request.volume), &plan, &request.capability, &facts.staging);
    let proof = plan.source.proof().map(str::to_owned);
    work.stage(StageOrder { facts, steps, content: plan.content, is_ours: plan.is_ours, proof, key })?;
    Ok(())
}

/// No plugin, no secret, no connection (law 4). Of a volume that was never here: OK.
pub(crate) fn unstage(served: &Served, call: Call<UnstageVolume>, _: &mut Claim) -> Result<Answer, Refused> {
    let request = call.request;
    let staging = place(served, "staging_target_path", &request.staging_path)?;
    served.engine()?.open(served.driver.name(), &request.volume)?.unstage(&staging)?;
    Ok(Answer::Done)
}
