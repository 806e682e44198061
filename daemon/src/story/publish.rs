//! NodePublishVolume and NodeUnpublishVolume.

use crate::claims::{Answer, Claim};
use crate::refused::Refused;
use crate::served::Served;
use crate::story::{place, planned, require_source};
use sha2::{Digest, Sha256};
use windlass_engine::publish::PublishOrder;
use windlass_engine::record::PublishFacts;
use windlass_plan::attach::Source;
use windlass_plan::check::{NEVER_WRITTEN_KEY, Told, check, check_source};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::lower;
use windlass_plan::request::{Call, PublishVolume, Secrets, StageVolume, UnpublishVolume};
use windlass_plan::step::Writable;

/// Keys of contexts that may change from call to call: kubelet's (tokens of service accounts), and what a later claim of the controller
/// proved, which is about staging. Not part of "the same arguments".
const CHANGING: [&str; 2] = ["csi.storage.k8s.io/", NEVER_WRITTEN_KEY];

pub(crate) fn publish(served: &Served, call: Call<PublishVolume>, _: &mut Claim) -> Result<Answer, Refused> {
    let request = call.request;
    let engine = served.engine()?;
    if !engine.has_record(served.driver.name(), &request.volume) {
        require_known(served, &request)?;
    }
    if request.staging_path.is_empty() {
        let text = "`staging_target_path` is empty, and this driver stages volumes: NodeStageVolume comes first, and its path goes here";
        return Err(Failure::new(Reason::NotStaged, text).into());
    }
    let staging = place(served, "staging_target_path", &request.staging_path)?;
    let target = place(served, "target_path", &request.target_path)?;
    let writable = if request.readonly { Writable::ReadOnly } else { Writable::ReadWrite };
    let facts = PublishFacts {
        target: target.clone(),
        path: request.target_path.clone(),
        capability: request.capability.clone(),
        writable,
        arguments: Some(digest(&request)),
    };
    let step = lower::publish(&request.capability, &staging, &target, writable);
    engine.open(served.driver.name(), &request.volume)?.publish(PublishOrder { facts, staging, step })?;
    Ok(Answer::Done)
}

/// Nothing is recorded of the volume: is there one at all? (Where the journal was lost and the plugin with it, the kernel decides.)
fn require_known(served: &Served, request: &PublishVolume) -> Result<(), Refused> {
    let mut work = served.engine()?.open(served.driver.name(), &request.volume)?;
    if !work.is_absent()? {
        return Ok(());
    }
    let stage = StageVolume {
        volume: request.volume.clone(),
        staging_path: request.staging_path.clone(),
        capability: request.capability.clone(),
        publish_context: request.publish_context.clone(),
        volume_context: request.volume_context.clone(),
    };
    let generation = served.generation()?;
    let plan = planned(&generation, &stage)?;
    let told = Told { volume_context: &stage.volume_context, publish_context: &stage.publish_context, secrets: &Secrets::default() };
    match &plan.source {
        Source::File { .. } => {
            require_source(&mut work, &check_source(&plan.source, &generation.spec.grants, told)?)?;
            check(&plan, &generation.spec.grants, told, &stage.capability)?;
            Ok(())
        }
        // Only the controller knows whether there is such an image; what is to be said here is that it is not staged.
        Source::Rbd(_) => Ok(()),
    }
}

/// A digest of what a second publish must repeat, besides what is recorded in the open. Contexts may hold tokens: they are not kept.
fn digest(request: &PublishVolume) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(&request.staging_path);
    for context in [&request.publish_context, &request.volume_context] {
        for (key, value) in context.iter().filter(|(key, _)| !CHANGING.iter().any(|prefix| key.starts_with(prefix))) {
            add(key);
            add(value);
        }
        add("");
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// No plugin, no secret, no connection (law 4). Of a volume that was never there: OK.
pub(crate) fn unpublish(served: &Served, call: Call<UnpublishVolume>, _: &mut Claim) -> Result<Answer, Refused> {
    let request = call.request;
    let target = place(served, "target_path", &request.target_path)?;
    served.engine()?.open_to_undo(served.driver.name(), &request.volume)?.unpublish(&target)?;
    Ok(Answer::Done)
}
