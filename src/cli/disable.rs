//! `lvs-tund disable`: gives a real server no new connections until it is enabled; its connections stay.

use super::Failure;
use super::remote::{ChangeArguments, ControlArguments, ServerArguments, carry_out};
use crate::control::model::Operation;

#[derive(Debug, clap::Args)]
pub(super) struct DisableArguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &DisableArguments) -> Result<(), Failure> {
    let operation = Operation::Disable {
        virtual_service: arguments.server.virtual_service(),
        real_server: arguments.server.real_server.clone(),
    };
    carry_out(operation, &arguments.control, &arguments.change).map(drop)
}
