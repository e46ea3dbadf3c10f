//! `lvs-tund weight`: changes the weight of a real server; 0 quiesces it.

use super::Failure;
use super::remote::{ChangeArguments, ControlArguments, ServerArguments, carry_out};
use crate::config::keys::real_server::WEIGHT_MAX;
use crate::control::model::Operation;

#[derive(Debug, clap::Args)]
pub(super) struct WeightArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// 0 to 2147483647; with 0 it keeps its connections and gets no new ones
    #[arg(value_parser = clap::value_parser!(u32).range(0..=i64::from(WEIGHT_MAX)))]
    weight: u32,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &WeightArguments) -> Result<(), Failure> {
    let operation = Operation::SetWeight {
        virtual_service: arguments.server.virtual_service(),
        real_server: arguments.server.real_server.clone(),
        weight: arguments.weight,
    };
    carry_out(operation, &arguments.control, &arguments.change).map(drop)
}
