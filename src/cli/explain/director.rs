//! A director without a host, for `explain`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Explain, Explanation, hex};
use crate::config::{Source, plan};
use crate::director::classify::classify;
use crate::director::cluster::{Cluster, HostView, PATH_MTU_DEFAULT, Path};
use crate::director::path::errors::{Event, Heard, PathErrors};
use crate::director::tables::Tables;
use crate::director::verdict::{Memory, Verdict};
use crate::director::{self, Extra};
use crate::failure::Failure;
use crate::packet::ipv4::Ipv4;
use crate::packet::{Frame, protocol};
use crate::time::Moment;

/// The same input always has the same answer.
const SEED: u64 = 1;

/// How long an expired connection may go on being counted.
const SWEEP_PERIOD: Duration = Duration::from_millis(100);

pub struct Director {
    director: director::Director,
    path_errors: PathErrors,
    cluster: Arc<ArcSwap<Cluster>>,
    tables: Arc<Tables>,
    swept: Moment,
}

impl Director {
    /// `outer_source`, if the file has one, stands for the host: our address and the source of every outer
    /// packet. Interfaces play no part.
    pub fn new(source: &Source) -> Result<Director, Failure> {
        let plan =
            plan::director(source, Some("any")).map_err(|error| Failure::Refused(error.to_string()))?;
        let mut config = plan.cluster;
        for service in &mut config.virtual_services {
            service.scheduler_options.hash_key = plan.hash_key.unwrap_or_default();
        }
        let mut host = HostView::default();
        if let Some(source) = plan.outer_source {
            host.own_addresses.insert(IpAddr::V4(source));
            let rips = config.virtual_services.iter().flat_map(|service| &service.real_servers);
            host.paths = rips.map(|server| (server.rip, Path { source, mtu: PATH_MTU_DEFAULT })).collect();
        }
        let cluster = Arc::new(ArcSwap::from_pointee(Cluster::new(config, host)));
        let tables = Arc::new(Tables::new(plan.connections_max, SEED));
        let director = director::Director::new(cluster.clone(), tables.clone(), SEED);
        let path_errors = PathErrors::new(cluster.clone(), tables.clone());
        Ok(Director { director, path_errors, cluster, tables, swept: Moment::ZERO })
    }
}

impl Explain for Director {
    fn explain(&mut self, index: usize, packet: &[u8], now: Moment) -> (Explanation, Vec<Vec<u8>>) {
        if now.since(self.swept) >= SWEEP_PERIOD {
            self.tables.sweep(&self.cluster, now);
            self.swept = now;
        }
        if self.is_for_us(packet) {
            return self.explain_path_error(index, packet, now);
        }
        let mut frame = Frame::from_packet(packet);
        let verdict = self.director.handle_packet(&mut frame, now);
        let mut leaving = match verdict {
            Verdict::Transmit(_) | Verdict::Reply(_) => vec![frame.packet().to_vec()],
            Verdict::Hold | Verdict::Drop(_) => Vec::new(),
        };
        while let Some(extra) = self.director.poll_extra(now) {
            match extra {
                Extra::Piece { frame, .. } | Extra::Told { frame, .. } => {
                    leaving.push(frame.packet().to_vec());
                }
                Extra::Late { frame, verdict: Verdict::Transmit(_) | Verdict::Reply(_), .. } => {
                    leaving.push(frame.packet().to_vec());
                }
                Extra::Late { .. } => {}
            }
        }
        let cluster = self.cluster.load();
        let mut explanation = Explanation {
            index,
            verdict: "drop",
            reason: None,
            virtual_service: None,
            real_server: None,
            packets: leaving.iter().map(|packet| hex(packet)).collect(),
            steps: Vec::new(),
        };
        describe_packet(&mut explanation, packet, &cluster);
        describe_verdict(&mut explanation, &verdict, &cluster);
        (explanation, leaving)
    }
}

impl Director {
    /// ICMP to our own address never enters the device: it is about our outer packets.
    fn is_for_us(&self, packet: &[u8]) -> bool {
        let cluster = self.cluster.load();
        Ipv4::parse_unsummed(packet).is_ok_and(|ip| {
            let destination = IpAddr::V4(ip.destination());
            ip.protocol() == protocol::ICMP && cluster.is_own(destination) && !cluster.has_vip(destination)
        })
    }

    fn explain_path_error(
        &mut self,
        index: usize,
        packet: &[u8],
        now: Moment,
    ) -> (Explanation, Vec<Vec<u8>>) {
        let Heard { kind, outcome, event, answer } = self.path_errors.handle_packet(packet, now);
        let mut steps = vec![format!("path: an error about an outer packet of ours, {}", kind.label())];
        match event {
            Some(Event::MtuLowered { rip, mtu }) => {
                steps.push(format!("path: from now on {rip} takes {mtu} bytes, outer header included"));
            }
            Some(Event::Suspect { rip }) => {
                steps.push(format!("path: nobody takes encapsulated packets at {rip}"));
            }
            None => {}
        }
        let leaving: Vec<Vec<u8>> = answer.iter().map(|(packet, _)| packet.clone()).collect();
        if let Some((_, to)) = answer {
            steps.push(format!("reply: the error, about its own packet, to {to}"));
        }
        let explanation = Explanation {
            index,
            verdict: if leaving.is_empty() { "drop" } else { "reply" },
            reason: leaving.is_empty().then_some(outcome.label()),
            virtual_service: None,
            real_server: None,
            packets: leaving.iter().map(|packet| hex(packet)).collect(),
            steps,
        };
        (explanation, leaving)
    }
}

fn describe_packet(explanation: &mut Explanation, packet: &[u8], cluster: &Cluster) {
    let steps = &mut explanation.steps;
    let packet = match classify(packet) {
        Ok(packet) => packet,
        Err(reason) => return steps.push(format!("classify: cannot be keyed, {reason}")),
    };
    steps.push(format!("classify: {}, {:?}, {} bytes", packet.flow, packet.content, packet.total_length));
    match cluster.find(&packet.flow) {
        Some(service) => {
            steps.push(format!("cluster: virtual service {}", service.config.name));
            explanation.virtual_service = Some(service.config.name.clone());
        }
        None if cluster.has_vip(packet.destination) => {
            steps.push("cluster: no virtual service here".to_owned())
        }
        None => steps.push("cluster: no VIP of ours".to_owned()),
    }
}

fn describe_verdict(explanation: &mut Explanation, verdict: &Verdict, cluster: &Cluster) {
    let steps = &mut explanation.steps;
    match verdict {
        Verdict::Transmit(route) => {
            explanation.verdict = "transmit";
            let Some(server) = cluster.real_server(route.real_server) else { return };
            let service = cluster.virtual_service(route.virtual_service);
            let scheduler = service.map_or("", |service| service.config.scheduler);
            let name = &server.config.name;
            steps.push(match route.memory {
                Memory::Known => format!("connection: known, real server {name}"),
                Memory::New => {
                    format!("connection: new; scheduler {scheduler} or a template: real server {name}")
                }
                Memory::None => {
                    format!("connection: none is kept; scheduler {scheduler}: real server {name}")
                }
                Memory::Flood => {
                    format!("connection: too many new ones; scheduler {scheduler}: real server {name}")
                }
            });
            let source = match server.path.source {
                Ipv4Addr::UNSPECIFIED => "the kernel's choice".to_owned(),
                source => source.to_string(),
            };
            steps.push(format!("encapsulation: {} {source} > {}", server.encapsulation.name, server.rip));
            explanation.virtual_service = service.map(|service| service.config.name.clone());
            explanation.real_server = Some(name.clone());
        }
        Verdict::Reply(reply) => {
            explanation.verdict = "reply";
            explanation.reason = reply.reason.map(|reason| reason.label());
            steps.push(format!("reply: {} to {}", reply.kind.label(), reply.to));
        }
        Verdict::Hold => explanation.verdict = "hold",
        Verdict::Drop(reason) => explanation.reason = Some(reason.label()),
    }
}
