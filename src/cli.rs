//! The command line: one file per subcommand; this module parses it and turns failures into exit codes.

mod check;
mod check_now;
mod connections;
mod convert;
mod demo;
mod diff;
mod director;
mod disable;
mod doctor;
mod drain;
mod enable;
mod explain;
mod ipvsadm;
mod output;
mod realserver;
mod reload;
mod remote;
mod running;
mod save;
mod status;
mod undrain;
mod weight;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use self::output::{Pages, Stdout, note, note_within, print, printed_all};
use crate::daemon::ReadError;
pub(crate) use crate::failure::Failure;

/// How long a daemon that has failed waits for the reader of its message.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// LVS/TUN load balancing in user space: the director and the real server in one program.
#[derive(Debug, Parser)]
#[command(name = "lvs-tund", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Capture packets for the VIPs and send each connection to its real server
    #[command(after_help = "Example:\n  lvs-tund director --config director.toml")]
    Director(director::DirectorArguments),
    /// Unwrap packets from the directors and deliver them to this host
    #[command(after_help = "Example:\n  lvs-tund realserver --vip 172.25.3.100 --director 172.25.3.1")]
    Realserver(realserver::RealserverArguments),
    /// Build a small network on this machine, send requests through it, and take it down again
    #[command(after_help = "Example:\n  lvs-tund demo --real-servers 3 --routed")]
    Demo(demo::DemoArguments),
    /// Show what would happen to a packet, why, and which packets would be sent
    #[command(
        after_help = "Example:\n  lvs-tund explain director --config director.toml --pcap clients.pcap"
    )]
    Explain(explain::ExplainArguments),
    /// Check whether a configuration file is valid, and report every error with its line
    #[command(after_help = "Example:\n  lvs-tund check director.toml")]
    Check(check::CheckArguments),
    /// Check this host, and report what is wrong and the commands that fix it
    #[command(after_help = "Example:\n  lvs-tund doctor director --config director.toml")]
    Doctor(doctor::DoctorArguments),
    /// Show a running director: virtual services, real servers, connections, rates
    #[command(after_help = "Example:\n  lvs-tund status --watch")]
    Status(status::StatusArguments),
    /// Show the connections of a running director
    #[command(after_help = "Example:\n  lvs-tund connections --client 203.0.113.0/24")]
    Connections(connections::ConnectionsArguments),
    /// Change the weight of a real server; 0 quiesces it
    #[command(after_help = "Example:\n  lvs-tund weight server2 0")]
    Weight(weight::WeightArguments),
    /// Quiesce a real server, wait until its connections have ended, then remove or keep it
    #[command(after_help = "Example:\n  lvs-tund drain server2 --timeout 10m --then keep")]
    Drain(drain::DrainArguments),
    /// End the drain of a real server, or bring back one that a drain has removed; restores its weight
    #[command(after_help = "Example:\n  lvs-tund undrain server2")]
    Undrain(remote::ServerStateArguments),
    /// Give a real server no new connections until it is enabled; its connections stay
    #[command(after_help = "Example:\n  lvs-tund disable server2")]
    Disable(remote::ServerStateArguments),
    /// Enable a real server that was disabled
    #[command(after_help = "Example:\n  lvs-tund enable server2")]
    Enable(remote::ServerStateArguments),
    /// Check real servers at once instead of when their next probe is due; `status` shows the result
    #[command(after_help = "Example:\n  lvs-tund check-now web server2")]
    CheckNow(check_now::CheckNowArguments),
    /// Reload the running director's configuration file
    #[command(after_help = "Example:\n  lvs-tund reload --dry-run")]
    Reload(reload::ReloadArguments),
    /// Write the running configuration as a file
    #[command(after_help = "Example:\n  lvs-tund save director.toml")]
    Save(save::SaveArguments),
    /// Show how a configuration file differs from the running configuration; see `reload --dry-run` for what
    /// a reload would apply
    #[command(after_help = "Example:\n  lvs-tund diff director.toml")]
    Diff(diff::DiffArguments),
    /// Print the file of keepalived, ldirectord or ipvsadm as a director's configuration; comments list what has no
    /// counterpart
    #[command(after_help = "Example:\n  lvs-tund convert keepalived.conf")]
    Convert(convert::ConvertArguments),
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

/// The format of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable text.
    #[default]
    Text,
    /// JSON with stable keys, for programs.
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
            return show_help(&error);
        }
    };
    let outcome = match &arguments.command {
        Subcommands::Director(arguments) => director::run(arguments),
        Subcommands::Realserver(arguments) => realserver::run(arguments),
        Subcommands::Demo(arguments) => demo::run(arguments),
        Subcommands::Explain(arguments) => explain::run(arguments),
        Subcommands::Check(arguments) => check::run(arguments),
        Subcommands::Doctor(arguments) => doctor::run(arguments),
        Subcommands::Status(arguments) => status::run(arguments),
        Subcommands::Connections(arguments) => connections::run(arguments),
        Subcommands::Weight(arguments) => weight::run(arguments),
        Subcommands::Drain(arguments) => drain::run(arguments),
        Subcommands::Undrain(arguments) => undrain::run(arguments),
        Subcommands::Disable(arguments) => disable::run(arguments),
        Subcommands::Enable(arguments) => enable::run(arguments),
        Subcommands::CheckNow(arguments) => check_now::run(arguments),
        Subcommands::Reload(arguments) => reload::run(arguments),
        Subcommands::Save(arguments) => save::run(arguments),
        Subcommands::Diff(arguments) => diff::run(arguments),
        Subcommands::Convert(arguments) => convert::run(arguments),
        Subcommands::Ipvsadm(arguments) => {
            return ipvsadm::run(ipvsadm::ProgramName::Ipvsadm, &arguments.words);
        }
    };
    let Err(failure) = outcome.and_then(|()| printed_all()) else { return ExitCode::SUCCESS };
    let message = format!("lvs-tund: {failure}");
    match arguments.command {
        Subcommands::Director(_) | Subcommands::Realserver(_) => note_within(message, LAST_WORDS),
        _ => note(&message),
    }
    ExitCode::from(failure.exit_code())
}

/// clap exits 2 for usage errors and 0 for help and version, which go to standard output.
fn show_help(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(failure) if !error.use_stderr() && failure.kind() != std::io::ErrorKind::BrokenPipe => {
            note(&format!("lvs-tund: cannot write to standard output: {failure}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}

/// The words after one of ipvsadm's names, whether that is the program's name or its first argument.
fn words_for_ipvsadm(arguments: &[OsString]) -> Option<(ipvsadm::ProgramName, &[OsString])> {
    let (program, words) = arguments.split_first()?;
    if let Some(name) = Path::new(program).file_name().and_then(ipvsadm::ProgramName::of) {
        return Some((name, words));
    }
    let (word, words) = words.split_first()?;
    (word == "ipvsadm").then_some((ipvsadm::ProgramName::Ipvsadm, words))
}

/// Reads a text file.
fn read(path: &Path) -> Result<String, Failure> {
    crate::daemon::read_text(path).map_err(|error| {
        let path = path.display();
        Failure::Refused(match error {
            ReadError::NotText { line } => format!("{path}:{line}: {error}"),
            _ => format!("{path}: {error}"),
        })
    })
}
