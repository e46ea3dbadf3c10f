//! Reports which interface is missing in the configuration while clients' packets arrive where nothing captures them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::director::classify;
use crate::director::cluster::Cluster;
use crate::host::DirectorHost;
use crate::metrics::strays::StrayPackets;
use crate::time::Moment;
use crate::trouble::{Found, TroubleKind};

/// How long a packet counts as present: longer than a client waits before its third SYN (RFC 6298 §2).
const PRESENT_FOR: Duration = Duration::from_secs(10);

/// Where packets arrive, and for which VIP.
type Place = (String, Ipv4Addr);

/// The latest packet of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    client: Ipv4Addr,
    at: Moment,
}

/// What has arrived where nothing captures it.
#[derive(Debug, Default)]
pub(super) struct StrayWatch {
    seen: BTreeMap<Place, Seen>,
    counts: Arc<StrayPackets>,
}

impl StrayWatch {
    /// The counts, kept up to date by [`StrayWatch::look`].
    pub(super) fn counts(&self) -> Arc<StrayPackets> {
        self.counts.clone()
    }

    /// Notes the packets for a virtual service that the kernel does not send to the device.
    pub(super) async fn look(&mut self, host: &mut DirectorHost, cluster: &Cluster, now: Moment) {
        let mut captured: BTreeMap<Place, bool> = BTreeMap::new();
        for stray in host.take_strays() {
            let Ok(packet) = classify::classify(&stray.packet) else { continue };
            let (IpAddr::V4(client), IpAddr::V4(vip)) = (packet.source, packet.destination) else { continue };
            if cluster.find(&packet.flow).is_none() {
                continue;
            }
            let place = (stray.interface, vip);
            let is_captured = match captured.get(&place) {
                Some(known) => *known,
                None => host.is_captured(&place.0, client, vip).await,
            };
            captured.insert(place.clone(), is_captured);
            if !is_captured {
                self.note(place, client, now);
            }
        }
        self.seen.retain(|_, seen| now.since(seen.at) < PRESENT_FOR);
    }

    fn note(&mut self, place: Place, client: Ipv4Addr, now: Moment) {
        self.counts.count(&place.0);
        self.seen.insert(place, Seen { client, at: now });
    }

    /// Where such packets arrive at present; `interfaces` are those of the configuration.
    pub(super) fn troubles(&self, interfaces: &[String], now: Moment) -> Vec<Found> {
        let names: Vec<String> = interfaces.iter().map(|name| format!("\"{name}\"")).collect();
        let names = names.join(", ");
        let present = self.seen.iter().filter(|(_, seen)| now.since(seen.at) < PRESENT_FOR);
        let found = present.map(|((interface, vip), Seen { client, .. })| Found {
            kind: TroubleKind::StrayPackets,
            subject: format!("{interface} {vip}"),
            text: format!(
                "packets for VIP {vip} arrive on {interface} (from {client}), where they are not captured; set interface = \
                 [{names}, \"{interface}\"]"
            ),
        });
        found.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);

    #[test]
    fn a_place_is_a_trouble_for_as_long_as_packets_arrive() {
        let mut strays = StrayWatch::default();
        let interfaces = ["eth0".to_owned(), "eth2".to_owned()];
        let at = Moment::from_secs;
        assert_eq!(strays.troubles(&interfaces, at(1)), []);
        for (client, second) in [(7, 1), (8, 3)] {
            strays.note(("eth1".to_owned(), VIP), Ipv4Addr::new(10, 0, 0, client), at(second));
        }
        let expected = Found {
            kind: TroubleKind::StrayPackets,
            subject: "eth1 172.25.3.100".to_owned(),
            text: "packets for VIP 172.25.3.100 arrive on eth1 (from 10.0.0.8), where they are not captured; set interface \
                   = [\"eth0\", \"eth2\", \"eth1\"]"
                .to_owned(),
        };
        assert_eq!(strays.troubles(&interfaces, at(12)), [expected]);
        assert_eq!(strays.troubles(&interfaces, at(13)), []);
        assert_eq!(strays.counts().read(), [("eth1".to_owned(), 2)]);
    }
}
