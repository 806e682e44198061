//! The list of rows and the tests keep to each other: no tested row without a test, no test with an unknown row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use windlass_csi::methods::methods;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The rows with their state.
fn rows() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("docs/conformance-rows.tsv")).expect("the list of rows");
    let mut rows = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, condition, state] = fields[..] else { panic!("not three fields: {line:?}") };
        assert!(!condition.is_empty(), "{id} has no condition");
        let is_known = state == "tested" || state.strip_prefix("not served: ").is_some_and(|why| why.len() > 10);
        assert!(is_known, "{id}: the state is `tested` or `not served: ` with a reason, not {state:?}");
        assert!(rows.insert(id.to_owned(), state.to_owned()).is_none(), "{id} is there twice");
    }
    rows
}

/// Every quoted text in the tests that has the form of an id.
fn quoted() -> BTreeSet<String> {
    let rpcs: BTreeSet<String> = methods().map(|method| method.name).collect();
    let is_id = |text: &&str| {
        let mut parts = text.split('/');
        let (rpc, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_word = !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphabetic() || c == '_' || c == '-');
        (rpc == "*" || rpcs.contains(rpc)) && is_word
    };
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("suite")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.file_name().is_some_and(|name| name != "tidy.rs") {
                let source = std::fs::read_to_string(&entry).expect("a source");
                found.extend(source.split('"').filter(is_id).map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn every_tested_row_has_a_test_and_every_test_a_row() {
    let (rows, quoted) = (rows(), quoted());
    let tested: BTreeSet<String> = rows.iter().filter(|(_, state)| *state == "tested").map(|(id, _)| id.clone()).collect();
    let untested: Vec<_> = tested.difference(&quoted).collect();
    assert!(untested.is_empty(), "rows without a test that quotes their id: {untested:?}");
    let unknown: Vec<_> = quoted.difference(&tested).collect();
    assert!(unknown.is_empty(), "tests quote ids that are not `tested` in docs/conformance-rows.tsv: {unknown:?}");
}

#[test]
fn every_rpc_has_a_row() {
    let rows = rows();
    let missing: Vec<String> = methods().map(|method| method.name).filter(|rpc| !rows.keys().any(|id| id.split('/').next() == Some(rpc.as_str()))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
