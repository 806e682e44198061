//! `windlass devices`.

use super::{Output, ask, print, print_json, print_table, size};
use crate::admin::Question;
use crate::admin::view::{Device, DeviceState};
use crate::cli::Ask;

/// Every loop device and mapped image of the node, a row each.
pub(crate) fn devices(from: &Ask) -> anyhow::Result<()> {
    let devices: Vec<Device> = ask(from, &Question::Devices)?;
    if from.output == Output::Json {
        return print_json(&devices);
    }
    if devices.is_empty() {
        return print("no loop device and no mapped image is on this node");
    }
    print_table(&["DEVICE", "STATE", "SHOWS", "SIZE", "DRIVER", "VOLUME", "USED BY"], devices.iter().map(row).collect())
}

fn row(device: &Device) -> Vec<String> {
    let none = || "-".to_owned();
    let shows = device.cluster.as_ref().map_or_else(|| device.backing.clone(), |cluster| format!("{cluster}/{}", device.backing));
    let mode = if device.is_read_only { ", read-only" } else { "" };
    let used: Vec<String> = device.mounted_at.iter().cloned().chain(device.below.iter().map(|name| format!("/dev/{name}"))).collect();
    vec![
        format!("/dev/{}", device.device),
        words(device.state).to_owned(),
        shows,
        format!("{}{mode}", size(device.size)),
        device.driver.clone().unwrap_or_else(none),
        device.volume.clone().unwrap_or_else(none),
        if used.is_empty() { none() } else { used.join(" ") },
    ]
}

fn words(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Ours => "ours",
        DeviceState::OursWithoutRecord => "ours, no record",
        DeviceState::Nobodys => "nobody's",
    }
}
