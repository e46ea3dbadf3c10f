//! `lvs-tund demo`: the complete setup on this machine, in namespaces, with proof of direct return.
//!
//! It starts the `director` and `realserver` commands of this program and relies on observations only: which server
//! answered, what a capture on the director's interface contains, and what the daemons' metrics show.

mod report;
mod text;

use std::net::SocketAddr;

use clap::Args;

use super::{Failure, Format, note};
use crate::lab::{self, Cluster, Filter, Host, Interrupt, Lab, LabError, REAL_SERVERS_MAX, Scrape, Topology};
use report::{DemoAnswer, DemoReport};
use text::TextOutput;

/// Maximum number of requests; each prints one line.
const REQUESTS_MAX: u64 = 100_000;

/// Run a director, real servers and a client in namespaces of this machine, and balance requests between
/// them.
#[derive(Debug, Clone, Args)]
pub(super) struct DemoArguments {
    /// Number of real servers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = real_servers())]
    pub real_servers: u64,
    /// Number of requests the client makes
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = requests())]
    pub requests: u64,
    /// Put the client and each real server in its own subnet, behind a router
    #[arg(long)]
    pub routed: bool,
    /// Keep everything running until Ctrl-C, and print commands to try and how to enter each namespace
    #[arg(long)]
    pub hold: bool,
    /// Format of the output
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl DemoArguments {
    fn real_servers(&self) -> usize {
        usize::try_from(self.real_servers).unwrap_or(REAL_SERVERS_MAX)
    }
}

fn real_servers() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=REAL_SERVERS_MAX as u64)
}

fn requests() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=REQUESTS_MAX)
}

/// Runs the demo. Call it before any thread starts: for an ordinary user it first enters a user namespace.
///
/// # Errors
/// The lab cannot be set up, a daemon fails, a request gets no answer, the real servers do not take turns, or a
/// reply passed through the director.
pub(super) fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    lab::enter().map_err(failed)?;
    lab::require_tun().map_err(failed)?;
    let interrupt = Interrupt::listen().map_err(failed)?;
    let text = (arguments.format == Format::Text).then(TextOutput::for_standard_output);
    let real_servers = arguments.real_servers();
    let topology = match arguments.routed {
        true => Topology::routed(real_servers),
        false => Topology::same_subnet(real_servers),
    };
    let lab = topology.with_interrupt(interrupt.clone()).build().map_err(failed)?;
    if let Some(text) = &text {
        text.topology(&lab);
    }
    fail_if_raised(&interrupt)?;
    let cluster = Cluster::start(&lab)
        .map_err(|error| fail_if_raised(&interrupt).err().unwrap_or_else(|| failed(error)))?;
    let report = demonstrate(arguments, &lab, &interrupt, text.as_ref())?;
    match &text {
        Some(text) => text.report(&lab, &report),
        None => text::print_line(report.to_json(&lab).to_string()),
    }
    if let Some(problem) = report.problem() {
        print_logs(&cluster);
        return Err(Failure::Failed(problem));
    }
    if arguments.hold {
        hold(&lab, text.as_ref(), &interrupt);
    }
    Ok(())
}

/// Makes the requests and records what happened.
fn demonstrate(
    arguments: &DemoArguments,
    lab: &Lab,
    interrupt: &Interrupt,
    text: Option<&TextOutput>,
) -> Result<DemoReport, Failure> {
    let client = lab.client();
    let replies = Filter { source: Some(lab.vip), destination: Some(client.address) };
    let through_director = lab.director.capture(replies).map_err(failed)?;
    let to_client = client.capture(replies).map_err(failed)?;
    if let Some(text) = text {
        text.requests_begin(lab);
    }
    let mut answers = Vec::new();
    for number in 1..=arguments.requests {
        fail_if_raised(interrupt)?;
        let answer = ask(client, (lab.vip, 80).into());
        if let Some(text) = text {
            text.request(number, &answer);
        }
        answers.push(answer);
    }
    let bytes = |packets: Vec<lab::CapturedPacket>| packets.iter().map(lab::CapturedPacket::length).sum();
    Ok(DemoReport {
        answers,
        real_servers: arguments.real_servers(),
        bytes_to_client: bytes(to_client.stop()),
        reply_bytes_through_director: bytes(through_director.stop()),
        director: lab.director.scrape(Cluster::DIRECTOR_METRICS).map_err(failed)?,
        real_server_metrics: scrape_real_servers(lab).map_err(failed)?,
    })
}

fn ask(client: &Host, vip: SocketAddr) -> DemoAnswer {
    match client.get(vip, "/") {
        Ok(response) if response.status == 200 => Ok(response.text()),
        Ok(response) => Err(format!("status {}", response.status)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err("timed out".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn scrape_real_servers(lab: &Lab) -> Result<Vec<(String, Scrape)>, LabError> {
    let scrape = |host: &Host| Ok((host.name.clone(), host.scrape(Cluster::REAL_SERVER_METRICS)?));
    lab.real_servers.iter().map(scrape).collect()
}

fn hold(lab: &Lab, text: Option<&TextOutput>, interrupt: &Interrupt) {
    let commands = text::commands_to_try(lab);
    match text {
        Some(_) => text::print_line(commands),
        None => note(commands.trim_end()),
    }
    interrupt.wait();
}

fn fail_if_raised(interrupt: &Interrupt) -> Result<(), Failure> {
    match interrupt.is_raised() {
        true => Err(Failure::Failed("interrupted; everything was taken down".into())),
        false => Ok(()),
    }
}

fn failed(error: LabError) -> Failure {
    if let Some(log) = error.log().filter(|log| !log.is_empty()) {
        note(log);
    }
    Failure::Failed(error.to_string())
}

fn print_logs(cluster: &Cluster) {
    for daemon in std::iter::once(&cluster.director).chain(&cluster.real_servers) {
        note(&format!("{}:\n{}", daemon.name(), daemon.log_tail()));
    }
}
