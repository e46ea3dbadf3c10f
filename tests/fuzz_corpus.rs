//! The corpus of the fuzz targets, replayed: what a fuzzer once found stays found. Needs no fuzzer;
//! `tests/fuzz/run` is how to look for more.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;

#[path = "fuzz/targets.rs"]
mod targets;

use targets::TARGETS;

const CORPUS: &str = "tests/fuzz/corpus";

/// Names and bytes, in the order of the names.
fn files_of(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(format!("{CORPUS}/{target}")).expect("a directory for each target");
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    let mut files: Vec<_> =
        paths.map(|path| (path.display().to_string(), fs::read(&path).expect("a readable file"))).collect();
    files.sort();
    files
}

#[test]
fn every_target_accepts_its_corpus() {
    for target in TARGETS {
        let files = files_of(target.name);
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for (path, bytes) in files {
            let outcome = catch_unwind(|| (target.run)(&bytes));
            assert!(outcome.is_ok(), "{} fails on {path}", target.name);
        }
    }
}

/// Cut anywhere, a packet is still nothing to panic about.
#[test]
fn every_target_accepts_its_corpus_cut_short() {
    for target in TARGETS {
        for (path, bytes) in files_of(target.name) {
            let step = (bytes.len() / 16).max(1);
            for length in (0..bytes.len()).step_by(step) {
                let outcome = catch_unwind(|| (target.run)(&bytes[..length]));
                assert!(outcome.is_ok(), "{} fails on the first {length} bytes of {path}", target.name);
            }
        }
    }
}

#[test]
fn every_target_has_its_file_and_its_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let found = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(directory).expect("a readable directory");
        let paths = entries.map(|entry| entry.expect("a readable entry").path());
        paths.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
    };
    assert_eq!(found("tests/fuzz/targets"), names);
    assert_eq!(found(CORPUS), names);
}
