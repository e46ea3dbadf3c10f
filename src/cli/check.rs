//! `lvs-tund check`: whether a configuration is valid, and what in it is rarely intended. Changes nothing.

use std::path::PathBuf;

use serde::Serialize;

use super::{Failure, Format, note, print, read};
use crate::config::key::no_other_place;
use crate::config::toml::Block;
use crate::config::write::counted;
use crate::config::{ConfigError, Source, advice, plan};
use crate::daemon;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// Configuration of a director or of a real server, recognized by its keys
    file: PathBuf,
    /// Also check whether this host suits it: addresses, routes, interface, ports. Changes nothing
    #[arg(long)]
    host: bool,
    /// Format of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The result for one file; one JSON object.
#[derive(Debug, Serialize)]
struct CheckReport {
    file: String,
    role: &'static str,
    valid: bool,
    /// The first of `errors`.
    error: Option<CheckError>,
    /// Every error: the line, counted from 1, and the message.
    errors: Vec<CheckError>,
    virtual_services: usize,
    real_servers: usize,
    vips: usize,
    warnings: Vec<String>,
}

type Checked = Result<CheckReport, Vec<ConfigError>>;

#[derive(Clone, Debug, Serialize)]
struct CheckError {
    line: Option<usize>,
    message: String,
}

pub(super) fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let name = arguments.file.display().to_string();
    let text = read(&arguments.file)?;
    let source = Source { name: &name, text: &text };
    let checked = if is_realserver(&source) {
        realserver(&source, arguments.host)
    } else {
        director(&source, arguments.host)
    };
    let checked = checked.map_err(in_file_order);
    if arguments.format == Format::Json {
        return print_json(&name, checked, is_realserver(&source));
    }
    let report = checked.map_err(|errors| refuse(&errors))?;
    for warning in &report.warnings {
        note(&format!("{name}: warning: {warning}"));
    }
    print(&format!("{}\n", report.text())).map(drop)
}

/// Errors about the file as a whole come last.
fn in_file_order(mut errors: Vec<ConfigError>) -> Vec<ConfigError> {
    errors.sort_by_key(|error| error.line.unwrap_or(usize::MAX));
    errors
}

/// Prints all errors but the last, which is the command's failure.
fn refuse(errors: &[ConfigError]) -> Failure {
    let (last, others) =
        errors.split_last().map_or((String::new(), errors), |(e, rest)| (e.to_string(), rest));
    for error in others {
        note(&format!("lvs-tund: {error}"));
    }
    Failure::Refused(last)
}

fn print_json(name: &str, checked: Checked, is_realserver: bool) -> Result<(), Failure> {
    let (report, outcome) = match checked {
        Ok(report) => (report, Ok(())),
        Err(errors) => {
            let role = if is_realserver { "realserver" } else { "director" };
            let outcome = Err(refuse(&errors));
            let found =
                errors.into_iter().map(|error| CheckError { line: error.line, message: error.message });
            let found: Vec<CheckError> = found.collect();
            let valid = CheckReport::valid(name, role);
            (CheckReport { valid: false, error: found.first().cloned(), errors: found, ..valid }, outcome)
        }
    };
    let printed = print(&format!("{}\n", serde_json::to_string(&report).unwrap_or_default()));
    outcome.and(printed.map(drop))
}

fn director(source: &Source, with_host: bool) -> Checked {
    let plan = plan::check_director(source, None)?;
    if with_host {
        suits(source, daemon::check_director(&plan))?;
    }
    let services = &plan.cluster.virtual_services;
    let mut vips: Vec<_> = services.iter().flat_map(|service| service.vips()).collect();
    vips.sort_unstable();
    vips.dedup();
    Ok(CheckReport {
        virtual_services: services.len(),
        real_servers: services.iter().map(|service| service.real_servers.len()).sum(),
        vips: vips.len(),
        warnings: daemon::director_warnings(&plan),
        ..CheckReport::valid(source.name, "director")
    })
}

fn realserver(source: &Source, with_host: bool) -> Checked {
    let plan = plan::check_realserver(source, &[], &[], false)?;
    if with_host {
        suits(source, daemon::check_realserver(&plan))?;
    }
    let warnings = advice::realserver(&plan);
    Ok(CheckReport { vips: plan.guard.vips.len(), warnings, ..CheckReport::valid(source.name, "realserver") })
}

/// The contradictions to the host, as errors about the file as a whole.
fn suits(source: &Source, found: Result<Vec<String>, Failure>) -> Result<(), Vec<ConfigError>> {
    let messages = found.unwrap_or_else(|failure| vec![failure.to_string()]);
    let error =
        |message| ConfigError { file: source.name.to_owned(), line: None, message, is_missing_key: false };
    let errors: Vec<ConfigError> = messages.into_iter().map(error).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

impl CheckReport {
    fn valid(file: &str, role: &'static str) -> CheckReport {
        CheckReport {
            file: file.to_owned(),
            role,
            valid: true,
            error: None,
            errors: Vec::new(),
            virtual_services: 0,
            real_servers: 0,
            vips: 0,
            warnings: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let (name, vips) = (&self.file, counted(self.vips, "VIP"));
        let services = counted(self.virtual_services, "virtual service");
        match self.role {
            "realserver" => format!("{name}: valid for a real server with {vips}"),
            _ => format!(
                "{name}: valid for a director with {services}, {}",
                counted(self.real_servers, "real server")
            ),
        }
    }
}

/// Whether the file is a real server's. In a file with errors, it is if a key that only a real server has appears above
/// the first header.
fn is_realserver(source: &Source) -> bool {
    let (director, realserver) = (plan::director_keys(), plan::realserver_keys());
    if let Ok(block) = Block::parse(source) {
        let is_in = |known: &[&str]| block.unknown_keys(known, no_other_place).is_empty();
        if is_in(&director) || is_in(&realserver) {
            return !is_in(&director);
        }
    }
    // A key without its last letter counts, too.
    let own = realserver.iter().filter(|key| !director.contains(key)).map(|key| &key[..key.len() - 1]);
    let own: Vec<&str> = own.collect();
    let mut lines = source.text.lines().map(str::trim_start).take_while(|line| !line.starts_with("[["));
    lines.any(|line| own.iter().any(|key| line.starts_with(key)))
}
