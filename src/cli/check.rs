//! `lvs-tund check`: is a configuration valid? Touches nothing.

use std::path::PathBuf;

use super::{Failure, read};
use crate::config::{Source, file, plan};

#[derive(Debug, clap::Args)]
pub struct CheckArguments {
    /// A director's or a real server's configuration; which one, its keys tell
    file: PathBuf,
}

pub fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let name = arguments.file.display().to_string();
    let text = read(&arguments.file)?;
    let source = Source { name: &name, text: &text };
    let verdict = if is_realserver(&source) {
        plan::realserver(&source, &[], &[], false)
            .map(|plan| format!("{name}: valid for a real server of {} VIPs", plan.guard.vips.len()))
    } else {
        plan::director(&source, None).map(|plan| {
            let services = &plan.cluster.virtual_services;
            let servers: usize = services.iter().map(|service| service.real_servers.len()).sum();
            format!(
                "{name}: valid for a director with {} virtual services, {servers} real servers",
                services.len()
            )
        })
    };
    println!("{}", verdict.map_err(|error| Failure::Refused(error.to_string()))?);
    Ok(())
}

/// True if the file has the keys of a real server: it parses as one, or names one of the lists that only a
/// real server has.
fn is_realserver(source: &Source) -> bool {
    if file::parse::<file::DirectorFile>(source).is_ok() {
        return false;
    }
    let begins_key = |line: &str| ["vips", "directors"].iter().any(|key| line.trim_start().starts_with(key));
    file::parse::<file::RealserverFile>(source).is_ok() || source.text.lines().any(begins_key)
}
