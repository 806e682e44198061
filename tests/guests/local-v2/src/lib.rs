//! The reference driver as a later version: the same, and where `writes` says so, a volume_context as a later version may write it.

use windlass_local::Local;
use windlass_plugin_sdk::*;

/// The later version.
pub struct Later;

/// What `writes` may be: a key more, the key `filesystem` left out, or the layout 2, in which it is called `fs`.
const WAYS: [&str; 3] = ["more", "less", "layout 2"];

/// What the earlier version would have written.
fn as_before(context: &Context) -> Context {
    let fs = context.get("fs").map(|kind| ("filesystem", kind));
    if context.get("layout") != Some("2") {
        return context.clone();
    }
    context.iter().filter(|(key, _)| !matches!(*key, "layout" | "fs")).chain(fs).fold(Context::new(), |context, (key, value)| context.with(key, value))
}

/// What this version writes.
fn as_now(host: &Host<'_>, context: &Context) -> Context {
    let without = || context.iter().filter(|(key, _)| *key != "filesystem").fold(Context::new(), |context, (key, value)| context.with(key, value));
    match host.config("writes").as_deref() {
        Some("more") => context.clone().with("compression", "none"),
        Some("less") => without(),
        Some("layout 2") => context.get("filesystem").into_iter().fold(without().with("layout", "2"), |now, kind| now.with("fs", kind)),
        _ => context.clone(),
    }
}

impl NodeDriver for Later {
    fn describe() -> Description {
        let described = Description { version: env!("CARGO_PKG_VERSION").to_owned(), ..Local::describe() };
        described.config("writes", "how volume_context is written: `more`, `less` or `layout 2`; as before if not given")
    }

    fn probe(host: &Host<'_>) -> Result<bool, Refusal> {
        match host.config("writes") {
            Some(way) if !WAYS.contains(&way.as_str()) => Err(Refusal::precondition(format!("`writes` in the driver's [config] is {way:?}"))),
            _ => Local::probe(host),
        }
    }

    fn attach(host: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        Local::attach(host, &VolumeFacts { volume_context: as_before(&facts.volume_context), ..facts.clone() })
    }

    fn node_info(host: &Host<'_>, facts: &NodeFacts) -> Result<NodeInfo, Refusal> {
        Local::node_info(host, facts)
    }
}

impl FileDriver for Later {
    fn create_volume(host: &Host<'_>, files: &Files<'_>, facts: &CreateFacts) -> Result<Volume, Refusal> {
        let volume = Local::create_volume(host, files, facts)?;
        Ok(Volume { context: as_now(host, &volume.context), ..volume })
    }

    fn delete_volume(host: &Host<'_>, files: &Files<'_>, volume: &str) -> Result<(), Refusal> {
        Local::delete_volume(host, files, volume)
    }

    fn validate(host: &Host<'_>, files: &Files<'_>, facts: &ValidateFacts) -> Result<Option<String>, Refusal> {
        Local::validate(host, files, &ValidateFacts { volume_context: as_before(&facts.volume_context), ..facts.clone() })
    }

    fn expand(host: &Host<'_>, files: &Files<'_>, volume: &str, capacity: &CapacityRange) -> Result<Expanded, Refusal> {
        Local::expand(host, files, volume, capacity)
    }
}

impl FileListing for Later {
    fn list_volumes(host: &Host<'_>, files: &Files<'_>, max_entries: u32, token: &str) -> Result<Page, Refusal> {
        Local::list_volumes(host, files, max_entries, token)
    }
}

impl FileCapacity for Later {
    fn capacity(host: &Host<'_>, files: &Files<'_>, facts: &CapacityFacts) -> Result<Room, Refusal> {
        Local::capacity(host, files, facts)
    }
}

impl FileSnapshots for Later {
    fn create_snapshot(host: &Host<'_>, files: &Files<'_>, facts: &SnapshotFacts) -> Result<Snapshot, Refusal> {
        Local::create_snapshot(host, files, facts)
    }

    fn delete_snapshot(host: &Host<'_>, files: &Files<'_>, snapshot: &str) -> Result<(), Refusal> {
        Local::delete_snapshot(host, files, snapshot)
    }
}

impl FileSnapshotListing for Later {
    fn list_snapshots(host: &Host<'_>, files: &Files<'_>, filter: &SnapshotFilter, max_entries: u32, token: &str) -> Result<SnapshotPage, Refusal> {
        Local::list_snapshots(host, files, filter, max_entries, token)
    }
}

export_file_driver!(Later, listing, capacity, snapshots, snapshot_listing);
