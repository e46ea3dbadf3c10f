//! `config/openapi.json` describes the API that the director serves. `tests/openapi/run` lets schemathesis ask a
//! director in the lab whether that is so.

#[path = "namespaces/fixture.rs"]
mod fixture;
#[path = "openapi/schemathesis.rs"]
mod schemathesis;

use std::fs;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use fixture::Outcome;

const COMMITTED: &str = "config/openapi.json";

fn main() -> ExitCode {
    let trials = vec![
        Trial::test("the_committed_document_is_the_one_the_director_serves", committed),
        Trial::test("write_the_document", write).with_ignored_flag(true),
        Trial::test("schemathesis_finds_the_director_as_documented", schemathesis::run)
            .with_ignored_flag(true),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn committed() -> Outcome {
    let committed = fs::read_to_string(COMMITTED).unwrap_or_default();
    if committed == lvs_tund::serve::openapi() {
        return Ok(());
    }
    let remedy = "write it with `cargo test --test openapi -- --ignored write_the_document`";
    Err(format!("{COMMITTED} is out of date; {remedy}").into())
}

fn write() -> Outcome {
    fs::write(COMMITTED, lvs_tund::serve::openapi())?;
    Ok(())
}
