//! `dh`, destination hashing: packets for one VIP always go to the same real server, ignoring weights except
//! 0 (ip_vs_dh.c). Useful if one virtual service matches several VIPs.

use std::net::IpAddr;
use std::sync::Arc;

use super::common::{Buckets, KeyedHash};
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s dh`.
pub const ROW: Row =
    Row { name: "dh", summary: "by a hash of the VIP", flags: &[], is_stateless: false, build };

/// IP_VS_DH_TAB_SIZE of IPVS.
const BUCKETS: usize = 256;

struct DestinationHashing {
    buckets: Buckets,
}

fn build(real_servers: &[Arc<RealServer>], options: &Options, _: Memory) -> Box<dyn Scheduler> {
    let weighted = || (0..).zip(real_servers).filter(|(_, server)| server.weight() > 0);
    let all = || weighted().map(|(index, _)| index);
    let table = if all().next().is_some() { all().cycle().take(BUCKETS).collect() } else { Vec::new() };
    let options = Options { has_fallback: false, ..*options };
    Box::new(DestinationHashing {
        buckets: Buckets { table, hash: KeyedHash::new(&options.hash_key), options },
    })
}

impl Scheduler for DestinationHashing {
    fn choose(&self, real_servers: &[Arc<RealServer>], request: &Request) -> Option<usize> {
        let vip: IpAddr = request.flow.vip;
        self.buckets.choose(real_servers, vip, None, request.is_new)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{build, flow, request, servers};
    use super::*;
    use crate::packet::Flow;

    #[test]
    fn the_vip_alone_decides() {
        let servers = servers(&[(1, 0, 0), (0, 0, 0), (9, 0, 0)]);
        let dh = build(&ROW, &servers);
        let of = |vip: u8, client: u8| {
            let flow = Flow { vip: [10, 1, 1, vip].into(), client: [192, 0, 2, client].into(), ..flow() };
            dh.choose(&servers, &request(&flow))
        };
        assert!((0..50).all(|vip| (0..50).all(|client| of(vip, client) == of(vip, 0))));
        let chosen: Vec<_> = (0..50).map(|vip| of(vip, 0)).collect();
        assert!(chosen.contains(&Some(0)) && chosen.contains(&Some(2)) && !chosen.contains(&Some(1)));
    }
}
