//! What is fuzzed: each target is a function over bytes that panics where something is wrong. The same table
//! serves `tests/fuzz_corpus.rs`, which replays the corpus, and the driver in `libfuzzer/`.
//!
//! A new target is one file in `targets/`, one row here, and a directory of that name in `corpus/`.

#[path = "targets/checks.rs"]
mod checks;
#[path = "targets/classify.rs"]
mod classify;
#[path = "targets/config.rs"]
mod config;
#[path = "targets/convert.rs"]
mod convert;
#[path = "targets/decapsulate.rs"]
mod decapsulate;
#[path = "targets/director.rs"]
mod director;
#[path = "targets/fragments.rs"]
mod fragments;
#[path = "targets/http.rs"]
mod http;
#[path = "targets/icmp.rs"]
mod icmp;
#[path = "input.rs"]
mod input;
#[path = "targets/ipvsadm.rs"]
mod ipvsadm;
#[path = "targets/path_errors.rs"]
mod path_errors;
#[path = "../support/world.rs"]
mod world;

pub struct Target {
    /// Of the file, and of the directory in the corpus.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "checks", run: checks::run },
    Target { name: "classify", run: classify::run },
    Target { name: "config", run: config::run },
    Target { name: "convert", run: convert::run },
    Target { name: "decapsulate", run: decapsulate::run },
    Target { name: "director", run: director::run },
    Target { name: "fragments", run: fragments::run },
    Target { name: "http", run: http::run },
    Target { name: "icmp", run: icmp::run },
    Target { name: "ipvsadm", run: ipvsadm::run },
    Target { name: "path_errors", run: path_errors::run },
];
