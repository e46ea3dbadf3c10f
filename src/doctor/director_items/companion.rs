//! Does `lvs-tund realserver` run on each real server?

use crate::doctor::facts::Director;
use crate::doctor::finding::Finding;

/// As `crate::metrics::names` has it.
const SUSPECT: &str = "lvs_tund_director_real_server_suspect";

/// Nothing without the director's metrics. A host is noticed when it answers a client's packet with "protocol
/// unreachable".
pub(super) fn examine(facts: &Director) -> Vec<Finding> {
    let Some(metrics) = &facts.host.metrics else { return Vec::new() };
    let suspects = metrics.by(SUSPECT, "real_server");
    if suspects.is_empty() {
        return vec![Finding::ok("no real server has refused encapsulated packets in the last half minute")];
    }
    let vip = facts.vips.first().map(|vip| vip.address.to_string()).unwrap_or_else(|| "VIP".to_owned());
    let finding = |(name, _): (String, u64)| {
        let server = facts.servers.iter().find(|server| server.name == name);
        let source = server.and_then(|server| server.way.as_ref().ok()?.source);
        let director = source.map_or_else(|| "DIP".to_owned(), |source| source.to_string());
        Finding::error(
            format!(
                "real server {name} refuses encapsulated packets: no program there receives IP protocol 4"
            ),
            format!("lvs-tund realserver --vip {vip} --director {director}   # on {name}"),
        )
    };
    suspects.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;
    use crate::doctor::samples::Samples;

    #[test]
    fn a_real_server_without_its_daemon_is_an_error() {
        let mut facts = bed::director("");
        let mut other = facts.servers[0].clone();
        other.name = "server3".into();
        other.way.as_mut().unwrap().source = Some(bed::RIP);
        facts.servers.insert(0, other);
        let fine = "no real server has refused encapsulated packets in the last half minute";
        assert_eq!(examine(&facts), [Finding::ok(fine)]);
        let text =
            "lvs_tund_director_real_server_suspect{virtual_service=\"web\",real_server=\"server2\"} 1\n";
        facts.host.metrics = Some(Samples::parse(text));
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "real server server2 refuses encapsulated packets: no program there receives IP protocol 4",
                "lvs-tund realserver --vip 172.25.3.100 --director 172.25.3.1   # on server2"
            )]
        );
        facts.host.metrics = None;
        assert_eq!(examine(&facts), []);
    }
}
