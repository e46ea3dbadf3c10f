//! `lblc`, locality-based least connections: a destination keeps its real server until that one is overloaded
//! or removed; for caches behind one virtual service with many VIPs (ip_vs_lblc.c).

use std::sync::Arc;

use super::common::{Destinations, index_of, is_overloaded, least_loaded};
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s lblc`.
pub const ROW: Row = Row {
    name: "lblc",
    summary: "the same one for a VIP, until that one is overloaded",
    flags: &[],
    is_stateless: false,
    build,
};

struct Locality {
    destinations: Arc<Destinations>,
}

fn build(_: &[Arc<RealServer>], _: &Options, memory: Memory) -> Box<dyn Scheduler> {
    Box::new(Locality { destinations: memory.destinations.unwrap_or_default() })
}

impl Scheduler for Locality {
    fn choose(&self, real_servers: &[Arc<RealServer>], request: &Request) -> Option<usize> {
        let least = || {
            let index = least_loaded(real_servers.iter().enumerate(), RealServer::overhead)?;
            Some(real_servers[index].rip)
        };
        let rip = self.destinations.choose(request.flow.vip, request.now, least, |destination| {
            let known = destination.rips.first().and_then(|rip| index_of(real_servers, *rip));
            let is_kept = known
                .map(|index| &real_servers[index])
                .is_some_and(|server| server.is_eligible() && !is_overloaded(server, real_servers));
            if !is_kept {
                destination.rips = vec![least()?];
            }
            destination.rips.first().copied()
        })?;
        index_of(real_servers, rip)
    }

    fn memory(&self) -> Memory {
        Memory { destinations: Some(self.destinations.clone()), ..Memory::default() }
    }
}

#[cfg(test)]
mod tests {

    use super::super::common::DESTINATION_TIMEOUT;
    use super::super::testing::{build, flow, request, servers};
    use super::*;
    use crate::packet::Flow;
    use crate::time::Moment;

    #[test]
    fn a_destination_stays_until_its_server_is_overloaded() {
        let servers = servers(&[(10, 0, 0), (10, 1, 0)]);
        let lblc = build(&ROW, &servers);
        let of = |vip: u8, now| {
            let flow = Flow { vip: [10, 1, 1, vip].into(), ..flow() };
            lblc.choose(&servers, &Request { now, ..request(&flow) })
        };
        assert_eq!(of(1, Moment::ZERO), Some(0));
        servers[0].live.set_active(10);
        assert_eq!(of(1, Moment::ZERO), Some(0), "at its weight, not above");
        assert_eq!(of(2, Moment::ZERO), Some(1), "another destination goes to the least loaded");
        servers[0].live.set_active(11);
        assert_eq!(of(1, Moment::ZERO), Some(1), "overloaded, and the other has under half its weight");
        servers[0].live.set_active(0);
        assert_eq!(of(1, Moment::ZERO), Some(1), "and it stays there");
        assert_eq!(of(1, Moment::ZERO.after(DESTINATION_TIMEOUT)), Some(0), "forgotten after a day");
    }
}
