//! Reports which interface is missing in the configuration when clients' packets arrive where nothing captures them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::director::classify;
use crate::director::cluster::Cluster;
use crate::host::DirectorHost;

/// What has been reported already: interface and VIP.
#[derive(Debug, Default)]
pub(super) struct Reported(BTreeSet<(String, IpAddr)>);

impl Reported {
    /// Warns, once for each interface and VIP, of packets for a virtual service that the kernel does not send to the
    /// device.
    pub(super) async fn report(&mut self, host: &mut DirectorHost, cluster: &Cluster) {
        for stray in host.take_strays() {
            let Ok(packet) = classify::classify(&stray.packet) else { continue };
            let key = (stray.interface, packet.destination);
            if self.0.contains(&key) || cluster.find(&packet.flow).is_none() {
                continue;
            }
            let (IpAddr::V4(source), IpAddr::V4(vip)) = (packet.source, packet.destination) else { continue };
            if !host.is_captured(&key.0, source, vip).await {
                warn(host, &key.0, source, vip);
                self.0.insert(key);
            }
        }
    }
}

fn warn(host: &DirectorHost, interface: &str, client: Ipv4Addr, vip: Ipv4Addr) {
    let names: Vec<String> = host.interfaces().iter().map(|name| format!("\"{name}\"")).collect();
    tracing::warn!(
        "director: packets for VIP {vip} arrive on {interface} (from {client}), where they are not captured: set interface = \
         [{}, \"{interface}\"]",
        names.join(", ")
    );
}
