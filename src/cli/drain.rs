//! `lvs-tund drain`: quiesces a real server, waits until its connections have ended, then removes or keeps it.

use std::time::Duration;

use super::Failure;
use super::remote::{ChangeArguments, ControlArguments, ServerArguments, carry_out};
use crate::control::model::{AfterDrain, Operation, RealServer, Seconds, ServiceRef, VirtualService};

/// Pause between two queries while waiting for a drain.
const POLL_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Wait at most this long for its connections, such as 10m [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// What to do with it afterwards
    #[arg(long, value_enum, default_value_t)]
    then: Afterwards,
    /// Return when the drain has ended, not when it has begun
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    control: ControlArguments,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Afterwards {
    /// Remove it: `undrain`, `weight` or a reload of a file that lists it brings it back
    #[default]
    Remove,
    /// Keep it, quiesced
    Keep,
}

pub(super) fn run(arguments: &DrainArguments) -> Result<(), Failure> {
    let virtual_service = arguments.server.virtual_service();
    let operation = Operation::Drain {
        virtual_service: virtual_service.clone(),
        real_server: arguments.server.real_server.clone(),
        timeout: arguments.timeout.map(Seconds),
        then: match arguments.then {
            Afterwards::Remove => AfterDrain::Remove,
            Afterwards::Keep => AfterDrain::Keep,
        },
    };
    let client = carry_out(operation, &arguments.control, &arguments.change)?;
    if !arguments.wait {
        return Ok(());
    }
    let is_waited_for = |services: &[VirtualService]| {
        is_draining(services, virtual_service.as_ref(), &arguments.server.real_server)
    };
    while is_waited_for(&client.virtual_services()?.virtual_services) {
        std::thread::sleep(POLL_PAUSE);
    }
    Ok(())
}

/// Whether the real server is draining in one virtual service, or in any.
fn is_draining(services: &[VirtualService], within: Option<&ServiceRef>, server: &str) -> bool {
    let is_asked = |service: &&VirtualService| match within {
        None => true,
        Some(ServiceRef::Name(name)) => service.name == *name,
        Some(ServiceRef::Matcher(matcher)) => service.matchers.contains(matcher),
    };
    let is_waited_for = |found: &RealServer| {
        let is_it = found.name == server || found.rip.to_string() == server;
        is_it && found.drain.as_ref().is_some_and(|drain| !drain.done)
    };
    services.iter().filter(is_asked).any(|service| service.real_servers.iter().any(is_waited_for))
}
