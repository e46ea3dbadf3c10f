//! `lvs-tund check-now`: checks real servers at once instead of when their next probe is due.

use super::Failure;
use super::remote::{ControlArguments, ServiceWord};
use crate::control::model::CheckNow;

#[derive(Debug, clap::Args)]
pub(super) struct CheckNowArguments {
    /// Only this virtual service: its name, or PROTOCOL:VIP:PORT [default: all]
    #[arg(value_name = "SERVICE")]
    virtual_service: Option<ServiceWord>,
    /// Only this real server: its name or RIP [default: all]
    real_server: Option<String>,
    #[command(flatten)]
    control: ControlArguments,
}

pub(super) fn run(arguments: &CheckNowArguments) -> Result<(), Failure> {
    let request = CheckNow {
        virtual_service: arguments.virtual_service.as_ref().map(|word| word.0.clone()),
        real_server: arguments.real_server.clone(),
    };
    arguments.control.client()?.check_now(&request)?;
    Ok(())
}
