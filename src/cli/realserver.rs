//! `lvs-tund realserver`: reads the configuration and runs the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Failure, Format, read, running};
use crate::config::{Source, plan};
use crate::daemon;

#[derive(Debug, clap::Args)]
pub(super) struct RealserverArguments {
    /// Configuration file; `config/realserver.toml` explains every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A VIP to serve, in addition to the file's; may be given several times
    #[arg(long = "vip", value_name = "ADDR")]
    vips: Vec<String>,
    /// A director that may send encapsulated packets, in addition to the file's; may be given several times
    #[arg(long = "director", value_name = "ADDR|PREFIX")]
    directors: Vec<String>,
    /// Address and port that serve Prometheus metrics [default: the file's, otherwise 127.0.0.1:9691]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Unix socket for `lvs-tund status` on this host [default: the file's, otherwise
    /// /run/lvs-tund/realserver.sock]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Change nothing on this host except the TUN device; print the commands that would be needed
    #[arg(long)]
    no_host_changes: bool,
    /// Accept a director prefix shorter than /8: anyone in it can then inject packets
    #[arg(long)]
    insecure: bool,
    /// Format of the log
    #[arg(long, value_enum, default_value_t)]
    log_format: Format,
}

pub(super) fn run(arguments: &RealserverArguments) -> Result<(), Failure> {
    let (name, text) = match &arguments.config {
        Some(path) => (path.display().to_string(), read(path)?),
        None => ("command line".to_owned(), String::new()),
    };
    let source = Source { name: &name, text: &text };
    let plan = plan::realserver(&source, &arguments.vips, &arguments.directors, arguments.insecure);
    let mut plan = plan.map_err(|error| Failure::Refused(error.to_string()))?;
    plan.metrics = arguments.metrics.unwrap_or(plan.metrics);
    plan.control = arguments.control.clone().or(plan.control);
    running::refuse_second(&plan.tun)?;
    let log_format = arguments.log_format.into();
    daemon::run_realserver(plan, daemon::Options { changes_host: !arguments.no_host_changes, log_format })
}
