//! A director without a host, for `explain`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Explain, Explanation, hex};
use crate::config::{Source, plan};
use crate::director::classify::{Content, classify};
use crate::director::cluster::{Cluster, HostView, PATH_MTU_DEFAULT, Path};
use crate::director::path::errors::{Event, Heard, Outcome, PathErrors};
use crate::director::tables::Tables;
use crate::director::verdict::{Memory, ReplyKind, Verdict};
use crate::director::{self, Extra};
use crate::failure::Failure;
use crate::packet::ipv4::Ipv4;
use crate::packet::tcp::Flags;
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
    last: Moment,
    /// Index and bytes of the packets that wait.
    held: Vec<(usize, Vec<u8>)>,
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
        let tables = Tables::new(plan.connections_max, SEED);
        let tables = Arc::new(tables.with_connections_per_client_max(plan.connections_per_client_max));
        let director = director::Director::new(cluster.clone(), tables.clone(), SEED);
        let path_errors = PathErrors::new(cluster.clone(), tables.clone());
        let (swept, last) = (Moment::ZERO, Moment::ZERO);
        Ok(Director { director, path_errors, cluster, tables, swept, last, held: Vec::new() })
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
        self.last = now;
        let mut frame = Frame::from_packet(packet);
        let verdict = self.director.handle_packet(&mut frame, now);
        let mut leaving = match verdict {
            Verdict::Transmit(_) | Verdict::Reply(_) => vec![frame.packet().to_vec()],
            Verdict::Hold | Verdict::Drop(_) => Vec::new(),
        };
        if verdict == Verdict::Hold {
            self.held.push((index, packet.to_vec()));
        }
        let mut pieces = leaving.len();
        let mut steps = Vec::new();
        while let Some(extra) = self.director.poll_extra(now) {
            match extra {
                Extra::Piece { frame, .. } => {
                    pieces += 1;
                    leaving.push(frame.packet().to_vec());
                }
                Extra::Told { frame, to } => {
                    steps.push(format!("path: {to} is told of an error that the path has said before"));
                    leaving.push(frame.packet().to_vec());
                }
                Extra::Late { frame, verdict, .. } => {
                    steps.push(self.late_step(&frame, &verdict));
                    if matches!(verdict, Verdict::Transmit(_) | Verdict::Reply(_)) {
                        leaving.push(frame.packet().to_vec());
                    }
                }
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
        describe_verdict(&mut explanation, &verdict, &cluster, leaving.first(), now);
        if pieces > 1 {
            explanation.steps.push(format!("encapsulation: cut into {pieces} pieces that fit the way"));
        }
        explanation.steps.extend(steps);
        (explanation, leaving)
    }

    /// A second after the last packet nobody waits any more.
    fn late(&mut self) -> Option<String> {
        let mut text = String::new();
        let end = self.last.after(Duration::from_secs(60));
        while let Some(extra) = self.director.poll_extra(end) {
            if let Extra::Late { frame, verdict, .. } = extra {
                text.push_str(&self.late_step(&frame, &verdict));
                text.push('\n');
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Director {
    /// The late fate of a packet that was held, and which one it was.
    fn late_step(&mut self, frame: &Frame, verdict: &Verdict) -> String {
        // What is forwarded has an outer header in front; what is answered is another packet, of the oldest.
        let is_it = |packet: &[u8]| frame.packet().ends_with(packet);
        let place = self.held.iter().position(|(_, packet)| is_it(packet)).unwrap_or(0);
        let which = match self.held.is_empty() {
            true => "a packet held".to_owned(),
            false => format!("packet {}, held", self.held.remove(place).0),
        };
        match verdict {
            Verdict::Transmit(_) => format!("{which}: transmit"),
            Verdict::Reply(reply) => format!("{which}: reply, {}", reply.kind.label()),
            Verdict::Hold => format!("{which}: goes on waiting"),
            Verdict::Drop(reason) => format!("{which}: drop ({reason})"),
        }
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
        let mut steps = vec![match outcome {
            Outcome::Mismatch | Outcome::Malformed => {
                "path: no error about an outer packet of ours".to_owned()
            }
            _ => format!("path: an error about an outer packet of ours, {}", kind.label()),
        }];
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
    let (flow, length) = (&packet.flow, packet.total_length);
    steps.push(format!("classify: {flow}, {}, {length} bytes", describe_content(&packet.content)));
    if packet.content == Content::LaterFragment {
        return;
    }
    match cluster.find(flow) {
        Some(service) => {
            steps.push(format!("cluster: virtual service {}", service.config.name));
            explanation.virtual_service = Some(service.config.name.clone());
        }
        None if packet.content == Content::EchoRequest && cluster.has_vip(packet.destination) => {
            steps.push("cluster: a VIP of ours, which answers itself".to_owned());
        }
        None if cluster.has_vip(packet.destination) => {
            steps.push("cluster: a VIP of ours, no virtual service there".to_owned());
        }
        None => steps.push("cluster: no VIP of ours".to_owned()),
    }
}

fn describe_content(content: &Content) -> String {
    let said = match content {
        Content::Tcp(flags) => {
            const NAMES: [(u8, &str); 4] =
                [(Flags::SYN, "SYN"), (Flags::ACK, "ACK"), (Flags::FIN, "FIN"), (Flags::RST, "RST")];
            let names: Vec<_> =
                NAMES.iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| *name).collect();
            return if names.is_empty() { "no flag that counts".to_owned() } else { names.join(" ") };
        }
        Content::Udp => "a datagram",
        Content::EchoRequest => "an echo request",
        Content::IcmpError => "an ICMP error about this connection",
        Content::LaterFragment => "a later fragment, without ports",
        Content::Tunnel => "a packet in a packet",
        Content::Other => "a protocol that is not balanced",
    };
    said.to_owned()
}

fn describe_verdict(
    explanation: &mut Explanation,
    verdict: &Verdict,
    cluster: &Cluster,
    first: Option<&Vec<u8>>,
    now: Moment,
) {
    let steps = &mut explanation.steps;
    match verdict {
        Verdict::Transmit(route) => {
            explanation.verdict = "transmit";
            let Some(server) = cluster.real_server(route.real_server) else { return };
            let service = cluster.virtual_service(route.virtual_service);
            let name = &server.config.name;
            let chosen = service.map_or_else(String::new, |service| match service.config.persistence {
                None => format!("scheduler {}", service.config.scheduler),
                Some(_) => format!("the client's template, or scheduler {}", service.config.scheduler),
            });
            steps.push(match route.memory {
                Memory::Known => format!("connection: known, real server {name}"),
                Memory::New => format!("connection: new; {chosen}: real server {name}"),
                Memory::None => format!("connection: none is kept; {chosen}: real server {name}"),
                Memory::Flood => format!("connection: too many new ones; {chosen}: real server {name}"),
            });
            let source = match server.path.source {
                Ipv4Addr::UNSPECIFIED => "the kernel's choice".to_owned(),
                source => source.to_string(),
            };
            let (kind, mtu) = (server.encapsulation.name, server.path_mtu(now));
            steps.push(format!("encapsulation: {kind} {source} > {}, path MTU {mtu}", server.rip));
            explanation.virtual_service = service.map(|service| service.config.name.clone());
            explanation.real_server = Some(name.clone());
        }
        Verdict::Reply(reply) => {
            explanation.verdict = "reply";
            explanation.reason = reply.reason.map(|reason| reason.label());
            steps.push(format!("reply: {} to {}", reply.kind.label(), reply.to));
            // RFC 1191 §4: the MTU's place in the ICMP header, behind 20 bytes of our own IPv4 header.
            if let Some([high, low]) = first.and_then(|packet| packet.get(26..28))
                && reply.kind == ReplyKind::TooBig
            {
                let mtu = u16::from_be_bytes([*high, *low]);
                steps.push(format!("reply: {mtu} bytes fit the way to its real server"));
            }
        }
        Verdict::Hold => {
            explanation.verdict = "hold";
            steps.push("fragment: waits for its first one, a second at most".to_owned());
        }
        Verdict::Drop(reason) => explanation.reason = Some(reason.label()),
    }
}
