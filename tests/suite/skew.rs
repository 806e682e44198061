//! Controller and node with different versions of a driver, as in the middle of a roll-out: what one wrote the other reads, or refuses in words.

use harness::{Daemon, Setup, Volume, eventually, mount, mount_as, mounts_beneath};
use tempfile::TempDir;
use tonic::{Code, Status};
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{GetPluginInfoRequest, ValidateVolumeCapabilitiesRequest, VolumeCapability};

/// Two daemons that share the granted folder.
struct Cluster {
    controller: Daemon,
    node: Daemon,
    shared: TempDir,
}

impl Cluster {
    /// `writes` is the later version's; see tests/guests/local-v2.
    fn start(controller: (&'static str, &str), node: &'static str) -> Self {
        let shared = tempfile::Builder::new().prefix("wl").tempdir_in("/var/tmp").unwrap();
        let daemon = |role: &str, component: &'static str, config: String| {
            let driver = format!("shared = {:?}\n[config]\nfolder = \"shared\"\n{config}", shared.path());
            Daemon::with(Setup { component, driver, config: format!("roles = [{role:?}]\n"), ..Setup::default() })
        };
        let (component, writes) = controller;
        let writes = if writes.is_empty() { String::new() } else { format!("writes = {writes:?}\n") };
        Self { controller: daemon("controller", component, writes), node: daemon("node", node, String::new()), shared }
    }

    /// Made by the one, with folders at the other.
    fn create(&self, name: &str, capability: VolumeCapability, mib: i64) -> Volume {
        let made = self.controller.create_volume(Volume::create_request(name, &capability, mib)).unwrap().volume.unwrap();
        Volume::at(&self.node, name, made, capability).unwrap()
    }

    /// Up and down on the node, and deleted by the controller.
    fn serves(&self, volume: &Volume) {
        for _ in 0..2 {
            volume.stage(&self.node).unwrap();
            volume.publish(&self.node, 0).unwrap();
            volume.unpublish(&self.node, 0).unwrap();
            volume.unstage(&self.node).unwrap();
        }
        volume.delete(&self.controller).unwrap();
        self.node.assert_nothing_left();
        assert_eq!(std::fs::read_dir(self.shared.path()).unwrap().count(), 0);
    }

    /// Bytes that the volume's file takes on the disk: none before anything was written.
    fn written(&self, volume: &Volume) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(self.shared.path().join(volume.id())).unwrap().blocks() * 512
    }

    fn replace_on_node(&self, component: &str, version: &str) {
        self.node.put_component(component, "plugins/local.wasm");
        eventually("the other version serves", || (self.node.get_plugin_info(GetPluginInfoRequest {}).ok()?.vendor_version == version).then_some(()));
    }
}

fn refused(answer: Result<(), Status>, says: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains(says) && status.details().is_empty(), "{status:?}");
}

fn xfs() -> VolumeCapability {
    mount_as("xfs", Mode::SingleNodeWriter, &[])
}

#[test]
fn loop_a_later_node_reads_what_an_earlier_controller_wrote() {
    let cluster = Cluster::start(("local", ""), "local-v2");
    cluster.serves(&cluster.create("earlier", mount(Mode::SingleNodeWriter), 16));
    cluster.serves(&cluster.create("earlier-xfs", xfs(), 300));
}

#[test]
fn loop_an_earlier_node_reads_a_context_with_a_key_that_it_does_not_know() {
    let cluster = Cluster::start(("local-v2", "more"), "local");
    let volume = cluster.create("more-xfs", xfs(), 300);
    assert_eq!(volume.volume.volume_context["compression"], "none");
    cluster.serves(&volume);
    let mut volume = cluster.create("more", mount(Mode::SingleNodeWriter), 16);
    let mut request = volume.stage_request();
    request.publish_context.insert("another".into(), "1".into());
    cluster.node.node_stage_volume(request).unwrap();
    // A context that lost a key, or won one, is another argument at a target and nothing else.
    volume.volume.volume_context.remove("compression").unwrap();
    volume.publish(&cluster.node, 0).unwrap();
    volume.unpublish(&cluster.node, 0).unwrap();
    volume.unstage(&cluster.node).unwrap();
    cluster.serves(&volume);
}

#[test]
fn loop_an_earlier_node_does_without_a_key_or_says_what_is_on_the_volume() {
    let cluster = Cluster::start(("local-v2", "less"), "local");
    cluster.serves(&cluster.create("less", mount(Mode::SingleNodeWriter), 16));
    let mut volume = cluster.create("less-xfs", xfs(), 300);
    assert!(!volume.volume.volume_context.contains_key("filesystem"));
    volume.stage(&cluster.node).unwrap();
    volume.unstage(&cluster.node).unwrap();
    // Neither the context nor the capability says what it is: it is left as it is.
    volume.capability = mount(Mode::SingleNodeWriter);
    refused(volume.stage(&cluster.node), "xfs");
    volume.capability = xfs();
    cluster.serves(&volume);
}

#[test]
fn loop_an_earlier_node_refuses_another_layout_and_takes_down_what_a_later_one_staged() {
    let cluster = Cluster::start(("local-v2", "layout 2"), "local");
    let volume = cluster.create("layout", mount(Mode::SingleNodeWriter), 16);
    let untouched = cluster.written(&volume);
    for _ in 0..3 {
        refused(volume.stage(&cluster.node), "layout");
        refused(volume.publish(&cluster.node, 0), "layout");
    }
    assert_eq!(cluster.written(&volume), untouched, "nothing was written to the volume");
    cluster.node.assert_nothing_left();

    cluster.replace_on_node("local-v2", "0.1.1");
    volume.stage(&cluster.node).unwrap();
    volume.publish(&cluster.node, 0).unwrap();
    // Rolled back with the volume in use: what stands is answered from what stands, and is taken down without the plugin.
    cluster.replace_on_node("local", "0.1.0");
    volume.stage(&cluster.node).unwrap();
    volume.publish(&cluster.node, 0).unwrap();
    assert_eq!(mounts_beneath(&cluster.node.path("kubelet")).len(), 2);
    volume.unpublish(&cluster.node, 0).unwrap();
    volume.unstage(&cluster.node).unwrap();
    refused(volume.stage(&cluster.node), "layout");
    volume.delete(&cluster.controller).unwrap();
    cluster.node.assert_nothing_left();
}

#[test]
fn plugin_a_controller_that_was_rolled_back_confirms_no_context_that_it_cannot_read() {
    let cluster = Cluster::start(("local-v2", "layout 2"), "local");
    let volume = cluster.create("confirmed", mount(Mode::SingleNodeWriter), 16);
    let validate = || {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: volume.id(),
            volume_capabilities: vec![volume.capability.clone()],
            volume_context: volume.volume.volume_context.clone(),
            ..Default::default()
        };
        cluster.controller.validate_volume_capabilities(request).unwrap()
    };
    assert!(validate().confirmed.is_some());
    // Without the key `writes`, which the earlier version does not have.
    let driver = format!("shared = {:?}\n[config]\nfolder = \"shared\"\n", cluster.shared.path());
    cluster.controller.write_driver(harness::DRIVER, &driver);
    cluster.controller.put_component("local", "plugins/local.wasm");
    eventually("the earlier version serves", || (cluster.controller.get_plugin_info(GetPluginInfoRequest {}).ok()?.vendor_version == "0.1.0").then_some(()));
    let answer = validate();
    assert!(answer.confirmed.is_none() && answer.message.contains("layout"), "{answer:?}");
    volume.delete(&cluster.controller).unwrap();
}
