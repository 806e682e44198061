//! Identity: who the driver is, what it can do, and whether it is ready.

use super::row;
use harness::{DRIVER, Daemon, Setup};
use windlass_csi::v1::plugin_capability::Type;
use windlass_csi::v1::plugin_capability::service::Type as Service;
use windlass_csi::v1::plugin_capability::volume_expansion::Type as Expansion;
use windlass_csi::v1::{GetPluginCapabilitiesRequest, GetPluginInfoRequest};

#[test]
fn plugin_a_driver_says_who_it_is() {
    let daemon = Daemon::start();
    let info = row("GetPluginInfo/idempotent").answers(daemon.get_plugin_info(GetPluginInfoRequest {}));
    assert_eq!(info.name, DRIVER);
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let limits = row("GetPluginInfo/limits");
    limits.holds(info.name.len() <= 63 && info.name.chars().all(is_inner), "the name is in domain-name notation");
    limits.holds((1..=128).contains(&info.vendor_version.len()), "there is a version");
    for _ in 0..10 {
        assert_eq!(daemon.get_plugin_info(GetPluginInfoRequest {}).unwrap(), info);
    }
}

#[test]
fn plugin_a_driver_says_what_it_can_do() {
    let daemon = Daemon::start();
    let ask = || row("GetPluginCapabilities/idempotent").answers(daemon.get_plugin_capabilities(GetPluginCapabilitiesRequest {}));
    let capabilities = ask();
    let has_service = |wanted: Service| capabilities.capabilities.iter().any(|one| matches!(&one.r#type, Some(Type::Service(s)) if s.r#type() == wanted));
    assert!(has_service(Service::ControllerService));
    assert!(has_service(Service::VolumeAccessibilityConstraints));
    assert!(!has_service(Service::GroupControllerService) && !has_service(Service::SnapshotMetadataService));
    assert!(capabilities.capabilities.iter().any(|one| matches!(&one.r#type, Some(Type::VolumeExpansion(e)) if e.r#type() == Expansion::Online)));
    for _ in 0..10 {
        assert_eq!(ask(), capabilities);
    }
}

#[test]
fn plugin_probe_says_ready_and_again() {
    let daemon = Daemon::start();
    for _ in 0..10 {
        let is_ready = row("Probe/idempotent").answers(daemon.probe());
        row("Probe/ready").holds(is_ready, "a driver that serves is ready");
    }
}

#[test]
fn plugin_a_driver_that_is_not_loaded_is_not_ready_and_that_is_no_error() {
    let daemon = Daemon::unready(Setup { driver: "[limits]\nunknown = 1\n".to_owned(), ..Setup::default() });
    harness::eventually("the refusal in the log", || daemon.log().contains("refused").then_some(()));
    let probed = row("Probe/not-ready").answers(daemon.probe());
    row("Probe/not-ready").holds(!probed, "a driver without a plugin is not ready");
}
