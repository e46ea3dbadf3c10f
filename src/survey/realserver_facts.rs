//! The facts about a real server's host.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use super::{kernel, sockets, sources};
use crate::config::plan::RealserverPlan;
use crate::doctor::facts::Realserver;
use crate::host::mss::MSS_TABLES;
use crate::host::{HostError, Netlink};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};

/// For packets of directors that are not in the list.
const LISTEN: Duration = Duration::from_millis(1_500);

/// Looks at the host of a real server; `file` is how its configuration is called on the command line,
/// and `command` starts the daemon with it.
///
/// # Errors
/// The kernel does not answer.
pub(crate) async fn realserver(
    plan: RealserverPlan,
    file: String,
    command: String,
) -> Result<Realserver, HostError> {
    let netlink = Netlink::open()?;
    let listening = thread::spawn(|| sources::sources(LISTEN));
    let host = kernel::host(&netlink, plan.metrics).await?;
    let mut towards = Vec::new();
    for prefix in &plan.guard.directors {
        // A prefix may contain any number of directors.
        let (IpAddr::V4(director), 32) = (prefix.addr(), prefix.prefix_len()) else { continue };
        if let Ok(way) = netlink.route_to(director.into()).await {
            towards.push((director, way.interface.name));
        }
    }
    let mss_rules = netlink.rules().await?.iter().filter_map(vip_of_mss).collect();
    let seen = listening.join().unwrap_or_default();
    Ok(Realserver { host, plan, file, command, sockets: sockets::waiting(), towards, seen, mss_rules })
}

/// The VIP of a rule that leads to a table with an MSS.
fn vip_of_mss(rule: &RuleMessage) -> Option<Ipv4Addr> {
    let table = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let source = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Source(IpAddr::V4(source)) => Some(*source),
        _ => None,
    });
    source.filter(|_| table.is_some_and(|table| MSS_TABLES.contains(&table)))
}
