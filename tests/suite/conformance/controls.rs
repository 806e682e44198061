//! Negative controls: a driver that breaks a promise is found out by the check of the row that holds it. A check that finds nothing wrong with anything proves
//! nothing.

use super::{capacity, controller, order, paging};
use harness::{Daemon, Setup};

/// A check is a function of a daemon; what it found is the words with which it fails.
type Check = fn(&Daemon);

/// Each with the lie (tests/guests/liar), the row that is broken, and the check that has to find it. The ids are in parts: one that is quoted would count as
/// tested here.
const CONTROLS: [(&str, &[&str], Check); 16] = [
    ("each call is another volume", &["CreateVolume", "idempotent"], controller::the_same_name),
    ("any wish is the same", &["CreateVolume", "ALREADY_EXISTS"], controller::the_same_name),
    ("sizes are arguments", &["CreateVolume", "OUT_OF_RANGE"], controller::sizes),
    ("sizes are rounded", &["CreateVolume", "capacity"], controller::sizes),
    ("only once", &["DeleteVolume", "idempotent"], controller::deletes),
    ("only once", &["DeleteVolume", "unknown"], order::ids_of_nothing),
    ("all is confirmed", &["ValidateVolumeCapabilities", "idempotent"], controller::confirms),
    ("what is unknown is fine", &["ValidateVolumeCapabilities", "NOT_FOUND"], order::ids_of_nothing),
    ("what is unknown grows", &["ControllerExpandVolume", "NOT_FOUND"], order::ids_of_nothing),
    ("what is unknown is invalid", &["NodeStageVolume", "NOT_FOUND"], order::ids_of_nothing),
    ("pages are longer", &["ListVolumes", "paging"], paging::pages),
    ("one is not listed", &["ListVolumes", "paging"], paging::pages),
    ("any token will do", &["ListVolumes", "ABORTED"], paging::tokens),
    ("room everywhere", &["GetCapacity", "topology"], capacity::room),
    ("nobody knows where", &["CreateVolume", "topology"], capacity::reach),
    ("made anywhere", &["CreateVolume", "RESOURCE_EXHAUSTED"], capacity::reach),
];

/// A daemon with the driver, as the check wants it.
fn daemon(check: Check, lie: Option<&str>) -> Daemon {
    let is = |other: Check| std::ptr::fn_addr_eq(check, other);
    let mut driver = "[config]\n".to_owned();
    if is(capacity::room) || is(capacity::reach) {
        driver += "node = \"node-1\"\n";
    }
    if is(controller::sizes) || is(capacity::room) || is(capacity::reach) {
        driver += "max_bytes = \"1073741824\"\n";
    }
    if let Some(lie) = lie {
        driver += &format!("lie = {lie:?}\n");
    }
    Daemon::with(Setup { component: "liar", driver, ..Setup::default() })
}

/// What the check finds; `None`: nothing. In a thread of its own, so that nothing of this counts as a row that was asserted.
fn found(check: Check, daemon: &Daemon) -> Option<String> {
    let panic = std::thread::scope(|scope| scope.spawn(|| check(daemon)).join()).err()?;
    let words = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
    Some(words.unwrap_or_default())
}

#[test]
fn loop_each_lie_is_found_by_the_check_of_its_row() {
    for (lie, row, check) in CONTROLS {
        let found = found(check, &daemon(check, Some(lie)));
        let row = row.join("/");
        let names_row = found.as_ref().is_some_and(|words| [":", " ("].iter().any(|end| words.contains(&format!("{row}{end}"))));
        assert!(names_row, "{lie:?} breaks {row}, and the check found {found:?}");
    }
}

#[test]
fn loop_a_node_that_says_it_is_another_is_found() {
    let found = found(capacity::reach, &daemon(capacity::reach, Some("another node")));
    assert!(found.as_ref().is_some_and(|words| words.starts_with(&["NodeGetInfo", "idempotent"].join("/"))), "{found:?}");
}

#[test]
fn loop_the_same_driver_without_a_lie_passes_the_same_checks() {
    let mut checks: Vec<Check> = CONTROLS.iter().map(|(_, _, check)| *check).collect();
    checks.dedup_by(|one, other| std::ptr::fn_addr_eq(*one, *other));
    for check in checks {
        assert_eq!(found(check, &daemon(check, None)), None);
    }
}
