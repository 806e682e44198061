//! Components that no language makes: written as text, or put together from dummies.

use crate::calls::attach;
use crate::stage::{Plugin, compile, context};
use std::fmt::Write;
use std::path::PathBuf;
use windlass_plan::plugin::{CallFailure, NodeFacts, PluginCall};
use windlass_wire::plugin::{Compiled, Limits};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

/// A component of a world, around a core module: the given one, or one whose functions all trap.
fn component(wit: &str, module: Option<&str>) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let released = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    resolve.push_path(released).unwrap();
    let package = resolve.push_str("crafted.wit", &format!("package crafted:guest;\n{wit}")).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = match module {
        Some(text) => wat::parse_str(text).unwrap(),
        None => dummy_module(&resolve, world, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync)),
    };
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

const NODE: &str = "world guest { export windlass:plugin/driver@0.1.0; export windlass:plugin/node@0.1.0; }";

/// A driver for the node whose `attach` is this, and that begins with this.
fn node(attach: &str, start: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
            (table $t 1 funcref)
            (memory (export "memory") 1)
            (func (export "windlass:plugin/driver@0.1.0#describe") (result i32) unreachable)
            (func (export "windlass:plugin/driver@0.1.0#probe") (result i32) unreachable)
            (func (export "windlass:plugin/node@0.1.0#attach") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {attach} unreachable)
            (func (export "windlass:plugin/node@0.1.0#node-info") (param i32 i32 i32 i32 i32 i32) (result i32) unreachable)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func $start {start})
            (start $start))"#
    );
    component(NODE, Some(&module))
}

fn compiled(component: &[u8]) -> PathBuf {
    match compile(component, &[]) {
        Ok((Compiled::Ok(_), code)) => code,
        other => panic!("{other:?}"),
    }
}

fn refused(component: &[u8]) -> String {
    match compile(component, &[]) {
        Ok((Compiled::Refused { reason }, _)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugin_that_imports_what_is_not_there_is_refused_by_name() {
    let exports = "export windlass:plugin/driver@0.1.0; export windlass:plugin/node@0.1.0;";
    for (import, name) in [
        ("import teleport: interface { go: func(); }", "teleport"),
        ("import reboot: func();", "reboot"),
        ("import vendor:magic/wand@1.0.0;", "vendor:magic/wand@1.0.0"),
        ("import wasi:http/outgoing-handler@0.2.0;", "wasi:http/outgoing-handler@0.2.0"),
    ] {
        let packages =
            "package vendor:magic@1.0.0 { interface wand { wave: func(); } }\npackage wasi:http@0.2.0 { interface outgoing-handler { handle: func(); } }";
        let reason = refused(&component(&format!("world guest {{ {import} {exports} }}\n{packages}"), None));
        assert!(reason.contains(&format!("{name:?}")) && reason.contains("{log,config,files,rbd}"), "{reason}");
    }
}

#[test]
fn plugin_of_another_version_or_shape_is_refused_in_words() {
    let later = "world guest { export windlass:plugin/driver@0.2.0; }\npackage windlass:plugin@0.2.0 { interface driver { describe: func() -> string; } }";
    assert!(refused(&component_alone(later)).contains("0.2.0, another version"));
    let other_shape = "world guest { export windlass:plugin/driver@0.1.0; export windlass:plugin/node@0.1.0; }\npackage windlass:plugin@0.1.0 { interface driver { describe: func() -> string; } interface node { attach: func(); } }";
    let reason = refused(&component_alone(other_shape));
    assert!(reason.contains("other types"), "{reason}");
    assert!(refused(&component("world guest { export windlass:plugin/driver@0.1.0; }", None)).contains("neither `node` nor `controller`"));
    assert!(refused(&component("world guest { export windlass:plugin/node@0.1.0; }", None)).contains("who it is"));
}

#[test]
fn plugin_that_exports_part_of_a_controller_alone_is_refused() {
    for part in ["listing", "capacity", "publishing", "snapshots", "snapshot-listing"] {
        let exports = "export windlass:plugin/driver@0.1.0; export windlass:plugin/node@0.1.0;";
        let reason = refused(&component(&format!("world guest {{ {exports} export windlass:plugin/{part}@0.1.0; }}"), None));
        assert!(reason.contains(&format!("`{part}` and not `controller`")), "{reason}");
    }
}

/// As `component`, without the released WIT, so that its name can be taken.
fn component_alone(wit: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("crafted.wit", &format!("package crafted:guest;\n{wit}")).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

#[test]
fn plugin_that_grows_its_table_meets_its_limit() {
    let bomb = node("(loop $more (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $more))", "");
    let mut plugin = Plugin::start(&compiled(&bomb), Limits::default(), &[]).unwrap();
    match plugin.call(attach("v")) {
        Err(CallFailure::Limit(words)) => assert!(words.contains("limits.table_elements"), "{words}"),
        other => panic!("{other:?}"),
    }
    let facts = NodeFacts { node: "n".to_owned(), topology: context(&[]), addresses: vec![] };
    assert!(matches!(plugin.call(PluginCall::NodeInfo(facts)), Err(CallFailure::Trapped(_))), "it serves on");
}

#[test]
fn plugin_that_needs_more_than_its_limits_is_unusable() {
    let large = node("", "(drop (memory.grow (i32.const 1000)))");
    let small = Limits { memory: 1 << 20, ..Limits::default() };
    let Err(reason) = Plugin::start(&compiled(&large), small, &[]) else { panic!("it started") };
    assert!(reason.contains("limits.memory"), "{reason}");
}

#[test]
fn plugin_that_never_finishes_starting_is_unusable() {
    let forever = node("", "(loop $l (br $l))");
    let Err(reason) = Plugin::start(&compiled(&forever), Limits { call_ms: 100, ..Limits::default() }, &[]) else { panic!("it started") };
    assert!(reason.contains("its time is up"), "{reason}");
    let trap = node("", "unreachable");
    let Err(reason) = Plugin::start(&compiled(&trap), Limits::default(), &[]) else { panic!("it started") };
    assert!(reason.contains("could not be started") && reason.contains("unreachable"), "{reason}");
}

#[test]
fn plugin_that_answers_nonsense_meets_a_limit_or_traps() {
    // Pointers out of its memory, and lengths of four gigabytes.
    for answer in ["(return (i32.const -1))", "(return (i32.const 65535))", "(i32.store (i32.const 16) (i32.const -1)) (return (i32.const 4))"] {
        let mut plugin = Plugin::start(&compiled(&node(answer, "")), Limits::default(), &[]).unwrap();
        assert!(matches!(plugin.call(attach("v")), Err(CallFailure::Trapped(_) | CallFailure::Limit(_))), "{answer}");
        assert!(plugin.is_alive());
    }
}

#[test]
fn plugin_code_that_is_not_ours_is_unusable() {
    let code = compiled(&node("", ""));
    let good = std::fs::read(&code).unwrap();
    let foreign = String::from_utf8_lossy(&good).contains(&windlass_sandbox::engine_key());
    assert!(foreign, "the key is in the code");
    let key = windlass_sandbox::engine_key();
    let at = good.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
    let mut stale = good.clone();
    stale[at + key.len() - 1] ^= 1;
    for bytes in [&stale[..], b"\x7fELF but not really", &b"x".repeat(10_000)] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let Err(reason) = Plugin::start(file.path(), Limits::default(), &[]) else { panic!("it started") };
        assert!(reason.contains("not made by this daemon"), "{reason}");
    }
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(Plugin::start(empty.path(), Limits::default(), &[]).is_err_and(|reason| reason.contains("cannot be mapped")));
}

/// One function that is expensive to compile: many values that live for long.
fn bomb(functions: usize) -> Vec<u8> {
    let mut body = String::new();
    for number in 0..1500 {
        write!(
            body,
            "(local.set {} (i64.mul (local.get {}) (i64.add (local.get {}) (i64.const {number}))))",
            number % 200,
            (number * 7) % 200,
            (number * 13) % 200
        )
        .unwrap();
        write!(body, "(if (i64.eqz (local.get {})) (then (br $again)))", (number * 3) % 200).unwrap();
    }
    let locals = "i64 ".repeat(200);
    let mut module = String::from("(module ");
    for _ in 0..functions {
        write!(module, "(func (local {locals}) (loop $again {body}))").unwrap();
    }
    module.push(')');
    let module = wat::parse_str(&module).unwrap();
    // A component with the module in it.
    let mut bytes = b"\0asm\x0d\0\x01\0\x01".to_vec();
    let mut length = module.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(module);
    bytes
}

#[test]
fn plugin_compiler_is_bounded_in_time_and_memory() {
    let bomb = bomb(400);
    let Err(status) = compile(&bomb, &["1"]) else { panic!("it was compiled within a second") };
    assert!(windlass_sandbox::death_words(status).contains("CPU time"), "{status}");
    let Err(status) = compile(&bomb, &["60", "40000000"]) else { panic!("it was compiled in 40 MB") };
    assert!(windlass_sandbox::death_words(status).contains("memory"), "{status}");
}
