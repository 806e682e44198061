//! A driver that behaves as the reference driver until it is told to misbehave: for the daemon's tests.
//!
//! Told by the configuration, `misbehave = "DEED"` or `"PLACE:DEED"`, or by a volume's name, `misbehave.PLACE.DEED`. Places:
//! `describe`, `probe`, `attach`, `node-info`, `create`, `delete`, `validate`, `list`, `capacity`, `expand`. Deeds that can be
//! done anywhere are in `deed.rs`; those of one place are here, where the answer is spoilt.

mod deed;
mod table;

use std::hash::{BuildHasher, RandomState};
use std::time::{Instant, SystemTime};
use windlass_local::Local;
use windlass_plugin_sdk::*;

/// The key of volume_context that carries the wish to the node.
const KEY: &str = "misbehave";

struct Hostile;

/// Does what is asked for at `place`, and says what it was.
fn told(place: &str, volume: Option<&str>) -> Result<String, Refusal> {
    let deed = deed::asked(place, volume).unwrap_or_default();
    deed::before(&deed)?;
    Ok(deed)
}

impl NodeDriver for Hostile {
    fn describe() -> Description {
        let deed = told("describe", None).unwrap_or_default();
        let said = Local::describe().config("misbehave", "what to do, as DEED or PLACE:DEED");
        match deed.as_str() {
            "no-version" => Description { version: String::new(), ..said },
            "long-version" => Description { version: "9".repeat(1 << 20), ..said },
            "random-version" => Description { version: fickle(), ..said },
            _ => said,
        }
    }

    fn probe(host: &Host<'_>) -> Result<bool, Refusal> {
        let deed = told("probe", None)?;
        Ok(Local::probe(host)? && deed != "unready")
    }

    fn attach(host: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        let deed = told("attach", facts.volume_context.get(KEY))?;
        let mut plan = Local::attach(host, facts)?;
        let Source::File { folder, name } = &mut plan.source else { return Ok(plan) };
        match deed.as_str() {
            "climb" => *name = "../etc".to_owned(),
            "absolute" => *name = "/etc/shadow".to_owned(),
            "other-file" => *name = "vol-00000000000000000000000000000000".to_owned(),
            "other-folder" => *folder = "not-granted".to_owned(),
            "long-folder" => *folder = "f".repeat(1 << 20),
            "copy" => plan.content = Content::Copy,
            "no-filesystem" => plan.filesystem = None,
            "other-filesystem" => plan.filesystem.iter_mut().for_each(|filesystem| filesystem.kind = other(filesystem.kind)),
            "bad-label" => plan = plan.label("-d /etc"),
            "long-label" => plan = plan.label("l".repeat(1 << 20)),
            "clock" => {
                let seen = fickle();
                host.info(&seen);
                plan = plan.label(&seen[..12]);
            }
            _ => {}
        }
        Ok(plan)
    }

    fn node_info(host: &Host<'_>, facts: &NodeFacts) -> Result<NodeInfo, Refusal> {
        let deed = told("node-info", None)?;
        let info = Local::node_info(host, facts)?;
        Ok(match deed.as_str() {
            "long-id" => NodeInfo { node_id: "n".repeat(257), ..info },
            "empty-id" => NodeInfo { node_id: String::new(), ..info },
            "clock" => NodeInfo { node_id: fickle(), ..info },
            _ => info,
        })
    }
}

impl FileDriver for Hostile {
    fn create_volume(host: &Host<'_>, files: &Files<'_>, facts: &CreateFacts) -> Result<Volume, Refusal> {
        let wish = deed::of_name(&facts.name);
        let deed = told("create", wish.as_deref())?;
        let volume = Local::create_volume(host, files, facts)?;
        let volume = match &wish {
            Some(wish) => volume.context(KEY, wish),
            None => volume,
        };
        Ok(match deed.as_str() {
            "long-id" => Volume { id: "i".repeat(200), ..volume },
            "empty-id" => Volume { id: String::new(), ..volume },
            "control-id" => Volume { id: "vol\u{1}\u{1b}[2J".to_owned(), ..volume },
            "big-context" => volume.context("big", &"c".repeat(5000)),
            "own-key" => volume.context("windlass.io/source", "file:volumes/../../etc/shadow"),
            "small" => Volume { capacity: 0, ..volume },
            "huge" => Volume { capacity: u64::MAX, ..volume },
            "trap-after" => panic!("told to trap after the file was made"),
            "clock" => volume.context("clock", &fickle()),
            _ => volume,
        })
    }

    fn delete_volume(host: &Host<'_>, files: &Files<'_>, volume: &str) -> Result<(), Refusal> {
        told("delete", None)?;
        Local::delete_volume(host, files, volume)
    }

    fn validate(host: &Host<'_>, files: &Files<'_>, facts: &ValidateFacts) -> Result<Option<String>, Refusal> {
        told("validate", facts.volume_context.get(KEY))?;
        Local::validate(host, files, facts)
    }

    fn expand(host: &Host<'_>, files: &Files<'_>, volume: &str, capacity: &CapacityRange) -> Result<Expanded, Refusal> {
        let deed = told("expand", None)?;
        let expanded = Local::expand(host, files, volume, capacity)?;
        Ok(match deed.as_str() {
            "small" => Expanded { capacity: 0, ..expanded },
            "huge" => Expanded { capacity: u64::MAX, ..expanded },
            _ => expanded,
        })
    }
}

impl FileListing for Hostile {
    fn list_volumes(host: &Host<'_>, files: &Files<'_>, max_entries: u32, token: &str) -> Result<Page, Refusal> {
        let deed = told("list", None)?;
        let page = Local::list_volumes(host, files, max_entries, token)?;
        let many = || (0..=max_entries).map(|number| Volume::new(format!("vol-{number:032x}"), 1 << 30)).collect();
        Ok(match deed.as_str() {
            "too-many" => Page { volumes: many(), ..page },
            "flood" => Page { volumes: vec![Volume::new("v".repeat(100), 1 << 30); 100_000], ..page },
            "same-token" => Page { next_token: if token.is_empty() { "vol-00000000000000000000000000000000" } else { token }.to_owned(), ..page },
            "long-token" => Page { next_token: "t".repeat(200), ..page },
            _ => page,
        })
    }
}

impl FileCapacity for Hostile {
    fn capacity(host: &Host<'_>, files: &Files<'_>, facts: &CapacityFacts) -> Result<Room, Refusal> {
        let deed = told("capacity", None)?;
        let room = Local::capacity(host, files, facts)?;
        Ok(if deed == "huge" { Room { available: u64::MAX, ..room } } else { room })
    }
}

fn other(kind: FilesystemKind) -> FilesystemKind {
    match kind {
        FilesystemKind::Ext4 => FilesystemKind::Xfs,
        FilesystemKind::Xfs => FilesystemKind::Ext4,
    }
}

/// Sixteen digits made of both clocks and of randomness: the same each time where these are fixed.
fn fickle() -> String {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_nanos()).unwrap_or_default();
    // The debug form of an instant is the one way to its value.
    let steady = format!("{:?}", Instant::now());
    format!("{:016x}", RandomState::new().hash_one((wall, steady)))
}

export_file_driver!(Hostile, listing, capacity);
