//! `windlass explain stage`: the plan and the steps of a request, and nothing done.

use super::{Output, ask, print, print_json, print_table};
use crate::admin::Question;
use crate::admin::view::Explanation;
use crate::cli::Ask;
use anyhow::Context;
use std::io::Read;
use std::path::Path;

/// Explains a NodeStageVolume request.
pub(crate) fn stage(from: &Ask, driver: Option<String>, request: &Path) -> anyhow::Result<()> {
    let text = read(request)?;
    let request = serde_json::from_str(&text).context("the request is not JSON")?;
    let explanation: Explanation = ask(from, &Question::ExplainStage { driver, request })?;
    if from.output == Output::Json {
        return print_json(&explanation);
    }
    let ours = if explanation.is_ours { "made by Windlass for this volume" } else { "static" };
    print(&format!("volume {} of {}, planned by {}\nsource {} ({ours})\n", explanation.volume, explanation.driver, explanation.plugin, explanation.source))?;
    let rows = (explanation.steps.iter().enumerate())
        .map(|(at, step)| {
            let note = if step.name == "format" { " (only if it is proven blank)" } else { "" };
            let undo = step.undo.as_ref().map_or_else(|| "-".to_owned(), short);
            vec![(at + 1).to_string(), format!("{}{note}", step.name), undo]
        })
        .collect();
    print_table(&["", "STEP", "UNDONE BY"], rows)
}

fn short(undo: &windlass_plan::step::Undo) -> String {
    match undo {
        windlass_plan::step::Undo::Detach { .. } => "detach whatever carries the volume's mark".to_owned(),
        windlass_plan::step::Undo::Unmount { place, .. } => format!("unmount {}", place.below),
    }
}

/// Reads a file, or standard input for `-`.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
