//! `windlass status`, `drivers`, `volumes` and `volumes allow-format`.

use super::{Output, ask, print, print_json, print_table, size};
use crate::admin::Question;
use crate::admin::view::{DriverState, Status};
use crate::cli::Ask;
use crate::config::Signatures;

/// All at a glance.
pub(crate) fn status(from: &Ask) -> anyhow::Result<()> {
    let status: Status = ask(from, &Question::Status)?;
    if from.output == Output::Json {
        return print_json(&status);
    }
    let roles: Vec<&str> = status.roles.iter().map(|role| if *role == crate::config::Role::Node { "node" } else { "controller" }).collect();
    print(&format!(
        "windlass {}, process {}, up {} s, roles {}, node {}, {} workers idle",
        status.version,
        status.pid,
        status.uptime_seconds,
        roles.join("+"),
        status.node,
        status.workers_idle.len()
    ))?;
    if status.signatures == Signatures::Off {
        print("SIGNATURES ARE OFF: components are taken from whoever can write their files")?;
    }
    for driver in &status.drivers {
        let version = driver.version.as_deref().unwrap_or("?");
        print(&format!("driver {}: {}, version {version}, {} volumes", driver.name, words(driver.state), driver.volumes))?;
        if let Some(refused) = &driver.refused {
            print(&format!("  refused: {refused}"))?;
        }
        if let Some(unready) = driver.unready.as_ref().filter(|_| driver.state == DriverState::Serving) {
            print(&format!("  not ready: {unready}"))?;
        }
        if let Some(kubelet) = &driver.kubelet {
            print(&format!("  kubelet: {kubelet}"))?;
        }
        if !driver.missing_walls.is_empty() {
            print(&format!("  its plugin runs without: {}", driver.missing_walls.join(", ")))?;
        }
    }
    for worker in &status.workers_stuck {
        print(&format!("worker {} has not let go of its volume for {:.0} s: the volume's device holds it", worker.pid, worker.seconds))?;
    }
    for going in &status.going {
        print(&format!("going on: {} on {} of {} for {:.1} s", going.verb, going.on, going.driver, going.seconds))?;
    }
    for unowned in &status.unowned {
        print(&format!(
            "no record: {} shows {}, and has a mark that no record explains; left alone until its volume is unstaged",
            unowned.device, unowned.backing
        ))?;
    }
    if status.volumes.is_empty() {
        return print("no volume is on this node");
    }
    table(&status)
}

/// The drivers.
pub(crate) fn drivers(from: &Ask) -> anyhow::Result<()> {
    let status: Status = ask(from, &Question::Status)?;
    if from.output == Output::Json {
        return print_json(&status.drivers);
    }
    let none = || "-".to_owned();
    let rows = (status.drivers.iter())
        .map(|driver| {
            vec![
                driver.name.clone(),
                words(driver.state).to_owned(),
                driver.version.clone().unwrap_or_else(none),
                driver.generation.map_or_else(none, |number| number.to_string()),
                driver.digest.as_ref().map_or_else(none, |digest| digest.chars().take(12).collect()),
                driver.origin.clone().unwrap_or_else(none),
                driver.pid.map_or_else(|| "idle".to_owned(), |pid| pid.to_string()),
                driver.exports.join(" "),
                driver.volumes.to_string(),
            ]
        })
        .collect();
    print_table(&["DRIVER", "STATE", "VERSION", "GENERATION", "COMPONENT", "BY", "PROCESS", "EXPORTS", "VOLUMES"], rows)?;
    for driver in &status.drivers {
        if let Some(refused) = &driver.refused {
            print(&format!("{}: refused: {refused}", driver.name))?;
        }
    }
    Ok(())
}

/// The volumes.
pub(crate) fn volumes(from: &Ask) -> anyhow::Result<()> {
    let status: Status = ask(from, &Question::Status)?;
    if from.output == Output::Json {
        return print_json(&status.volumes);
    }
    table(&status)
}

fn table(status: &Status) -> anyhow::Result<()> {
    let none = || "-".to_owned();
    let rows = (status.volumes.iter())
        .map(|volume| {
            vec![
                volume.id.clone(),
                volume.state.clone(),
                volume.device.clone().unwrap_or_else(none),
                volume.size.map_or_else(none, size),
                volume.filesystem.clone().unwrap_or_else(none),
                volume.staged_at.clone().unwrap_or_else(none),
                volume.published_at.join(" "),
            ]
        })
        .collect();
    print_table(&["VOLUME", "STATE", "DEVICE", "SIZE", "AS", "STAGED AT", "PUBLISHED AT"], rows)
}

/// Notes that a volume may be formatted once, and prints what was noted.
pub(crate) fn allow_format(from: &Ask, question: &Question) -> anyhow::Result<()> {
    print(&ask::<String>(from, question)?)
}

fn words(state: DriverState) -> &'static str {
    match state {
        DriverState::Serving => "serving",
        DriverState::ServingOld => "serving (a newer one was refused)",
        DriverState::Loading => "loading",
        DriverState::TeardownOnly => "teardown only",
    }
}
