//! `lvs-tund undrain`: ends a drain, or brings back a real server that a drain has removed, with its weight.

use super::Failure;
use super::remote::ServerStateArguments;
use crate::control::model::Operation;

pub(super) fn run(arguments: &ServerStateArguments) -> Result<(), Failure> {
    arguments.carry_out(|virtual_service, real_server| Operation::Undrain { virtual_service, real_server })
}
