//! Random calls at the one seam for tests, the step: steps and undos fail, workers are lost, the daemon is killed and its journal lost, at random moments.
//!
//! Whatever befell a call: a final answer has left nothing, the same call again comes to what it would have come to, and the opposite call leaves nothing.
//! A failure is shrunk, and prints the calls and the seed. `WINDLASS_MODEL_SEED=N` begins with that seed, `random` with one that no run had before;
//! `WINDLASS_MODEL_CASES=N` tries so many sequences.

mod kernel;
mod node;
mod state;
mod worker;

use node::Node;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use state::{Call, STAGES, TARGETS, Use, VOLUMES};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use windlass_plan::capability::AccessMode;
use windlass_plan::failure::Reason;
use worker::{Fault, How};

/// What befalls a node.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A call, and what goes wrong in it: after so many steps and undos, what, whether mkfs is cut off, and whether it is then taken back
    /// or asked for again.
    Call { call: Call, fault: Option<(u8, Fault)>, tears: bool, takes_back: bool, loses_journal: bool },
    /// The daemon ends between two calls.
    Restart { loses_journal: bool },
}

fn usage() -> impl Strategy<Value = Use> {
    let mode = prop_oneof![3 => Just(AccessMode::SingleNodeWriter), 2 => Just(AccessMode::SingleNodeMultiWriter), 1 => Just(AccessMode::SingleNodeReaderOnly)];
    (any::<bool>(), mode).prop_map(|(is_block, mode)| Use { is_block, mode })
}

fn call() -> impl Strategy<Value = Call> {
    let volume = || prop_oneof![3 => Just(0), 1 => 0..VOLUMES];
    let stage = || prop_oneof![4 => Just(0), 1 => 0..STAGES];
    prop_oneof![
        6 => (volume(), stage(), usage()).prop_map(|(volume, stage, usage)| Call::Stage { volume, stage, usage }),
        3 => (volume(), stage()).prop_map(|(volume, stage)| Call::Unstage { volume, stage }),
        7 => (volume(), stage(), 0..TARGETS, usage(), proptest::bool::weighted(0.2))
            .prop_map(|(volume, stage, target, usage, is_read_only)| Call::Publish { volume, stage, target, usage, is_read_only }),
        4 => (volume(), 0..TARGETS).prop_map(|(volume, target)| Call::Unpublish { volume, target }),
        1 => (volume(), stage(), 0..3u64).prop_map(|(volume, stage, by)| Call::Grow { volume, stage, by }),
    ]
}

fn fault() -> impl Strategy<Value = (u8, Fault)> {
    let how = prop_oneof![
        4 => proptest::sample::select(&[Reason::Io, Reason::InUse, Reason::BadPath, Reason::LeftBehind][..]).prop_map(How::Fails),
        2 => Just(How::Loses),
        3 => Just(How::Kills),
    ];
    (0..7u8, any::<bool>(), how).prop_map(|(after, is_done, how)| (after, Fault { is_done, how }))
}

fn event() -> impl Strategy<Value = Event> {
    let rarely = || proptest::bool::weighted(0.05);
    let called = (call(), proptest::option::weighted(0.4, fault()), rarely(), any::<bool>(), proptest::bool::weighted(0.3))
        .prop_map(|(call, fault, tears, takes_back, loses_journal)| Event::Call { call, fault, tears, takes_back, loses_journal });
    prop_oneof![
        30 => called,
        1 => any::<bool>().prop_map(|loses_journal| Event::Restart { loses_journal }),
    ]
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")))
}

fn try_seed(seed: u64, cases: u32) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let begun = Instant::now();
    let tried = runner.run(&proptest::collection::vec(event(), 1..30), |events| Node::try_all(&events).map_err(TestCaseError::fail));
    match tried {
        Ok(()) => println!("{cases} sequences, seed {seed}, {:.1?}", begun.elapsed()),
        Err(TestError::Fail(why, events)) => {
            let events: Vec<String> = events.iter().map(|event| format!("    {event:?},")).collect();
            panic!("{why}\nWINDLASS_MODEL_SEED={seed} tries it again; the calls:\n{}", events.join("\n"));
        }
        Err(TestError::Abort(why)) => panic!("seed {seed}: {why}"),
    }
}

/// The seeds are the same in each run, unless `WINDLASS_MODEL_SEED` is another number, or `random`: what stands in the way of a change is what it broke.
fn seed() -> u64 {
    match std::env::var("WINDLASS_MODEL_SEED") {
        Ok(text) if text == "random" => SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64,
        _ => number("WINDLASS_MODEL_SEED").unwrap_or(4),
    }
}

/// Half of the sequences: there are two cores.
fn cases() -> u32 {
    number("WINDLASS_MODEL_CASES").unwrap_or(10_000).div_ceil(2).try_into().expect("a number of sequences")
}

#[test]
fn whatever_fails_the_same_call_again_converges_and_the_opposite_leaves_nothing() {
    try_seed(seed(), cases());
}

#[test]
fn the_same_with_another_seed() {
    try_seed(seed().wrapping_add(1), cases());
}
