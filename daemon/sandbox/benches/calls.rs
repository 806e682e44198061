//! Measures plugin processes: from start to ready, calls in fresh instances, memory idle and after calls. Prints; judges nothing.

#[path = "../tests/stage.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod stage;

use stage::{Plugin, code, context};
use std::time::{Duration, Instant};
use windlass_plan::capability::{Access, AccessMode, Capability, MountWish};
use windlass_plan::plugin::{CreateFacts, PluginCall, VolumeFacts};
use windlass_plan::request::{CapacityRange, TopologyRequirement};
use windlass_wire::plugin::Limits;

fn main() {
    let (code, inspection) = code("plugins/local");
    println!("code of plugins/local: {} bytes; engine {}", inspection.code_size, windlass_sandbox::engine_key());
    let start = || Plugin::start(&code, Limits::default(), &[]).expect("it starts");
    drop(start());
    show("start to ready", (0..20).map(|_| timed(|| drop(std::hint::black_box(start()))).1).collect());

    let mut plugin = start();
    println!("idle, never called: {}", memory(&plugin));
    let attach = PluginCall::Attach(VolumeFacts {
        volume: "vol-0123456789abcdef".to_owned(),
        volume_context: context(&[("windlass.io/source", "file:volumes/vol-0123456789abcdef")]),
        publish_context: context(&[]),
        capability: capability(),
    });
    for (name, call, times) in [("describe", PluginCall::Describe, 5000), ("attach", attach, 5000), ("create (one effect and more)", create(), 2000)] {
        let _ = plugin.call(call.clone());
        show(name, (0..times).map(|_| timed(|| plugin.call(call.clone())).1).collect());
    }
    println!("after {} calls: {}", 12_000, memory(&plugin));
    let all = std::fs::read_to_string(format!("/proc/{}/smaps", plugin.child.id())).expect("smaps");
    if std::env::args().any(|argument| argument == "--maps") {
        println!("{all}");
    }
    let second = start();
    println!("beside a second one: {}", memory(&plugin));
    drop(second);
}

fn capability() -> Capability {
    Capability { access: Access::Mount(MountWish::default()), mode: AccessMode::SingleNodeWriter }
}

fn create() -> PluginCall {
    PluginCall::CreateVolume(CreateFacts {
        name: "pvc-0b0e4a3c".to_owned(),
        capacity: CapacityRange { required: 1 << 30, limit: 0 },
        capabilities: vec![capability()],
        parameters: context(&[]),
        mutable_parameters: Default::default(),
        source: None,
        topology: TopologyRequirement::default(),
    })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, min {:?}, n {}", at(0.5), at(0.99), times[0], times.len());
}

fn memory(plugin: &Plugin) -> String {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", plugin.child.id())).unwrap_or_default();
    let wanted = ["Rss:", "Pss:", "Pss_Anon:", "Pss_File:", "Private_Dirty:"];
    rollup
        .lines()
        .filter(|line| wanted.iter().any(|key| line.starts_with(key)))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}
