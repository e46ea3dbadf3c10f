//! `lvs-tund doctor`: what is wrong with this host, and what to type. Changes nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use super::Format;
use super::remote::ControlArguments;
use super::{Failure, print, read};
use crate::config::plan::{CONTROL_REALSERVER, DirectorPlan, RealserverPlan};
use crate::config::{Source, plan};
use crate::control::Client;
use crate::control::model::{RealserverStatus, Status, Trouble, VirtualServices};
use crate::doctor::facts::{Reported, Running, Weights};
use crate::doctor::finding::counted;
use crate::doctor::{Report, director_items, realserver_items};
use crate::survey::{self, Question};
use crate::trouble::TroubleKind;

#[derive(Debug, clap::Args)]
pub(super) struct DoctorArguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, clap::Subcommand)]
enum Role {
    /// Check the host of a director, whether it is running or not
    Director(DirectorArguments),
    /// Check the host of a real server, whether its daemon is running or not
    Realserver(RealserverArguments),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  lvs-tund doctor director --config /etc/lvs-tund/director.toml")]
struct DirectorArguments {
    /// Configuration file [default: the running director's]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface on which clients' packets for the VIPs arrive [default: the file's]
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Also send packets through the tunnel to each real server, and compare its metrics on PORT before and after
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "9691")]
    via: Option<u16>,
    #[command(flatten)]
    control: ControlArguments,
    /// Format of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  lvs-tund doctor realserver --config /etc/lvs-tund/realserver.toml")]
struct RealserverArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A VIP, in addition to the file's; may be given several times
    #[arg(long = "vip", value_name = "ADDR")]
    vips: Vec<String>,
    /// A director, in addition to the file's; may be given several times
    #[arg(long = "director", value_name = "ADDR|PREFIX")]
    directors: Vec<String>,
    /// Format of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl RealserverArguments {
    /// Starts the daemon with the same configuration.
    fn command(&self) -> String {
        let mut command = "lvs-tund realserver".to_owned();
        let config = self.config.iter().map(|path| ("--config", path.display().to_string()));
        let vips = self.vips.iter().map(|vip| ("--vip", vip.clone()));
        let directors = self.directors.iter().map(|director| ("--director", director.clone()));
        for (option, value) in config.chain(vips).chain(directors) {
            command.push_str(&format!(" {option} {value}"));
        }
        command
    }
}

/// # Errors
/// Something is wrong with the host (exit code 1), or with the configuration (exit code 2).
pub(super) fn run(arguments: &DoctorArguments) -> Result<(), Failure> {
    let (report, format) = match &arguments.role {
        Role::Director(arguments) => (examine_director(arguments)?, arguments.format),
        Role::Realserver(arguments) => (examine_realserver(arguments)?, arguments.format),
    };
    let text = match format {
        Format::Text => report.text(),
        Format::Json => format!("{}\n", serde_json::to_string(&report).unwrap_or_default()),
    };
    print(&text)?;
    match report.errors {
        0 => Ok(()),
        errors => Err(Failure::Failed(format!("doctor: {} on this host", counted(errors, "error")))),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(format!("cannot start: {error}")))
}

fn examine_realserver(arguments: &RealserverArguments) -> Result<Report, Failure> {
    let (name, text) = match &arguments.config {
        Some(path) => (path.display().to_string(), read(path)?),
        None => ("command line".to_owned(), String::new()),
    };
    let source = Source { name: &name, text: &text };
    let plan = plan::realserver(&source, &arguments.vips, &arguments.directors, true);
    let plan: RealserverPlan = plan.map_err(|error| Failure::Refused(error.to_string()))?;
    let file = arguments.config.as_ref().map_or_else(|| "FILE".to_owned(), |path| path.display().to_string());
    let facts = runtime()?.block_on(survey::realserver(plan, file, arguments.command()));
    let mut facts = facts.map_err(|error| Failure::Failed(error.to_string()))?;
    // Another daemon may have the default socket if this host's does not run.
    facts.host.reported = facts.host.metrics.is_some().then(|| reported_by_realserver(&facts.plan)).flatten();
    Ok(Report::of("realserver", realserver_items::ITEMS, &facts))
}

fn examine_director(arguments: &DirectorArguments) -> Result<Report, Failure> {
    let answer = answer(&arguments.control.client()?);
    let known = answer.as_ref().ok().and_then(|(status, _)| status.config_file.as_ref()).map(PathBuf::from);
    let Some(path) = arguments.config.clone().or(known) else {
        let message = "no configuration: no director answers that could name its file; use --config FILE";
        return Err(Failure::Refused(message.to_owned()));
    };
    let (name, text) = (path.display().to_string(), read(&path)?);
    let source = Source { name: &name, text: &text };
    let plan = plan::director(&source, arguments.interface.as_deref());
    let mut question = from_file(plan.map_err(|error| Failure::Refused(error.to_string()))?, name);
    question.via = arguments.via;
    let mut troubles = None;
    match answer {
        Ok((status, services)) => {
            from_director(&mut question, &status, &services);
            troubles = Some(reported(&status.troubles));
        }
        Err(why) => question.running = Err(why),
    }
    let facts = runtime()?.block_on(survey::director(question));
    let mut facts = facts.map_err(|error| Failure::Failed(error.to_string()))?;
    facts.host.reported = troubles;
    Ok(Report::of("director", director_items::ITEMS, &facts))
}

/// What a running real server with this configuration reports; `None` if none answers.
fn reported_by_realserver(plan: &RealserverPlan) -> Option<Vec<Reported>> {
    let path = plan.control.as_deref().unwrap_or(Path::new(CONTROL_REALSERVER));
    let status: RealserverStatus = Client::new(Some(path)).ok()?.get("/api/v1/status").ok()?;
    Some(reported(&status.troubles))
}

/// Those of the kinds that this program has; a daemon of another version may have others.
fn reported(troubles: &[Trouble]) -> Vec<Reported> {
    let of = |trouble: &Trouble| {
        let kind = TroubleKind::ALL.iter().find(|kind| kind.label() == trouble.kind)?;
        Some(Reported { kind: *kind, message: trouble.message.clone() })
    };
    troubles.iter().filter_map(of).collect()
}

/// The status that a running director reports, or why there is none.
fn answer(client: &Client) -> Result<(Status, VirtualServices), String> {
    let both = || Ok((client.status()?, client.virtual_services()?));
    both().map_err(|error: crate::control::ClientError| error.to_string())
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Adds what the list does not have yet.
fn add<T>(list: &mut Vec<T>, item: Option<T>, is_same: impl Fn(&T, &T) -> bool) {
    list.extend(
        item.filter(|item| !list.iter().any(|known| is_same(known, item))).into_iter().collect::<Vec<_>>(),
    );
}

fn from_file(plan: DirectorPlan, file: String) -> Question {
    let (mut vips, mut servers) = (Vec::new(), Vec::new());
    let mut weights = Vec::new();
    for service in &plan.cluster.virtual_services {
        service.vips().for_each(|vip| add(&mut vips, ipv4(vip), |a, b| a == b));
        for server in &service.real_servers {
            let found =
                ipv4(server.rip).map(|rip| (server.name.clone(), rip, server.path_mtu.map(u32::from)));
            add(&mut servers, found, |a, b| a.1 == b.1);
        }
        let of = service.real_servers.iter().map(|server| (server.name.clone(), server.weight));
        weights.push(Weights { service: service.name.clone(), servers: of.collect() });
    }
    Question { plan, file, running: Ok(Running::default()), servers, vips, weights, via: None }
}

/// A running director may have been changed since it read its file.
fn from_director(question: &mut Question, status: &Status, services: &VirtualServices) {
    question.running = Ok(Running { version: status.version.clone(), generation: status.generation });
    question.plan.interfaces.clone_from(&status.interfaces);
    question.plan.tun.clone_from(&status.tun);
    (question.servers, question.vips, question.weights) = (Vec::new(), Vec::new(), Vec::new());
    for service in &services.virtual_services {
        for matcher in &service.matchers {
            add(&mut question.vips, ipv4(matcher.vip), |a, b| a == b);
        }
        for server in service.real_servers.iter().filter(|server| !server.is_removed()) {
            let mtu = Some(u32::from(server.path_mtu_now)).filter(|mtu| *mtu > 0);
            let found = ipv4(server.rip).map(|rip| (server.name.clone(), rip, mtu));
            add(&mut question.servers, found, |a, b| a.1 == b.1);
        }
        let of = service.real_servers.iter().map(|server| (server.name.clone(), server.weight_now));
        question.weights.push(Weights { service: service.name.clone(), servers: of.collect() });
    }
}
