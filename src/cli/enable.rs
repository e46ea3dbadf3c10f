//! `lvs-tund enable`: ends what `disable` began.

use super::Failure;
use super::remote::{ChangeArguments, ControlArguments, ServerArguments, carry_out};
use crate::control::model::Operation;

#[derive(Debug, clap::Args)]
pub(super) struct EnableArguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &EnableArguments) -> Result<(), Failure> {
    let operation = Operation::Enable {
        virtual_service: arguments.server.virtual_service(),
        real_server: arguments.server.real_server.clone(),
    };
    carry_out(operation, &arguments.control, &arguments.change).map(drop)
}
