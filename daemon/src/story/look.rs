//! NodeGetVolumeStats, NodeExpandVolume and NodeGetInfo: what is looked at where a volume is, and what grows there.

use crate::claims::{Answer, Claim};
use crate::refused::Refused;
use crate::served::Served;
use crate::story::{OTHER_ANSWER, anywhere, place};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use windlass_plan::grants::Grants;
use windlass_plan::ids::VolumeId;
use windlass_plan::lower::NODE_NAME;
use windlass_plan::paths::{PathError, Place};
use windlass_plan::plugin::{NodeFacts, NodeInfo, PluginAnswer, PluginCall};
use windlass_plan::request::{Call, ExpandNode, VolumeStats};

pub(crate) fn stats(served: &Served, call: Call<VolumeStats>, _: &mut Claim) -> Result<Answer, Refused> {
    let request = call.request;
    let mut work = served.engine()?.open(served.driver.name(), &request.volume)?;
    let place = seen_place(served, &mut work, &request.volume, &request.volume_path)?;
    Ok(Answer::Usage(work.usage(place)?))
}

pub(crate) fn expand(served: &Served, call: Call<ExpandNode>, _: &mut Claim) -> Result<Answer, Refused> {
    let request = call.request;
    let mut work = served.engine()?.open(served.driver.name(), &request.volume)?;
    let place = seen_place(served, &mut work, &request.volume, &request.volume_path)?;
    let size = work.grow(&place)?;
    if !request.capacity.admits(size) {
        let range = request.capacity;
        return Err(Refused::Size(format!(
            "the volume's device has {size} bytes; `capacity_range` wants at least {} and at most {} (0: no limit)",
            range.required, range.limit
        )));
    }
    Ok(Answer::Size(size))
}

/// Where the volume is seen at the path: the path itself, or the node in a staging folder.
fn seen_place(served: &Served, work: &mut windlass_engine::Work<'_>, volume: &VolumeId, path: &str) -> Result<Place, Refused> {
    let not_there = |problem| Refused::NotAtPath { volume: volume.clone(), problem };
    if work.is_absent()? {
        return Err(Refused::NoVolume(volume.clone()));
    }
    let place = place(served, "volume_path", path).map_err(|refused| match refused {
        // Where nothing is ever mounted, this volume is not either.
        Refused::Path { problem: problem @ (PathError::Relative | PathError::Outside { .. }), .. } => not_there(Some(problem)),
        other => other,
    })?;
    if work.is_at(&place)? {
        return Ok(place);
    }
    let node = place.join(NODE_NAME);
    if work.is_at(&node)? { Ok(node) } else { Err(not_there(None)) }
}

/// Who the node is, and where.
pub(crate) fn info(served: &Served) -> Result<NodeInfo, Refused> {
    let info = told(served)?;
    Ok(NodeInfo { topology: anywhere::name(info.topology), ..info })
}

/// Asked of the plugin; where it cannot answer, what it said last or what the configuration says, so that a node can always be
/// registered for teardown.
fn told(served: &Served) -> Result<NodeInfo, Refused> {
    let config = &served.house.config;
    let Ok(generation) = served.driver.generation() else {
        let facts = NodeFacts { node: config.node.clone(), topology: config.topology.clone(), addresses: Vec::new() };
        let from_configuration = || NodeInfo { node_id: facts.node, max_volumes: 0, topology: facts.topology };
        return Ok(served.driver.remembered_node().unwrap_or_else(from_configuration));
    };
    let facts = NodeFacts { node: config.node.clone(), topology: config.topology.clone(), addresses: addresses(&generation.spec.grants) };
    match generation.ask(PluginCall::NodeInfo(facts))? {
        PluginAnswer::NodeInfo(mut info) => {
            // The operator knows what the node can bear.
            if generation.spec.max_volumes_per_node != 0 {
                info.max_volumes = generation.spec.max_volumes_per_node;
            }
            served.driver.remember_node(&info);
            Ok(info)
        }
        _ => Err(OTHER_ANSWER),
    }
}

/// The addresses from which the kernel of this node reaches the clusters: those that its routes to the monitors begin with. Nothing is
/// sent.
fn addresses(grants: &Grants) -> Vec<IpAddr> {
    let towards = |monitor: &SocketAddr| {
        let any: IpAddr = if monitor.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(monitor).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let found: BTreeSet<IpAddr> = grants.rbd.values().flat_map(|cluster| &cluster.monitors).filter_map(towards).collect();
    found.into_iter().collect()
}
