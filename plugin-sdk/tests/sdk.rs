//! The harness refuses what the daemon would refuse, and the defaults of the traits are what they say.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use windlass_plugin_sdk::*;

thread_local! {
    /// How often the plan of `Fickle` was asked for.
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

/// Follows its configuration into each way of being wrong.
struct Wrong;

impl NodeDriver for Wrong {
    fn describe() -> Description {
        Description::new("storage.example", "1.0.0").config("hint", "may be there").required_config("wrong", "what to do wrong")
    }

    fn attach(host: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        let plan = |folder: &str, name: &str| AttachPlan::file(folder, name).formatted_for(&facts.capability, FilesystemKind::Ext4);
        Ok(match host.require("wrong")?.as_str() {
            "folder" => plan("elsewhere", "file"),
            "climb" => plan("volumes", "../etc"),
            "label" => plan("volumes", "file").label("-d /etc"),
            "fickle" => {
                ASKED.set(ASKED.get() + 1);
                plan("volumes", &format!("file-{}", ASKED.get()))
            }
            _ => plan("volumes", "file").label("data"),
        })
    }
}

impl FileDriver for Wrong {
    fn create_volume(host: &Host<'_>, files: &Files<'_>, facts: &CreateFacts) -> Result<Volume, Refusal> {
        let (file, _) = files.folder("volumes").create(&facts.name, facts.capacity.required, Context::new())?;
        let volume = Volume::new(file.name, file.size);
        Ok(match host.require("wrong")?.as_str() {
            "long-id" => Volume { id: "i".repeat(129), ..volume },
            "empty-id" => Volume { id: String::new(), ..volume },
            "context" => volume.context("key", &"v".repeat(4096)),
            "own-key" => volume.context("windlass.io/source", "file:volumes/other"),
            "small" => Volume { capacity: 0, ..volume },
            _ => volume,
        })
    }

    fn delete_volume(_: &Host<'_>, files: &Files<'_>, volume: &str) -> Result<(), Refusal> {
        files.folder("volumes").delete(volume)
    }

    fn validate(_: &Host<'_>, _: &Files<'_>, _: &ValidateFacts) -> Result<Option<String>, Refusal> {
        Ok(None)
    }

    fn expand(_: &Host<'_>, files: &Files<'_>, volume: &str, _: &CapacityRange) -> Result<Expanded, Refusal> {
        Ok(Expanded { capacity: files.folder("volumes").grow(volume, 0)?.size, node_expansion: false })
    }
}

impl FileListing for Wrong {
    fn list_volumes(_: &Host<'_>, files: &Files<'_>, max_entries: u32, token: &str) -> Result<Page, Refusal> {
        let found = files.folder("volumes").list(token, max_entries + 1)?;
        Ok(Page { volumes: found.into_iter().map(|file| Volume::new(file.name, file.size)).collect(), next_token: String::new() })
    }
}

impl FileCapacity for Wrong {
    fn capacity(_: &Host<'_>, files: &Files<'_>, _: &CapacityFacts) -> Result<Room, Refusal> {
        Ok(Room { available: files.folder("volumes").available()?, ..Room::default() })
    }
}

export_file_driver!(Wrong, listing, capacity);

fn harness(wrong: &str) -> Harness {
    Harness::new().config("wrong", wrong).folder("volumes", 1 << 30)
}

/// What the harness says against it, or nothing.
fn complaint<T>(deed: impl FnOnce() -> T) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(deed)).err()?;
    payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|words| (*words).to_owned()))
}

fn check(wrong: &str, said: Option<String>, word: Option<&str>) {
    match (said, word) {
        (None, None) => {}
        (Some(said), Some(word)) if said.contains(word) => {}
        (said, word) => panic!("{wrong}: {said:?}, not {word:?}"),
    }
}

#[test]
fn a_plan_that_the_daemon_would_refuse_fails_the_authors_test() {
    for (wrong, word) in [
        ("nothing", None),
        ("folder", Some("not granted")),
        ("climb", Some("one plain component")),
        ("label", Some("1 to 12 letters")),
        ("fickle", Some("pure")),
    ] {
        let facts = VolumeFacts::new("v", Capability::mount(None));
        check(wrong, complaint(|| harness(wrong).attach::<Wrong>(&facts)), word);
    }
}

#[test]
fn a_volume_that_the_daemon_would_refuse_fails_the_authors_test() {
    for (wrong, word) in [
        ("nothing", None),
        ("long-id", Some("129 bytes")),
        ("empty-id", Some("0 bytes")),
        ("context", Some("4096 are allowed")),
        ("own-key", Some("windlass.io/source")),
        ("small", Some("not in the range")),
    ] {
        check(wrong, complaint(|| harness(wrong).create_volume::<Wrong>(&CreateFacts::new("v", 4096, Capability::block()))), word);
    }
    let harness = harness("nothing");
    for name in ["a", "b", "c"] {
        harness.create_volume::<Wrong>(&CreateFacts::new(name, 4096, Capability::block())).unwrap();
    }
    check("page", complaint(|| harness.list_volumes::<Wrong>(2, "")), Some("2 were asked for at most"));
    check("expand", complaint(|| harness.expand::<Wrong>("a", 8192, 0)), Some("not in the range"));
}

#[test]
fn files_behave_as_the_interface_says() {
    let harness = harness("nothing");
    let made = |name: &str, size| harness.create_volume::<Wrong>(&CreateFacts::new(name, size, Capability::block()));
    assert_eq!(made("a", 4096).unwrap().capacity, 4096);
    assert_eq!(complaint(|| made("a", 8192)).map(|said| said.contains("not in the range")), Some(true), "the file that exists is as it was");
    for bad in ["../a", "", ".a", "a/b", &"x".repeat(201)] {
        assert_eq!(made(bad, 1).unwrap_err().code(), "INVALID_ARGUMENT", "{bad:?}");
    }
    assert_eq!(harness.expand::<Wrong>("unknown", 0, 0).unwrap_err().code(), "NOT_FOUND");
    assert_eq!(harness.delete_volume::<Wrong>("a"), Ok(()));
    assert_eq!(harness.delete_volume::<Wrong>("a"), Ok(()));
    assert!(harness.files("volumes").is_empty());
    let nothing_granted = Harness::new().config("wrong", "nothing");
    assert_eq!(nothing_granted.delete_volume::<Wrong>("a").unwrap_err().code(), "FAILED_PRECONDITION");
    assert_eq!(harness.capacity::<Wrong>(&CapacityFacts::default()).unwrap().available, 1 << 30);
}

#[test]
fn probe_asks_for_what_describe_calls_required() {
    let refusal = Harness::new().probe::<Wrong>().unwrap_err();
    assert_eq!((refusal.code(), refusal.words()), ("FAILED_PRECONDITION", "`wrong` is missing in the driver's [config]"));
    assert_eq!(harness("nothing").probe::<Wrong>(), Ok(true));
    assert_eq!(harness("nothing").node_info::<Wrong>("node-1"), Ok(NodeInfo::new("node-1")));
}

#[test]
fn an_unknown_parameter_is_named_beside_the_known_ones() {
    let parameters = Context::from([("csi.storage.k8s.io/pvc/name", "claim"), ("pool", "fast"), ("pol", "fast")]);
    assert_eq!(parameters.only(&["pool", "copies"]).unwrap_err().words(), "`pol` is not known; known are: pool, copies");
    assert_eq!(parameters.only(&["pool", "pol"]), Ok(()));
    assert_eq!(Context::from([("a", "b")]).only(&[]).unwrap_err().words(), "`a` is not known; known are: none");
    assert_eq!(parameters.require("copies").unwrap_err().words(), "`copies` is required");
    assert_eq!(parameters.bytes(), "csi.storage.k8s.io/pvc/nameclaimpoolfastpolfast".len());
}
