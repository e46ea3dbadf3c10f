//! The bytes of a configuration file, of a director or of a real server: an error names its place in one line that shows
//! nothing hidden, and a file that is accepted is written as one that means the same.

use lvs_tund::config::plan::{self, DirectorPlan};
use lvs_tund::config::{ConfigError, Source, write};

pub fn run(data: &[u8]) {
    // A reader of files refuses other bytes.
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = text.lines().count().max(1);
    match plan::check_director(&Source { name: "director.toml", text }, Some("eth0")) {
        Ok(plan) => written_again(&plan),
        Err(errors) => check(&errors, lines),
    }
    let source = Source { name: "realserver.toml", text };
    if let Err(errors) = plan::check_realserver(&source, &[], &[], false) {
        check(&errors, lines);
    }
}

fn written_again(plan: &DirectorPlan) {
    let text = write::director(plan);
    let again = plan::director(&Source { name: "saved.toml", text: &text }, None);
    assert_eq!(again.as_ref(), Ok(plan), "{text}");
}

fn check(errors: &[ConfigError], lines: usize) {
    assert!(!errors.is_empty());
    for error in errors {
        let shown = error.to_string();
        assert!(!shown.contains(lvs_tund::config::kinds::is_misleading), "{shown:?}");
        assert!(shown.len() < 2_000, "{} bytes", shown.len());
        assert!(error.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{shown} of {lines}");
    }
}
