//! The observations of a demo, their evaluation, and their JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::lab::{Host, HostRole, Lab, Sample, Scrape, TopologyKind};

/// The name of the real server that answered, or the reason why none did.
pub(super) type DemoAnswer = Result<String, String>;

pub(super) struct DemoReport {
    pub answers: Vec<DemoAnswer>,
    pub real_servers: usize,
    /// IP bytes from the VIP that reached the client.
    pub bytes_to_client: u64,
    /// IP bytes from the VIP to the client on the director's interface, in either direction.
    pub reply_bytes_through_director: u64,
    pub director: Scrape,
    pub real_server_metrics: Vec<(String, Scrape)>,
}

impl DemoReport {
    /// Whether all real servers took turns in a fixed order.
    pub(super) fn is_round_robin(&self) -> bool {
        self.answers.iter().enumerate().all(|(turn, answer)| match turn.checked_sub(self.real_servers) {
            Some(before) => answer.is_ok() && *answer == self.answers[before],
            None => answer.is_ok() && !self.answers[..turn].contains(answer),
        })
    }

    /// Answers by real server.
    pub(super) fn per_server(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for name in self.answers.iter().flatten() {
            *counts.entry(name.as_str()).or_default() += 1;
        }
        counts
    }

    /// What went wrong, in one line; `None` if everything is as promised.
    pub(super) fn problem(&self) -> Option<String> {
        let silent = self.answers.iter().filter(|answer| answer.is_err()).count();
        if silent > 0 {
            return Some(format!("{silent} of {} requests got no answer", self.answers.len()));
        }
        if self.reply_bytes_through_director > 0 {
            let bytes = self.reply_bytes_through_director;
            return Some(format!("{bytes} bytes of replies passed through the director"));
        }
        if self.bytes_to_client == 0 {
            return Some("the capture contains no reply, so it proves nothing".into());
        }
        (!self.is_round_robin()).then(|| "the real servers did not take turns".into())
    }

    pub(super) fn to_json(&self, lab: &Lab) -> Value {
        let real_servers: Map<_, _> =
            self.real_server_metrics.iter().map(|(name, scrape)| (name.clone(), series(scrape))).collect();
        json!({
            "topology": topology(lab),
            "requests": self.answers.len(),
            "answers": self.answers.iter().map(|answer| answer.as_ref().ok()).collect::<Vec<_>>(),
            "per_server": self.per_server(),
            "round_robin": self.is_round_robin(),
            "bytes_to_client": self.bytes_to_client,
            "reply_bytes_through_director": self.reply_bytes_through_director,
            "director": series(&self.director),
            "real_servers": real_servers,
        })
    }
}

/// A sample's name and labels, as Prometheus writes them.
pub(super) fn series_name(sample: &Sample) -> String {
    if sample.labels.is_empty() {
        return sample.name.clone();
    }
    let labels: Vec<_> = sample.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{}{{{}}}", sample.name, labels.join(","))
}

/// The samples of lvs-tund's own metrics.
pub(super) fn own_samples(scrape: &Scrape) -> impl Iterator<Item = &Sample> {
    scrape.samples().iter().filter(|sample| sample.name.starts_with("lvs_tund_"))
}

fn topology(lab: &Lab) -> Value {
    let host = |host: &Host| {
        let role = match host.role {
            HostRole::Client => "client",
            HostRole::Director => "director",
            HostRole::RealServer => "realserver",
            HostRole::Stranger => "stranger",
        };
        json!({"name": host.name, "role": role, "address": host.address, "namespace": host.namespace.path()})
    };
    json!({
        "kind": match lab.kind {
            TopologyKind::SameSubnet => "same_subnet",
            TopologyKind::Routed => "routed",
        },
        "vip": lab.vip,
        "hosts": lab.hosts().map(host).collect::<Vec<_>>(),
        "middle": {"name": lab.middle.name(), "namespace": lab.middle.path()},
    })
}

fn series(scrape: &Scrape) -> Value {
    own_samples(scrape)
        .map(|sample| (series_name(sample), number(sample.value)))
        .collect::<Map<_, _>>()
        .into()
}

// JSON has only one kind of number, but a reader expects a counter as 8, not 8.0.
fn number(value: f64) -> Value {
    value.to_string().parse::<i64>().map_or_else(|_| value.into(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(real_servers: usize, answers: &str) -> DemoReport {
        let answer = |name| if name == "-" { Err("timed out".into()) } else { Ok(format!("server{name}")) };
        DemoReport {
            answers: answers.split(' ').map(answer).collect(),
            real_servers,
            bytes_to_client: 1,
            reply_bytes_through_director: 0,
            director: Scrape::default(),
            real_server_metrics: Vec::new(),
        }
    }

    #[test]
    fn round_robin_is_one_order_repeated() {
        for (real_servers, answers, expected) in [
            (2, "2 3 2 3", true),
            (2, "3 2 3", true),
            (3, "2 4 3 2 4", true),
            (3, "2 3", true),
            (1, "2 2", true),
            (2, "2 2 3 3", false),
            (2, "2 3 3 2", false),
            (3, "2 3 2 3", false),
            (2, "- -", false),
        ] {
            assert_eq!(report(real_servers, answers).is_round_robin(), expected, "{real_servers}: {answers}");
        }
    }

    #[test]
    fn a_failed_demo_gives_its_reason_in_one_line() {
        assert_eq!(report(2, "2 3").problem(), None);
        assert_eq!(report(2, "2 - 2").problem().unwrap(), "1 of 3 requests got no answer");
        assert_eq!(report(2, "2 2").problem().unwrap(), "the real servers did not take turns");
        let seen = DemoReport { reply_bytes_through_director: 60, ..report(2, "2 3") };
        assert_eq!(seen.problem().unwrap(), "60 bytes of replies passed through the director");
    }

    #[test]
    fn counters_are_whole_numbers_under_their_series() {
        let scrape = Scrape::parse("lvs_tund_packets_total{to=\"server2\"} 8\nlvs_tund_load 0.5\nother 1\n");
        let expected = json!({"lvs_tund_packets_total{to=\"server2\"}": 8, "lvs_tund_load": 0.5});
        assert_eq!(series(&scrape), expected);
    }
}
