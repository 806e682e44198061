//! The reference driver, which breaks one promise of CSI: the one that `lie` names. For each there is a check that must find it.

use windlass_local::Local;
use windlass_plugin_sdk::*;

/// The liar.
pub struct Liar;

fn lies(host: &Host<'_>, how: &str) -> bool {
    host.config("lie").as_deref() == Some(how)
}

impl NodeDriver for Liar {
    fn describe() -> Description {
        Local::describe().config("lie", "the promise that is broken; none if not given")
    }

    fn probe(host: &Host<'_>) -> Result<bool, Refusal> {
        Local::probe(host)
    }

    fn attach(host: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        match Local::attach(host, facts) {
            Err(Refusal::NotFound(words)) if lies(host, "what is unknown is invalid") => Err(Refusal::invalid(words)),
            answer => answer,
        }
    }

    fn node_info(host: &Host<'_>, facts: &NodeFacts) -> Result<NodeInfo, Refusal> {
        let info = Local::node_info(host, facts)?;
        Ok(if lies(host, "another node") { NodeInfo { node_id: "another".to_owned(), ..info } } else { info })
    }
}

impl FileDriver for Liar {
    fn create_volume(host: &Host<'_>, files: &Files<'_>, facts: &CreateFacts) -> Result<Volume, Refusal> {
        let mut facts = facts.clone();
        if lies(host, "made anywhere") {
            facts.topology = TopologyRequirement::default();
        }
        let volume = match Local::create_volume(host, files, &facts) {
            Err(Refusal::AlreadyExists(_)) if lies(host, "any wish is the same") => {
                let any = CapacityRange { required: 0, limit: 0 };
                Local::create_volume(host, files, &CreateFacts { capacity: any, ..facts.clone() })?
            }
            Err(Refusal::OutOfRange(words)) if lies(host, "sizes are arguments") => return Err(Refusal::invalid(words)),
            answer => answer?,
        };
        Ok(match host.config("lie").as_deref() {
            Some("each call is another volume") => Volume { context: volume.context.with("asked", facts.capacity.required.to_string()), ..volume },
            Some("sizes are rounded") => Volume { capacity: volume.capacity.next_multiple_of(1 << 20), ..volume },
            Some("nobody knows where") => Volume { topology: Vec::new(), ..volume },
            _ => volume,
        })
    }

    fn delete_volume(host: &Host<'_>, files: &Files<'_>, volume: &str) -> Result<(), Refusal> {
        if lies(host, "only once") {
            Local::expand(host, files, volume, &CapacityRange { required: 1, limit: 0 })?;
        }
        Local::delete_volume(host, files, volume)
    }

    fn validate(host: &Host<'_>, files: &Files<'_>, facts: &ValidateFacts) -> Result<Option<String>, Refusal> {
        match Local::validate(host, files, facts) {
            Err(Refusal::NotFound(_)) if lies(host, "what is unknown is fine") => Ok(None),
            Ok(Some(_)) if lies(host, "all is confirmed") => Ok(None),
            answer => answer,
        }
    }

    fn expand(host: &Host<'_>, files: &Files<'_>, volume: &str, capacity: &CapacityRange) -> Result<Expanded, Refusal> {
        match Local::expand(host, files, volume, capacity) {
            Err(Refusal::NotFound(_)) if lies(host, "what is unknown grows") => Ok(Expanded { capacity: capacity.required, node_expansion: true }),
            answer => answer,
        }
    }
}

impl FileListing for Liar {
    fn list_volumes(host: &Host<'_>, files: &Files<'_>, max_entries: u32, token: &str) -> Result<Page, Refusal> {
        let wanted = if lies(host, "pages are longer") { max_entries.saturating_add(1) } else { max_entries };
        match Local::list_volumes(host, files, wanted, token) {
            Err(Refusal::BadToken(_)) if lies(host, "any token will do") => Local::list_volumes(host, files, wanted, ""),
            Ok(mut page) if lies(host, "one is not listed") => {
                page.volumes.pop();
                Ok(page)
            }
            answer => answer,
        }
    }
}

impl FileCapacity for Liar {
    fn capacity(host: &Host<'_>, files: &Files<'_>, facts: &CapacityFacts) -> Result<Room, Refusal> {
        let everywhere = CapacityFacts { topology: None, ..facts.clone() };
        Local::capacity(host, files, if lies(host, "room everywhere") { &everywhere } else { facts })
    }
}

export_file_driver!(Liar, listing, capacity);
