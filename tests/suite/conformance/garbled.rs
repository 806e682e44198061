//! Bytes that are no request of the kind they are sent as: refused in words, and the daemon goes on.

use harness::Daemon;
use tonic::Code;
use windlass_csi::client::{self, CallError};
use windlass_csi::json;
use windlass_csi::methods::Method;

/// Sends one message in the place of another: its first field is a list of messages, which read as text is no UTF-8.
#[test]
fn plugin_a_message_that_cannot_be_read_is_refused_and_the_next_one_is_served() {
    let daemon = Daemon::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for rpc in ["CreateVolume", "DeleteVolume", "NodeStageVolume", "NodeUnstageVolume", "NodePublishVolume"] {
        let mut request = json::request("GetCapacity", r#"{"volume_capabilities": [{"access_mode": {"mode": 200}}]}"#).unwrap();
        request.method = Method::find(rpc).unwrap();
        let answer = runtime.block_on(async { client::call(client::connect(&daemon.socket()).await.unwrap(), request).await });
        let Err(CallError::Status(status)) = answer else { panic!("{rpc} was not refused") };
        assert!(!status.message().is_empty() && status.details().is_empty(), "{rpc}: {status:?}");
        assert!(matches!(status.code(), Code::InvalidArgument | Code::Internal), "{rpc}: {status:?}");
        assert!(daemon.probe().unwrap());
    }
    assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 0);
}
