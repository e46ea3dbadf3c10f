//! The loops: workers, timers, signals, the clock. The only room that connects the others; it does not look
//! into packets.

mod clock;
mod control;
mod director_daemon;
mod host_view;
mod logging;
mod own_metrics;
mod path_errors;
mod random;
mod realserver_daemon;
mod runtime;
mod signals;
mod worker;

use std::io::{self, Write};

use crate::datapath::tun::TunError;
use crate::failure::Failure;
use crate::host::{Changes, HostChanges, HostError};

pub(crate) use control::ConfigFile;
pub(crate) use director_daemon::run as run_director;
pub(crate) use logging::LogFormat;
pub(crate) use realserver_daemon::run as run_realserver;

/// Command-line options that are not part of the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// False: leave the host alone and print the commands that would be needed.
    pub changes_host: bool,
    /// The option `--log-format`.
    pub log_format: LogFormat,
}

impl Options {
    /// Prints the commands that the host needs, if the daemon does not change it.
    fn print_commands(self, changes: &Changes) {
        if !self.changes_host {
            for command in changes.commands() {
                // `println!` would panic if the reader has closed the pipe.
                let _ = writeln!(io::stdout(), "{command}");
            }
        }
    }

    fn host_changes(self) -> HostChanges {
        if self.changes_host { HostChanges::Make } else { HostChanges::Print }
    }
}

impl From<TunError> for Failure {
    fn from(error: TunError) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Failure {
        match error {
            HostError::Refused(_) => Failure::Refused(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        }
    }
}

fn no_raw_socket(error: &io::Error) -> Failure {
    Failure::Failed(match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "no permission to open a raw socket; run as root or with CAP_NET_ADMIN and CAP_NET_RAW".to_owned()
        }
        _ => format!("cannot open a raw socket: {error}"),
    })
}
