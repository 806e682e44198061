//! What the admin socket answers about devices: what is on this node now, beside what the journal says of it.

use super::view::{Device, DeviceState};
use crate::house::House;
use std::collections::HashMap;
use std::sync::Arc;
use windlass_engine::record::Record;
use windlass_wire::worker::Surveyed;

/// Asks a worker, since the look may take its time. A device that comes or goes meanwhile has its record after it, or had it before.
pub(super) fn devices(house: &Arc<House>) -> Result<Vec<Device>, String> {
    let engine = house.engine.as_ref().ok_or("this daemon does not serve the node role, and looks at no devices")?;
    let mut records = engine.records();
    let found = engine.survey().map_err(|failure| failure.to_string())?;
    records.extend(engine.records());
    let by_key: HashMap<u64, &Record> = records.iter().map(|record| (record.header.key.short(), record)).collect();
    Ok(found.into_iter().map(|found| device(found, &by_key)).collect())
}

fn device(found: Surveyed, records: &HashMap<u64, &Record>) -> Device {
    let record = found.short_key.and_then(|key| records.get(&key));
    let state = match (found.short_key, record) {
        (Some(_), Some(_)) => DeviceState::Ours,
        (Some(_), None) => DeviceState::OursWithoutRecord,
        (None, _) => DeviceState::Nobodys,
    };
    Device {
        state,
        driver: record.map(|record| record.header.driver.to_string()),
        volume: record.map(|record| record.header.volume.to_string()),
        device: found.device,
        cluster: found.cluster,
        backing: found.backing,
        size: found.size,
        is_read_only: found.is_read_only,
        mounted_at: found.mounted_at,
        below: found.below,
    }
}
