//! Is there a route to each real server, and does its host, or the gateway, answer?

use crate::doctor::facts::{Director, Server, Way};
use crate::doctor::finding::Finding;

pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    facts.servers.iter().map(|server| of(facts, server)).collect()
}

fn of(facts: &Director, server: &Server) -> Finding {
    let (words, rip) = (server.words(), server.rip);
    let lookup = format!("ip route get {rip}");
    match &server.way {
        Err(why) => Finding::error(format!("there is no route to {words}: {why}"), lookup),
        Ok(way) if way.is_local => local(facts, &words),
        Ok(way) if way.interface == facts.plan.tun => Finding::error(
            format!("the route to {words} leads through {}, back into the director", way.interface),
            format!("{lookup}   # add a route through another interface"),
        ),
        Ok(way) if way.is_answered == Some(false) => unanswered(server, way),
        Ok(way) => {
            let through = way.gateway.map(|gateway| format!("{gateway} on ")).unwrap_or_default();
            Finding::ok(format!("{words} is reached through {through}{}", way.interface))
        }
    }
}

/// The host accepts what the director hands to it only if the VIPs are its own. Which VIPs a real server serves is not
/// known here, so each counts.
fn local(facts: &Director, words: &str) -> Finding {
    match facts.vips.iter().find(|vip| !vip.is_local) {
        Some(vip) => Finding::warning(
            format!(
                "{words} is this host, which does not have VIP {}: it gets no connections for it",
                vip.address
            ),
            format!(
                "ip address add {}/32 dev lo   # unless keepalived or `lvs-tund realserver` brings it",
                vip.address
            ),
        ),
        None => Finding::ok(format!("{words} is this host")),
    }
}

fn unanswered(server: &Server, Way { interface, gateway, .. }: &Way) -> Finding {
    let (words, rip) = (server.words(), server.rip);
    match gateway {
        Some(gateway) => Finding::error(
            format!("the gateway {gateway} to {words} does not answer ARP on {interface}"),
            format!("ip neighbour show {gateway}; ip route get {rip}"),
        ),
        None => Finding::error(
            format!("{words} does not answer ARP on {interface}: its host is down, or rip is wrong"),
            format!("ip neighbour show {rip}; ping -c 1 {rip}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    fn found(change: impl FnOnce(&mut Way)) -> Finding {
        let mut facts = bed::director("");
        change(facts.servers[0].way.as_mut().unwrap());
        examine(&facts).remove(0)
    }

    #[test]
    fn a_real_server_is_reached_directly_or_through_a_gateway() {
        assert_eq!(found(|_| ()), Finding::ok("real server server2 (172.25.3.2) is reached through eth0"));
        assert_eq!(
            found(|way| (way.gateway, way.is_answered) = (Some(bed::DIP), None)),
            Finding::ok("real server server2 (172.25.3.2) is reached through 172.25.3.1 on eth0")
        );
    }

    #[test]
    fn a_way_that_leads_nowhere_or_back_is_an_error() {
        let mut facts = bed::director("");
        facts.servers[0].way = Err("Network is unreachable".into());
        facts.servers[0].name = "172.25.3.2".into();
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "there is no route to real server 172.25.3.2: Network is unreachable",
                "ip route get 172.25.3.2"
            )]
        );
        assert_eq!(
            found(|way| way.interface = "lvsd0".into()),
            Finding::error(
                "the route to real server server2 (172.25.3.2) leads through lvsd0, back into the director",
                "ip route get 172.25.3.2   # add a route through another interface"
            )
        );
    }

    #[test]
    fn a_real_server_on_this_host_needs_the_vip() {
        let mut facts = bed::director("");
        facts.servers[0].way.as_mut().unwrap().is_local = true;
        assert_eq!(
            examine(&facts).remove(0),
            Finding::warning(
                "real server server2 (172.25.3.2) is this host, which does not have VIP 172.25.3.100: it gets no connections for it",
                "ip address add 172.25.3.100/32 dev lo   # unless keepalived or `lvs-tund realserver` brings it"
            )
        );
        facts.vips[0].is_local = true;
        assert_eq!(examine(&facts).remove(0), Finding::ok("real server server2 (172.25.3.2) is this host"));
    }

    #[test]
    fn a_next_hop_that_does_not_answer_is_an_error() {
        assert_eq!(
            found(|way| way.is_answered = Some(false)),
            Finding::error(
                "real server server2 (172.25.3.2) does not answer ARP on eth0: its host is down, or rip is wrong",
                "ip neighbour show 172.25.3.2; ping -c 1 172.25.3.2"
            )
        );
        assert_eq!(
            found(|way| (way.gateway, way.is_answered) = (Some(bed::DIP), Some(false))),
            Finding::error(
                "the gateway 172.25.3.1 to real server server2 (172.25.3.2) does not answer ARP on eth0",
                "ip neighbour show 172.25.3.1; ip route get 172.25.3.2"
            )
        );
    }
}
