//! `lvs-tund enable`: ends what `disable` began.

use super::Failure;
use super::remote::ServerStateArguments;
use crate::control::model::Operation;

pub(super) fn run(arguments: &ServerStateArguments) -> Result<(), Failure> {
    arguments.carry_out(|virtual_service, real_server| Operation::Enable { virtual_service, real_server })
}
