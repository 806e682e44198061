//! Kubelet: what it asks before and after each stage and publish, its folders and keys, and what it does where a call was given up.

use super::{but, row};
use harness::orders::{component, keys, may_still_run, node_capabilities};
use harness::{Caller, Daemon, Volume, block, mount_as, process};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;
use windlass_csi::v1;
use windlass_csi::v1::node_service_capability::rpc::Type as Rpc;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// Kubelet asks for one capability a call, on a connection of its own.
fn asks(kubelet: &Caller, wanted: &[Rpc]) {
    for wanted in wanted {
        assert!(node_capabilities(kubelet).unwrap().contains(wanted), "{wanted:?}");
    }
}

/// A folder of its own making, with the file that it keeps beside what it has the driver mount.
fn folder(path: &str) {
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(Path::new(path).parent().unwrap().join("vol_data.json"), "{}").unwrap();
}

/// A volume of a claim, with the keys that the provisioner added, at kubelet's paths.
fn claimed(daemon: &Daemon, capability: v1::VolumeCapability, staging: &str, pods: &str) -> Volume {
    let mut volume = Volume::create(daemon, "pvc-1", capability, 32).unwrap();
    volume.volume.volume_context.extend(keys(&[("storage.kubernetes.io/csiProvisionerIdentity", "1798675200000-81-local.windlass.io")]));
    (volume.staging, volume.pods) = (daemon.text(staging), daemon.text(pods));
    volume
}

/// podInfoOnMount: whose it is, in the volume's context, with each publish.
fn of_pod(mut request: v1::NodePublishVolumeRequest, uid: &str) -> v1::NodePublishVolumeRequest {
    request.volume_context.extend(keys(&[
        ("csi.storage.k8s.io/pod.name", "db-0"),
        ("csi.storage.k8s.io/pod.namespace", "default"),
        ("csi.storage.k8s.io/pod.uid", uid),
        ("csi.storage.k8s.io/serviceAccount.name", "default"),
        ("csi.storage.k8s.io/ephemeral", "false"),
    ]));
    request
}

#[test]
fn loop_a_pods_file_system_comes_and_goes_in_kubelets_order() {
    let daemon = Daemon::start();
    let (kubelet, heard) = component("kubelet").start(&daemon);
    row("NodeGetInfo/topology").holds(heard.node.is_some_and(|node| node.accessible_topology.is_some()), "for CSINode's keys");
    let staging = "kubelet/plugins/kubernetes.io/csi/local.windlass.io/3f5a/globalmount";
    let volume = claimed(&daemon, mount_as("ext4", Mode::SingleNodeMultiWriter, &["noatime"]), staging, "kubelet/pods");
    let at = |uid: &str| daemon.text(&format!("kubelet/pods/{uid}/volumes/kubernetes.io~csi/pvc-1/mount"));
    let publish = |uid: &str| of_pod(but(volume.publish_request(0), |m| m.target_path = at(uid)), uid);

    // MountDevice: can it stage, has it VOLUME_MOUNT_GROUP, which mode; then the stage, with whatever the attacher was told (here: nothing).
    asks(&kubelet, &[Rpc::StageUnstageVolume]);
    folder(&volume.staging);
    assert!(!node_capabilities(&kubelet).unwrap().contains(&Rpc::VolumeMountGroup));
    asks(&kubelet, &[Rpc::SingleNodeMultiWriter]);
    row("NodeStageVolume/orchestrator").answers(kubelet.node_stage_volume(volume.stage_request()));

    // SetUpAt, for two pods; each again with the next resync, where it wants that. The folder is the driver's to make.
    for uid in ["u1", "u2"] {
        asks(&kubelet, &[Rpc::StageUnstageVolume, Rpc::SingleNodeMultiWriter]);
        let path = at(uid);
        folder(Path::new(&path).parent().unwrap().to_str().unwrap());
        for _ in 0..2 {
            row("NodePublishVolume/orchestrator").answers(kubelet.node_publish_volume(publish(uid)));
        }
        // What it says of the pod is no other argument.
        let renamed = but(publish(uid), |m| drop(m.volume_context.insert("csi.storage.k8s.io/pod.name".into(), "db-1".into())));
        row("NodePublishVolume/orchestrator").answers(kubelet.node_publish_volume(renamed));
        std::fs::write(format!("{path}/{uid}"), uid).unwrap();
        // Each minute.
        asks(&kubelet, &[Rpc::GetVolumeStats]);
        let usage = kubelet.node_get_volume_stats(v1::NodeGetVolumeStatsRequest { volume_id: volume.id(), volume_path: path, ..Default::default() });
        assert_eq!(usage.unwrap().usage.len(), 2, "bytes and inodes: an empty answer is an error to it");
    }

    // Taken down, each thing twice: after a restart it does not know that it has been done. It removes the folder itself, if it is still there.
    for uid in ["u1", "u2"] {
        for _ in 0..2 {
            kubelet.node_unpublish_volume(v1::NodeUnpublishVolumeRequest { volume_id: volume.id(), target_path: at(uid) }).unwrap();
        }
        row("NodePublishVolume/orchestrator").holds(!Path::new(&at(uid)).exists(), "the target is gone");
    }
    for _ in 0..2 {
        asks(&kubelet, &[Rpc::StageUnstageVolume]);
        kubelet.node_unstage_volume(volume.unstage_request()).unwrap();
    }
    row("NodeStageVolume/orchestrator").holds(std::fs::remove_dir(&volume.staging).is_ok(), "the folder is empty, and kubelet's to remove");
    volume.delete(&daemon).unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn loop_a_pods_raw_device_comes_and_goes_in_kubelets_order() {
    let daemon = Daemon::start();
    let (kubelet, _) = component("kubelet").start(&daemon);
    let of = |what: &str| format!("kubelet/plugins/kubernetes.io/csi/volumeDevices/{what}/pvc-1");
    let volume = claimed(&daemon, block(Mode::SingleNodeMultiWriter), &of("staging"), &of("publish"));
    asks(&kubelet, &[Rpc::StageUnstageVolume, Rpc::SingleNodeMultiWriter]);
    std::fs::create_dir_all(&volume.staging).unwrap();
    kubelet.node_stage_volume(volume.stage_request()).unwrap();
    // The folder in which the device is to appear, and not the device.
    std::fs::create_dir_all(&volume.pods).unwrap();
    asks(&kubelet, &[Rpc::SingleNodeMultiWriter]);
    for _ in 0..2 {
        row("NodePublishVolume/orchestrator").answers(kubelet.node_publish_volume(of_pod(volume.publish_request(0), "u1")));
    }
    assert!(std::fs::metadata(volume.target(0)).unwrap().file_type().is_block_device());
    let asked = v1::NodeGetVolumeStatsRequest { volume_id: volume.id(), volume_path: volume.target(0), ..Default::default() };
    assert_eq!(kubelet.node_get_volume_stats(asked).unwrap().usage[0].total, 32 << 20);
    kubelet.node_unpublish_volume(volume.unpublish_request(0)).unwrap();
    asks(&kubelet, &[Rpc::StageUnstageVolume]);
    kubelet.node_unstage_volume(volume.unstage_request()).unwrap();
    row("NodeStageVolume/orchestrator").holds(std::fs::remove_dir(&volume.staging).is_ok(), "the folder is empty, and kubelet's to remove");
    volume.delete(&daemon).unwrap();
    daemon.assert_nothing_left();
}

/// The deadline is over while the plugin has the call. That is not final: kubelet holds the volume for "perhaps there", and stages again, or, where the pod has
/// gone meanwhile, takes down what it does not know to be there.
#[test]
fn loop_kubelet_stages_again_or_takes_down_what_it_gave_up() {
    let daemon = Daemon::start();
    let component = component("kubelet");
    let (kubelet, _) = component.start(&daemon);
    let volume = Volume::create(&daemon, "pvc-slow", mount_as("ext4", Mode::SingleNodeMultiWriter, &[]), 32).unwrap();
    for is_wanted in [true, false] {
        let stopped = process::Stopped::plugins(daemon.pid());
        let gave_up = kubelet.within(Duration::from_millis(300)).node_stage_volume(volume.stage_request()).unwrap_err();
        row("*/retried").holds(may_still_run(&gave_up, component), &gave_up.to_string());
        drop(stopped);
        if is_wanted {
            row("*/retried").answers(kubelet.node_stage_volume(volume.stage_request()));
            row("*/retried").answers(kubelet.node_publish_volume(volume.publish_request(0)));
        }
        for _ in 0..2 {
            kubelet.node_unpublish_volume(volume.unpublish_request(0)).unwrap();
            row("*/retried").answers(kubelet.node_unstage_volume(volume.unstage_request()));
        }
        daemon.assert_nothing_left();
    }
    volume.delete(&daemon).unwrap();
}
