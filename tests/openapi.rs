//! `config/openapi.json` describes the API that the director serves; `tests/namespaces/control.rs` asks a running
//! one for every path in it.

use std::fs;

const COMMITTED: &str = "config/openapi.json";

#[test]
fn the_committed_document_is_the_one_the_director_serves() {
    let committed = fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == lvs_tund::serve::openapi(),
        "{COMMITTED} is out of date; write it with `cargo test --test openapi -- --ignored`"
    );
}

#[test]
#[ignore = "writes config/openapi.json"]
fn write_the_document() {
    fs::write(COMMITTED, lvs_tund::serve::openapi()).unwrap();
}
