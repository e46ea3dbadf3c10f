//! `lblcr`, locality-based least connections with replication: as `lblc`, but a destination has a set of real
//! servers, which grows when its least loaded member is overloaded and shrinks when it has not changed for a
//! day (ip_vs_lblcr.c).

use std::sync::Arc;

use super::common::{
    DESTINATION_TIMEOUT, Destination, Destinations, index_of, is_overloaded, least_loaded, product,
};
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;
use crate::time::Moment;

/// `ipvsadm -s lblcr`.
pub const ROW: Row = Row {
    name: "lblcr",
    summary: "as lblc, with a set of real servers for each VIP",
    flags: &[],
    is_stateless: false,
    build,
};

struct Replicated {
    destinations: Arc<Destinations>,
}

fn build(_: &[Arc<RealServer>], _: &Options, memory: Memory) -> Box<dyn Scheduler> {
    Box::new(Replicated { destinations: memory.destinations.unwrap_or_default() })
}

impl Scheduler for Replicated {
    fn choose(&self, real_servers: &[Arc<RealServer>], request: &Request) -> Option<usize> {
        let least = || {
            let index = least_loaded(real_servers.iter().enumerate(), RealServer::overhead)?;
            Some(real_servers[index].rip)
        };
        let rip = self.destinations.choose(request.flow.vip, request.now, least, |set| {
            let members = members_of(set, real_servers);
            let best = least_loaded(members, RealServer::overhead).map(|index| &real_servers[index]);
            if set.rips.len() > 1 && request.now.since(set.changed) > DESTINATION_TIMEOUT {
                leave_most_loaded(set, real_servers, request.now);
            }
            if let Some(server) = best.filter(|server| !is_overloaded(server, real_servers)) {
                return Some(server.rip);
            }
            let rip = least()?;
            if !set.rips.contains(&rip) {
                // In canonical order, so that a tie does not depend on the order of joining; removed real
                // servers leave the set.
                set.rips.retain(|rip| index_of(real_servers, *rip).is_some());
                set.rips.push(rip);
                set.rips.sort_unstable();
                set.changed = request.now;
            }
            Some(rip)
        })?;
        index_of(real_servers, rip)
    }

    fn memory(&self) -> Memory {
        Memory { destinations: Some(self.destinations.clone()), ..Memory::default() }
    }
}

/// The members that still exist.
fn members_of<'a>(
    set: &Destination,
    real_servers: &'a [Arc<RealServer>],
) -> Vec<(usize, &'a Arc<RealServer>)> {
    let indices = set.rips.iter().filter_map(|rip| index_of(real_servers, *rip));
    indices.map(|index| (index, &real_servers[index])).collect()
}

fn leave_most_loaded(set: &mut Destination, real_servers: &[Arc<RealServer>], now: Moment) {
    let most = members_of(set, real_servers).into_iter().map(|(_, server)| server).reduce(|most, other| {
        let is_more =
            product(most.overhead(), other.weight().into()) < product(other.overhead(), most.weight().into());
        if is_more { other } else { most }
    });
    let leaver = most.map(|server| server.rip);
    set.rips.retain(|rip| Some(*rip) != leaver && index_of(real_servers, *rip).is_some());
    set.changed = now;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{build, flow, request, servers};
    use super::*;

    #[test]
    fn the_set_grows_under_load_and_shrinks_after_a_day() {
        let servers = servers(&[(10, 0, 0), (10, 1, 0), (10, 2, 0)]);
        let lblcr = build(&ROW, &servers);
        let flow = flow();
        let at = |now| lblcr.choose(&servers, &Request { now, ..request(&flow) });
        let load = |index: usize, active| servers[index].live.set_active(active);
        assert_eq!(at(Moment::ZERO), Some(0));
        load(0, 11);
        assert_eq!(at(Moment::ZERO), Some(1), "overloaded: the least loaded joins the set");
        load(0, 0);
        assert_eq!(at(Moment::ZERO), Some(0), "the least loaded member");
        load(2, 0);
        load(0, 3);
        assert_eq!(at(Moment::ZERO), Some(1), "members only");
        // Used within the day, but unchanged for longer: the most loaded member leaves.
        let half_day = Moment::ZERO.after(Duration::from_secs(13 * 3600));
        at(half_day);
        let day = half_day.after(Duration::from_secs(13 * 3600));
        at(day);
        load(0, 0);
        load(1, 2);
        assert_eq!(at(day), Some(1), "server 0 has left the set");
    }
}
