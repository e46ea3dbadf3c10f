//! `lvs-tund convert`: the file of another program as `director.toml`. Changes nothing.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::ipvsadm::HostNames;
use super::{Failure, note, print};
use crate::config::write::counted;
use crate::convert::{self, Converted, Input, Kind, glob};
use crate::daemon;

#[derive(Debug, clap::Args)]
pub(super) struct ConvertArguments {
    /// keepalived.conf, ldirectord.cf, or rules of ipvsadm, recognized by its words; `-` is standard input
    file: PathBuf,
    /// Whose file it is
    #[arg(long, value_enum, value_name = "PROGRAM")]
    from: Option<From>,
    /// keepalived's configuration id, which selects lines that begin with `@ID` [default: the host's name up to the first
    /// dot]
    #[arg(long, value_name = "ID")]
    config_id: Option<String>,
    /// Fail with exit code 2 if anything has no counterpart; the result is printed in any case
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    Keepalived,
    Ldirectord,
    Ipvsadm,
}

impl From {
    fn kind(self) -> Kind {
        match self {
            From::Keepalived => Kind::Keepalived,
            From::Ldirectord => Kind::Ldirectord,
            From::Ipvsadm => Kind::Ipvsadm,
        }
    }
}

pub(super) fn run(arguments: &ConvertArguments) -> Result<(), Failure> {
    let is_stdin = arguments.file == Path::new("-");
    let path = &arguments.file;
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let text =
        if is_stdin { read_input() } else { daemon::read_any_text(path).map_err(|error| error.to_string()) };
    let text = text.map_err(|error| Failure::Refused(format!("{name}: {error}")))?;
    let kind = arguments.from.map(From::kind).or_else(|| convert::recognize(&text)).ok_or_else(|| {
        Failure::Refused(format!(
            "{name}: neither keepalived.conf, ldirectord.cf nor rules of ipvsadm; choose one with --from"
        ))
    })?;
    let config_id = arguments.config_id.clone().unwrap_or_else(host_name);
    let input = Input {
        name: &name,
        text: &text,
        include: &included,
        names: &HostNames::default(),
        config_id: &config_id,
    };
    let Converted { toml, losses, services, real_servers } = convert::convert(kind, &input);
    print(&toml)?;
    for loss in &losses {
        note(&format!("not converted: {loss}"));
    }
    let count = losses.len();
    let (services, servers) = (counted(services, "virtual service"), counted(real_servers, "real server"));
    let summary = format!("{name}: {services}, {servers}; {} not converted", counted(count, "line"));
    if count > 0 && arguments.strict {
        return Err(Failure::Refused(summary));
    }
    note(&format!("lvs-tund: {summary}"));
    Ok(())
}

/// Standard input to its end.
fn read_input() -> Result<String, String> {
    /// More than any configuration has.
    const BYTES_MAX: u64 = 64 << 20;
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot read: {error}"))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("cannot read: longer than {} MiB", BYTES_MAX >> 20));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As keepalived: the first part of the host's name.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}

/// The files that a pattern matches, relative to the file that includes them, in the order of their names.
fn included(from: &str, pattern: &str) -> Result<Vec<(String, String)>, String> {
    let directory = Path::new(from).parent().unwrap_or(Path::new(""));
    let mut files = Vec::new();
    for pattern in glob::braces(pattern) {
        for path in matching(&directory.join(pattern)) {
            let text =
                daemon::read_any_text(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.push((path.display().to_string(), text));
        }
    }
    Ok(files)
}

/// The files that a path without braces matches.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = Path::new(&part).to_path_buf();
        let word = part.to_string_lossy().into_owned();
        if !glob::is_pattern(&word) {
            found.iter_mut().for_each(|path| path.push(&part));
            continue;
        }
        found = found.iter().flat_map(|directory| children(directory, &word)).collect();
    }
    found.retain(|path| path.is_file());
    found
}

fn children(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let shown = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(shown).into_iter().flatten().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| glob::matches(pattern, name)).collect();
    names.sort();
    names.into_iter().map(|name| directory.join(name)).collect()
}
