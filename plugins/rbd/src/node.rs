//! The id of a node: `NAME/ADDRESS,ADDRESS`, which is what a claim and fencing need to know of it.

use crate::names::{is_name, shown};
use std::net::IpAddr;
use windlass_plugin_sdk::{Holder, NodeFacts, Refusal};

/// Bytes that Kubernetes allows the id of a node.
const LIMIT: usize = 192;

/// The id of the node that we are on.
pub(crate) fn id(facts: &NodeFacts) -> Result<String, Refusal> {
    if !is_name(&facts.node) {
        let words = format!(
            "the node's name is {:?}; it has to be 1 to 96 letters, digits, `-`, `_`, `.`, `:` or `+` (`node.name` in windlass.toml)",
            shown(&facts.node)
        );
        return Err(Refusal::precondition(words));
    }
    if facts.addresses.is_empty() {
        return Err(Refusal::unavailable("it is not known from which address the node reaches the clusters, and without one it could not be shut out of them"));
    }
    let id = format!("{}/{}", facts.node, facts.addresses.join(","));
    if id.len() > LIMIT {
        let words = format!(
            "the node's name ({} bytes) and its {} addresses are too long for a node's id, which has at most {LIMIT} bytes",
            facts.node.len(),
            facts.addresses.len()
        );
        return Err(Refusal::precondition(words));
    }
    Ok(id)
}

/// Who the node with this id is; [`Refusal::NotFound`] where the id is not one of ours.
pub(crate) fn holder(id: &str) -> Result<Holder, Refusal> {
    parse(id).ok_or_else(|| Refusal::not_found(format!("there is no node {:?}; the ids of this driver's nodes are NAME/ADDRESS,ADDRESS", shown(id))))
}

fn parse(id: &str) -> Option<Holder> {
    let (node, addresses) = id.split_once('/').filter(|(node, _)| is_name(node))?;
    let addresses: Vec<String> =
        addresses.split(',').map(|address| address.parse::<IpAddr>().ok().map(|address| address.to_string())).collect::<Option<_>>()?;
    Some(Holder { node: node.to_owned(), addresses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_plugin_sdk::Topology;

    fn facts(node: &str, addresses: &[&str]) -> NodeFacts {
        NodeFacts { node: node.into(), topology: Topology::new(), addresses: addresses.iter().map(|address| (*address).to_owned()).collect() }
    }

    #[test]
    fn a_node_is_found_in_its_id() {
        for (node, addresses) in [("node-1", &["10.0.0.7"][..]), ("ip-10-0-0-7.example.internal", &["10.0.0.7", "fd00::7"])] {
            let said = holder(&id(&facts(node, addresses)).unwrap()).unwrap();
            assert_eq!((said.node.as_str(), said.addresses.iter().map(String::as_str).collect::<Vec<_>>()), (node, addresses.to_vec()));
        }
        for bad in ["", "node-1", "node-1/", "/10.0.0.7", "node 1/10.0.0.7", "node-1/10.0.0.7,", "node-1/10.0.0.7:6789", "node-1/host", "a/b/10.0.0.7"] {
            assert_eq!(holder(bad).unwrap_err().code(), "NOT_FOUND", "{bad:?}");
        }
    }

    #[test]
    fn a_node_that_could_not_be_fenced_has_no_id() {
        assert_eq!(id(&facts("node-1", &[])).unwrap_err().code(), "UNAVAILABLE");
        assert_eq!(id(&facts("a b", &["10.0.0.7"])).unwrap_err().code(), "FAILED_PRECONDITION");
        let many = vec!["fd00:aaaa:bbbb:cccc:dddd:eeee:ffff:1"; 6];
        assert_eq!(id(&facts("node-1", &many)).unwrap_err().code(), "FAILED_PRECONDITION");
    }
}
