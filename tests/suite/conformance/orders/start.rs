//! How components start, and what they must never see: an error of Probe, Identity that takes longer than a second, a lost connection, another set of capabilities.

use super::row;
use harness::orders::{COMPONENTS, Component, Heard, component};
use harness::{Caller, DRIVER, Daemon, Endpoint, Volume, block, eventually, process};
use std::time::{Duration, Instant};
use tonic::Status;
use windlass_csi::v1;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// What sidecars give Identity.
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn plugin_each_component_starts_in_its_order_and_keeps_its_connection_across_reloads() {
    let daemon = Daemon::start();
    let started: Vec<(&Component, Caller, Heard)> = COMPONENTS
        .iter()
        .map(|component| {
            let (caller, heard) = component.start(&daemon);
            assert!(heard.name == DRIVER || component.name == "kubelet", "{heard:?}");
            (component, caller, heard)
        })
        .collect();
    let version = || daemon.get_plugin_info(v1::GetPluginInfoRequest {}).unwrap().vendor_version;
    for (round, (guest, expected)) in [("local-v2", "0.1.1"), ("local", "0.1.0")].into_iter().enumerate() {
        daemon.put_component(guest, "plugins/local.wasm");
        eventually("the other version serves", || (version() == expected).then_some(()));
        for (component, caller, heard) in &started {
            let again = component.ask(caller).unwrap_or_else(|status| panic!("{} exits: {status}", component.name));
            row("*/capabilities-stay").holds(again == *heard, component.name);
            let of_its_kind = if component.keeps_its_connection() { "*/connection-kept" } else { "*/connection-per-call" };
            row(of_its_kind).holds(caller.connections() == component.connections_after(round + 2), component.name);
        }
    }
    // A version that would take something away never serves.
    daemon.put_component("local-shrunk", "plugins/local.wasm");
    let refused = || daemon.status()["drivers"][0].to_string().contains("advertises").then_some(());
    eventually("the refusal", refused);
    for (component, caller, heard) in &started {
        row("*/capabilities-stay").holds(component.ask(caller).unwrap() == *heard, component.name);
    }
}

#[test]
fn plugin_each_component_waits_for_a_driver_that_is_still_being_loaded() {
    const LATE: &str = "late.windlass.io";
    let daemon = Daemon::start();
    daemon.write_driver_of(LATE, "plugins/absent.wasm", "volumes", "");
    let late = daemon.driver(LATE);
    eventually("its socket", || late.socket().exists().then_some(()));
    let names = ["external-provisioner", "external-attacher", "external-resizer", "csi-snapshotter"];
    let started: Vec<Heard> = std::thread::scope(|scope| {
        let starting: Vec<_> = names.map(|name| scope.spawn(|| component(name).start(&late).1)).into_iter().collect();
        // All of them have asked by now, and been told to wait.
        let until = Instant::now() + SECOND * 2;
        while Instant::now() < until {
            row("Probe/second").holds(matches!(late.probe(), Ok(false)), "not ready, and no error");
            assert!(starting.iter().all(|one| !one.is_finished()), "one went on without a driver, or exited");
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon.put_component("local", "plugins/absent.wasm");
        starting.into_iter().map(|one| one.join().expect("it does not exit")).collect()
    });
    assert!(started.iter().all(|heard| heard.name == LATE));
}

/// Each call within a second, by a connection that is kept and by one of its own; the name is the driver's.
fn answers(driver: &Endpoint) -> Result<bool, Status> {
    let mut is_ready = false;
    for caller in [Caller::sidecar(driver, SECOND), Caller::kubelet(driver, SECOND)] {
        is_ready = caller.probe()?;
        assert!(driver.socket().display().to_string().contains(&caller.driver_name()?));
    }
    Ok(is_ready)
}

/// The capabilities too, which a driver has from its first load on.
fn answers_all(driver: &Endpoint) -> Result<(), Status> {
    let caller = Caller::sidecar(driver, SECOND);
    caller.get_plugin_capabilities(v1::GetPluginCapabilitiesRequest {})?;
    caller.controller_get_capabilities(v1::ControllerGetCapabilitiesRequest {})?;
    caller.node_get_capabilities(v1::NodeGetCapabilitiesRequest {}).map(drop)
}

#[test]
fn plugin_identity_is_answered_within_a_second_whatever_becomes_of_the_plugin() {
    const YOUNG: &str = "young.windlass.io";
    let daemon = Daemon::start();
    let (info, probe) = (row("GetPluginInfo/second"), row("Probe/second"));

    // Never loaded, then being compiled.
    daemon.write_driver_of(YOUNG, "plugins/young.wasm", "volumes", "");
    let young = daemon.driver(YOUNG);
    eventually("its socket", || young.socket().exists().then_some(()));
    probe.holds(!info.answers(answers(&young)), "a driver without a component is not ready");
    daemon.put_component("local-v2", "plugins/young.wasm");
    let until = Instant::now() + Duration::from_secs(30);
    while !info.answers(answers(&young)) {
        assert!(Instant::now() < until, "it is never ready:\n{}", daemon.log());
    }
    answers_all(&young).unwrap();

    // Replaced, again and again, by good ones and a bad one.
    for guest in ["local-v2", "local", "local-v2", "local", "hostile", "local"] {
        daemon.put_component(guest, "plugins/local.wasm");
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            probe.holds(info.answers(answers(&daemon)), "it is ready all the time");
            answers_all(&daemon).unwrap();
        }
    }

    // Its process answers nothing.
    let stopped = process::Stopped::plugins(daemon.pid());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Volume::create(&daemon, "waits", block(Mode::SingleNodeWriter), 1).map(drop));
        eventually("a call that waits for it", || (!daemon.status()["going"].as_array().unwrap().is_empty()).then_some(()));
        for _ in 0..10 {
            info.answers(answers(&daemon));
            answers_all(&daemon).unwrap();
        }
        assert!(!waiting.is_finished(), "its process was not stopped");
        drop(stopped);
        waiting.join().unwrap().unwrap();
    });

    // And its file is gone.
    std::fs::remove_file(daemon.path("plugins/local.wasm")).unwrap();
    for _ in 0..10 {
        info.answers(answers(&daemon));
        answers_all(&daemon).unwrap();
    }
}
