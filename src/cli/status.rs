//! `lvs-tund status`: virtual services, real servers, connections and rates of a running director, once or
//! repeatedly.

mod screen;

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use serde_json::json;

use super::remote::ControlArguments;
use super::{Failure, Format, Stdout, print};

#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
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

pub(super) fn run(arguments: &StatusArguments) -> Result<(), Failure> {
    let client = arguments.control.client()?;
    let is_terminal = stdout().is_terminal();
    // no-color.org: the variable is present and not empty
    let refuses_colours = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    loop {
        let (status, services) = (client.status()?, client.virtual_services()?);
        let text = match arguments.format {
            Format::Text => screen::render(&status, &services, is_terminal && !refuses_colours),
            Format::Json => {
                let whole = json!({"director": status, "virtual_services": services.virtual_services});
                format!("{whole}\n")
            }
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
