//! What Kubernetes' components ask of a driver when they start, in their order and with their deadlines: docs/orchestrators.md says where each is from.

use crate::{Caller, Endpoint};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tonic::Status;
use windlass_csi::v1;
use windlass_csi::v1::controller_service_capability::Type as ControllerKind;
use windlass_csi::v1::controller_service_capability::rpc::Type as ControllerRpc;
use windlass_csi::v1::node_service_capability::Type as NodeKind;
use windlass_csi::v1::node_service_capability::rpc::Type as NodeRpc;
use windlass_csi::v1::plugin_capability::Type as PluginKind;
use windlass_csi::v1::plugin_capability::service::Type as Service;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// Calls of Identity and capabilities.
#[derive(Debug, Clone, Copy)]
enum Ask {
    /// Probe, each second until it is ready.
    Ready,
    /// Probe, once.
    Probe,
    /// GetPluginInfo.
    Info,
    /// GetPluginCapabilities.
    Services,
    /// ControllerGetCapabilities.
    Controller,
    /// NodeGetInfo.
    Node,
}

/// How a component is connected.
#[derive(Clone, Copy)]
enum Connection {
    /// By one connection; it exits when that is lost.
    Kept,
    /// By one for each call.
    EachCall,
}

/// One component.
pub struct Component {
    /// Its name, with the option that makes a difference.
    pub name: &'static str,
    connection: Connection,
    /// Calls that share a deadline, and that in seconds.
    start: &'static [(&'static [Ask], u64)],
    /// For each piece of work, in seconds.
    work: u64,
    goes_on: fn(&Heard) -> bool,
}

/// What a component has learnt of a driver.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// From GetPluginInfo.
    pub name: String,
    /// From GetPluginCapabilities.
    pub services: BTreeSet<Service>,
    /// From ControllerGetCapabilities.
    pub controller: BTreeSet<ControllerRpc>,
    /// From NodeGetInfo.
    pub node: Option<v1::NodeGetInfoResponse>,
}

/// All that are replayed.
pub const COMPONENTS: [Component; 8] = [
    Component {
        name: "external-provisioner",
        connection: Connection::Kept,
        start: &[(&[Ask::Ready], 10), (&[Ask::Info], 10), (&[Ask::Services], 10), (&[Ask::Controller], 10)],
        work: 10,
        goes_on: makes_volumes,
    },
    Component {
        name: "external-provisioner --node-deployment",
        connection: Connection::Kept,
        start: &[(&[Ask::Ready], 10), (&[Ask::Info], 10), (&[Ask::Services], 10), (&[Ask::Controller], 10), (&[Ask::Node], 10)],
        work: 10,
        // Where places matter a node without a segment is one where nothing can be made.
        goes_on: |heard| {
            let segments = heard.node.as_ref().and_then(|node| node.accessible_topology.as_ref()).map_or(0, |place| place.segments.len());
            makes_volumes(heard) && (segments > 0 || !heard.services.contains(&Service::VolumeAccessibilityConstraints))
        },
    },
    Component {
        name: "external-attacher",
        connection: Connection::Kept,
        start: &[(&[Ask::Ready], 15), (&[Ask::Info], 1), (&[Ask::Services, Ask::Controller], 1)],
        work: 15,
        // Of a driver that does not publish it makes the objects of the API alone.
        goes_on: |_| true,
    },
    Component {
        name: "external-resizer",
        connection: Connection::Kept,
        start: &[
            (&[Ask::Ready], 10),
            (&[Ask::Info], 10),
            (&[Ask::Services], 10),
            // EXPAND_VOLUME, SINGLE_NODE_MULTI_WRITER, MODIFY_VOLUME: each is asked for by itself.
            (&[Ask::Controller], 10),
            (&[Ask::Controller], 10),
            (&[Ask::Controller], 10),
        ],
        work: 10,
        goes_on: |heard| heard.services.contains(&Service::ControllerService) && heard.controller.contains(&ControllerRpc::ExpandVolume),
    },
    Component {
        name: "csi-snapshotter",
        connection: Connection::Kept,
        start: &[(&[Ask::Info], 60), (&[Ask::Ready], 60), (&[Ask::Controller], 60)],
        work: 60,
        goes_on: |heard| heard.controller.contains(&ControllerRpc::CreateDeleteSnapshot),
    },
    Component { name: "livenessprobe", connection: Connection::EachCall, start: &[(&[Ask::Info], 30), (&[Ask::Probe], 1)], work: 1, goes_on: |_| true },
    Component { name: "node-driver-registrar", connection: Connection::Kept, start: &[(&[Ask::Info], 1)], work: 1, goes_on: |_| true },
    Component { name: "kubelet", connection: Connection::EachCall, start: &[(&[Ask::Node], 120)], work: 120, goes_on: |heard| heard.node.is_some() },
];

fn makes_volumes(heard: &Heard) -> bool {
    heard.services.contains(&Service::ControllerService) && heard.controller.contains(&ControllerRpc::CreateDeleteVolume)
}

/// A component by its name.
pub fn component(name: &str) -> &'static Component {
    COMPONENTS.iter().find(|component| component.name == name).unwrap_or_else(|| panic!("no component {name}"))
}

impl Component {
    /// Connects, asks all that it asks at its start, and has the deadline of its work from then on.
    #[track_caller]
    pub fn start(&self, driver: &Endpoint) -> (Caller, Heard) {
        let patience = Duration::from_secs(self.work);
        let caller = match self.connection {
            Connection::Kept => Caller::sidecar(driver, patience),
            Connection::EachCall => Caller::kubelet(driver, patience),
        };
        let heard = self.ask(&caller).unwrap_or_else(|status| panic!("{} exits: {status}", self.name));
        assert!((self.goes_on)(&heard), "{} has nothing to do here: {heard:?}", self.name);
        (caller, heard)
    }

    /// What it asks at its start. An error is where it exits.
    pub fn ask(&self, caller: &Caller) -> Result<Heard, Status> {
        let mut heard = Heard::default();
        for (calls, seconds) in self.start {
            let until = Instant::now() + Duration::from_secs(*seconds);
            for call in *calls {
                ask(*call, &caller.within(until.saturating_duration_since(Instant::now())), &mut heard)?;
            }
        }
        Ok(heard)
    }

    /// Does it keep one connection, and exit when that is lost?
    pub fn keeps_its_connection(&self) -> bool {
        matches!(self.connection, Connection::Kept)
    }

    /// How many connections it has made when it has asked so many times what it asks at its start.
    pub fn connections_after(&self, times: usize) -> usize {
        match self.connection {
            Connection::Kept => 1,
            Connection::EachCall => times * self.start.iter().map(|(calls, _)| calls.len()).sum::<usize>(),
        }
    }
}

fn ask(call: Ask, caller: &Caller, heard: &mut Heard) -> Result<(), Status> {
    match call {
        Ask::Ready => caller.wait_ready(),
        Ask::Probe => drop(caller.probe()?),
        Ask::Info => heard.name = caller.driver_name()?,
        Ask::Services => {
            let capabilities = caller.get_plugin_capabilities(v1::GetPluginCapabilitiesRequest {})?.capabilities;
            let service = |one: v1::PluginCapability| if let Some(PluginKind::Service(service)) = one.r#type { Some(service.r#type()) } else { None };
            heard.services = capabilities.into_iter().filter_map(service).collect();
        }
        Ask::Controller => heard.controller = controller_capabilities(caller)?,
        Ask::Node => heard.node = Some(caller.node_get_info(v1::NodeGetInfoRequest {})?),
    }
    Ok(())
}

/// ControllerGetCapabilities, as a set.
pub fn controller_capabilities(caller: &Caller) -> Result<BTreeSet<ControllerRpc>, Status> {
    let capabilities = caller.controller_get_capabilities(v1::ControllerGetCapabilitiesRequest {})?.capabilities;
    Ok(capabilities.into_iter().filter_map(|one| one.r#type).map(|ControllerKind::Rpc(rpc)| rpc.r#type()).collect())
}

/// NodeGetCapabilities, as a set: kubelet asks for it before each thing that it does.
pub fn node_capabilities(caller: &Caller) -> Result<BTreeSet<NodeRpc>, Status> {
    let capabilities = caller.node_get_capabilities(v1::NodeGetCapabilitiesRequest {})?.capabilities;
    Ok(capabilities.into_iter().filter_map(|one| one.r#type).map(|NodeKind::Rpc(rpc)| rpc.r#type()).collect())
}

/// The access mode that stands for one of Kubernetes', by whether SINGLE_NODE_MULTI_WRITER is advertised: by the controller for sidecars, by the node for kubelet.
pub fn access_mode(of_kubernetes: &str, has_multi_writer: bool) -> Mode {
    match (of_kubernetes, has_multi_writer) {
        ("ReadWriteOncePod", true) => Mode::SingleNodeSingleWriter,
        ("ReadWriteOnce", true) => Mode::SingleNodeMultiWriter,
        ("ReadWriteOncePod" | "ReadWriteOnce", false) => Mode::SingleNodeWriter,
        ("ReadOnlyMany", _) => Mode::MultiNodeReaderOnly,
        ("ReadWriteMany", _) => Mode::MultiNodeMultiWriter,
        (other, _) => panic!("{other} is no access mode of Kubernetes"),
    }
}

/// What a component adds to a map, or puts there: keys and values.
pub fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// May the work of a call that was answered so still be going on? Then a component asks again, or undoes; every other code is final. The provisioner's own
/// idea differs in one code: RESOURCE_EXHAUSTED is final to it.
pub fn may_still_run(status: &Status, component: &Component) -> bool {
    use tonic::Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable};
    let is_provisioner = component.name.starts_with("external-provisioner");
    matches!(status.code(), Cancelled | DeadlineExceeded | Unavailable | Aborted) || (status.code() == ResourceExhausted && !is_provisioner)
}
