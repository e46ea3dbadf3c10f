//! `lvs-tund check`: is a configuration valid? Touches nothing.

use std::io::Write;
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
            .map(|plan| format!("{name}: valid for a real server of {}", count(plan.guard.vips.len(), "VIP")))
    } else {
        plan::director(&source, None).map(|plan| {
            let services = &plan.cluster.virtual_services;
            let servers: usize = services.iter().map(|service| service.real_servers.len()).sum();
            let (services, servers) =
                (count(services.len(), "virtual service"), count(servers, "real server"));
            format!("{name}: valid for a director with {services}, {servers}")
        })
    };
    let verdict = verdict.map_err(|error| Failure::Refused(error.to_string()))?;
    // `println!` would panic where nobody listens; the exit code says it all.
    let _ = writeln!(std::io::stdout(), "{verdict}");
    Ok(())
}

/// "1 VIP", "2 VIPs".
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// True if the file has the keys of a real server: it parses as one, or its keys above the first header are, as
/// far as can be told from a file that may be wrong, those that only a real server has.
fn is_realserver(source: &Source) -> bool {
    if file::parse::<file::DirectorFile>(source).is_ok() {
        return false;
    }
    let begins_key =
        |line: &str| ["vip", "director", "rip", "services"].iter().any(|key| line.starts_with(key));
    let above_header = || source.text.lines().map(str::trim_start).take_while(|line| !line.starts_with("[["));
    file::parse::<file::RealserverFile>(source).is_ok() || above_header().any(begins_key)
}
