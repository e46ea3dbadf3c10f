//! Does the path to each real server carry packets as long as the director sends them?

use crate::doctor::facts::{Director, Echo, Server, Way};
use crate::doctor::finding::Finding;

/// Nothing about real servers that cannot be reached: the item `route` reports those.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    facts.servers.iter().filter_map(of).collect()
}

fn of(server: &Server) -> Option<Finding> {
    let (words, rip) = (server.words(), server.rip);
    let way = server.way.as_ref().ok().filter(|way| is_reachable(way))?;
    // The director uses the smaller of what is configured or learned and what the kernel uses.
    let used = server.path_mtu.map_or(way.path_mtu, |mtu| mtu.min(way.path_mtu));
    Some(match way.echo {
        Echo::Untried => Finding::warning(
            format!("cannot determine the path MTU to {words}: no ping can be sent"),
            "run as root",
        ),
        Echo::Silent => Finding::warning(
            format!("cannot determine the path MTU to {words}: it does not answer pings"),
            format!("tracepath -n {rip}   # and see path_mtu in docs/mtu.md"),
        ),
        Echo::Answered(longest) if longest < used => Finding::error(
            format!(
                "the path to {words} loses packets longer than {longest} bytes without an ICMP error; \
                 the director sends up to {used}"
            ),
            format!("path_mtu = {longest}   # in the [[virtual_service.real_server]] with rip = \"{rip}\""),
        ),
        Echo::Answered(_) => Finding::ok(format!("the path to {words} carries packets of {used} bytes")),
    })
}

fn is_reachable(way: &Way) -> bool {
    !way.is_local && way.is_answered != Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    fn found(path_mtu: Option<u32>, change: impl FnOnce(&mut Way)) -> Vec<Finding> {
        let mut facts = bed::director("");
        facts.servers[0].path_mtu = path_mtu;
        change(facts.servers[0].way.as_mut().unwrap());
        examine(&facts)
    }

    #[test]
    fn a_path_that_loses_long_packets_in_silence_is_an_error() {
        let lost = |used: u32| {
            Finding::error(
                format!(
                    "the path to real server server2 (172.25.3.2) loses packets longer than 1400 bytes without an ICMP \
                     error; the director sends up to {used}"
                ),
                "path_mtu = 1400   # in the [[virtual_service.real_server]] with rip = \"172.25.3.2\"",
            )
        };
        let narrow = |way: &mut Way| way.echo = Echo::Answered(1400);
        assert_eq!(found(None, narrow), [lost(1500)]);
        assert_eq!(found(Some(9000), narrow), [lost(1500)]);
        assert_eq!(found(Some(1450), narrow), [lost(1450)]);
        let carried = "the path to real server server2 (172.25.3.2) carries packets of 1400 bytes";
        assert_eq!(found(Some(1400), narrow), [Finding::ok(carried)]);
        assert_eq!(
            found(None, |way| (way.path_mtu, way.echo) = (1400, Echo::Answered(1400))),
            [Finding::ok(carried)]
        );
    }

    #[test]
    fn a_real_server_that_answers_no_ping_is_a_warning() {
        assert_eq!(
            found(None, |way| way.echo = Echo::Silent),
            [Finding::warning(
                "cannot determine the path MTU to real server server2 (172.25.3.2): it does not answer pings",
                "tracepath -n 172.25.3.2   # and see path_mtu in docs/mtu.md"
            )]
        );
    }

    #[test]
    fn without_a_ping_nothing_is_known() {
        assert_eq!(
            found(None, |way| way.echo = Echo::Untried),
            [Finding::warning(
                "cannot determine the path MTU to real server server2 (172.25.3.2): no ping can be sent",
                "run as root"
            )]
        );
    }

    #[test]
    fn a_real_server_that_cannot_be_reached_is_reported_once() {
        assert_eq!(found(None, |way| way.is_answered = Some(false)), []);
        assert_eq!(found(None, |way| way.is_local = true), []);
        assert_eq!(found(None, |way| way.is_answered = None).len(), 1);
    }
}
