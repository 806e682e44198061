//! Room and reach: GetCapacity, NodeGetInfo, and volumes that are reachable from one node alone.

use super::{but, row};
use harness::{DRIVER, Daemon, Setup, Volume, eventually, mount};
use windlass_csi::v1::node_service_capability::Type;
use windlass_csi::v1::node_service_capability::rpc::Type as Rpc;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{GetCapacityRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest, Topology, TopologyRequirement};

const KEY: &str = "windlass.io/node";

fn place(node: &str) -> Topology {
    Topology { segments: [(KEY.to_owned(), node.to_owned())].into() }
}

fn here_alone() -> Daemon {
    Daemon::with(Setup { driver: "[config]\nnode = \"node-1\"\nmax_bytes = \"1073741824\"".to_owned(), ..Setup::default() })
}

#[test]
fn plugin_room_is_what_the_folder_has_and_none_elsewhere() {
    room(&here_alone());
}

#[test]
fn plugin_an_operator_says_how_many_volumes_a_node_has() {
    let daemon = Daemon::with(Setup { driver: "[limits]\nmax_volumes_per_node = 7\n".to_owned(), ..Setup::default() });
    let most = || daemon.node_get_info(NodeGetInfoRequest {}).unwrap().max_volumes_per_node;
    assert_eq!(most(), 7);
    daemon.write_driver(DRIVER, "[limits]\nmax_volumes_per_node = 9\n");
    eventually("the new limit", || (most() == 9).then_some(()));
    daemon.write_driver(DRIVER, "");
    eventually("what the plugin says", || (most() == 0).then_some(()));
}

/// Of a daemon whose volumes are on `node-1` alone.
pub(super) fn room(daemon: &Daemon) {
    let row = row("GetCapacity/topology");
    let ask = |topology, capabilities| GetCapacityRequest { accessible_topology: topology, volume_capabilities: capabilities, ..Default::default() };
    let room = row.answers(daemon.get_capacity(ask(None, Vec::new())));
    let folder = nix::sys::statvfs::statvfs(&daemon.path("volumes")).unwrap();
    let total = (folder.blocks() * folder.fragment_size()) as i64;
    row.holds((1..=total).contains(&room.available_capacity), "no more than the disk has");
    assert!(room.maximum_volume_size.is_some_and(|size| (1..=1 << 30).contains(&size)), "{room:?}");
    assert!(room.minimum_volume_size.is_some_and(|size| size > 0 && size <= room.maximum_volume_size.unwrap()), "{room:?}");
    let here = row.answers(daemon.get_capacity(ask(Some(place("node-1")), vec![mount(Mode::SingleNodeWriter)])));
    row.holds(here.available_capacity > 0, "there is room here");
    let elsewhere = row.answers(daemon.get_capacity(ask(Some(place("node-2")), Vec::new())));
    row.holds(elsewhere.available_capacity == 0, "and none elsewhere");
    let unsupported = row.answers(daemon.get_capacity(ask(None, vec![mount(Mode::MultiNodeMultiWriter)])));
    row.holds(unsupported.available_capacity == 0, "and none for what cannot be made");
}

#[test]
fn plugin_a_volume_of_one_node_is_made_where_the_topology_allows_it() {
    reach(&here_alone());
}

/// Of a daemon whose volumes are on `node-1` alone.
pub(super) fn reach(daemon: &Daemon) {
    let info = row("NodeGetInfo/idempotent").answers(daemon.node_get_info(NodeGetInfoRequest {}));
    let is_this_node = info.node_id == "node-1" && info.accessible_topology == Some(place("node-1"));
    row("NodeGetInfo/idempotent").holds(is_this_node && daemon.node_get_info(NodeGetInfoRequest {}).unwrap() == info, "it is this node, and stays it");
    let create = |name: &str, requisite: Vec<Topology>| {
        let topology = Some(TopologyRequirement { preferred: requisite.clone(), requisite });
        daemon.create_volume(but(Volume::create_request(name, &mount(Mode::SingleNodeWriter), 16), |m| m.accessibility_requirements = topology))
    };
    let made = row("CreateVolume/topology").answers(create("here", vec![place("node-2"), place("node-1")])).volume.unwrap();
    row("CreateVolume/topology").holds(made.accessible_topology == [place("node-1")], "the answer says where");
    row("CreateVolume/RESOURCE_EXHAUSTED").refuses(create("there", vec![place("node-2")]), "topology");
    row("CreateVolume/ALREADY_EXISTS").refuses(create("here", vec![place("node-2")]), "topology");
    assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 1);
}

#[test]
fn plugin_a_volume_larger_than_all_that_is_left_is_not_promised() {
    let daemon = Daemon::start();
    let available = daemon.get_capacity(GetCapacityRequest::default()).unwrap().available_capacity;
    let mib = (available >> 20) * 2;
    let (capability, name) = (mount(Mode::SingleNodeWriter), "large");
    row("CreateVolume/RESOURCE_EXHAUSTED").refuses(daemon.create_volume(Volume::create_request(name, &capability, mib)), "left");
    assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 0);
    // The same name, asked for in a size that there is.
    daemon.create_volume(Volume::create_request(name, &capability, 16)).unwrap();
}

#[test]
fn plugin_the_node_says_what_it_serves() {
    let daemon = Daemon::start();
    let row = row("NodeGetCapabilities/idempotent");
    let ask = || row.answers(daemon.node_get_capabilities(NodeGetCapabilitiesRequest {}));
    let capabilities = ask();
    let has = |wanted: Rpc| capabilities.capabilities.iter().any(|one| matches!(&one.r#type, Some(Type::Rpc(rpc)) if rpc.r#type() == wanted));
    for wanted in [Rpc::StageUnstageVolume, Rpc::GetVolumeStats, Rpc::ExpandVolume, Rpc::SingleNodeMultiWriter] {
        assert!(has(wanted), "{wanted:?}");
    }
    assert!(!has(Rpc::VolumeMountGroup));
    for _ in 0..10 {
        assert_eq!(ask(), capabilities);
    }
}
