//! The controller's rows: create, delete, validate, and what its capabilities promise.

use super::{but, row};
use harness::{Daemon, Setup, Volume, block, mount, mount_as};
use windlass_csi::v1::controller_service_capability::Type;
use windlass_csi::v1::controller_service_capability::rpc::Type as Rpc;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{CapacityRange, ControllerGetCapabilitiesRequest, ValidateVolumeCapabilitiesRequest};

#[test]
fn plugin_the_same_name_again_is_the_same_volume_and_another_wish_is_refused() {
    the_same_name(&Daemon::start());
}

/// What the same name gets.
pub(super) fn the_same_name(daemon: &Daemon) {
    let create = || Volume::create_request("twice", &mount(Mode::SingleNodeWriter), 64);
    let same = row("CreateVolume/idempotent");
    let first = same.answers(daemon.create_volume(create()));
    let size = first.volume.as_ref().unwrap().capacity_bytes;
    assert_eq!(size, 64 << 20);
    for range in [(64 << 20, 0), (1, 0), (1, 64 << 20), (0, 64 << 20)] {
        let range = Some(CapacityRange { required_bytes: range.0, limit_bytes: range.1 });
        let again = same.answers(daemon.create_volume(but(create(), |m| m.capacity_range = range)));
        same.holds(again == first, "the same volume");
    }
    same.holds(same.answers(daemon.create_volume(but(create(), |m| m.capacity_range = None))) == first, "any size will do");
    let exists = row("CreateVolume/ALREADY_EXISTS");
    for (required_bytes, limit_bytes) in [((64 << 20) + 1, 0), (0, (64 << 20) - 4096), (1, 1 << 20)] {
        let range = Some(CapacityRange { required_bytes, limit_bytes });
        exists.refuses(daemon.create_volume(but(create(), |m| m.capacity_range = range)), "bytes");
    }
    for capability in [block(Mode::SingleNodeWriter), mount_as("xfs", Mode::SingleNodeWriter, &[])] {
        let wish = but(create(), |m| {
            m.volume_capabilities = vec![capability];
            m.capacity_range = None;
        });
        exists.refuses(daemon.create_volume(wish), "differs");
    }
    let parameters = [("csi.storage.k8s.io/fstype".to_owned(), "xfs".to_owned())];
    exists.refuses(
        daemon.create_volume(but(create(), |m| {
            m.parameters = parameters.into();
            m.capacity_range = None;
        })),
        "differs",
    );
    assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 1);
}

#[test]
fn plugin_a_size_that_cannot_be_had_is_out_of_range_and_one_that_can_is_exact() {
    sizes(&Daemon::with(Setup { driver: "[config]\nmax_bytes = \"1073741824\"".to_owned(), ..Setup::default() }));
}

/// Of a daemon whose volumes have a GiB at the most.
pub(super) fn sizes(daemon: &Daemon) {
    let create = |name: &str, required_bytes, limit_bytes| {
        let range = Some(CapacityRange { required_bytes, limit_bytes });
        daemon.create_volume(but(Volume::create_request(name, &mount(Mode::SingleNodeWriter), 1), |m| m.capacity_range = range))
    };
    for (required, limit) in [((1 << 30) + 1, 0), (i64::MAX, 0), (2 << 20, 1 << 20), (0, 4096), (0, 1)] {
        row("CreateVolume/OUT_OF_RANGE").refuses(create("none", required, limit), "");
    }
    for (number, (required, limit)) in [(1 << 30, 0), (5_000_192, 5_000_192), (5_000_001, 6_000_000), (0, 1 << 30)].into_iter().enumerate() {
        let size = row("CreateVolume/capacity").answers(create(&format!("exact-{number}"), required, limit)).volume.unwrap().capacity_bytes;
        row("CreateVolume/capacity").holds(size >= required && (limit == 0 || size <= limit), "within the range");
    }
    assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 4);
}

#[test]
fn loop_a_volume_in_use_is_not_deleted_and_a_deleted_one_can_be_deleted_again() {
    deletes(&Daemon::start());
}

/// What is deleted, and when.
pub(super) fn deletes(daemon: &Daemon) {
    let volume = Volume::create(daemon, "delete", mount(Mode::SingleNodeWriter), 16).unwrap();
    let file = daemon.path("volumes").join(volume.id());
    volume.stage(daemon).unwrap();
    row("DeleteVolume/FAILED_PRECONDITION").refuses(volume.delete(daemon), "staged");
    volume.publish(daemon, 0).unwrap();
    std::fs::write(format!("{}/data", volume.target(0)), b"data").unwrap();
    row("DeleteVolume/FAILED_PRECONDITION").refuses(volume.delete(daemon), "staged");
    assert_eq!(std::fs::read(format!("{}/data", volume.target(0))).unwrap(), b"data", "the volume was not altered");
    volume.unpublish(daemon, 0).unwrap();
    volume.unstage(daemon).unwrap();
    assert!(file.exists());
    for _ in 0..10 {
        row("DeleteVolume/idempotent").answers(volume.delete(daemon));
        assert!(!file.exists());
    }
    daemon.assert_nothing_left();
}

#[test]
fn plugin_what_is_confirmed_is_what_was_asked_and_all_of_it() {
    confirms(&Daemon::start());
}

/// What is confirmed.
pub(super) fn confirms(daemon: &Daemon) {
    let made = Volume::create(daemon, "validate", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
    let ask = |capabilities: Vec<_>| ValidateVolumeCapabilitiesRequest {
        volume_id: made.id(),
        volume_context: made.volume.volume_context.clone(),
        volume_capabilities: capabilities,
        ..Default::default()
    };
    let row = row("ValidateVolumeCapabilities/idempotent");
    let good = [
        vec![mount(Mode::SingleNodeWriter)],
        vec![mount_as("ext4", Mode::SingleNodeMultiWriter, &["noatime", "_netdev"])],
        vec![mount(Mode::SingleNodeReaderOnly), mount(Mode::SingleNodeSingleWriter)],
    ];
    for capabilities in good {
        for _ in 0..3 {
            let answer = row.answers(daemon.validate_volume_capabilities(ask(capabilities.clone())));
            let confirmed = answer.confirmed.expect("it is confirmed");
            assert_eq!(confirmed.volume_capabilities, capabilities);
            assert_eq!(confirmed.volume_context, made.volume.volume_context);
        }
    }
    let bad = [
        vec![block(Mode::SingleNodeWriter)],
        vec![mount_as("xfs", Mode::SingleNodeWriter, &[])],
        vec![mount(Mode::MultiNodeMultiWriter)],
        vec![mount(Mode::SingleNodeWriter), block(Mode::SingleNodeWriter)],
    ];
    for capabilities in bad {
        let answer = row.answers(daemon.validate_volume_capabilities(ask(capabilities)));
        row.holds(answer.confirmed.is_none() && !answer.message.is_empty(), "nothing is confirmed, and why is said");
    }
}

#[test]
fn plugin_the_controller_says_what_it_serves() {
    let daemon = Daemon::start();
    let served = row("ControllerGetCapabilities/idempotent");
    let ask = || served.answers(daemon.controller_get_capabilities(ControllerGetCapabilitiesRequest {}));
    let capabilities = ask();
    let has = |wanted: Rpc| capabilities.capabilities.iter().any(|one| matches!(&one.r#type, Some(Type::Rpc(rpc)) if rpc.r#type() == wanted));
    for wanted in
        [Rpc::CreateDeleteVolume, Rpc::ListVolumes, Rpc::GetCapacity, Rpc::ExpandVolume, Rpc::CreateDeleteSnapshot, Rpc::ListSnapshots, Rpc::CloneVolume]
    {
        assert!(has(wanted), "{wanted:?}");
    }
    for unserved in [Rpc::PublishUnpublishVolume, Rpc::ModifyVolume, Rpc::GetVolume] {
        assert!(!has(unserved), "{unserved:?}");
    }
    for _ in 0..10 {
        assert_eq!(ask(), capabilities);
    }
}
