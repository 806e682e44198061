//! `windlass-rows MODULE...`: has the run that came before asserted every row that these modules of the suite quote, and no other?

use harness::rows::{Modules, noted, quoted};
use std::collections::BTreeSet;
use std::process::ExitCode;

/// Pairs of an id and a module, of these modules alone.
fn pairs(of: Modules, modules: &[String]) -> BTreeSet<(String, String)> {
    let is_meant = |module: &str| modules.iter().any(|meant| module == meant || module.strip_prefix(meant).is_some_and(|rest| rest.starts_with("::")));
    of.into_iter().flat_map(|(id, found)| found.into_iter().map(move |module| (id.clone(), module))).filter(|(_, module)| is_meant(module)).collect()
}

fn main() -> ExitCode {
    let modules: Vec<String> = std::env::args().skip(1).collect();
    let (quoted, noted) = (pairs(quoted(), &modules), pairs(noted(), &modules));
    if quoted.is_empty() {
        eprintln!("windlass-rows: no row is quoted in {modules:?}; name modules of tests/suite");
        return ExitCode::FAILURE;
    }
    let say = |what: &str, wrong: BTreeSet<&(String, String)>| wrong.iter().for_each(|(id, module)| eprintln!("{id} {what} {module}"));
    say("is quoted and was not asserted in", quoted.difference(&noted).collect());
    say("was asserted and is not quoted in", noted.difference(&quoted).collect());
    if quoted == noted {
        println!("{} rows were asserted, by {}", quoted.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), modules.join(", "));
        return ExitCode::SUCCESS;
    }
    eprintln!("docs/conformance.md says of these that they are tested: let the whole tier run, or correct the tests");
    ExitCode::FAILURE
}
