//! `docs/conformance.md` is what the running daemon advertises and serves with each of its drivers, and which tests hold the rows; nobody writes it by hand.
//!
//! `WINDLASS_CONFORMANCE=write` writes it. That each row was really asserted is shown after a run by `windlass-rows`.

use super::call;
use harness::rbd::RBD_DRIVER;
use harness::rows::{self, Modules, Row};
use harness::{DRIVER, Daemon, Endpoint, eventually};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use tonic::Code;
use windlass_csi::methods::{Method, methods};
use windlass_csi::v1::controller_service_capability::rpc::Type as ControllerRpc;
use windlass_csi::v1::group_controller_service_capability::rpc::Type as GroupRpc;
use windlass_csi::v1::node_service_capability::rpc::Type as NodeRpc;
use windlass_csi::v1::plugin_capability::service::Type as PluginService;
use windlass_csi::v1::plugin_capability::volume_expansion::Type as Expansion;
use windlass_csi::v1::{
    ControllerGetCapabilitiesRequest, GetPluginCapabilitiesRequest, NodeGetCapabilitiesRequest, controller_service_capability, node_service_capability,
    plugin_capability,
};

/// What a driver says of itself, and does.
struct Driver {
    /// Kind and name of each capability that is advertised.
    advertised: BTreeSet<(&'static str, &'static str)>,
    /// The names of the calls that are answered with anything but UNIMPLEMENTED.
    served: BTreeSet<String>,
    /// Its tests, of those that quote rows.
    tests: Modules,
}

const KINDS: [&str; 5] = ["plugin", "expansion", "controller", "group", "node"];

fn ask(endpoint: &Endpoint, tests: Modules) -> Driver {
    let mut advertised = BTreeSet::new();
    for capability in endpoint.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).unwrap().capabilities {
        match capability.r#type.unwrap() {
            plugin_capability::Type::Service(service) => advertised.insert((KINDS[0], service.r#type().as_str_name())),
            plugin_capability::Type::VolumeExpansion(expansion) => advertised.insert((KINDS[1], expansion.r#type().as_str_name())),
        };
    }
    for capability in endpoint.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).unwrap().capabilities {
        let Some(controller_service_capability::Type::Rpc(rpc)) = capability.r#type else { panic!("a capability of no kind") };
        advertised.insert((KINDS[2], rpc.r#type().as_str_name()));
    }
    for capability in endpoint.node_get_capabilities(NodeGetCapabilitiesRequest {}).unwrap().capabilities {
        let Some(node_service_capability::Type::Rpc(rpc)) = capability.r#type else { panic!("a capability of no kind") };
        advertised.insert((KINDS[4], rpc.r#type().as_str_name()));
    }
    // A call that streams cannot be made so; that none is served is a test of its own.
    let is_served = |method: &Method| call(endpoint, &method.path, "{}").err().map(|status| status.code()) != Some(Code::Unimplemented);
    let served = methods().filter(|method| !method.is_streaming && is_served(method)).map(|method| method.name).collect();
    Driver { advertised, served, tests }
}

/// Every capability that CSI knows, in the order of their numbers.
fn capabilities() -> Vec<(&'static str, &'static str)> {
    fn of<T: TryFrom<i32>>(kind: &'static str, name: fn(&T) -> &'static str) -> Vec<(&'static str, &'static str)> {
        (1..64).filter_map(|number| Some((kind, name(&T::try_from(number).ok()?)))).collect()
    }
    [
        of(KINDS[0], PluginService::as_str_name),
        of(KINDS[1], Expansion::as_str_name),
        of(KINDS[2], ControllerRpc::as_str_name),
        of(KINDS[3], GroupRpc::as_str_name),
        of(KINDS[4], NodeRpc::as_str_name),
    ]
    .concat()
}

/// Both drivers of the binary, each in the daemon with both roles. No cluster is needed to ask what is offered.
fn drivers() -> BTreeMap<&'static str, Driver> {
    let daemon = Daemon::start();
    let file = "component = \"embedded:rbd\"\n[grants.rbd.bench]\nmonitors = [\"127.0.0.1:1\"]\n";
    daemon.rename_in(file.as_bytes(), &format!("drivers.d/{RBD_DRIVER}.toml"));
    let rbd = daemon.driver(RBD_DRIVER);
    eventually("what the driver for Ceph RBD offers", || rbd.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).ok());
    let of = |is_meant: fn(&str) -> bool| {
        let quoted = rows::quoted().into_iter();
        quoted.map(|(id, modules)| (id, modules.into_iter().filter(|module| is_meant(module)).collect())).collect()
    };
    let is_rbd = |module: &str| module.starts_with("copies") || module.starts_with("vm::");
    let local = ask(&daemon.driver(DRIVER), of(|module| module.starts_with("conformance::")));
    [("local", local), ("rbd", ask(&rbd, of(is_rbd)))].into()
}

/// A table's line.
fn line(text: &mut String, cells: &[&str]) {
    writeln!(text, "| {} |", cells.join(" | ")).unwrap();
}

fn head(text: &mut String, title: &str, cells: &[&str]) {
    writeln!(text, "\n## {title}\n").unwrap();
    line(text, cells);
    line(text, &vec!["---"; cells.len()]);
}

/// Why nobody serves a call, from its rows.
fn why(rpc: &str, rows: &[Row]) -> String {
    let reasons: BTreeSet<&str> = rows.iter().filter(|row| row.rpc() == rpc).filter_map(|row| row.not_served.as_deref()).collect();
    reasons.into_iter().collect::<Vec<_>>().join("; ")
}

fn row_of(driver: &Driver, row: &Row) -> String {
    let modules = driver.tests.get(&row.id).filter(|modules| !modules.is_empty());
    match (&row.not_served, modules) {
        (Some(_), _) => "not served".to_owned(),
        (None, Some(modules)) => modules.iter().map(|module| format!("`{module}`")).collect::<Vec<_>>().join(", "),
        (None, None) if row.rpc() != "*" && !driver.served.contains(row.rpc()) => "the call is not served".to_owned(),
        (None, None) => "–".to_owned(),
    }
}

fn render(drivers: &BTreeMap<&'static str, Driver>) -> String {
    let rows = rows::all();
    let mut text = String::from(
        "# Conformance with CSI 1.13\n\n\
         Generated from a running daemon, from [conformance-rows.tsv](conformance-rows.tsv) and from the tests that quote its rows, by the test \
         `plugin_the_matrix_is_what_is_served_and_tested`; CONTRIBUTING.md says how. A run of the tests ends with the proof that each row was asserted where \
         this page says so (`windlass-rows`).\n\n\
         A row that is tested names the modules beneath `tests/suite` that ask it of the driver. A dash: no test asks it of this driver. What the daemon itself \
         holds, whichever driver it serves, is asked of `local`, and `rbd` is asked what its component and its cluster decide.\n",
    );
    let names: Vec<&str> = drivers.keys().copied().collect();
    head(&mut text, "Capabilities", &[&["kind", "capability"], &names[..]].concat());
    for (kind, name) in capabilities() {
        let said = drivers.values().map(|driver| if driver.advertised.contains(&(kind, name)) { "advertised" } else { "no" });
        line(&mut text, &[kind, name].into_iter().chain(said).collect::<Vec<_>>());
    }
    head(&mut text, "Calls", &[&["service", "call"], &names[..], &["why not"]].concat());
    for method in methods() {
        let said: Vec<&str> = drivers.values().map(|driver| if driver.served.contains(&method.name) { "served" } else { "no" }).collect();
        let is_served_by_some = said.contains(&"served");
        let why = match said.contains(&"no") {
            true if is_served_by_some => "the component does not export it".to_owned(),
            true => why(&method.name, &rows),
            false => String::new(),
        };
        line(&mut text, &[&[method.service.as_str(), method.name.as_str()], &said[..], &[why.as_str()]].concat());
    }
    head(&mut text, "Rows", &[&["row", "promise"], &names[..], &["why not"]].concat());
    for row in &rows {
        let said: Vec<String> = drivers.values().map(|driver| row_of(driver, row)).collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        line(&mut text, &[&[format!("`{}`", row.id).as_str(), row.condition.as_str()], &said[..], &[row.not_served.as_deref().unwrap_or_default()]].concat());
    }
    let tested = rows.iter().filter(|row| row.not_served.is_none()).count();
    writeln!(text, "\n{tested} of {} rows are tested; {} are not served.", rows.len(), rows.len() - tested).unwrap();
    text
}

#[test]
fn plugin_the_matrix_is_what_is_served_and_tested() {
    let drivers = drivers();
    // A capability that is advertised and not in the list, or a row that is tested of a call that nobody serves, would be a lie.
    let known: BTreeSet<_> = capabilities().into_iter().collect();
    for (name, driver) in &drivers {
        assert!(driver.advertised.is_subset(&known), "{name}: {:?}", driver.advertised);
        let unserved = rows::all().into_iter().filter(|row| row.rpc() != "*" && driver.tests.get(&row.id).is_some_and(|tests| !tests.is_empty()));
        let unserved: Vec<String> = unserved.filter(|row| !driver.served.contains(row.rpc())).map(|row| row.id).collect();
        assert!(unserved.is_empty(), "{name}: tests hold rows of calls that are not served: {unserved:?}");
    }
    let (generated, path) = (render(&drivers), rows::from_top("docs/conformance.md"));
    if std::env::var("WINDLASS_CONFORMANCE").is_ok_and(|what| what == "write") {
        std::fs::write(&path, &generated).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = generated.lines().zip(there.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old);
    assert!(generated == there, "docs/conformance.md is not what would be generated, first at {differs:?}; CONTRIBUTING.md says how it is renewed");
}
