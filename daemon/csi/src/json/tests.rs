//! JSON goes in and comes out, and no secret's value with it.

use super::*;
use crate::descriptor::pool;
use crate::methods::methods;
use crate::{SERVICE_ACCOUNT_TOKENS, v1};
use prost::Name;
use prost_reflect::{MapKey, Value};
use std::collections::{BTreeSet, HashMap};

const SECRET: &str = "hunter2";

fn secret_map() -> Value {
    Value::Map(HashMap::from([(MapKey::String("key".into()), Value::String(SECRET.into()))]))
}

#[test]
fn every_call_takes_json_and_is_found_by_each_spelling() {
    assert_eq!(methods().count(), 36);
    for method in methods() {
        let long = format!("{}/{}", method.service, method.name);
        for spelling in [method.name.clone(), long.clone(), format!("csi.v1.{long}"), method.path.clone()] {
            assert_eq!(Method::find(&spelling).unwrap(), method, "{spelling}");
        }
        assert_eq!(request(&method.name, "").unwrap().message.to_string(), "{}");
    }
    let unknown = Method::find("NodeStageVolumes").unwrap_err().to_string();
    assert!(unknown.contains("NodeStageVolumes") && unknown.contains("NodeUnstageVolume"), "{unknown}");
    for wrong in ["", "/", "Controller/NodeStageVolume", "csi.v0.Node/NodeStageVolume"] {
        assert!(Method::find(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn both_spellings_of_a_field_are_read_and_unknown_ones_are_not() {
    let one = request("NodeUnstageVolume", r#"{"volume_id": "v", "staging_target_path": "/s"}"#).unwrap();
    let other = request("NodeUnstageVolume", r#"{"volumeId": "v", "stagingTargetPath": "/s"}"#).unwrap();
    assert_eq!(one, other);
    assert_eq!(one.message.to_json().unwrap(), serde_json::json!({"volumeId": "v", "stagingTargetPath": "/s"}));
    assert!(matches!(request("NodeUnstageVolume", r#"{"volume": "v"}"#), Err(JsonError::Shape { .. })));
    assert!(matches!(request("NodeUnstageVolume", "{"), Err(JsonError::Syntax(_))));
    assert!(matches!(request("Nothing", "{}"), Err(JsonError::Method(_))));
}

#[test]
fn the_message_that_is_read_is_the_message_of_the_wire() {
    let text = r#"{
        "name": "n",
        "capacity_range": {"required_bytes": "5368709120"},
        "volume_capabilities": [{"mount": {"fs_type": "xfs", "mount_flags": ["ro"]}, "access_mode": {"mode": "SINGLE_NODE_WRITER"}}],
        "parameters": {"a": "b"},
        "secrets": {"key": "hunter2"}
    }"#;
    let message: v1::CreateVolumeRequest = request("CreateVolume", text).unwrap().message.into_inner().transcode_to().unwrap();
    assert_eq!(message.secrets["key"], SECRET);
    let call = crate::from_proto::create_volume(message, true).unwrap_or_else(|bad| panic!("{bad}"));
    assert_eq!((call.request.name.as_str(), call.request.capacity.required), ("n", 5 << 30));
}

/// The message `M` with a secret wherever one may be.
fn filled<M: prost::Message + Name + Default>() -> (M, Message) {
    let mut message = DynamicMessage::new(pool().get_message_by_name(&M::full_name()).unwrap());
    for field in message.descriptor().fields() {
        if is_secret(&field) {
            message.set_field(&field, secret_map());
        } else if field.name() == "volume_context" {
            message.set_field(&field, Value::Map(HashMap::from([(MapKey::String(SERVICE_ACCOUNT_TOKENS.into()), Value::String(SECRET.into()))])));
        }
    }
    (message.transcode_to().unwrap(), Message::new(message))
}

fn check<M: prost::Message + Name + Default + fmt::Debug>(seen: &mut BTreeSet<String>) {
    let (generated, dynamic) = filled::<M>();
    let shown = format!("{generated:?} {generated:#?} {dynamic:?} {dynamic} {}", dynamic.to_json().unwrap());
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("***") && shown.starts_with(M::NAME), "{shown}");
    seen.insert(M::full_name());
}

#[test]
fn no_message_shows_the_value_of_a_secret() {
    macro_rules! check_all {
        ($seen:ident: $($name:path),* $(,)?) => { $(check::<$name>(&mut $seen);)* };
    }
    let mut seen = BTreeSet::new();
    check_all!(seen:
        v1::CreateVolumeRequest, v1::DeleteVolumeRequest, v1::ControllerPublishVolumeRequest, v1::ControllerUnpublishVolumeRequest,
        v1::ValidateVolumeCapabilitiesRequest, v1::ControllerListVolumeHealthRequest, v1::ControllerGetVolumeHealthRequest,
        v1::ControllerModifyVolumeRequest, v1::CreateSnapshotRequest, v1::DeleteSnapshotRequest, v1::ListSnapshotsRequest,
        v1::GetSnapshotRequest, v1::ControllerExpandVolumeRequest, v1::NodeStageVolumeRequest, v1::NodePublishVolumeRequest,
        v1::NodeGetStorageHealthRequest, v1::NodeExpandVolumeRequest, v1::CreateVolumeGroupSnapshotRequest,
        v1::DeleteVolumeGroupSnapshotRequest, v1::GetVolumeGroupSnapshotRequest, v1::GetMetadataAllocatedRequest,
        v1::GetMetadataDeltaRequest, v1::Volume, v1::validate_volume_capabilities_response::Confirmed,
    );
    let is_sensitive = |message: &MessageDescriptor| message.fields().any(|field| is_secret(&field) || field.name() == "volume_context");
    let all: BTreeSet<String> = pool().all_messages().filter(is_sensitive).map(|message| message.full_name().to_owned()).collect();
    assert_eq!(seen, all);
    // Exactly the fields called `secrets` are marked.
    for field in pool().all_messages().flat_map(|message| message.fields().collect::<Vec<_>>()) {
        assert_eq!(is_secret(&field), field.name() == "secrets", "{}", field.full_name());
    }
}

#[test]
fn a_secret_within_another_message_is_hidden_too() {
    let volume = v1::Volume { volume_context: [(SERVICE_ACCOUNT_TOKENS.to_owned(), SECRET.to_owned())].into(), ..Default::default() };
    let shown = format!("{:?}", v1::CreateVolumeResponse { volume: Some(volume) });
    assert!(!shown.contains(SECRET) && shown.contains("***"), "{shown}");
}

#[test]
fn errors_do_not_quote_secrets() {
    let texts = [
        r#"{"secrets": "hunter2"}"#,
        r#"{"secrets": ["hunter2"]}"#,
        r#"{"secrets": {"key": {"hunter2": "hunter2"}}}"#,
        r#"{"secrets": {"key": ["hunter2"]}}"#,
        r#"{"secrets": {"key": "hunter2"}, "volume_id": 5}"#,
        r#"{"secrets": {"key": "hunter2}"#,
        r#"{"secrets": {"key": "hunter2"} "#,
        r#"{"secret": {"key": "hunter2"}}"#,
        r#"{"secrets": {"key": "hunter2"}, "secrets": "hunter2"}"#,
    ];
    for text in texts {
        let error = request("DeleteVolume", text).unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(!told.contains(SECRET), "{told}");
    }
}
