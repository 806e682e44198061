//! `windlass plugin test`: a driver that keeps its promises passes, each that breaks one is told which, and nothing is left on the machine.

use harness::{component, eventually};
use serde_json::Value;
use std::process::{Command, Output};

fn rehearse(guest: &str, arguments: &[&str]) -> Output {
    let file = component(guest);
    Command::new(harness::binary()).args(["plugin", "test"]).arg(file).args(arguments).output().unwrap()
}

fn findings(output: &Output) -> Vec<(String, Option<String>)> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    report["findings"].as_array().unwrap().iter().map(|finding| (text(&finding["promise"]).unwrap(), text(&finding["wrong"]))).collect()
}

#[test]
fn plugin_a_driver_that_keeps_its_promises_passes_its_rehearsal() {
    let output = rehearse("local", &["-o", "json"]);
    let found = findings(&output);
    assert!(output.status.success() && found.len() == 20 && found.iter().all(|(_, wrong)| wrong.is_none()), "{found:?}");
    let shown = rehearse("local", &[]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("PROMISE") && text.contains("the slowest call"), "{text}");
    // One without volumes of its own says what it needs; and with it, it is attached.
    let bare = rehearse("local-shrunk", &[]);
    assert!(bare.status.success() && String::from_utf8_lossy(&bare.stdout).contains("--volume"), "{bare:?}");
    let attached = rehearse("local-shrunk", &["--volume", "vol-32547365a6ab104f6fc34f5ad5923362", "-o", "json"]);
    assert_eq!(findings(&attached).iter().filter(|(promise, wrong)| promise.starts_with("attach") && wrong.is_none()).count(), 2, "{attached:?}");
    // Those of a cluster are told where theirs are rehearsed.
    assert!(String::from_utf8_lossy(&rehearse("rbd", &[]).stdout).contains("Harness"));
    let temporary = std::env::temp_dir();
    eventually("nothing is left in the folder for what is temporary", || {
        let mut names = std::fs::read_dir(&temporary).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        (!names.any(|name| name.starts_with("windlass-check-"))).then_some(())
    });
}

#[test]
fn plugin_a_driver_that_breaks_a_promise_is_told_which() {
    for (lie, promise) in [
        ("any wish is the same", "the same name with another size is refused"),
        ("each call is another volume", "the same wishes twice are the same volume"),
        ("what is unknown is fine", "what the volume can do is confirmed, and nothing of a volume that is not there"),
        ("what is unknown grows", "it grows, and never shrinks"),
        ("pages are longer", "each volume is listed once, page by page"),
        ("any token will do", "each volume is listed once, page by page"),
        ("one is not listed", "each volume is listed once, page by page"),
        ("only once", "what is deleted can be deleted again, and so can what never was"),
    ] {
        let output = rehearse("liar", &["-o", "json", "--config", &format!("lie={lie}")]);
        let wrong: Vec<_> = findings(&output).into_iter().filter_map(|(promise, wrong)| wrong.map(|wrong| (promise, wrong))).collect();
        assert!(!output.status.success() && wrong.iter().any(|(found, _)| found == promise), "{lie}: {wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("promises are not kept"), "{output:?}");
    }
}

#[test]
fn plugin_what_cannot_be_rehearsed_is_said_with_the_reason() {
    for (guest, arguments, says) in [
        ("greedy", &[][..], "http"),
        ("local", &["--config", "pool"][..], "KEY=VALUE"),
        ("local", &["--config", "pol=1"][..], "does not read"),
        ("local", &["--folder", "../etc"][..], "--folder"),
        ("local", &["--folder", "other", "--config", "folder=none"][..], "not granted"),
    ] {
        let output = rehearse(guest, arguments);
        let told = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        assert!(!output.status.success() && String::from_utf8_lossy(&told).contains(says), "{guest} {arguments:?}: {output:?}");
    }
    let missing = Command::new(harness::binary()).args(["plugin", "test", "/nowhere.wasm"]).output().unwrap();
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("/nowhere.wasm"), "{missing:?}");
}
