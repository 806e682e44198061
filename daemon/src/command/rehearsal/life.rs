//! The life itself: what every driver answers, then volumes from their making to their end, and what the driver has besides.

use super::{Looked, Rehearsal, said};
use crate::story::create::check as check_created;
use windlass_csi::to_proto;
use windlass_plan::capability::{Access, AccessMode, Capability, MountWish};
use windlass_plan::check::{SOURCE_KEY, Told, check};
use windlass_plan::ids::{DriverName, VolumeId, VolumeKey};
use windlass_plan::lower;
use windlass_plan::paths::Place;
use windlass_plan::plugin::{
    CapacityFacts, CreateFacts, NodeFacts, PluginAnswer, PluginCall, RefusalKind, SnapshotAnswer, SnapshotFacts, ValidateFacts, VolumeAnswer, VolumeFacts,
};
use windlass_plan::request::{CapacityRange, ContentSource, Context, Secrets, TopologyRequirement};

/// Large enough for every file system.
const SIZE: u64 = 320 << 20;
/// What no driver gave as an id.
const NOTHING: &str = "an-id-that-nobody-gave";

/// The two ways in which a volume is used.
fn uses() -> [Capability; 2] {
    [Access::Mount(MountWish::default()), Access::Block].map(|access| Capability { access, mode: AccessMode::SingleNodeWriter })
}

/// Goes through all of it; returns what has to be said besides.
pub(super) fn rehearse(r: &mut Rehearsal, volume: Option<(&str, Context)>) -> Vec<&'static str> {
    describes(r);
    match (volume, r.exports("controller"), r.imports("rbd")) {
        (Some((id, context)), _, _) => attaches_one(r, id, &context),
        (None, true, false) => {
            let made: Vec<Made> = uses().into_iter().filter_map(|capability| volume_life(r, capability)).collect();
            if made.is_empty() {
                r.look("a volume can be made", |_| {
                    Err("none was made: give what its class needs with `--parameter`, and its folders with `--folder`".to_owned())
                });
            }
            besides(r, &made);
            ends(r, &made);
        }
        (None, true, true) => {
            return vec!["Its volumes are images of a cluster, and none is here: `cargo test` with the SDK's Harness rehearses them, in a cluster in memory."];
        }
        (None, false, _) => return vec!["It makes no volumes: give one to be attached with `--volume ID` and `--context KEY=VALUE`."],
    }
    Vec::new()
}

fn describes(r: &mut Rehearsal) {
    r.look("describe is the same each time", |r| {
        let again = said("describe", r.call(PluginCall::Describe), |answer| if let PluginAnswer::Described(said) = answer { Some(said) } else { None })?.0;
        equal("describe", &again, &r.generation.description)
    });
    if !r.exports("node") {
        return;
    }
    r.look("a node has an id that fits, the same each time", |r| {
        let ask = || {
            let facts = NodeFacts { node: "node-1".to_owned(), topology: Context::new(), addresses: vec!["192.0.2.1".parse().map_err(|_| "an address")?] };
            let read = |answer| if let PluginAnswer::NodeInfo(info) = answer { Some(info) } else { None };
            said("node-info", r.call(PluginCall::NodeInfo(facts)), read)
        };
        let info = ask()?.0;
        to_proto::node_info(info.clone()).map_err(|bad| bad.to_string())?;
        equal("node-info", &ask()?.0, &info)
    });
}

/// A volume that was made, and as what.
struct Made {
    capability: Capability,
    answer: VolumeAnswer,
}

fn facts(r: &Rehearsal, name: &str, capability: &Capability, range: CapacityRange) -> CreateFacts {
    CreateFacts {
        name: name.to_owned(),
        capacity: range,
        capabilities: vec![capability.clone()],
        parameters: r.parameters.clone(),
        mutable_parameters: Context::new(),
        source: None,
        topology: TopologyRequirement::default(),
    }
}

fn at_least(required: u64) -> CapacityRange {
    CapacityRange { required, limit: 0 }
}

/// Makes a volume as the daemon does: checked, and with the source that effects left.
fn create(r: &Rehearsal, facts: &CreateFacts) -> Result<VolumeAnswer, String> {
    let read = |answer| if let PluginAnswer::Volume(volume) = answer { Some(volume) } else { None };
    let (mut volume, traces) = said("create-volume", r.call(PluginCall::CreateVolume(facts.clone())), read)?;
    check_created(&volume, facts).map_err(|refused| refused.to_string())?;
    match &traces.sources[..] {
        [source] => drop(volume.context.insert(SOURCE_KEY.to_owned(), source.clone())),
        sources => return Err(format!("create-volume made or found {} files; a volume is one, also when it is asked for again", sources.len())),
    }
    to_proto::created(volume.clone()).map_err(|bad| bad.to_string())?;
    Ok(volume)
}

/// A volume that is used in one way; none where the driver has no such volumes.
fn volume_life(r: &mut Rehearsal, capability: Capability) -> Option<Made> {
    let name = if capability.access == Access::Block { "rehearsal-raw" } else { "rehearsal-mounted" };
    let wish = facts(r, name, &capability, at_least(SIZE));
    // A driver need not have both.
    let answer = match (create(r, &wish), r.refuses(PluginCall::CreateVolume(wish.clone()), RefusalKind::Invalid, "")) {
        (Ok(answer), _) => answer,
        (Err(_), Ok(())) => return None,
        (Err(wrong), Err(_)) => {
            r.look("a volume is made", |_| Err(wrong));
            return None;
        }
    };
    r.look("the same wishes twice are the same volume", |r| {
        equal("create-volume", &create(r, &wish)?, &answer)?;
        equal("create-volume", &create(r, &CreateFacts { capacity: at_least(1), ..wish.clone() })?, &answer)
    });
    r.look("the same name with another size is refused", |r| {
        let larger = CreateFacts { capacity: at_least(2 * SIZE), ..wish.clone() };
        r.refuses(PluginCall::CreateVolume(larger), RefusalKind::AlreadyExists, "the name is taken by a volume that is smaller")
    });
    r.look("a parameter that is not known is refused", |r| {
        let mut misspelt = CreateFacts { name: format!("{name}-misspelt"), ..wish.clone() };
        misspelt.parameters.insert("encrypetd".to_owned(), "true".to_owned());
        r.refuses(PluginCall::CreateVolume(misspelt), RefusalKind::Invalid, "a misspelt wish that is passed over is a volume that nobody asked for")
    });
    r.look("what the volume can do is confirmed, and nothing of a volume that is not there", |r| validates(r, &answer, &capability));
    if r.exports("node") {
        r.look("attach is pure, and shows what was made", |r| attach(r, &answer.volume, &answer.context, &capability));
    }
    r.look("it grows, and never shrinks", |r| expands(r, &answer));
    Some(Made { capability, answer })
}

fn validates(r: &Rehearsal, volume: &VolumeAnswer, capability: &Capability) -> Looked {
    let ask = |volume: &str, context: &Context| {
        PluginCall::Validate(ValidateFacts {
            volume: volume.to_owned(),
            volume_context: context.clone(),
            capabilities: vec![capability.clone()],
            parameters: Context::new(),
            mutable_parameters: Context::new(),
        })
    };
    let read = |answer| if let PluginAnswer::Validated(why) = answer { Some(why) } else { None };
    if let (Some(why), _) = said("validate", r.call(ask(&volume.volume, &volume.context)), read)? {
        return Err(format!("validate says of a volume what it was made for that it cannot do it: {why}"));
    }
    r.refuses(ask(NOTHING, &Context::new()), RefusalKind::NotFound, "there is no such volume")
}

/// Asks for the plan twice, checks it as the daemon does, and lowers it to steps.
fn attach(r: &Rehearsal, id: &str, context: &Context, capability: &Capability) -> Looked {
    let ask = || {
        let facts = VolumeFacts { volume: id.to_owned(), volume_context: context.clone(), publish_context: Context::new(), capability: capability.clone() };
        said("attach", r.call(PluginCall::Attach(facts)), |answer| if let PluginAnswer::Plan(plan) = answer { Some(plan) } else { None })
    };
    let plan = ask()?.0;
    equal("attach", &ask()?.0, &plan)?;
    let (none, secrets) = (Context::new(), Secrets::default());
    let told = Told { volume_context: context, publish_context: &none, secrets: &secrets };
    let checked = check(&plan, &r.generation.spec.grants, told, capability).map_err(|failure| failure.to_string())?;
    let driver = DriverName::parse("plugin-test").map_err(|problem| problem.to_string())?;
    let volume = VolumeId::parse(id).map_err(|problem| problem.to_string())?;
    let steps = lower::stage(VolumeKey::derive("rehearsal", &driver, &volume), &checked, capability, &Place { root: 0, below: "stage".to_owned() });
    if steps.is_empty() { Err("the plan comes to no step".to_owned()) } else { Ok(()) }
}

fn attaches_one(r: &mut Rehearsal, id: &str, context: &Context) {
    for capability in uses() {
        let promise = if capability.access == Access::Block { "attach is pure, for a raw volume" } else { "attach is pure, for a mounted volume" };
        r.look(promise, |r| attach(r, id, context, &capability));
    }
}

fn expands(r: &Rehearsal, volume: &VolumeAnswer) -> Looked {
    let grow = |id: &str, required: u64| {
        let asked = PluginCall::Expand { volume: id.to_owned(), capacity: at_least(required) };
        said("expand", r.call(asked), |answer| if let PluginAnswer::Expanded(grown) = answer { Some(grown.capacity) } else { None })
    };
    for (required, what) in [(2 * SIZE, "to twice its size"), (2 * SIZE, "to the size that it has"), (SIZE, "to less than it has")] {
        let (size, _) = grow(&volume.volume, required)?;
        if size < 2 * SIZE {
            return Err(format!("expand {what} answered {size} bytes; a volume that has {} keeps them", 2 * SIZE));
        }
    }
    r.refuses(PluginCall::Expand { volume: NOTHING.to_owned(), capacity: at_least(SIZE) }, RefusalKind::NotFound, "there is no such volume")
}

/// What a driver has besides, by what it exports.
fn besides(r: &mut Rehearsal, made: &[Made]) {
    let Some(first) = made.first() else { return };
    let (id, capability) = (first.answer.volume.clone(), first.capability.clone());
    if r.exports("listing") {
        r.look("each volume is listed once, page by page", |r| lists(r, made));
    }
    if r.exports("capacity") {
        r.look("room is told", |r| {
            let facts = CapacityFacts { capabilities: vec![capability.clone()], parameters: r.parameters.clone(), topology: None };
            said("room-for", r.call(PluginCall::Capacity(facts)), |answer| if let PluginAnswer::Capacity(room) = answer { Some(room) } else { None }).map(drop)
        });
    }
    if r.exports("modification") {
        r.look("a parameter that may not change is refused", |r| {
            let asked = PluginCall::Modify { volume: id.clone(), parameters: [("unheard-of".to_owned(), "1".to_owned())].into() };
            r.refuses(asked, RefusalKind::Invalid, "it is not known, and nothing may change then")
        });
    }
    if r.generation.description.clones {
        r.look("a volume is made from a volume, and lives without it", |r| copies(r, &capability, ContentSource::Volume(id.clone())));
    }
    if r.exports("snapshots") {
        r.look("snapshots are cut once, restored and deleted", |r| snapshots(r, made));
    }
}

fn lists(r: &Rehearsal, made: &[Made]) -> Looked {
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let asked = PluginCall::ListVolumes { max_entries: 1, starting_token: token.clone() };
        let read = |answer| if let PluginAnswer::Volumes { entries, next_token } = answer { Some((entries, next_token)) } else { None };
        let ((entries, next), _) = said("list-volumes", r.call(asked), read)?;
        if entries.len() > 1 {
            return Err(format!("list-volumes answered {} entries, and 1 was asked for at the most", entries.len()));
        }
        seen.extend(entries.into_iter().map(|entry| entry.volume));
        if next.is_empty() {
            break;
        }
        if next == token || seen.len() > 100 {
            return Err("list-volumes does not come to an end".to_owned());
        }
        token = next;
    }
    let (mut wanted, mut found): (Vec<_>, Vec<_>) = (made.iter().map(|made| made.answer.volume.clone()).collect(), seen);
    wanted.sort();
    found.sort();
    equal("list-volumes", &found, &wanted)?;
    let asked = PluginCall::ListVolumes { max_entries: 1, starting_token: "\u{1f6a2} no token".to_owned() };
    r.refuses(asked, RefusalKind::BadToken, "it is no token of this driver's")
}

/// A copy is made once, says of what, and outlives nothing here: it is deleted before its source.
fn copies(r: &Rehearsal, capability: &Capability, source: ContentSource) -> Looked {
    let wish = CreateFacts { source: Some(source), ..facts(r, "rehearsal-copy", capability, at_least(2 * SIZE)) };
    let copy = create(r, &wish)?;
    equal("create-volume of a copy", &create(r, &wish)?, &copy)?;
    if r.exports("node") {
        attach(r, &copy.volume, &copy.context, capability)?;
    }
    delete(r, &copy.volume)
}

fn snapshots(r: &Rehearsal, made: &[Made]) -> Looked {
    let Some(first) = made.first() else { return Ok(()) };
    let cut =
        |name: &str, volume: &str| PluginCall::CreateSnapshot(SnapshotFacts { name: name.to_owned(), volume: volume.to_owned(), parameters: Context::new() });
    let read = |answer| if let PluginAnswer::Snapshot(snapshot) = answer { Some(snapshot) } else { None };
    let snapshot: SnapshotAnswer = said("create-snapshot", r.call(cut("rehearsal-cut", &first.answer.volume)), read)?.0;
    to_proto::snapshot_created(snapshot.clone()).map_err(|bad| bad.to_string())?;
    equal("create-snapshot", &said("create-snapshot", r.call(cut("rehearsal-cut", &first.answer.volume)), read)?.0, &snapshot)?;
    if let Some(other) = made.get(1) {
        r.refuses(cut("rehearsal-cut", &other.answer.volume), RefusalKind::AlreadyExists, "the name is taken by a snapshot of another volume")?;
    }
    r.refuses(cut("rehearsal-none", NOTHING), RefusalKind::NotFound, "there is no such volume")?;
    copies(r, &first.capability, ContentSource::Snapshot(snapshot.snapshot.clone()))?;
    for id in [snapshot.snapshot.as_str(), snapshot.snapshot.as_str(), NOTHING] {
        let asked = PluginCall::DeleteSnapshot { snapshot: id.to_owned() };
        said("delete-snapshot", r.call(asked), |answer| matches!(answer, PluginAnswer::Deleted).then_some(()))?;
    }
    Ok(())
}

fn delete(r: &Rehearsal, id: &str) -> Looked {
    said("delete-volume", r.call(PluginCall::DeleteVolume { volume: id.to_owned() }), |answer| matches!(answer, PluginAnswer::Deleted).then_some(())).map(drop)
}

fn ends(r: &mut Rehearsal, made: &[Made]) {
    r.look("what is deleted can be deleted again, and so can what never was", |r| {
        let mut ids = made.iter().flat_map(|made| [made.answer.volume.as_str(); 2]).chain([NOTHING]);
        ids.try_for_each(|id| delete(r, id))
    });
    r.look("nothing is left", |r| {
        let folders = r.generation.spec.grants.files.iter();
        let left =
            folders.flat_map(|(name, path)| std::fs::read_dir(path.as_str()).into_iter().flatten().flatten().map(move |entry| (name, entry.file_name())));
        let left: Vec<String> = left.map(|(name, file)| format!("{name}/{}", file.to_string_lossy())).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("these files are left of what was made and deleted, or refused: {}", left.join(", "))) }
    });
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Looked {
    if found == wanted { Ok(()) } else { Err(format!("{what} answered {found:?}; it should be {wanted:?}")) }
}
