//! `lvs-tund reload`: makes the director read its configuration file again.

use super::Failure;
use super::remote::{ChangeArguments, ControlArguments};
use crate::control::model::Reload;

#[derive(Debug, clap::Args)]
pub(super) struct ReloadArguments {
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &ReloadArguments) -> Result<(), Failure> {
    let reload = Reload { dry_run: arguments.change.is_dry_run(), ..Reload::default() };
    arguments.change.report(&arguments.control.client()?.reload(&reload)?)
}
