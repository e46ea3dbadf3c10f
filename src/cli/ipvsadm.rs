//! `lvs-tund ipvsadm …`, also available under the name ipvsadm: its grammar, its formats and its exit codes,
//! for a running director.

mod host_names;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::process::ExitCode;

use super::{Pages, Stdout, note, print};
use crate::control::client::VARIABLE;
use crate::control::ipvsadm::command::{Command, ListKind, ListTerms};
use crate::control::ipvsadm::names::{Names, Numeric};
use crate::control::ipvsadm::options::Verb;
use crate::control::ipvsadm::restore::{self, Line};
use crate::control::ipvsadm::{IpvsadmError, connections, grammar, help, kernel, listing, save, served};
use crate::control::model::{Change, Operation};
use crate::control::{Client, ClientError};
pub(super) use host_names::HostNames;

/// The names in ipvsadm's package under which this program may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgramName {
    Ipvsadm,
    /// `-S`.
    Save,
    /// `-C` and `-R`. Deviation: one change, so that no packet sees an empty table.
    Restore,
}

impl ProgramName {
    pub(super) fn of(word: &OsStr) -> Option<ProgramName> {
        let names = [
            ("ipvsadm", ProgramName::Ipvsadm),
            ("ipvsadm-save", ProgramName::Save),
            ("ipvsadm-restore", ProgramName::Restore),
        ];
        names.into_iter().find(|(name, _)| word == *name).map(|(_, name)| name)
    }
}

/// Runs the words that follow the program's name.
pub(super) fn run(name: ProgramName, words: &[OsString]) -> ExitCode {
    let words = words.iter().map(|word| word.to_string_lossy().into_owned());
    let outcome = match name {
        ProgramName::Ipvsadm => carry_out(&words.collect::<Vec<_>>()),
        ProgramName::Save => carry_out(&std::iter::once("-S".to_owned()).chain(words).collect::<Vec<_>>()),
        ProgramName::Restore if words.len() == 0 => restore_from_input(&HostNames::default(), true),
        ProgramName::Restore => Err(IpvsadmError::usage(
            "lvs-tund: ipvsadm-restore takes no options; it reads what ipvsadm-save wrote from standard input",
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            note(&refusal.text);
            ExitCode::from(refusal.exit)
        }
    }
}

fn carry_out(words: &[String]) -> Result<(), IpvsadmError> {
    let names = HostNames::default();
    let command = grammar::parse(words, &names)?;
    match &command {
        Command::Help => show(&help::help()).map(drop),
        Command::Version => show(&help::version()).map(drop),
        Command::List(terms) => list(terms, &names),
        Command::Save { is_numeric } => save_to_output(if *is_numeric { &Numeric } else { &names }),
        Command::Restore => restore_from_input(&names, false),
        _ => {
            let operation = served::operation(&command)?;
            let verb = command.change().unwrap_or(Verb::List);
            let note = served::note(&command);
            change(&open()?, vec![Line { number: 1, verb, operation, note }], false)
        }
    }
}

/// ipvsadm has no option for the socket: the environment or the default determines it.
fn open() -> Result<Client, IpvsadmError> {
    Client::new(None).map_err(unanswered)
}

/// A query that got no answer. If no director is running, the exit code is that of the real program on a
/// kernel without IPVS.
fn unanswered(error: ClientError) -> IpvsadmError {
    match error {
        ClientError::Refused(error) => kernel::refusal(Verb::List, &error),
        // The usual text names the option `--control`, which this grammar does not have.
        ClientError::NotRunning { path, error } => IpvsadmError::usage(format!(
            "lvs-tund: no director is running at {path}: {error}; start one, or name its socket in {VARIABLE}"
        )),
        _ => IpvsadmError::usage(format!("lvs-tund: {error}")),
    }
}

fn show(text: &str) -> Result<Stdout, IpvsadmError> {
    print(text).map_err(|failure| IpvsadmError::list(format!("lvs-tund: {failure}")))
}

fn list(terms: &ListTerms, names: &HostNames) -> Result<(), IpvsadmError> {
    let client = open()?;
    let status = client.status().map_err(unanswered)?;
    let text = match terms.kind {
        ListKind::Connections => return list_connections(&client, terms, names),
        ListKind::Timeouts => listing::timeouts(&status.timeouts),
        // This director has no sync daemons.
        ListKind::Daemons => String::new(),
        _ => {
            let services = client.virtual_services().map_err(unanswered)?;
            listing::services(&services.virtual_services, status.connections_max, terms, names)?
        }
    };
    show(&text).map(drop)
}

/// Prints row by row: a table of a million connections is never held in memory.
fn list_connections(client: &Client, terms: &ListTerms, names: &HostNames) -> Result<(), IpvsadmError> {
    let names: &dyn Names = if terms.is_numeric { &Numeric } else { names };
    let mut pages = Pages::default();
    // The first page is not full yet, so this cannot break.
    _ = pages.push(&connections::header(terms.has_persistence_engines));
    let listed = client.connections("", |connection| pages.push(&connections::row(&connection, names)));
    listed.map_err(unanswered)?;
    pages.end().map_err(|failure| IpvsadmError::list(format!("lvs-tund: {failure}")))
}

fn save_to_output(names: &dyn Names) -> Result<(), IpvsadmError> {
    let client = open()?;
    let timeouts = client.status().map_err(unanswered)?.timeouts;
    let services = client.virtual_services().map_err(unanswered)?;
    let saved = save::save(&services.virtual_services, &timeouts, names)?;
    show(&saved.text)?;
    if !saved.left_out.is_empty() {
        let left_out = saved.left_out.join("; ");
        // A note, not an answer: the exit code stays 0.
        note(&format!(
            "lvs-tund: omitted, because ipvsadm cannot express it: {left_out}; `lvs-tund save` keeps everything"
        ));
    }
    Ok(())
}

/// Longer than any table.
const INPUT_MAX: u64 = 64 << 20;

/// `replaces`: removes everything that exists first.
fn restore_from_input(names: &HostNames, replaces: bool) -> Result<(), IpvsadmError> {
    let mut text = String::new();
    std::io::stdin()
        .take(INPUT_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| IpvsadmError::usage(format!("lvs-tund: cannot read standard input: {error}")))?;
    if text.len() as u64 > INPUT_MAX {
        let message = format!("lvs-tund: standard input is longer than {} MiB", INPUT_MAX >> 20);
        return Err(IpvsadmError::usage(message));
    }
    let mut lines = restore::parse(&text, names)?;
    if replaces {
        lines.insert(0, Line { number: 0, verb: Verb::Flush, operation: Operation::Flush {}, note: None });
    }
    if lines.is_empty() {
        return Ok(());
    }
    change(&open()?, lines, true)
}

/// Applies all lines as one change.
fn change(client: &Client, lines: Vec<Line>, is_restore: bool) -> Result<(), IpvsadmError> {
    let notes: Vec<String> = lines.iter().filter_map(|line| line.note.clone()).collect();
    let (places, mut operations): (Vec<(usize, Verb)>, Vec<Operation>) =
        lines.into_iter().map(|line| ((line.number, line.verb), line.operation)).unzip();
    let is_about_service = |operation: &Operation| {
        matches!(operation, Operation::EditVirtualService { .. } | Operation::RemoveVirtualService { .. })
    };
    if operations.iter().any(is_about_service) {
        let services = client.virtual_services().map_err(unanswered)?;
        served::fit(&mut operations, &services.virtual_services)?;
    }
    let refused = |error: ClientError| {
        let ClientError::Refused(error) = error else { return unanswered(error) };
        match error.operation.and_then(|index| places.get(index)) {
            Some((number, verb)) if is_restore => restore::at_line(kernel::refusal(*verb, &error), *number),
            Some((_, verb)) => kernel::refusal(*verb, &error),
            None => kernel::refusal(places.first().map_or(Verb::Restore, |(_, verb)| *verb), &error),
        }
    };
    client.change(&Change::from(operations)).map_err(refused)?;
    for line in notes {
        // A note, not an answer: the exit code stays 0.
        note(&line);
    }
    Ok(())
}
