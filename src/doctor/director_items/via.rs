//! How far does a packet through the tunnel to each real server come?

use crate::doctor::facts::{Director, Refusal, Server, Via};
use crate::doctor::finding::Finding;
use crate::doctor::samples::Samples;

/// As `crate::metrics::names` has them.
const RECEIVED: &str = "lvs_tund_realserver_packets_received_total";
const DELIVERED: &str = "lvs_tund_realserver_packets_delivered_total";
const DROPPED: &str = "lvs_tund_realserver_packets_dropped_total";

/// Nothing unless packets were sent.
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    facts.servers.iter().filter_map(|server| Some(of(facts, server, server.via.as_ref()?))).collect()
}

fn of(facts: &Director, server: &Server, via: &Via) -> Finding {
    match (via.refusal, &via.counters) {
        (Some(refusal), _) => refused(facts, server, refusal),
        (None, Some((before, after))) => counted(server, before, after),
        (None, None) => Finding::warning(
            format!(
                "cannot determine whether packets through the tunnel reach real server {}: nothing answers on {}",
                server.name, via.metrics
            ),
            format!("metrics = \"0.0.0.0:{}\"   # in the file of {}", via.metrics.port(), server.name),
        ),
    }
}

fn refused(facts: &Director, server: &Server, refusal: Refusal) -> Finding {
    let name = &server.name;
    let vip = facts.vips.first().map_or_else(|| "VIP".to_owned(), |vip| vip.address.to_string());
    let source = server.way.as_ref().ok().and_then(|way| way.source);
    let director = source.map_or_else(|| "DIP".to_owned(), |source| source.to_string());
    match refusal {
        Refusal::Protocol => Finding::error(
            format!(
                "real server {name} refuses packets through the tunnel: no program there receives IP protocol 4"
            ),
            format!("lvs-tund realserver --vip {vip} --director {director}   # on {name}"),
        ),
        Refusal::Port => Finding::error(
            format!(
                "the kernel of real server {name} answers packets through the tunnel: the module ipip is loaded"
            ),
            format!("modprobe -r ipip   # on {name}"),
        ),
        Refusal::Prohibited => Finding::error(
            format!("a firewall rejects packets through the tunnel to real server {name}"),
            format!(
                "nft insert rule inet filter input ip saddr {director} ip protocol 4 accept   # on {name}"
            ),
        ),
        Refusal::Other(code) => Finding::error(
            format!(
                "packets through the tunnel to real server {name} are unreachable (ICMP type 3, code {code})"
            ),
            format!("ip route get {}", server.rip),
        ),
    }
}

fn counted(server: &Server, before: &Samples, after: &Samples) -> Finding {
    let name = &server.name;
    let rose = |metric: &str| after.sum(metric, &[]) > before.sum(metric, &[]);
    if rose(DELIVERED) {
        return Finding::ok(format!("real server {name} delivers packets through the tunnel"));
    }
    let is_new = |(reason, count): &(String, u64)| *count > before.sum(DROPPED, &[("reason", reason)]);
    if let Some((reason, _)) = after.by(DROPPED, "reason").into_iter().find(is_new) {
        return Finding::error(
            format!("real server {name} receives packets through the tunnel and drops them: {reason}"),
            format!("lvs-tund doctor realserver --config FILE   # on {name}"),
        );
    }
    if rose(RECEIVED) {
        return Finding::ok(format!("real server {name} receives packets through the tunnel"));
    }
    Finding::error(
        format!(
            "packets through the tunnel do not reach real server {name}: a firewall or the network drops IP protocol 4"
        ),
        format!(
            "tcpdump -ni any ip proto 4   # on {name}; packets that it shows are dropped by the firewall there"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    fn found(refusal: Option<Refusal>, counters: Option<(&str, &str)>) -> Finding {
        let mut facts = bed::director("");
        let counters = counters.map(|(before, after)| (Samples::parse(before), Samples::parse(after)));
        facts.servers[0].via = Some(Via { metrics: "172.25.3.2:9691".parse().unwrap(), refusal, counters });
        examine(&facts).remove(0)
    }

    #[test]
    fn a_host_that_refuses_names_the_reason() {
        let rows = [
            (
                Refusal::Protocol,
                "real server server2 refuses packets through the tunnel: no program there receives IP protocol 4",
                "lvs-tund realserver --vip 172.25.3.100 --director 172.25.3.1   # on server2",
            ),
            (
                Refusal::Port,
                "the kernel of real server server2 answers packets through the tunnel: the module ipip is loaded",
                "modprobe -r ipip   # on server2",
            ),
            (
                Refusal::Prohibited,
                "a firewall rejects packets through the tunnel to real server server2",
                "nft insert rule inet filter input ip saddr 172.25.3.1 ip protocol 4 accept   # on server2",
            ),
            (
                Refusal::Other(1),
                "packets through the tunnel to real server server2 are unreachable (ICMP type 3, code 1)",
                "ip route get 172.25.3.2",
            ),
        ];
        for (refusal, words, remedy) in rows {
            assert_eq!(found(Some(refusal), None), Finding::error(words, remedy));
        }
    }

    #[test]
    fn the_companions_counters_show_how_far_the_packets_came() {
        let received = |count: u64| format!("{RECEIVED} {count}\n");
        let all = |received_: u64, delivered: u64, dropped: u64| {
            let rest = format!(
                "{DELIVERED}{{vip=\"v\"}} {delivered}\n{DROPPED}{{reason=\"unknown_peer\"}} {dropped}\n"
            );
            received(received_) + &rest
        };
        let from = |before: String, after: String| found(None, Some((&before, &after)));
        let delivers = Finding::ok("real server server2 delivers packets through the tunnel");
        assert_eq!(from(all(5, 5, 0), all(8, 8, 0)), delivers);
        assert_eq!(
            from(all(5, 4, 1), all(8, 4, 4)),
            Finding::error(
                "real server server2 receives packets through the tunnel and drops them: unknown_peer",
                "lvs-tund doctor realserver --config FILE   # on server2"
            )
        );
        let receives = Finding::ok("real server server2 receives packets through the tunnel");
        assert_eq!(from(received(5), received(6)), receives);
        assert_eq!(
            from(all(5, 4, 1), all(5, 4, 1)),
            Finding::error(
                "packets through the tunnel do not reach real server server2: a firewall or the network drops IP protocol 4",
                "tcpdump -ni any ip proto 4   # on server2; packets that it shows are dropped by the firewall there"
            )
        );
    }

    #[test]
    fn without_metrics_and_without_a_refusal_nothing_is_known() {
        assert_eq!(
            found(None, None),
            Finding::warning(
                "cannot determine whether packets through the tunnel reach real server server2: nothing answers on \
                 172.25.3.2:9691",
                "metrics = \"0.0.0.0:9691\"   # in the file of server2"
            )
        );
        assert_eq!(examine(&bed::director("")), []);
    }
}
