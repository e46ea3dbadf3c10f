//! The command line: one file per subcommand; this door parses and turns failures into exit codes.

pub mod check;
pub mod demo;
pub mod director;
pub mod explain;
pub mod realserver;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

pub use crate::failure::Failure;

/// LVS/TUN load balancing in user space: the director and the real server in one program.
#[derive(Debug, Parser)]
#[command(name = "lvs-tund", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capture packets for the VIPs and send each connection to its real server
    Director(director::DirectorArguments),
    /// Unwrap packets from the directors and hand them to this host
    Realserver(realserver::RealserverArguments),
    /// Build a small network on this machine, balance requests in it, and take it down again
    Demo(demo::DemoArguments),
    /// Say what would become of a packet, why, and what would leave
    Explain(explain::ExplainArguments),
    /// Say whether a configuration file is valid, and if not, what and where
    Check(check::CheckArguments),
}

/// For whom something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    /// Stable keys.
    Json,
}

/// Runs the command named by `arguments` (the first is the program's own name).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap exits 2 for usage and 0 for help and version; a closed standard output is no news.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let outcome = match &arguments.command {
        Command::Director(arguments) => director::run(arguments),
        Command::Realserver(arguments) => realserver::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Check(arguments) => check::run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // `eprintln!` would panic where nobody listens.
            let _ = writeln!(std::io::stderr(), "lvs-tund: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// A file's text.
fn read(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Refused(format!("{}: cannot be read: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Failure::Refused(format!("{}:{line}: is not UTF-8 text", path.display()))
    })
}
