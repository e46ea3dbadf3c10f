//! `lvs-tund undrain`: ends a drain, or brings back a real server that a drain has removed, with its weight.

use super::Failure;
use super::remote::{ChangeArguments, ControlArguments, ServerArguments, carry_out};
use crate::control::model::Operation;

#[derive(Debug, clap::Args)]
pub(super) struct UndrainArguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &UndrainArguments) -> Result<(), Failure> {
    let operation = Operation::Undrain {
        virtual_service: arguments.server.virtual_service(),
        real_server: arguments.server.real_server.clone(),
    };
    carry_out(operation, &arguments.control, &arguments.change).map(drop)
}
