//! `lvs-tund status`: the state of the daemons on this host, once or repeatedly.

mod realserver;
mod screen;
mod troubles;

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::remote::ControlArguments;
use super::{Failure, Format, Stdout, print};
use crate::config::plan::{CONTROL_DEFAULT, CONTROL_REALSERVER};
use crate::control::model::{RealserverStatus, Status, VirtualServices};
use crate::control::{Client, ClientError};

#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    /// Shows the daemon behind this socket only [default: the director and the real server of this host]
    #[command(flatten)]
    control: ControlArguments,
    /// Repeat every SECONDS, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = pause())]
    watch: Option<u64>,
    /// Format of the output; JSON is one object per line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// From one second to one hour.
fn pause() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=3_600)
}

/// What one daemon answers.
enum Answer {
    Director(Box<Status>, VirtualServices),
    Realserver(RealserverStatus),
}

pub(super) fn run(arguments: &StatusArguments) -> Result<(), Failure> {
    let clients = clients(&arguments.control)?;
    let is_terminal = stdout().is_terminal();
    // no-color.org: the variable is present and not empty
    let refuses_colours = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    loop {
        let answers = answers(&clients)?;
        let text = match arguments.format {
            Format::Text => text(&answers, is_terminal && !refuses_colours),
            Format::Json => format!("{}\n", whole(&answers)),
        };
        let clear = is_terminal && arguments.watch.is_some() && arguments.format == Format::Text;
        // ECMA-48: cursor home, erase the page
        let text = if clear { format!("\x1b[H\x1b[2J{text}") } else { text };
        match (print(&text)?, arguments.watch) {
            (Stdout::Open, Some(seconds)) => std::thread::sleep(Duration::from_secs(seconds)),
            _ => return Ok(()),
        }
    }
}

/// The daemon that the operator names, or those in the usual places: the director first.
fn clients(control: &ControlArguments) -> Result<Vec<Client>, Failure> {
    if control.is_named() {
        return Ok(vec![control.client()?]);
    }
    let usual = [CONTROL_DEFAULT, CONTROL_REALSERVER];
    Ok(usual.into_iter().map(|path| Client::new(Some(Path::new(path)))).collect::<Result<_, _>>()?)
}

/// The answers of those that run; fails if none does.
fn answers(clients: &[Client]) -> Result<Vec<Answer>, Failure> {
    let (mut found, mut absent) = (Vec::new(), None);
    for client in clients {
        match ask(client) {
            Ok(answer) => found.push(answer),
            Err(error @ ClientError::NotRunning { .. }) => absent = absent.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    match absent.filter(|_| found.is_empty()) {
        Some(error) => Err(error.into()),
        None => Ok(found),
    }
}

fn ask(client: &Client) -> Result<Answer, ClientError> {
    let status: Value = client.get("/api/v1/status")?;
    match status["role"].as_str() {
        Some("realserver") => client.get("/api/v1/status").map(Answer::Realserver),
        _ => Ok(Answer::Director(client.status()?.into(), client.virtual_services()?)),
    }
}

fn text(answers: &[Answer], has_colours: bool) -> String {
    let text = |answer: &Answer| match answer {
        Answer::Director(status, services) => {
            screen::render(status, services, has_colours, SystemTime::now())
        }
        Answer::Realserver(status) => realserver::render(status),
    };
    answers.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// The keys `director` and `virtual_services`, `realserver`, or all three.
fn whole(answers: &[Answer]) -> Value {
    let mut whole = Map::new();
    for answer in answers {
        match answer {
            Answer::Director(status, services) => {
                whole.insert("director".to_owned(), json!(status));
                whole.insert("virtual_services".to_owned(), json!(services.virtual_services));
            }
            Answer::Realserver(status) => {
                whole.insert("realserver".to_owned(), json!(status));
            }
        }
    }
    Value::Object(whole)
}
