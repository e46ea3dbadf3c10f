//! The `lvs-tund` binary: parses the command line, calls one function, exits with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lvs_tund::run(std::env::args_os())
}
