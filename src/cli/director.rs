//! `lvs-tund director`: reads the configuration and runs the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Failure, Format, read, running};
use crate::config::{ConfigError, Source, plan};
use crate::daemon;

#[derive(Debug, clap::Args)]
pub(super) struct DirectorArguments {
    /// Configuration file; `config/director.toml` explains every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface that receives the clients' packets for the VIPs; several are separated by commas [default: the file's]
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Address and port that serve Prometheus metrics [default: the file's, otherwise 127.0.0.1:9690]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Unix socket of the control API, for operators on this host [default: the file's, otherwise
    /// /run/lvs-tund/director.sock]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Change nothing on this host except the TUN device; print the commands that would be needed
    #[arg(long)]
    no_host_changes: bool,
    /// Format of the log
    #[arg(long, value_enum, default_value_t)]
    log_format: Format,
}

impl DirectorArguments {
    fn options(&self) -> daemon::Options {
        daemon::Options { changes_host: !self.no_host_changes, log_format: self.log_format.into() }
    }
}

pub(super) fn run(arguments: &DirectorArguments) -> Result<(), Failure> {
    let (name, text) = match &arguments.config {
        Some(path) => (path.display().to_string(), read(path)?),
        None if arguments.interface.is_none() => {
            let message = "give a configuration with --config FILE, or --interface IF for an empty director";
            return Err(Failure::Refused(message.to_owned()));
        }
        None => ("command line".to_owned(), String::new()),
    };
    let (interface, metrics, control) =
        (arguments.interface.clone(), arguments.metrics, arguments.control.clone());
    // The command line takes precedence over the file, also after a reload.
    let read = move |source: &Source| {
        let mut plan = plan::director(source, interface.as_deref())?;
        plan.metrics = metrics.unwrap_or(plan.metrics);
        plan.control = control.clone().or(plan.control);
        Ok(plan)
    };
    let plan = read(&Source { name: &name, text: &text })
        .map_err(|error: ConfigError| Failure::Refused(error.to_string()))?;
    running::refuse_second(&plan.tun)?;
    let file = daemon::ConfigFile { path: arguments.config.clone(), read: Arc::new(read) };
    daemon::run_director(plan, file, arguments.options())
}
