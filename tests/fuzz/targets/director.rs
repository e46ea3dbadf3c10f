//! The whole director over a sequence of packets, waits, sweeps and reloads: every packet has one fate, what
//! leaves is what came in a sound outer packet that the real server takes, and the counts of the real servers
//! are those of the tables.
//!
//! Input, again and again: an operation, a length in two bytes, so many bytes of packet or argument.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lvs_tund::director::Extra;
use lvs_tund::director::cluster::{
    ClusterConfig, HostView, Matcher, NoService, OnRemoved, Path, Persistence, Ports, RealServerConfig,
    VirtualServiceConfig,
};
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{ReplyKind, Verdict};
use lvs_tund::encapsulation::ENCAPSULATIONS;
use lvs_tund::packet::frame::PartialChecksum;
use lvs_tund::packet::ipv4::Ipv4;
use lvs_tund::packet::{Frame, Protocol};
use lvs_tund::realserver::guard::{Guard, GuardConfig};
use lvs_tund::realserver::{Decapsulator, verdict};

use super::input::{Input, mended};
use super::world::World;

const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);
const VIP2: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 101);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 1);
/// Real servers and the MTU of the way there.
const WAYS: [(Ipv4Addr, u16); 3] = [
    (Ipv4Addr::new(172, 25, 3, 2), 1500),
    (Ipv4Addr::new(172, 25, 3, 3), 1500),
    (Ipv4Addr::new(172, 25, 3, 4), 600),
];
/// Few, so that the table is soon full.
const CONNECTIONS_MAX: usize = 24;

pub fn run(data: &[u8]) {
    let (mut input, mut account) = (Input::new(data), Account::new());
    while !input.is_empty() {
        let operation = input.byte();
        let length = usize::from(input.word());
        let bytes = input.bytes(length);
        let argument = bytes.first().copied().unwrap_or(0);
        match operation % 8 {
            0 => account.handle(Frame::from_packet(bytes)),
            1..4 => account.handle(Frame::from_packet(&mended(bytes))),
            4 => account.handle_begun(bytes),
            5 => account.wait(argument),
            6 => account.sweep(),
            _ => account.reload(argument),
        }
    }
    account.finish();
}

/// The world, and the fates of its packets.
struct Account {
    world: World,
    received: u64,
    held: u64,
    decided: u64,
}

fn service(name: &str, protocol: Protocol, port: u16, scheduler: &'static str) -> VirtualServiceConfig {
    let server = |(rip, _): &(Ipv4Addr, u16)| RealServerConfig::new((*rip).into(), 2);
    let real_servers = WAYS.iter().map(server).collect();
    VirtualServiceConfig {
        real_servers,
        ..VirtualServiceConfig::new(name, protocol, VIP.into(), port, scheduler)
    }
}

/// Eight switches.
fn config(switches: u8) -> ClusterConfig {
    let is_on = |bit: u8| switches & 1 << bit != 0;
    let mut web = service("web", Protocol::Tcp, 80, "wrr");
    let mut hashed = service("hashed", Protocol::Tcp, 443, "mh");
    hashed.scheduler_options.mh_table_size = 251;
    let mut dns = service("dns", Protocol::Udp, 53, "wlc");
    dns.persistence = Some(Persistence::new(Duration::from_secs(60)));
    let mut log = service("log", Protocol::Udp, 514, "rr");
    log.is_one_packet = true;
    let mut all = service("all", Protocol::Tcp, 1, "lc");
    all.matchers = vec![Matcher { protocol: Protocol::Tcp, vip: VIP2.into(), ports: Ports::ALL }];
    web.real_servers[0].upper_threshold = 3;
    if is_on(0) {
        web.real_servers[1].weight = 0;
    }
    if is_on(1) {
        [&mut web, &mut dns, &mut hashed]
            .into_iter()
            .for_each(|service| drop(service.real_servers.remove(0)));
    }
    web.on_removed = match (is_on(3), is_on(4)) {
        (false, _) => OnRemoved::Reschedule,
        (true, false) => OnRemoved::Drop,
        (true, true) => OnRemoved::Keep,
    };
    let no_service = if is_on(5) { NoService::Drop } else { NoService::Reject };
    let new_connections_per_second_max = is_on(6).then_some(2);
    let mut virtual_services = vec![web, dns, log, all];
    if is_on(7) {
        virtual_services.remove(0);
    }
    // Its table takes longer to build than most inputs take to run.
    if is_on(2) {
        virtual_services.push(hashed);
    }
    ClusterConfig { no_service, new_connections_per_second_max, virtual_services, ..ClusterConfig::default() }
}

fn host() -> HostView {
    let path = |(rip, mtu): (Ipv4Addr, u16)| (IpAddr::from(rip), Path { source: DIRECTOR, mtu });
    HostView { own_addresses: [DIRECTOR.into()].into(), paths: WAYS.map(path).into(), ..HostView::default() }
}

impl Account {
    fn new() -> Account {
        let world = World::new(config(0), host(), Tables::new(CONNECTIONS_MAX, 7));
        Account { world, received: 0, held: 0, decided: 0 }
    }

    fn handle(&mut self, mut frame: Frame) {
        self.received += 1;
        let packet = frame.packet().to_vec();
        let verdict = self.world.process_frame(&mut frame);
        self.judge(&verdict, &frame, Some(&packet));
        self.drain();
        assert_eq!(self.received, self.decided + self.held, "every packet has one fate");
    }

    /// A packet whose transport checksum the sender left to the device.
    fn handle_begun(&mut self, bytes: &[u8]) {
        let (positions, packet) = bytes.split_at(bytes.len().min(2));
        let mut frame = Frame::from_packet(&mended(packet));
        if let [start, field] = *positions {
            frame.offload.checksum = Some(PartialChecksum { start: start.into(), field: field.into() });
        }
        self.received += 1;
        let verdict = self.world.process_frame(&mut frame);
        self.judge(&verdict, &frame, None);
        self.drain();
    }

    /// `packet` is what came, if it was not to be changed on its way.
    fn judge(&mut self, verdict: &Verdict, frame: &Frame, packet: Option<&[u8]>) {
        match verdict {
            Verdict::Hold => self.held += 1,
            _ => self.decided += 1,
        }
        match verdict {
            Verdict::Transmit(route) => check_outer(frame.packet(), route.to(), packet),
            Verdict::Reply(reply) => {
                let answer = Ipv4::parse(frame.packet()).expect("a sound answer");
                assert_eq!(IpAddr::from(answer.destination()), reply.to);
                assert!([VIP, VIP2].contains(&answer.source()), "we send as the VIP");
                let asked = packet.and_then(|packet| Ipv4::parse(packet).ok());
                let is_error = reply.kind != ReplyKind::EchoReply;
                let is_first = asked.is_none_or(|asked| asked.fragment_offset() == 0);
                assert!(is_first || !is_error, "RFC 1122 §3.2.2");
            }
            Verdict::Hold | Verdict::Drop(_) => {}
        }
        assert!(self.world.tables.connections.len() <= CONNECTIONS_MAX);
    }

    fn drain(&mut self) {
        for extra in self.world.due() {
            match extra {
                Extra::Piece { frame, to } => check_outer(frame.packet(), to, None),
                Extra::ErrorToSender { .. } => panic!("there was no path error"),
                Extra::Late { frame, verdict, bytes, .. } => {
                    assert!(bytes >= 20);
                    self.held = self.held.checked_sub(1).expect("it was held");
                    self.judge(&verdict, &frame, None);
                }
            }
        }
    }

    /// From 100 ms to two hours.
    fn wait(&mut self, argument: u8) {
        let millis = match argument {
            0..128 => 100 * u64::from(argument),
            _ => 60_000 * u64::from(argument - 127),
        };
        self.world.now = self.world.now.after(Duration::from_millis(millis));
        self.world.end_grace(self.world.now);
        self.drain();
    }

    fn reload(&mut self, switches: u8) {
        self.world.succeed(config(switches), host());
    }

    /// Removes what has ended; then the real servers' counts are those of the tables.
    fn sweep(&mut self) {
        self.world.sweep();
        let cluster = self.world.cluster.load();
        let counted: u64 = cluster.real_servers().map(|server| server.live.connections()).sum();
        assert_eq!(counted, self.world.tables.connections.len() as u64);
        let mut listed = 0;
        self.world.tables.connections.visit(self.world.now, |_| listed += 1);
        assert_eq!(listed, self.world.tables.connections.len());
    }

    /// The end of all things: nothing waits, and nothing is left behind.
    fn finish(mut self) {
        self.sweep();
        self.world.now = self.world.now.after(Duration::from_secs(86_400));
        self.world.end_every_grace();
        self.drain();
        assert!(!self.world.director.is_waiting());
        assert_eq!((self.received, self.held), (self.decided, 0));
        self.sweep();
        // A template ends after its connections.
        self.sweep();
        assert_eq!(self.world.tables.connections.len(), 0);
        for server in self.world.cluster.load().real_servers() {
            assert_eq!((server.live.connections(), server.live.persistent()), (0, 0));
        }
    }
}

fn check_outer(outer: &[u8], to: IpAddr, packet: Option<&[u8]>) {
    let header = Ipv4::parse(outer).expect("a sound outer header");
    assert_eq!((header.source(), IpAddr::from(header.destination())), (DIRECTOR, to));
    let way = WAYS.iter().find(|(rip, _)| IpAddr::from(*rip) == to).expect("a real server");
    assert!(outer.len() <= usize::from(way.1), "it fits the way");
    let inner = Ipv4::parse(header.payload()).expect("a sound inner header");
    assert_eq!(inner.total_length(), header.payload().len());
    match packet {
        Some(packet) if packet.starts_with(inner.packet()) => {}
        // Else it was cut: the first piece has another length and the flag.
        Some(packet) => {
            assert!(inner.has_more_fragments() && inner.payload().len() < packet.len());
            assert!(packet[inner.header_length()..].starts_with(inner.payload()));
        }
        None => {}
    }
    let config = GuardConfig {
        vips: vec![VIP.into(), VIP2.into()],
        directors: vec!["172.25.3.1/32".parse().expect("a prefix")],
        rips: Vec::new(),
        services: Vec::new(),
    };
    let real_server = Decapsulator::new(Guard::new(config, vec![to]), ENCAPSULATIONS, 1500);
    let mut frame = Frame::from_packet(outer);
    let delivered = real_server.handle_packet(&mut frame);
    assert!(matches!(delivered, verdict::Verdict::Deliver(_)), "{delivered:?}: what we wrap is unwrapped");
    assert_eq!(frame.packet(), inner.packet(), "byte for byte");
}
