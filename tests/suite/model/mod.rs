//! Random sequences of fifty calls against a model of the specification's tables: each code, and after each call what the kernel shows.
//!
//! A failure is shrunk, and prints the calls that are left and the seed. `WINDLASS_MODEL_SEED=N` begins with that seed, `random` with one that
//! no run had before; `WINDLASS_MODEL_CASES=N` tries so many sequences. `make torture` sets both.

mod op;
mod real;
mod state;

use op::{Kind, Op};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use real::Real;
use state::State;
use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Calls of a sequence.
const CALLS: usize = 50;
/// The seed unless another is asked for: what stands in the way of a change is what it broke.
const FIXED: u64 = 4;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")))
}

/// The sequences of one seed.
fn try_seed(kind: Kind, seed: u64, cases: u32) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    // Shrinking is ours: what matters is which calls can be left out, and each try takes a daemon.
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let real = RefCell::new(None);
    let begun = Instant::now();
    let tried = runner.run(&proptest::collection::vec(op::op(kind), CALLS), |ops| {
        let mut real = real.borrow_mut();
        // A sequence that failed leaves a daemon in no known state.
        let outcome = try_sequence(real.get_or_insert_with(Real::start), &ops);
        if outcome.is_err() {
            *real = None;
        }
        outcome.map_err(TestCaseError::fail)
    });
    match tried {
        Ok(()) => println!("{kind:?}: {cases} sequences of {CALLS} calls, seed {seed}, {:.1?}", begun.elapsed()),
        Err(TestError::Fail(why, ops)) => {
            let (ops, why) = shrink(ops, why.to_string());
            let calls: Vec<String> = ops.iter().map(|op| format!("    {op:?},")).collect();
            panic!("{why}\nWINDLASS_MODEL_SEED={seed} tries it again; the calls that are left ({kind:?}):\n{}", calls.join("\n"));
        }
        Err(TestError::Abort(why)) => panic!("seed {seed}: {why}"),
    }
}

/// Leaves out halves, quarters and so on to single calls, as long as it fails without them, in whatever way; for two minutes at the most.
fn shrink(mut ops: Vec<Op>, mut why: String) -> (Vec<Op>, String) {
    let (until, mut size) = (Instant::now() + Duration::from_secs(120), ops.len().div_ceil(2));
    loop {
        let before = ops.len();
        // From the end: what comes after the failure goes first.
        for start in (0..ops.len()).step_by(size).rev() {
            let without: Vec<Op> = ops.iter().enumerate().filter(|(at, _)| !(start..start + size).contains(at)).map(|(_, op)| op.clone()).collect();
            if Instant::now() < until
                && let Err(other) = try_sequence(&mut Real::start(), &without)
            {
                (ops, why) = (without, other);
            }
        }
        if size == 1 && ops.len() == before || Instant::now() >= until {
            return (ops, why);
        }
        size = size.div_ceil(2).max(1);
    }
}

/// Does the calls at the daemon and in the model, and takes everything down.
fn try_sequence(real: &mut Real, ops: &[Op]) -> Result<(), String> {
    let mut state = State::default();
    for op in ops {
        try_call(real, &mut state, op)?;
    }
    for op in state.takedown() {
        try_call(real, &mut state, &op)?;
    }
    // A worker lets go of a volume's lock a moment after the answer.
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match real.what_is_left() {
            left if left.is_empty() => return Ok(()),
            left if Instant::now() > until => return Err(format!("at the end there is left: {left:?}")),
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn try_call(real: &mut Real, state: &mut State, op: &Op) -> Result<(), String> {
    let wanted = state.expect(op);
    let answer = real.perform(op);
    let code = answer.as_ref().map_err(tonic::Status::code);
    if code != wanted.as_ref().map_err(|code| *code) {
        return Err(format!("{op:?} answered {answer:?}, and the model says {wanted:?}; before: {state:#?}"));
    }
    if let Err(status) = &answer
        && (status.message().is_empty() || !status.details().is_empty())
    {
        return Err(format!("{op:?} was refused without words, or with details: {status:?}"));
    }
    let (wanted, shown) = (real.wanted(state), real.kernel());
    if wanted != shown {
        return Err(format!("after {op:?} the kernel shows {shown:#?}, and the model says {wanted:#?}"));
    }
    Ok(())
}

fn check(kind: Kind, cases: u64) {
    let cases = number("WINDLASS_MODEL_CASES").unwrap_or(cases).try_into().expect("a number of sequences");
    let seed = match std::env::var("WINDLASS_MODEL_SEED") {
        Ok(text) if text == "random" => SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64,
        _ => number("WINDLASS_MODEL_SEED").unwrap_or(FIXED),
    };
    try_seed(kind, seed, cases);
}

#[test]
fn loop_random_calls_on_raw_devices_do_what_the_specification_says() {
    check(Kind::Raw, 100);
}

#[test]
fn loop_random_calls_on_raw_devices_and_file_systems_do_what_the_specification_says() {
    check(Kind::Mixed, 100);
}
