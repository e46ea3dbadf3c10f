//! `lvs-tund diff`: shows how a configuration file differs from the running configuration. Changes nothing.
//! `reload` keeps changes made by command, and its dry run shows what it would apply.

use std::path::PathBuf;

use super::remote::{ControlArguments, report};
use super::{Failure, Format, read};
use crate::control::model::Configuration;
use crate::control::{ClientError, Code, ControlError};

#[derive(Debug, clap::Args)]
pub(super) struct DiffArguments {
    /// A director's configuration file
    file: PathBuf,
    /// Format of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &DiffArguments) -> Result<(), Failure> {
    let toml = read(&arguments.file)?;
    let configuration = Configuration { toml, if_generation: None, dry_run: true };
    let changed =
        arguments.control.client()?.configure(&configuration).map_err(|error| named(error, arguments))?;
    report(&changed, arguments.format)
}

/// The director receives the text without the file's name and calls it "request".
fn named(error: ClientError, arguments: &DiffArguments) -> ClientError {
    match error {
        ClientError::Refused(error) if error.code == Code::BadConfiguration => {
            let rest = error.message.strip_prefix("request").unwrap_or(&error.message);
            let message = format!("{}{rest}", arguments.file.display());
            ClientError::Refused(ControlError { message, ..error })
        }
        _ => error,
    }
}
