//! Do encapsulated packets come from hosts that are not in `directors`?

use std::net::{IpAddr, Ipv4Addr};

use crate::doctor::facts::Realserver;
use crate::doctor::finding::{Finding, counted};

/// As `crate::metrics::names` has it.
const DROPPED: &str = "lvs_tund_realserver_packets_dropped_total";

pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    let is_known = |source: Ipv4Addr| {
        facts.plan.guard.directors.iter().any(|directors| directors.contains(&IpAddr::V4(source)))
    };
    let seen = facts.seen.as_deref().unwrap_or_default();
    let strangers: Vec<Ipv4Addr> = seen.iter().copied().filter(|source| !is_known(*source)).collect();
    if let Some(stranger) = strangers.first() {
        return vec![Finding::error(
            format!("{stranger} sends encapsulated packets and is not in directors: they are dropped"),
            format!(
                "directors = [\"{stranger}\"]   # add it to the list in {}, if it is a director",
                facts.file
            ),
        )];
    }
    let metrics = facts.host.metrics.as_ref();
    let dropped = metrics.map_or(0, |metrics| metrics.sum(DROPPED, &[("reason", "unknown_peer")]));
    if dropped > 0 {
        let packets = counted(dropped, "encapsulated packet");
        return vec![Finding::warning(
            format!(
                "since it started, the daemon has dropped {packets} from hosts that are not in directors"
            ),
            format!("tcpdump -ni any ip proto 4   # then add the director to directors in {}", facts.file),
        )];
    }
    vec![Finding::ok("no host outside directors sends encapsulated packets")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed::{self, DIP};
    use crate::doctor::samples::Samples;

    #[test]
    fn a_director_that_is_not_in_the_list_is_named() {
        let mut facts = bed::realserver("");
        facts.plan.guard.directors.push("10.0.0.0/24".parse().unwrap());
        let fine = [Finding::ok("no host outside directors sends encapsulated packets")];
        assert_eq!(examine(&facts), fine);
        let count = |reason: &str, count: u64| {
            Samples::parse(&format!(
                "lvs_tund_realserver_packets_dropped_total{{reason=\"{reason}\"}} {count}\n"
            ))
        };
        facts.host.metrics = Some(count("inner_not_vip", 3));
        assert_eq!(examine(&facts), fine);
        facts.host.metrics = Some(count("unknown_peer", 1));
        assert_eq!(
            examine(&facts),
            [Finding::warning(
                "since it started, the daemon has dropped 1 encapsulated packet from hosts that are not in directors",
                "tcpdump -ni any ip proto 4   # then add the director to directors in realserver.toml"
            )]
        );
        facts.seen = Some(vec![DIP, Ipv4Addr::new(172, 25, 3, 99)]);
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "172.25.3.99 sends encapsulated packets and is not in directors: they are dropped",
                "directors = [\"172.25.3.99\"]   # add it to the list in realserver.toml, if it is a director"
            )]
        );
        (facts.seen, facts.host.metrics) = (None, None);
        assert_eq!(examine(&facts), fine);
    }
}
