//! The command line: one file per subcommand; this module parses it and turns failures into exit codes.

pub mod check;
pub mod connections;
pub mod demo;
pub mod diff;
pub mod director;
pub mod doctor;
pub mod drain;
pub mod explain;
pub mod ipvsadm;
pub mod realserver;
pub mod reload;
mod remote;
pub mod save;
pub mod status;
pub mod undrain;
pub mod weight;

use std::ffi::OsString;
use std::io::Write;
use std::ops::ControlFlow;
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
    /// Unwrap packets from the directors and deliver them to this host
    Realserver(realserver::RealserverArguments),
    /// Build a small network on this machine, balance requests in it, and take it down again
    Demo(demo::DemoArguments),
    /// Show what happens to a packet, why, and which packets would be sent
    Explain(explain::ExplainArguments),
    /// Check whether a configuration file is valid, and report what is wrong and where
    Check(check::CheckArguments),
    /// Look at this host, and report what is wrong with it and what to type
    Doctor(doctor::DoctorArguments),
    /// Show a running director: virtual services, real servers, connections, rates
    Status(status::StatusArguments),
    /// Show the connections of a running director
    Connections(connections::ConnectionsArguments),
    /// Change the weight of a real server; 0 quiesces it
    Weight(weight::WeightArguments),
    /// Quiesce a real server, wait until its connections are gone, then remove or keep it
    Drain(drain::DrainArguments),
    /// End the drain of a real server, or bring back one that a drain has removed; restores its weight
    Undrain(undrain::UndrainArguments),
    /// Reload the running director's configuration file
    Reload(reload::ReloadArguments),
    /// Write the running configuration as a file
    Save(save::SaveArguments),
    /// Show how a configuration file differs from the running configuration; see `reload --dry-run` for what
    /// a reload would apply
    Diff(diff::DiffArguments),
    /// Run ipvsadm's commands against a running director; also available under the name ipvsadm
    #[command(disable_help_flag = true)]
    Ipvsadm(IpvsadmArguments),
}

/// For the help text only: ipvsadm's own grammar reads the words.
#[derive(Debug, clap::Args)]
struct IpvsadmArguments {
    /// See `lvs-tund ipvsadm -h`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Who reads the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    /// JSON with stable keys.
    Json,
}

impl From<Format> for crate::daemon::LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

/// Runs the command given by `arguments` (the first is the program's own name).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some((name, words)) = words_for_ipvsadm(&arguments) {
        return ipvsadm::run(name, words);
    }
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap exits 2 for usage errors and 0 for help and version; a closed standard output is not an
            // error.
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
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Connections(arguments) => connections::run(arguments),
        Command::Weight(arguments) => weight::run(arguments),
        Command::Drain(arguments) => drain::run(arguments),
        Command::Undrain(arguments) => undrain::run(arguments),
        Command::Reload(arguments) => reload::run(arguments),
        Command::Save(arguments) => save::run(arguments),
        Command::Diff(arguments) => diff::run(arguments),
        Command::Ipvsadm(arguments) => return ipvsadm::run(ipvsadm::Name::Ipvsadm, &arguments.words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // `eprintln!` would panic if nobody reads the output.
            let _ = writeln!(std::io::stderr(), "lvs-tund: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The words after one of ipvsadm's names, whether that is the program's name or its first argument.
fn words_for_ipvsadm(arguments: &[OsString]) -> Option<(ipvsadm::Name, &[OsString])> {
    let (program, words) = arguments.split_first()?;
    if let Some(name) = Path::new(program).file_name().and_then(ipvsadm::Name::of) {
        return Some((name, words));
    }
    let (word, words) = words.split_first()?;
    (word == "ipvsadm").then_some((ipvsadm::Name::Ipvsadm, words))
}

/// Whether standard output still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Listens,
    /// Closed, as behind `| head`: not a failure, but no reason to continue.
    Gone,
}

/// Writes to standard output.
fn print(text: &str) -> Result<Reader, Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::Failed(format!("cannot write to standard output: {error}"))),
    }
}

/// Any number of rows, printed in chunks of some thousand.
#[derive(Default)]
struct Pages {
    text: String,
    outcome: Option<Failure>,
}

impl Pages {
    /// As much as a pipe accepts at once (pipe(7)).
    const SIZE: usize = 64 << 10;

    /// Breaks when nobody reads the output any more.
    fn push(&mut self, row: &str) -> ControlFlow<()> {
        self.text.push_str(row);
        if self.text.len() < Pages::SIZE { ControlFlow::Continue(()) } else { self.flush() }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        match print(&std::mem::take(&mut self.text)) {
            Ok(Reader::Listens) => return ControlFlow::Continue(()),
            Ok(Reader::Gone) => {}
            Err(failure) => self.outcome = Some(failure),
        }
        ControlFlow::Break(())
    }

    /// Prints the rest.
    fn end(mut self) -> Result<(), Failure> {
        if self.outcome.is_none() {
            _ = self.flush();
        }
        self.outcome.map_or(Ok(()), Err)
    }
}

/// Reads a text file.
fn read(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Refused(format!("{}: cannot read: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Failure::Refused(format!("{}:{line}: not UTF-8 text", path.display()))
    })
}
