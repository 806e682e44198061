//! Negative controls: a driver that breaks a promise is found out by the check of the row that holds it. A check that finds nothing wrong with anything proves
//! nothing.

use super::{capacity, controller, limits, order, paging, publish, stage, stats};
use harness::{Daemon, Setup};
use std::any::Any;
use std::sync::Arc;
use tonic::{Code, Status};
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::AccessType;

/// A check is a function of a daemon; what it found is the words with which it fails.
type Check = fn(&Daemon);

/// Makes a message wrong, if it is the one that is meant.
type Meddling = fn(&mut dyn Any);

/// Each with the lie (tests/guests/liar), the row that is broken, and the check that has to find it. The ids are in parts: one that is quoted would count as
/// tested here.
const CONTROLS: [(&str, &[&str], Check); 17] = [
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
    ("another node", &["NodeGetInfo", "idempotent"], capacity::reach),
    ("made anywhere", &["CreateVolume", "RESOURCE_EXHAUSTED"], capacity::reach),
];

/// What a plugin cannot do wrong, since the daemon does it: here the daemon is made to look wrong, on the way to it or back ([`harness::Meddler`]).
const WRONG_DAEMONS: [(Meddling, &[&str], Check); 9] = [
    (|x| fine_instead::<v1::NodePublishVolumeResponse>(x, Code::AlreadyExists), &["NodePublishVolume", "ALREADY_EXISTS"], publish::second_publishes),
    (|x| fine_instead::<v1::NodePublishVolumeResponse>(x, Code::FailedPrecondition), &["NodePublishVolume", "FAILED_PRECONDITION"], publish::second_publishes),
    (|x| change::<v1::NodePublishVolumeRequest>(x, |m| m.readonly = false), &["NodePublishVolume", "read-only"], publish::read_only),
    (|x| fine_instead::<v1::NodeStageVolumeResponse>(x, Code::AlreadyExists), &["NodeStageVolume", "ALREADY_EXISTS"], stage::second_stage),
    (without_flags, &["NodeStageVolume", "mount-flags"], stage::flags),
    (|x| fails_instead::<v1::NodeUnpublishVolumeResponse>(x), &["NodeUnpublishVolume", "unknown"], order::ids_of_nothing),
    (|x| fails_instead::<v1::NodeUnstageVolumeResponse>(x), &["NodeUnstageVolume", "unknown"], order::ids_of_nothing),
    (miscounted, &["NodeGetVolumeStats", "usage"], stats::usage),
    (with_a_long_id, &["NodeGetInfo", "limits"], limits::node),
];

/// Changes a request, if it is one of these.
fn change<T: 'static>(message: &mut dyn Any, change: impl FnOnce(&mut T)) {
    if let Some(message) = message.downcast_mut::<T>() {
        change(message);
    }
}

fn fine_instead<T: Default + 'static>(message: &mut dyn Any, code: Code) {
    if let Some(answer) = message.downcast_mut::<Result<T, Status>>()
        && answer.as_ref().err().is_some_and(|status| status.code() == code)
    {
        *answer = Ok(T::default());
    }
}

fn fails_instead<T: 'static>(message: &mut dyn Any) {
    message.downcast_mut::<Result<T, Status>>().into_iter().for_each(|answer| *answer = Err(Status::not_found("it is not here")));
}

fn without_flags(message: &mut dyn Any) {
    change::<v1::NodeStageVolumeRequest>(message, |m| {
        if let Some(AccessType::Mount(wish)) = m.volume_capability.as_mut().and_then(|capability| capability.access_type.as_mut()) {
            wish.mount_flags.clear();
        }
    });
}

fn miscounted(message: &mut dyn Any) {
    change::<Result<v1::NodeGetVolumeStatsResponse, Status>>(message, |answer| {
        answer.iter_mut().flat_map(|answer| &mut answer.usage).for_each(|usage| usage.used += 1);
    });
}

fn with_a_long_id(message: &mut dyn Any) {
    change::<Result<v1::NodeGetInfoResponse, Status>>(message, |answer| answer.iter_mut().for_each(|answer| answer.node_id = "n".repeat(257)));
}

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

/// The check failed with the row's id.
#[track_caller]
fn assert_found(what: &str, row: &[&str], found: Option<String>) {
    let row = row.join("/");
    let names_row = found.as_ref().is_some_and(|words| [":", " ("].iter().any(|end| words.contains(&format!("{row}{end}"))));
    assert!(names_row, "{what} breaks {row}, and the check found {found:?}");
}

#[test]
fn loop_each_lie_of_a_driver_is_found_by_the_check_of_its_row() {
    for (lie, row, check) in CONTROLS {
        assert_found(lie, row, found(check, &daemon(check, Some(lie))));
    }
}

#[test]
fn loop_each_wrong_of_a_daemon_is_found_by_the_check_of_its_row() {
    for (number, (meddler, row, check)) in WRONG_DAEMONS.into_iter().enumerate() {
        let mut daemon = daemon(check, None);
        daemon.put_between(Arc::new(meddler));
        assert_found(&format!("the wrong {number}"), row, found(check, &daemon));
    }
}

#[test]
fn loop_the_same_without_anything_wrong_passes_the_same_checks() {
    let mut checks: Vec<Check> = Vec::new();
    for check in CONTROLS.iter().map(|(_, _, check)| *check).chain(WRONG_DAEMONS.iter().map(|(_, _, check)| *check)) {
        if !checks.iter().any(|other| std::ptr::fn_addr_eq(*other, check)) {
            checks.push(check);
        }
    }
    for check in checks {
        assert_eq!(found(check, &daemon(check, None)), None);
    }
}
