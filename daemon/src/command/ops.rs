//! `windlass ops`.

use super::{Output, ask, print, print_json, print_table};
use crate::admin::Question;
use crate::admin::view::Ops;
use crate::cli::Ask;
use windlass_plan::effect::BackgroundState;

/// Calls that run, and what is done behind them, a row each.
pub(crate) fn ops(from: &Ask) -> anyhow::Result<()> {
    let ops: Ops = ask(from, &Question::Ops)?;
    if from.output == Output::Json {
        return print_json(&ops);
    }
    let calls = ops
        .calls
        .iter()
        .map(|call| vec![call.verb.clone(), call.on.clone(), call.driver.clone(), "a call runs".to_owned(), format!("{:.1} s", call.seconds), "-".to_owned()]);
    let behind = ops.background.iter().flat_map(|one| {
        one.work.iter().map(|work| {
            let why = work.why.clone().unwrap_or_else(|| "-".to_owned());
            vec![work.what.clone(), work.pool.clone(), one.back_end.clone(), words(work.state).to_owned(), format!("{} s", work.seconds), why]
        })
    });
    let rows: Vec<Vec<String>> = calls.chain(behind).collect();
    for (back_end, problem) in ops.background.iter().filter_map(|one| Some((&one.back_end, one.problem.as_ref()?))) {
        print(&format!("what is done in {back_end} is not known: {problem}"))?;
    }
    if rows.is_empty() {
        return print("nothing is going on");
    }
    print_table(&["WHAT", "ON", "OF", "STATE", "SINCE", "WHY"], rows)
}

fn words(state: BackgroundState) -> &'static str {
    match state {
        BackgroundState::Working => "in the background",
        BackgroundState::Waiting => "waits in the background",
        BackgroundState::Left => "left until the next call",
    }
}
