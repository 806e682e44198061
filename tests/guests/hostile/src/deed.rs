//! What the guest can be told to do, by name, and where.

use windlass_plugin_sdk::Refusal;
use windlass_plugin_sdk::bindings::driver::windlass::plugin::{config, log};
use windlass_plugin_sdk::bindings::files::windlass::plugin::files;

use crate::table;

/// The prefix of a volume's name that asks for a deed, as in `misbehave.attach.loop`.
const PREFIX: &str = "misbehave.";

/// The deed that is asked for at `place`: by the operator's configuration, else by `volume`, which is `PLACE:DEED`.
///
/// The configuration's key `misbehave` is `DEED`, which is done everywhere but in `describe` and `probe`, or `PLACE:DEED`.
pub(crate) fn asked(place: &str, volume: Option<&str>) -> Option<String> {
    let is_at_load = matches!(place, "describe" | "probe");
    let here = |wish: &str| match wish.split_once(':') {
        Some((at, deed)) => (at == place).then(|| deed.to_owned()),
        None => (!is_at_load).then(|| wish.to_owned()),
    };
    config::get("misbehave").and_then(|wish| here(&wish)).or_else(|| volume.and_then(here))
}

/// What a volume's name asks for, as `PLACE:DEED`.
pub(crate) fn of_name(name: &str) -> Option<String> {
    let (place, deed) = name.strip_prefix(PREFIX)?.split_once('.')?;
    Some(format!("{place}:{deed}"))
}

/// Does what can be done anywhere; the other deeds are done to the answer.
pub(crate) fn before(deed: &str) -> Result<(), Refusal> {
    match deed {
        "loop" => spin(),
        "memory" => eat(),
        "tables" => while table::grow(100_000) {},
        "tables-trap" => {
            while table::grow(100_000) {}
            panic!("no more tables");
        }
        "trap" => panic!("told to trap"),
        "long-panic" => panic!("{}", "p".repeat(1 << 20)),
        "recurse" => {
            std::hint::black_box(dig(1));
        }
        "exit" => std::process::exit(0),
        "log-flood" => (0..100_000).for_each(|line| log::log(log::Level::Error, &format!("{line} \u{1b}[2J\u{1b}]0;owned\u{7}\r\nlevel=ERROR a second line"))),
        "log-long" => log::log(log::Level::Info, &"l".repeat(1 << 20)),
        "stdout" => (0..100_000).for_each(|line| println!("{line} \u{1b}[31m on standard output")),
        "stderr" => (0..100_000).for_each(|line| eprintln!("{line} \u{1b}[31m on standard error")),
        "host-calls" => (0..1_000_000).for_each(|_| {
            std::hint::black_box(config::get("misbehave"));
        }),
        "long-key" => {
            std::hint::black_box(config::get(&"k".repeat(4 << 20)));
        }
        "files" => {
            files::stat("volumes", "vol-00000000000000000000000000000000")?;
        }
        "files-create" => {
            files::create("volumes", "made-by-hostile", 4096, &[])?;
        }
        "other-folder-file" => {
            files::create("not-granted", "made-by-hostile", 4096, &[])?;
        }
        "climb-file" => {
            files::create("volumes", "../made-by-hostile", 4096, &[])?;
        }
        "huge-properties" => {
            files::create("volumes", "made-by-hostile", 4096, &[("key".to_owned(), "v".repeat(64 << 10))])?;
        }
        "long-text" => return Err(Refusal::Invalid("t".repeat(1 << 20))),
        "escape-text" => return Err(Refusal::Invalid("\u{1b}[2Jred\u{7}\r\nand a second line".to_owned())),
        "refuse" => return Err(Refusal::Precondition("told to refuse".to_owned())),
        _ => {}
    }
    Ok(())
}

/// Never ends, and is never found to be without effect.
fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// Takes memory and touches it until there is none.
fn eat() {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(std::hint::black_box(vec![1; 1 << 20]));
    }
}

/// Goes down until the stack ends.
fn dig(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 16]);
    if frame[3] == 0 { 0 } else { dig(depth + 1).wrapping_add(frame[7]) }
}
