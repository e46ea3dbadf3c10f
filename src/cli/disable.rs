//! `lvs-tund disable`: gives a real server no new connections until it is enabled; its connections stay.

use super::Failure;
use super::remote::ServerStateArguments;
use crate::control::model::Operation;

pub(super) fn run(arguments: &ServerStateArguments) -> Result<(), Failure> {
    arguments.carry_out(|virtual_service, real_server| Operation::Disable { virtual_service, real_server })
}
