//! A director without a host, for `explain`.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Explain, Explanation, hex};
use crate::config::{Source, plan};
use crate::director::classify::{Content, classify};
use crate::director::cluster::{
    Cluster, ClusterConfig, HostView, Path, VirtualService, VirtualServiceConfig,
};
use crate::director::path_errors::{Event, Handled, Outcome, PathErrors, report_about};
use crate::director::reply::IcmpError;
use crate::director::route::{Fit, FoundBy, Route, Tracking, Way, Wrapping};
use crate::director::tables::Tables;
use crate::director::verdict::{ReplyKind, Verdict};
use crate::director::{self, Extra};
use crate::failure::Failure;
use crate::packet::ipv4::Ipv4;
use crate::packet::tcp::Flags;
use crate::packet::{Frame, MTU_DEFAULT, protocol};
use crate::time::Moment;

/// A fixed seed, so that the same input always gives the same output.
const SEED: u64 = 1;

/// How long an expired connection may still be counted.
const SWEEP_PERIOD: Duration = Duration::from_millis(100);

pub(super) struct Director {
    director: director::Director,
    path_errors: PathErrors,
    cluster: Arc<ArcSwap<Cluster>>,
    tables: Arc<Tables>,
    swept: Moment,
    last: Moment,
    /// Indices of the packets that were held, in that order.
    held: Vec<usize>,
}

impl Director {
    /// `outer_source`, if the file has it, replaces what the host would supply: the director's address and
    /// the source of every outer packet. `host_addresses` are further ones of the host. Interfaces are ignored.
    pub(super) fn new(source: &Source, host_addresses: &[Ipv4Addr]) -> Result<Director, Failure> {
        let plan =
            plan::director(source, Some("any")).map_err(|error| Failure::Refused(error.to_string()))?;
        let mut config = plan.cluster;
        for service in &mut config.virtual_services {
            service.scheduler_options.hash_key = plan.hash_key.unwrap_or_default();
        }
        let host = host_view(&config, plan.outer_source, host_addresses);
        let cluster = Arc::new(ArcSwap::from_pointee(Cluster::new(config, host)));
        let tables = Tables::new(plan.connections_max, SEED);
        let tables = Arc::new(tables.with_connections_per_client_max(plan.connections_per_client_max));
        let director = director::Director::new(tables.clone(), SEED);
        let path_errors = PathErrors::new(cluster.clone(), tables.clone(), 0);
        let (swept, last) = (Moment::ZERO, Moment::ZERO);
        Ok(Director { director, path_errors, cluster, tables, swept, last, held: Vec::new() })
    }
}

/// What the host would supply.
fn host_view(config: &ClusterConfig, outer_source: Option<Ipv4Addr>, addresses: &[Ipv4Addr]) -> HostView {
    let vips: HashSet<IpAddr> = config.virtual_services.iter().flat_map(VirtualServiceConfig::vips).collect();
    let rips =
        || config.virtual_services.iter().flat_map(|service| &service.real_servers).map(|server| server.rip);
    let all = || outer_source.into_iter().chain(addresses.iter().copied()).map(IpAddr::V4);
    let is_hosts = |address: &IpAddr| address.is_loopback() || all().any(|own| own == *address);
    let path = |source| rips().map(move |rip| (rip, Path { source, mtu: MTU_DEFAULT })).collect();
    HostView {
        own_addresses: all().filter(|address| !vips.contains(address)).collect(),
        paths: outer_source.map(path).unwrap_or_default(),
        local_vips: vips.iter().copied().filter(is_hosts).collect(),
        local_rips: rips().filter(is_hosts).collect(),
        ..HostView::default()
    }
}

impl Explain for Director {
    fn explain(&mut self, index: usize, packet: &[u8], now: Moment) -> (Explanation, Vec<Vec<u8>>) {
        if now.since(self.swept) >= SWEEP_PERIOD {
            self.tables.sweep(&self.cluster.load(), now);
            self.swept = now;
        }
        if self.is_for_us(packet) {
            return self.explain_path_error(index, packet, now);
        }
        self.last = now;
        let mut frame = Frame::from_packet(packet);
        let verdict = self.director.handle_packet(&self.cluster.load(), &mut frame, now);
        let mut leaving = match verdict {
            Verdict::Transmit(_) | Verdict::Reply(_) | Verdict::Pass => vec![frame.packet().to_vec()],
            Verdict::Hold | Verdict::Drop(_) => Vec::new(),
        };
        if verdict == Verdict::Hold {
            self.held.push(index);
        }
        let mut pieces = 1;
        let mut steps = Vec::new();
        while let Some(extra) = self.director.poll_extra(&self.cluster.load(), now) {
            match extra {
                Extra::Piece { frame, .. } => {
                    pieces += 1;
                    leaving.push(frame.packet().to_vec());
                }
                Extra::ErrorToSender { frame, to } => {
                    steps.push(format!("path: {to} gets an error that the path reported earlier"));
                    leaving.push(frame.packet().to_vec());
                }
                Extra::Late { number, frame, verdict, .. } => {
                    steps.push(self.late_step(number, &verdict));
                    if matches!(verdict, Verdict::Transmit(_) | Verdict::Reply(_) | Verdict::Pass) {
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
        describe_verdict(&mut explanation, &verdict, &cluster);
        if let Verdict::Transmit(Route { way: Way::Wrapped(wrapping), .. }) = &verdict {
            explanation.steps.extend(fit_step(wrapping.fit, pieces));
        }
        explanation.steps.extend(steps);
        (explanation, leaving)
    }

    /// A second after the last packet no packet is held any longer.
    fn late(&mut self) -> Option<String> {
        let mut text = String::new();
        let end = self.last.after(Duration::from_secs(60));
        while let Some(extra) = self.director.poll_extra(&self.cluster.load(), end) {
            if let Extra::Late { number, verdict, .. } = extra {
                text.push_str(&self.late_step(number, &verdict));
                text.push('\n');
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Director {
    /// The late fate of the packet that was held as this one, and which packet it was.
    fn late_step(&mut self, number: u64, verdict: &Verdict) -> String {
        let index = usize::try_from(number).ok().and_then(|number| self.held.get(number)).copied();
        let which = index.map_or_else(|| "a held packet".to_owned(), |index| format!("held packet {index}"));
        if *verdict == Verdict::Hold {
            self.held.extend(index);
        }
        match verdict {
            Verdict::Transmit(_) => format!("{which}: transmit"),
            Verdict::Reply(reply) => format!("{which}: reply, {}", reply.kind.label()),
            Verdict::Pass => format!("{which}: pass"),
            Verdict::Hold => format!("{which}: still held"),
            Verdict::Drop(reason) => format!("{which}: drop ({reason})"),
        }
    }
}

impl Director {
    /// ICMP to the director's own address never enters the device; it is about outer packets.
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
        let handled = self.path_errors.handle_packet(packet, now);
        let probe = handled.probe.as_ref().map(|(probe, _)| probe.clone());
        let report = probe.as_ref().and_then(|probe| report_about(probe, packet));
        let Handled { kind, outcome, event, answer, .. } =
            report.map_or(handled, |report| self.path_errors.handle_packet(&report, now));
        let mut steps = vec![match outcome {
            Outcome::Mismatch | Outcome::Malformed => {
                "path: not an error about one of this director's outer packets".to_owned()
            }
            _ => format!("path: an error about one of this director's outer packets, {}", kind.label()),
        }];
        if let Some(probe) = probe {
            steps.push(format!(
                "path: a probe of {} bytes shows whether that is true; here it meets the same router",
                probe.len()
            ));
        }
        match event {
            Some(Event::MtuLowered { rip, mtu }) => {
                steps.push(format!(
                    "path: path MTU to {rip} lowered to {mtu} bytes, including the outer header"
                ));
            }
            Some(Event::Suspect { rip }) => {
                steps.push(format!("path: no daemon receives encapsulated packets at {rip}"));
            }
            None => {}
        }
        let leaving: Vec<Vec<u8>> = answer.iter().map(|(packet, _)| packet.clone()).collect();
        if let Some((_, to)) = answer {
            steps.push(format!("reply: the error, rewritten to quote the client's packet, to {to}"));
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
        Err(reason) => return steps.push(format!("classify: refused, {reason}")),
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
        None if cluster.has_local_vip(packet.destination) => {
            steps.push(
                "cluster: a VIP that is an address of the host, but no virtual service for this packet"
                    .to_owned(),
            );
        }
        None if packet.content == Content::EchoRequest && cluster.has_vip(packet.destination) => {
            steps.push("cluster: a VIP, answered by the director itself".to_owned());
        }
        None if cluster.has_vip(packet.destination) => {
            steps.push("cluster: a VIP, but no virtual service for this packet".to_owned());
        }
        None => steps.push("cluster: not a VIP".to_owned()),
    }
}

fn describe_content(content: &Content) -> String {
    let said = match content {
        Content::Tcp(flags) => {
            const NAMES: [(u8, &str); 4] =
                [(Flags::SYN, "SYN"), (Flags::ACK, "ACK"), (Flags::FIN, "FIN"), (Flags::RST, "RST")];
            let names: Vec<_> =
                NAMES.iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| *name).collect();
            return if names.is_empty() { "none of SYN, ACK, FIN, RST".to_owned() } else { names.join(" ") };
        }
        Content::Udp => "a datagram",
        Content::EchoRequest => "an echo request",
        Content::IcmpError => "an ICMP error about this connection",
        Content::LaterFragment => "a later fragment, without ports",
        Content::Tunnel => "a tunnelled packet",
        Content::Other => "a protocol that is not served",
    };
    said.to_owned()
}

/// Whether there is an entry, and what named the real server.
fn describe_choice(route: &Route, service: Option<&VirtualService>, name: &str) -> String {
    let found_by = match route.found_by {
        FoundBy::Entry => return format!("connection: known, real server {name}"),
        FoundBy::FirstFragment => return format!("fragment: follows the first one, real server {name}"),
        FoundBy::Probe => return format!("probe: of a check of real server {name}"),
        FoundBy::FloodRecord => "the record of a flow without an entry".to_owned(),
        FoundBy::Template => "the client's template".to_owned(),
        FoundBy::Scheduler => match service.map(|service| service.config.scheduler) {
            Some(row) => format!("scheduler {}, {}", row.name, row.summary),
            None => "the scheduler".to_owned(),
        },
    };
    let entry = match route.tracking {
        Tracking::Known => "known",
        Tracking::New => "new",
        Tracking::None => "no entry",
        Tracking::Flood => "no entry, too many new connections",
    };
    format!("connection: {entry}; {found_by}: real server {name}")
}

/// How a packet that does not fit its path leaves.
fn fit_step(fit: Fit, pieces: usize) -> Option<String> {
    let (what, parts) = match fit {
        Fit::Whole => return None,
        Fit::CutInner => ("fragmented into", "pieces that fit the path"),
        Fit::CutOuter => ("the outer packet is fragmented into", "pieces that fit the path"),
        Fit::Segments => ("cut into", "segments"),
    };
    Some(format!("encapsulation: {what} {pieces} {parts}"))
}

fn way_step(way: &Way) -> String {
    let Way::Wrapped(Wrapping { encapsulation, source, rip, path_mtu, .. }) = way else {
        return "the real server is this host: to its own stack, unchanged".to_owned();
    };
    let source = match *source {
        Ipv4Addr::UNSPECIFIED => "(source chosen by the kernel)".to_owned(),
        source => source.to_string(),
    };
    format!("encapsulation: {} {source} > {rip}, path MTU {path_mtu}", encapsulation.name)
}

fn describe_verdict(explanation: &mut Explanation, verdict: &Verdict, cluster: &Cluster) {
    let steps = &mut explanation.steps;
    match verdict {
        Verdict::Transmit(route) => {
            explanation.verdict = "transmit";
            let Some(server) = cluster.real_server(route.real_server) else { return };
            let service = cluster.virtual_service(route.virtual_service);
            let name = &server.config.name;
            steps.push(describe_choice(route, service.map(|service| &**service), name));
            steps.push(way_step(&route.way));
            explanation.virtual_service = service.map(|service| service.config.name.clone());
            explanation.real_server = Some(name.clone());
        }
        Verdict::Reply(reply) => {
            explanation.verdict = "reply";
            explanation.reason = reply.reason.map(|reason| reason.label());
            steps.push(format!("reply: {} to {}", reply.kind.label(), reply.to));
            if let ReplyKind::Error(IcmpError::TooBig { mtu }) = reply.kind {
                steps.push(format!("reply: packets of up to {mtu} bytes fit the path to the real server"));
            }
        }
        Verdict::Pass => {
            explanation.verdict = "pass";
            steps.push("pass: to the host's own stack, unchanged".to_owned());
        }
        Verdict::Hold => {
            explanation.verdict = "hold";
            steps.push("fragment: held until its first fragment arrives, at most a second".to_owned());
        }
        Verdict::Drop(reason) => explanation.reason = Some(reason.label()),
    }
}
