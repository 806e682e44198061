//! Puts together what the admin socket answers.

use super::view::{BackEndWork, Driver, DriverState, Effects, ExplainedStep, Explanation, Going, Ops, Status, StuckWorker, Unowned, Volume};
use crate::house::House;
use crate::registration::Standing;
use crate::served::Served;
use crate::story;
use std::sync::{Arc, PoisonError};
use windlass_engine::record::{Record, StrandState, What};
use windlass_plan::effect::Background;
use windlass_plan::format::{FormatNote, FormatState};
use windlass_plan::ids::VolumeId;
use windlass_plan::lower;
use windlass_plugins::signature::Origin;
use windlass_wire::effects::BackEnd;

pub(super) fn status(house: &Arc<House>) -> Status {
    let records = house.records();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: house.started.elapsed().map_or(0, |age| age.as_secs()),
        instance: house.config.instance.clone(),
        node: house.config.node.clone(),
        roles: house.config.roles.clone(),
        signatures: house.config.signatures,
        workers_idle: house.engine.as_ref().map(|engine| engine.idle_workers()).unwrap_or_default(),
        workers_stuck: (house.engine.as_ref().map(|engine| engine.stuck_workers()).unwrap_or_default().into_iter())
            .map(|(pid, age)| StuckWorker { pid, seconds: age.as_secs_f64() })
            .collect(),
        effects: house
            .effects
            .view()
            .into_iter()
            .map(|(back_end, pid, missing_walls)| Effects { back_end: back_end.to_string(), pid, missing_walls })
            .collect(),
        drivers: house.all().iter().map(|served| driver(served, &records)).collect(),
        volumes: records.iter().map(volume).collect(),
        going: going(house),
        unowned: (house.unowned.lock().unwrap_or_else(PoisonError::into_inner).iter())
            .map(|marked| Unowned { device: marked.device.clone(), backing: marked.backing.clone() })
            .collect(),
    }
}

/// The calls that run.
fn going(house: &House) -> Vec<Going> {
    let going = |going: crate::claims::Going| {
        let (driver, on) = going.claimed.into_parts();
        Going { driver: driver.to_string(), on, verb: going.verb.to_owned(), seconds: going.age.as_secs_f64() }
    };
    house.claims.going().into_iter().map(going).collect()
}

pub(super) fn ops(house: &House) -> Ops {
    let work = |(back_end, said): (BackEnd, Result<Vec<Background>, String>)| match said {
        Ok(work) => BackEndWork { back_end: back_end.to_string(), work, problem: None },
        Err(problem) => BackEndWork { back_end: back_end.to_string(), work: Vec::new(), problem: Some(problem) },
    };
    Ops { calls: going(house), background: house.effects.background().into_iter().map(work).collect() }
}

fn driver(served: &Served, records: &[Record]) -> Driver {
    let view = served.driver.view();
    let process = view.generation.as_ref().map(|generation| generation.process().view());
    let state = match (&view.generation, &view.refused) {
        (Some(_), None) => DriverState::Serving,
        (Some(_), Some(_)) => DriverState::ServingOld,
        (None, None) => DriverState::Loading,
        (None, Some(_)) => DriverState::TeardownOnly,
    };
    Driver {
        name: view.name.to_string(),
        state,
        vendor: view.advertised.as_ref().map(|said| said.vendor.clone()),
        version: view.advertised.as_ref().map(|said| said.version.clone()),
        generation: view.generation.as_ref().map(|generation| generation.number),
        digest: view.generation.as_ref().map(|generation| generation.digest.clone()),
        origin: view.generation.as_ref().map(|generation| origin(&generation.origin)),
        comment: view.generation.as_ref().and_then(|generation| match &generation.origin {
            Origin::Signed(signer) => Some(signer.comment.clone()),
            Origin::Embedded | Origin::Unchecked => None,
        }),
        exports: view.advertised.map(|said| said.exports).unwrap_or_default(),
        refused: view.refused.map(|refused| refused.reason),
        load_ms: view.reloaded.map(|(_, took)| took.as_secs_f64() * 1000.0),
        pid: process.as_ref().and_then(|process| process.pid),
        starts: process.as_ref().map_or(0, |process| process.starts),
        uid: view.spec.and_then(|spec| spec.uid),
        missing_walls: process.map(|process| process.missing_walls).unwrap_or_default(),
        unready: served.unready(),
        volumes: records.iter().filter(|record| record.header.driver == view.name).count(),
        socket: served.socket().display().to_string(),
        kubelet: served.house.registrar.standing(&view.name).map(|standing| match standing {
            Standing::Shown => "shown".to_owned(),
            Standing::Registered => "registered".to_owned(),
            Standing::Refused(why) => format!("refused: {why}"),
            Standing::Failed(why) => format!("not shown: {why}"),
        }),
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Embedded => "embedded".to_owned(),
        Origin::Unchecked => "unchecked".to_owned(),
        Origin::Signed(signer) => format!("key {}", signer.key),
    }
}

fn volume(record: &Record) -> Volume {
    let stage = record.stage();
    let facts = stage.and_then(|strand| match &strand.what {
        What::Stage(facts) => Some(facts),
        What::Publish(_) => None,
    });
    let device = stage.and_then(|strand| strand.device.as_ref());
    let published_at: Vec<String> = record.publishes().map(|(_, facts)| facts.path.clone()).collect();
    let is_settled = record.strands.iter().all(|strand| strand.state == StrandState::Standing);
    let state = match (is_settled, published_at.is_empty()) {
        (false, _) => "in between",
        (true, true) => "staged",
        (true, false) => "published",
    };
    Volume {
        driver: record.header.driver.to_string(),
        id: record.header.volume.to_string(),
        key: record.header.key.to_string(),
        state: state.to_owned(),
        device: device.map(|device| device.name.clone()),
        size: device.map(|device| device.size),
        filesystem: facts.map(|facts| facts.filesystem.map_or("block", |kind| kind.name()).to_owned()),
        mode: facts.map(|facts| facts.capability.mode.to_string()),
        source: facts.map(|facts| facts.source.clone()),
        staged_at: facts.map(|facts| facts.path.clone()),
        published_at,
    }
}

/// The driver of that name, or the only one.
fn named(house: &Arc<House>, driver: Option<&str>) -> Result<Arc<Served>, String> {
    let all = house.all();
    match driver {
        Some(name) => all.into_iter().find(|served| served.driver.name().as_str() == name).ok_or_else(|| format!("there is no driver {name:?}")),
        None if all.len() == 1 => Ok(all[0].clone()),
        None => Err(format!("there are {} drivers; say which with `--driver`", all.len())),
    }
}

pub(super) fn explain_stage(house: &Arc<House>, driver: Option<&str>, request: &serde_json::Value) -> Result<Explanation, String> {
    let served = &named(house, driver)?;
    let request = windlass_csi::json::request("NodeStageVolume", &request.to_string()).map_err(|error| error.to_string())?;
    let message = request.message.decode().map_err(|error| error.to_string())?;
    let call = windlass_csi::from_proto::stage_volume(message).map_err(|error| error.to_string())?;
    let story::Attached { plan, source, .. } = story::attach(served, &call, None).map_err(|refused| refused.to_string())?;
    let staging = story::place(served, "staging_target_path", &call.request.staging_path).map_err(|refused| refused.to_string())?;
    let engine = served.engine().map_err(|refused| refused.to_string())?;
    let key = engine.key(served.driver.name(), &call.request.volume);
    let generation = served.generation().map_err(|refused| refused.to_string())?;
    let steps = lower::stage(key, &plan, &call.request.capability, &staging);
    Ok(Explanation {
        driver: served.driver.name().to_string(),
        volume: call.request.volume.to_string(),
        plugin: format!("{} {}", generation.description.vendor, generation.description.version),
        source: source.to_string(),
        is_ours: plan.is_ours,
        steps: steps.into_iter().map(|step| ExplainedStep { name: step.name().to_owned(), undo: step.undo(key), step }).collect(),
    })
}

/// Notes that the driver's next version may be lower than what has served, and has it tried at once; says what came of it.
pub(super) fn allow_downgrade(house: &Arc<House>, driver: &str) -> Result<String, String> {
    let served = named(house, Some(driver))?;
    let highest = house.allow_downgrade(&served).map_err(|error| error.to_string())?;
    let words = match highest {
        Some(highest) => format!("version {highest} of {driver} has served; the next version that is another one may be lower"),
        None => format!("the note of what version of {driver} has served was damaged, and is gone; any version may serve next"),
    };
    let view = served.driver.view();
    Ok(match (view.generation, view.refused) {
        (_, Some(refused)) => format!("{words}. The component there is refused: {}", refused.reason),
        (Some(generation), None) => format!("{words}. Version {} serves", generation.description.version),
        (None, None) => words,
    })
}

/// Notes the operator's word while no call works on the volume and nothing of it is staged; says what it is.
pub(super) fn allow_format(house: &Arc<House>, driver: Option<&str>, volume: &str, word: FormatState) -> Result<String, String> {
    let engine = house.engine.as_ref().ok_or("this daemon does not serve the node role")?;
    let served = named(house, driver)?;
    let driver = served.driver.name();
    let volume = VolumeId::parse(volume).map_err(|error| format!("the volume's id {error}"))?;
    let claimed = served.volume(&volume);
    let Some(_claim) = house.claims.claim_own(&claimed, "allow-format") else { return Err(format!("a call works on volume {volume}; try again")) };
    if engine.has_record(driver, &volume) {
        return Err(format!("volume {volume} is staged on this node; unstage it first"));
    }
    let key = engine.key(driver, &volume);
    // Of a format that was begun it stays known where it was: only what it left on that very source may be formatted over.
    let backing = match engine.notes().read(&key).map_err(|failure| failure.to_string())? {
        Some(note) if note.state != FormatState::Finished => note.backing,
        _ => None,
    };
    if word == FormatState::AllowedOverRemains && backing.is_none() {
        return Err(format!("no format of volume {volume} was begun on this node and interrupted, so nothing on it is what one left"));
    }
    engine.notes().write(&key, &FormatNote { backing, state: word, proof: None }).map_err(|failure| failure.to_string())?;
    let also = if word == FormatState::AllowedOverRemains { ", or holds data that no known format explains" } else { "" };
    Ok(format!("volume {volume} may be formatted at its next stage for writing, if it is blank then{also}"))
}
