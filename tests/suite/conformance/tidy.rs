//! The list of rows and the tests keep to each other: no tested row without a test, no test with an unknown row.

use harness::rows::{all, quoted};
use std::collections::BTreeSet;
use windlass_csi::methods::methods;

#[test]
fn every_tested_row_has_a_test_and_every_test_a_row() {
    let quoted: BTreeSet<String> = quoted().into_keys().collect();
    let tested: BTreeSet<String> = all().into_iter().filter(|row| row.not_served.is_none()).map(|row| row.id).collect();
    let untested: Vec<_> = tested.difference(&quoted).collect();
    assert!(untested.is_empty(), "rows without a test that quotes their id: {untested:?}");
    let unknown: Vec<_> = quoted.difference(&tested).collect();
    assert!(unknown.is_empty(), "tests quote ids that are not `tested` in docs/conformance-rows.tsv: {unknown:?}");
}

#[test]
fn every_rpc_has_a_row() {
    let rows = all();
    let missing: Vec<String> = methods().map(|method| method.name).filter(|rpc| !rows.iter().any(|row| row.rpc() == rpc)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
