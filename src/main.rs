//! The `lvs-tund` binary: parse, call one function, exit with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lvs_tund::cli::run(std::env::args_os())
}
