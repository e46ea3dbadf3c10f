//! `lvs-tund diff`: what a configuration file would change of a running director. Changes nothing.

use std::path::PathBuf;

use super::remote::{ControlArguments, Format, report};
use super::{Failure, read};
use crate::control::model::Configuration;

#[derive(Debug, clap::Args)]
pub struct DiffArguments {
    /// A director's configuration
    file: PathBuf,
    /// For people, or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    control: ControlArguments,
}

pub fn run(arguments: &DiffArguments) -> Result<(), Failure> {
    let toml = read(&arguments.file)?;
    let configuration = Configuration { toml, if_generation: None, dry_run: true };
    report(&arguments.control.client()?.configure(&configuration)?, arguments.format)
}
