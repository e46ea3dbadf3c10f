//! The loops: workers, timers, signals, the clock. The only room that connects the others; it does not look
//! into packets.

mod check_host;
mod claims;
mod clock;
mod control;
mod device;
mod director_daemon;
mod health;
mod host_view;
mod journal_place;
mod logging;
mod losses;
mod lost;
mod own_addresses;
mod own_metrics;
mod path_errors;
mod privileges;
mod random;
mod realserver_daemon;
mod runtime;
mod signals;
mod strays;
mod text_file;
mod troubles;
mod untracked;
mod warnings;
mod worker;

use std::io::{self, Write};
use std::time::Duration;

use crate::datapath::tun::TunError;
use crate::failure::Failure;
use crate::host::{HostChanges, HostError};

pub(crate) use check_host::{check_director, check_realserver};
pub(crate) use control::ConfigFile;
pub(crate) use director_daemon::run as run_director;
pub(crate) use logging::LogFormat;
pub(crate) use realserver_daemon::run as run_realserver;
pub(crate) use text_file::{ReadError, read_any_text, read_text};
pub(crate) use warnings::of_director as director_warnings;

/// How long a daemon waits for the reader of its standard output.
const PRINT_MAX: Duration = Duration::from_secs(1);

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
    async fn print_commands(self, commands: Vec<String>) {
        if self.changes_host || commands.is_empty() {
            return;
        }
        let text: String = commands.iter().map(|command| format!("{command}\n")).collect();
        // `println!` would panic if the reader has closed the pipe, and wait if it has stalled.
        let printed = tokio::task::spawn_blocking(move || io::stdout().write_all(text.as_bytes()));
        match tokio::time::timeout(PRINT_MAX, printed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!("cannot print the commands that this host needs: {error}"),
            _ => tracing::warn!("cannot print the commands that this host needs: no program reads them"),
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
