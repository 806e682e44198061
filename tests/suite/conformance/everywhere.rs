//! Every field of every served request, one after the other, as the descriptors list them, with what no field can hold: refused in words, and nothing changes.

use super::{call, check_form, row, tree};
use harness::{Daemon, Volume, block};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tonic::{Code, Status};
use windlass_csi::methods::Method;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// What a field holds in a request that is refused for it.
#[derive(Debug, Clone)]
struct Bad {
    /// Names of fields, from the request down.
    path: Vec<String>,
    value: Value,
    what: &'static str,
}

/// Requests that are right as they stand, of the volume that is there.
fn requests(volume: &Volume) -> Vec<(&'static str, Value)> {
    let (id, staging, target) = (volume.id(), volume.staging.clone(), volume.target(0));
    let capability = json!({"block": {}, "access_mode": {"mode": "SINGLE_NODE_WRITER"}});
    let (range, context) = (json!({"required_bytes": 1 << 20}), json!(volume.volume.volume_context));
    vec![
        ("CreateVolume", json!({"name": "everywhere", "capacity_range": {"required_bytes": 16 << 20}, "volume_capabilities": [capability]})),
        ("DeleteVolume", json!({"volume_id": "nothing"})),
        ("ValidateVolumeCapabilities", json!({"volume_id": id, "volume_capabilities": [capability]})),
        ("ListVolumes", json!({})),
        ("GetCapacity", json!({"volume_capabilities": [capability]})),
        ("ControllerExpandVolume", json!({"volume_id": id, "capacity_range": range})),
        ("NodeStageVolume", json!({"volume_id": id, "staging_target_path": staging, "volume_capability": capability, "volume_context": context})),
        ("NodeUnstageVolume", json!({"volume_id": "nothing", "staging_target_path": staging})),
        (
            "NodePublishVolume",
            json!({"volume_id": id, "staging_target_path": staging, "target_path": target, "volume_capability": capability, "volume_context": context}),
        ),
        ("NodeUnpublishVolume", json!({"volume_id": "nothing", "target_path": target})),
        ("NodeGetVolumeStats", json!({"volume_id": id, "volume_path": staging})),
        ("NodeExpandVolume", json!({"volume_id": id, "volume_path": staging})),
    ]
}

/// All that can be wrong with one of a request's fields, by their types.
fn all_bad(method: &Method) -> Vec<Bad> {
    // The descriptors' own types belong to a crate that the tests do not have; their names do.
    let mut found = Vec::new();
    let mut below = vec![(Vec::<String>::new(), method.request().clone())];
    while let Some((above, message)) = below.pop() {
        for field in message.fields() {
            let path: Vec<String> = above.iter().cloned().chain([field.name().to_owned()]).collect();
            let mut add = |what: &'static str, value: Value| {
                let value = if field.is_list() { json!([value]) } else { value };
                found.push(Bad { path: path.clone(), value, what });
            };
            let kind = format!("{:?}", field.kind());
            if field.is_map() {
                found.push(Bad { path, value: json!({"key": "v".repeat(4094)}), what: "more than 4 KiB" });
            } else if kind == "string" {
                add("10,000 characters", json!("x".repeat(10_000)));
                add("a control character", json!("a\u{0}b"));
            } else if kind == "int64" || kind == "int32" {
                add("a negative number", json!(-1));
                add("the least number", if kind == "int64" { json!(i64::MIN) } else { json!(i32::MIN) });
            } else if field.kind().as_enum().is_some() {
                add("an unknown value", json!(200));
                add("a negative value", json!(-1));
            } else if let Some(message) = field.kind().as_message().filter(|_| path.len() < 6) {
                below.push((path, message.clone()));
            }
        }
    }
    found
}

/// Sets a field, and what is around it where it is not there: the first element of a list that is there, or a new one.
fn with(request: &Value, method: &Method, bad: &Bad) -> Value {
    let mut request = request.clone();
    let (mut at, mut message) = (&mut request, method.request().clone());
    for (depth, name) in bad.path.iter().enumerate() {
        let field = message.get_field_by_name(name).expect("the descriptor lists it");
        // One of a oneof pushes the others out.
        if let Some(oneof) = field.containing_oneof() {
            let others: Vec<String> = oneof.fields().map(|other| other.name().to_owned()).filter(|other| other != name).collect();
            others.iter().for_each(|other| drop(at.as_object_mut().expect("a message").remove(other)));
        }
        if depth + 1 == bad.path.len() {
            at[name] = bad.value.clone();
            break;
        }
        let fresh = if field.is_list() { json!([{}]) } else { json!({}) };
        let next = at.as_object_mut().expect("a message").entry(name.clone()).or_insert(fresh);
        at = if field.is_list() { &mut next[0] } else { next };
        message = field.kind().as_message().expect("a message").clone();
    }
    request
}

/// May the call succeed all the same? The id of nothing is fine where something is to go, and text that only travels may hold anything.
fn may_be_answered(rpc: &str, bad: &Bad) -> bool {
    let field = bad.path.last().map(String::as_str).unwrap_or_default();
    let takes_away = matches!(rpc, "DeleteVolume" | "NodeUnstageVolume" | "NodeUnpublishVolume");
    (takes_away && field == "volume_id") || (bad.what == "a control character" && field == "staging_target_path")
}

#[test]
fn loop_every_field_of_every_request_refuses_what_it_cannot_hold() {
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "everywhere-there", block(Mode::SingleNodeWriter), 16).unwrap();
    let look = || (tree(&daemon.path("volumes")), tree(&daemon.path("kubelet")));
    let before = look();
    let (wrong, mut tried) = (row("*/INVALID_ARGUMENT/2"), BTreeMap::new());
    for (rpc, request) in requests(&volume) {
        let method = Method::find(rpc).unwrap();
        for bad in all_bad(&method) {
            let answer = call(&daemon, rpc, &with(&request, &method, &bad).to_string());
            let subject = format!("{rpc}, {} with {}", bad.path.join("."), bad.what);
            check(&subject, answer.map(drop), may_be_answered(rpc, &bad));
            *tried.entry(bad.what).or_insert(0) += 1;
        }
        wrong.holds(look() == before, &format!("nothing changes by what {rpc} refuses"));
    }
    println!("{tried:?}");
    assert!(tried.len() == 7 && tried.values().all(|count| *count >= 4), "each kind of field is met, or the descriptors are read wrongly: {tried:?}");
    volume.delete(&daemon).unwrap();
    daemon.assert_nothing_left();
}

fn check(subject: &str, answer: Result<(), Status>, may_be_answered: bool) {
    match answer {
        Ok(()) => assert!(may_be_answered, "{subject} was answered"),
        Err(status) => {
            check_form(&status);
            // The id of nothing, and a token that is none of ours, have codes of their own.
            let is_right = matches!(status.code(), Code::InvalidArgument | Code::NotFound | Code::Aborted);
            assert!(is_right, "{subject}: {status:?}");
        }
    }
}

/// More than gRPC takes in one message: refused, and the daemon and its other callers go on.
#[test]
fn plugin_a_request_that_is_too_large_is_refused_and_the_next_one_is_served() {
    let daemon = Daemon::start();
    for mib in [5, 64] {
        let request = json!({"name": "large", "parameters": {"key": "x".repeat(mib << 20)}}).to_string();
        let status = call(&daemon, "CreateVolume", &request).unwrap_err();
        assert!(!status.message().is_empty() && status.details().is_empty(), "{status:?}");
        assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument), "{status:?}");
        assert!(daemon.probe().unwrap());
    }
    assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 0);
}
