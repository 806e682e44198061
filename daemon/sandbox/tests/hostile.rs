//! Guests that mean harm: each fails alone, with its own kind of failure, and the next call is served as ever.

use crate::calls::{attach, create};
use crate::stage::{PATIENCE, Plugin, code};
use std::time::{Duration, Instant};
use windlass_plan::effect::EffectError;
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall, RefusalKind, ValidateFacts};
use windlass_wire::plugin::{FromPlugin, Limits};

const HOSTILE: &str = "daemon/sandbox/tests/guest";

fn hostile(limits: Limits) -> Plugin {
    Plugin::start(&code(HOSTILE).0, limits, &[]).unwrap()
}

/// How `attach` of such a volume fails; afterwards the process serves on.
fn failure(plugin: &mut Plugin, how: &str) -> CallFailure {
    let failure = plugin.call(attach(how)).expect_err(how);
    let log = std::mem::take(&mut plugin.log);
    assert!(matches!(plugin.call(attach("v")), Ok(PluginAnswer::Plan(_))), "after {how}");
    plugin.log = log;
    assert!(plugin.is_alive());
    failure
}

fn refusal(plugin: &mut Plugin, call: PluginCall) -> String {
    match plugin.call(call) {
        Err(CallFailure::Refused(refusal)) => refusal.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugin_that_loops_is_stopped_at_its_deadline() {
    let mut plugin = hostile(Limits { call_ms: 200, ..Limits::default() });
    for _ in 0..3 {
        let begun = Instant::now();
        assert_eq!(failure(&mut plugin, "loop"), CallFailure::TimedOut { limit_ms: 200 });
        assert!(begun.elapsed() >= Duration::from_millis(200) && begun.elapsed() < PATIENCE);
    }
}

#[test]
fn plugin_that_loops_does_not_hold_up_the_others() {
    let mut plugin = hostile(Limits { call_ms: 5_000, concurrency: 2, ..Limits::default() });
    let looping = plugin.send(attach("loop"));
    for _ in 0..50 {
        assert!(matches!(plugin.call(attach("v")), Ok(PluginAnswer::Plan(_))));
    }
    assert_eq!(plugin.finish(looping), Err(CallFailure::TimedOut { limit_ms: 5_000 }));
}

#[test]
fn plugin_that_hoards_memory_meets_its_limit() {
    let mut plugin = hostile(Limits::default());
    match failure(&mut plugin, "memory") {
        CallFailure::Limit(words) => assert!(words.contains("limits.memory"), "{words}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugin_that_traps_leaves_its_last_words() {
    let mut plugin = hostile(Limits::default());
    match failure(&mut plugin, "trap") {
        CallFailure::Trapped(words) => assert!(words.contains("boom at the wheel") && words.contains("unreachable") && !words.contains('\n'), "{words}"),
        other => panic!("{other:?}"),
    }
    match failure(&mut plugin, "exit") {
        CallFailure::Trapped(words) => assert!(words.contains("exit"), "{words}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugin_that_recurses_runs_out_of_stack_and_nothing_else() {
    let mut plugin = hostile(Limits::default());
    match failure(&mut plugin, "recursion") {
        CallFailure::Trapped(words) => assert!(words.contains("stack"), "{words}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugin_that_returns_too_much_meets_its_limit() {
    let mut plugin = hostile(Limits::default());
    for how in ["megabyte"] {
        match failure(&mut plugin, how) {
            CallFailure::Limit(words) => assert!(words.contains("limits.message"), "{words}"),
            other => panic!("{other:?}"),
        }
    }
    let validate = ValidateFacts {
        volume: "v".into(),
        volume_context: Default::default(),
        capabilities: vec![],
        parameters: Default::default(),
        mutable_parameters: Default::default(),
    };
    assert!(matches!(plugin.call(PluginCall::Validate(validate)), Err(CallFailure::Limit(_))));
    assert!(matches!(plugin.call(create("long-name", 0)), Err(CallFailure::Limit(_))));
    assert_eq!(plugin.effects, 0);
}

#[test]
fn plugin_text_is_one_line_without_control_characters() {
    let mut plugin = hostile(Limits::default());
    assert_eq!(refusal(&mut plugin, attach("control")), "one | two?[2J");
}

#[test]
fn plugin_that_calls_the_host_without_end_meets_its_limit() {
    let mut plugin = hostile(Limits { host_calls: 500, ..Limits::default() });
    match failure(&mut plugin, "storm") {
        CallFailure::Limit(words) => assert!(words.contains("500"), "{words}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(plugin.call(create("effects", 0)), Err(CallFailure::Limit(_))));
    assert_eq!(plugin.effects, 500);
}

#[test]
fn plugin_that_floods_the_log_is_cut_short() {
    let mut plugin = hostile(Limits::default());
    for how in ["flood", "stderr"] {
        assert!(matches!(plugin.call(attach(how)), Ok(PluginAnswer::Plan(_))), "{how}");
        assert!(plugin.log.len() > 10 && plugin.log.len() <= 200, "{how}: {} lines", plugin.log.len());
        for (_, line) in &plugin.log {
            assert!(line.len() <= 1024 && !line.chars().any(char::is_control), "{line}");
        }
        assert!(plugin.log.last().unwrap().1.contains("dropped"));
    }
}

#[test]
fn plugin_has_no_time_and_no_chance_in_a_pure_call() {
    let mut plugin = hostile(Limits::default());
    let once = refusal(&mut plugin, attach("clock"));
    assert!((0..5).all(|_| refusal(&mut plugin, attach("clock")) == once), "{once}");
    let mut other = hostile(Limits::default());
    assert_eq!(refusal(&mut other, attach("clock")), once, "in another process too");
    assert!(matches!(plugin.call(attach("sleep")), Ok(PluginAnswer::Plan(_))), "an hour of sleep passes at once");
    assert_ne!(refusal(&mut plugin, create("clock", 0)), refusal(&mut plugin, create("clock", 0)), "in a controller call there is");
    let napped: u64 = refusal(&mut plugin, create("nap", 0)).parse().unwrap();
    assert!(napped >= 29, "{napped} ms");
}

#[test]
fn plugin_that_sleeps_is_woken_at_its_deadline() {
    let mut plugin = hostile(Limits { call_ms: 150, ..Limits::default() });
    assert_eq!(plugin.call(create("sleep", 0)), Err(CallFailure::TimedOut { limit_ms: 150 }));
}

#[test]
fn plugin_finds_no_world_outside() {
    let mut plugin = hostile(Limits::default());
    for call in [attach("world"), create("world", 0)] {
        let said = refusal(&mut plugin, call);
        assert_eq!(said.matches("Err(").count(), 4, "{said}");
        assert!(said.ends_with("Ok(\"\") (0, 0)"), "{said}");
    }
}

#[test]
fn plugin_gets_no_effect_in_a_pure_call() {
    let mut plugin = hostile(Limits::default());
    match plugin.call(attach("files")) {
        Err(CallFailure::Refused(no)) => assert!(no.kind == RefusalKind::PermissionDenied && no.message.contains("node.attach"), "{no:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(plugin.effects, 0, "the daemon was not even asked");
    match plugin.call(create("foreign", 0)) {
        Err(CallFailure::Refused(no)) => assert_eq!(no.kind, RefusalKind::PermissionDenied),
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugin_that_waits_for_an_effect_holds_nobody_up() {
    let mut plugin = hostile(Limits { call_ms: 300, ..Limits::default() });
    let waiting = plugin.send(create("one-effect", 0));
    assert!(matches!(plugin.receive(waiting), FromPlugin::Effect { id, .. } if id == waiting));
    assert!(matches!(plugin.call(attach("v")), Ok(PluginAnswer::Plan(_))), "others go on");
    // Longer than it may take itself: what an effect takes is not its time.
    std::thread::sleep(Duration::from_millis(600));
    plugin.answer(waiting, Err(EffectError { kind: RefusalKind::Unavailable, message: "not now".to_owned() }));
    assert!(matches!(plugin.finish(waiting), Err(CallFailure::Refused(_))));
}

#[test]
fn plugin_process_ends_with_the_daemon_whatever_its_guests_do() {
    let mut plugin = hostile(Limits { call_ms: 600_000, ..Limits::default() });
    plugin.send(attach("loop"));
    plugin.send(create("sleep", 0));
    let waiting = plugin.send(create("one-effect", 0));
    assert!(matches!(plugin.receive(waiting), FromPlugin::Effect { id, .. } if id == waiting));
    assert_eq!(plugin.hang_up().code(), Some(0));
}
