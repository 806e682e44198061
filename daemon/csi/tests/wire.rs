//! The wire itself: every number and type of `csi.proto`, and calls over a real unix socket.

use prost_reflect::{Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::BTreeSet;
use std::path::Path;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use windlass_csi::client::{CallError, call, connect};
use windlass_csi::{FILE_DESCRIPTOR_SET, json, v1};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// Is the option of ours set in these options?
fn has(options: &DynamicMessage, name: &str) -> bool {
    let option = pool().get_extension_by_name(&format!("csi.v1.{name}")).unwrap();
    options.get_extension(&option).as_bool() == Some(true)
}

fn short(name: &str) -> &str {
    name.strip_prefix("csi.v1.").unwrap_or(name)
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => short(message.full_name()).to_owned(),
        Kind::Enum(values) => short(values.full_name()).to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn field_fact(field: &FieldDescriptor) -> String {
    let map = |entry: &MessageDescriptor| format!("map<{},{}>", kind(&entry.map_entry_key_field().kind()), kind(&entry.map_entry_value_field().kind()));
    let type_name = match field.kind() {
        Kind::Message(entry) if field.is_map() => map(&entry),
        other => kind(&other),
    };
    let marks = [
        (field.cardinality() == Cardinality::Repeated && !field.is_map(), "*"),
        (field.containing_oneof().is_some(), "?"),
        (has(&field.options(), "alpha_field"), "~"),
        (has(&field.options(), "csi_secret"), "$"),
    ];
    let marks: String = marks.iter().filter(|(is_set, _)| *is_set).map(|(_, mark)| *mark).collect();
    format!(" {}={}:{type_name}{marks}", field.number(), field.name())
}

fn message_fact(message: &MessageDescriptor) -> String {
    let fields: String = message.fields().map(|field| field_fact(&field)).collect();
    let reserved: String = message.reserved_ranges().flatten().map(|number| format!(" {number}!")).collect();
    format!("message {}:{fields}{reserved}", short(message.full_name()))
}

fn enum_fact(values: &EnumDescriptor) -> String {
    let mark = |is_alpha| if is_alpha { "~" } else { "" };
    let all: String = values.values().map(|value| format!(" {}={}{}", value.number(), value.name(), mark(has(&value.options(), "alpha_enum_value")))).collect();
    let reserved: String = values.reserved_ranges().flatten().map(|number| format!(" {number}!")).collect();
    format!("enum {}:{all}{reserved}", short(values.full_name()))
}

#[test]
fn the_wire_is_that_of_csi_1_13() {
    let expected: BTreeSet<String> =
        include_str!("wire_facts.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let mut built = BTreeSet::new();
    for service in pool().services() {
        for method in service.methods() {
            let stream = if method.is_server_streaming() { " stream" } else { "" };
            let alpha = if has(&method.options(), "alpha_method") { " alpha" } else { "" };
            let (takes, gives) = (method.input(), method.output());
            assert!(!method.is_client_streaming());
            built.insert(format!("rpc {}.{}: {} -> {}{stream}{alpha}", service.name(), method.name(), short(takes.full_name()), short(gives.full_name())));
        }
    }
    let ours = |package: &str| package == "csi.v1";
    built.extend(pool().all_messages().filter(|m| ours(m.package_name()) && !m.is_map_entry()).map(|message| message_fact(&message)));
    built.extend(pool().all_enums().filter(|e| ours(e.package_name())).map(|values| enum_fact(&values)));
    let missing: Vec<_> = expected.difference(&built).collect();
    let surplus: Vec<_> = built.difference(&expected).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "not in csi.proto:\n{missing:#?}\nonly in csi.proto:\n{surplus:#?}");
    let alpha: Vec<String> = pool().services().filter(|s| has(&s.options(), "alpha_service")).map(|s| s.name().to_owned()).collect();
    assert_eq!(alpha, ["SnapshotMetadata"]);
}

#[test]
fn options_have_their_numbers() {
    let numbers: BTreeSet<String> =
        pool().all_extensions().map(|option| format!("{} {} {}", option.containing_message().name(), option.name(), option.number())).collect();
    let expected = [
        "EnumOptions alpha_enum 1060",
        "EnumValueOptions alpha_enum_value 1060",
        "FieldOptions csi_secret 1059",
        "FieldOptions alpha_field 1060",
        "MessageOptions alpha_message 1060",
        "MethodOptions alpha_method 1060",
        "ServiceOptions alpha_service 1060",
    ];
    assert_eq!(numbers, expected.map(str::to_owned).into());
}

/// A driver's Identity and Node, as small as they can be.
struct Driver;

#[tonic::async_trait]
impl v1::identity_server::Identity for Driver {
    async fn get_plugin_info(&self, _: Request<v1::GetPluginInfoRequest>) -> Result<Response<v1::GetPluginInfoResponse>, Status> {
        Ok(Response::new(windlass_csi::to_proto::plugin_info("wire.windlass.io", "1").unwrap()))
    }
}

#[tonic::async_trait]
impl v1::node_server::Node for Driver {
    async fn node_stage_volume(&self, request: Request<v1::NodeStageVolumeRequest>) -> Result<Response<v1::NodeStageVolumeResponse>, Status> {
        match windlass_csi::from_proto::stage_volume(request.into_inner()) {
            Ok(_) => Ok(Response::new(v1::NodeStageVolumeResponse {})),
            Err(bad) => Err(Status::invalid_argument(bad.to_string())),
        }
    }
}

fn serve(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    let server =
        tonic::transport::Server::builder().add_service(v1::identity_server::IdentityServer::new(Driver)).add_service(v1::node_server::NodeServer::new(Driver));
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
}

#[tokio::test]
async fn a_call_by_name_travels_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("csi.sock");
    serve(&path);
    let channel = connect(&path).await.unwrap();

    let info = call(channel.clone(), json::request("GetPluginInfo", "").unwrap()).await.unwrap();
    assert_eq!(info.to_json().unwrap(), serde_json::json!({"name": "wire.windlass.io", "vendorVersion": "1"}));

    let stage = r#"{"volume_id": "v", "staging_target_path": "/s", "volume_capability": {"block": {}, "access_mode": {"mode": 1}}, "secrets": {"k": "s"}}"#;
    let staged = call(channel.clone(), json::request("NodeStageVolume", stage).unwrap()).await.unwrap();
    assert_eq!(staged.to_string(), "{}");

    let refused = call(channel.clone(), json::request("NodeStageVolume", r#"{"volume_id": "v"}"#).unwrap()).await.unwrap_err();
    assert!(refused.to_string().starts_with("InvalidArgument: `staging_target_path` is required"), "{refused}");

    let unserved = call(channel.clone(), json::request("NodeGetInfo", "{}").unwrap()).await.unwrap_err();
    assert!(matches!(&unserved, CallError::Status(status) if status.code() == tonic::Code::Unimplemented), "{unserved}");

    let streaming = call(channel, json::request("GetMetadataDelta", "{}").unwrap()).await.unwrap_err();
    assert!(matches!(streaming, CallError::Streaming { .. }), "{streaming}");
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.sock");
    let error = connect(&path).await.unwrap_err();
    assert!(error.to_string().contains("none.sock"), "{error}");
}
