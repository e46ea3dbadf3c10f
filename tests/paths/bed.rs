//! A director with two real servers behind it, and a source of errors from the paths to them. Its packets are read by
//! etherparse.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Slice, Icmpv4Type, IpNumber, Ipv4Header};
use lvs_tund::director::Extra;
use lvs_tund::director::cluster::{ClusterConfig, HostView, Path, RealServerConfig, VirtualServiceConfig};
use lvs_tund::director::path_errors::{Event, Kind, Outcome};
use lvs_tund::director::scheduler::find;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{DropReason, Tracking, Verdict};
use lvs_tund::packet::Protocol;
use lvs_tund::time::Moment;

use crate::support::packets::*;
use crate::support::world::World;

pub const NOW: Moment = Moment::from_secs(1);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
pub const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);
pub const SERVERS: [Ipv4Addr; 2] = [SERVER2, SERVER3];

/// The answers that a client may get.
pub const HOST: Icmpv4Type = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host);
pub const NET: Icmpv4Type = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Network);

pub const fn fits(next_hop_mtu: u16) -> Icmpv4Type {
    Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu })
}

/// TCP 80 and UDP 53 in turn; TCP 443 by hash, and TCP 8443 by hash over server2 alone; UDP 123 datagram by datagram.
pub fn config() -> ClusterConfig {
    let server = |rip: Ipv4Addr| RealServerConfig::new(rip.into(), 1);
    let service = |name, protocol, port, scheduler| VirtualServiceConfig {
        real_servers: vec![server(SERVER2), server(SERVER3)],
        ..VirtualServiceConfig::new(name, protocol, VIP.into(), port, find(scheduler).expect("a scheduler"))
    };
    let half = VirtualServiceConfig {
        real_servers: vec![server(SERVER2)],
        ..service("half", Protocol::Tcp, 8443, "sh")
    };
    let time = VirtualServiceConfig { is_one_packet: true, ..service("time", Protocol::Udp, 123, "rr") };
    ClusterConfig {
        virtual_services: vec![
            service("web", Protocol::Tcp, 80, "rr"),
            service("dns", Protocol::Udp, 53, "rr"),
            service("hashed", Protocol::Tcp, 443, "sh"),
            half,
            time,
        ],
        ..ClusterConfig::default()
    }
}

pub fn host() -> HostView {
    let path = Path { source: DIRECTOR, mtu: 1500 };
    HostView {
        own_addresses: [DIRECTOR.into()].into(),
        paths: SERVERS.map(|rip| (rip.into(), path)).into(),
        ..HostView::default()
    }
}

/// Without a connection.
pub fn world_of(config: ClusterConfig) -> World {
    World::new(config, host(), Tables::new(1000, 7))
}

/// TCP and UDP connections of the client: those of its port 40000 to server2, those of 40001 to server3.
pub fn connected(config: ClusterConfig) -> World {
    let mut world = world_of(config);
    for (port, rip) in [(40000, SERVER2), (40001, SERVER3)] {
        for (packet, tracking) in [
            (segment(port, SYN), Tracking::New),
            (segment(port, ACK), Tracking::Known),
            (udp_between(CLIENT, port, 53, b"question"), Tracking::New),
        ] {
            assert_eq!(world.fate(&packet), Fate::To(rip, tracking), "port {port}");
        }
    }
    world
}

pub fn world() -> World {
    connected(config())
}

/// For as many new connections a second as [`connected`] makes, and no more.
pub fn flood_config() -> ClusterConfig {
    ClusterConfig { new_connections_per_second_max: 4, ..config() }
}

/// One connection more, of the client's port 40002 to server2, has no entry.
pub fn flooded() -> World {
    let mut world = connected(flood_config());
    assert_eq!(world.fate(&segment(40002, SYN)), Fate::To(SERVER2, Tracking::Flood));
    world
}

/// Of the client, to TCP 80.
pub fn segment(port: u16, flags: u8) -> Vec<u8> {
    tcp_between(CLIENT, port, VIP, 80, flags, b"")
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    To(Ipv4Addr, Tracking),
    /// Its sender gets an error.
    Told(Icmpv4Type, DropReason),
    Hold,
    Drop(DropReason),
}

impl World {
    pub fn handle(&mut self, packet: &[u8], now: Moment) -> (Verdict, Vec<u8>) {
        self.now = now;
        let processed = self.process(packet);
        self.now = NOW;
        processed
    }

    /// Of a packet that goes as it is if it goes at all.
    pub fn fate(&mut self, packet: &[u8]) -> Fate {
        self.fate_at(packet, NOW)
    }

    pub fn fate_at(&mut self, packet: &[u8], now: Moment) -> Fate {
        let (verdict, out) = self.handle(packet, now);
        match verdict {
            Verdict::Transmit(route) => {
                let (outer, inner) = Ipv4Header::from_slice(&out).expect("an outer header");
                assert_eq!((outer.source, outer.protocol), (DIRECTOR.octets(), IpNumber::IPV4));
                assert_eq!(outer.time_to_live, 64, "whatever the packet's own is");
                assert_eq!(inner, packet, "the inner packet is not touched");
                let rip = Ipv4Addr::from(outer.destination);
                assert_eq!(route.to(), rip);
                Fate::To(rip, route.tracking)
            }
            Verdict::Reply(reply) => {
                let reason = reply.reason.expect("an error has a reason");
                Fate::Told(told(&out, packet), reason)
            }
            Verdict::Pass => panic!("no VIP is an address of the host"),
            Verdict::Hold => Fate::Hold,
            Verdict::Drop(reason) => Fate::Drop(reason),
        }
    }

    pub fn extras(&mut self, now: Moment) -> Vec<Extra> {
        self.now = now;
        let due = self.due();
        self.now = NOW;
        due
    }

    /// The error to the sender of `packet` while the packet continues.
    pub fn told_beside(&mut self, packet: &[u8]) -> Option<Icmpv4Type> {
        let extras = self.extras(NOW);
        assert!(extras.len() <= 1, "notified once");
        extras.into_iter().next().map(|extra| {
            let Extra::ErrorToSender { frame, to } = extra else { panic!("no piece and no late packet") };
            assert_eq!(to, Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]));
            told(frame.packet(), packet)
        })
    }

    pub fn path_mtu(&self, rip: Ipv4Addr, now: Moment) -> u16 {
        self.cluster.load().real_server_at(rip).expect("a real server").path_mtu(now)
    }

    pub fn is_suspect(&self, rip: Ipv4Addr) -> bool {
        self.cluster.load().real_server_at(rip).expect("a real server").soft.is_suspect(NOW)
    }

    /// The error to the next packet's sender, where a connection to this real server is known.
    fn take_pending(&mut self, rip: Ipv4Addr) -> Option<Icmpv4Type> {
        let next = segment(if rip == SERVER2 { 40000 } else { 40001 }, ACK);
        assert_eq!(self.fate(&next), Fate::To(rip, Tracking::Known), "the next packet continues");
        self.told_beside(&next)
    }

    /// Receives the error and looks at everything it may have changed. A pending error is taken afterwards.
    pub fn effect_of(&mut self, error: &PathError, rip: Ipv4Addr) -> Effect {
        self.effect_of_bytes(&error.bytes(), error.inner(), rip)
    }

    pub fn effect_of_bytes(&mut self, message: &[u8], inner: &[u8], rip: Ipv4Addr) -> Effect {
        let state = |world: &World, rip| (world.path_mtu(rip, NOW), world.is_suspect(rip));
        let before = SERVERS.map(|rip| state(self, rip));
        let heard = self.hear(message);
        let after = SERVERS.map(|rip| state(self, rip));
        let pending = SERVERS.map(|rip| self.take_pending(rip));
        let at = SERVERS.iter().position(|server| *server == rip).expect("one of the two");
        let other = 1 - at;
        assert_eq!((before[other], &pending[other]), (after[other], &None), "another path is another path");

        let (mtu, is_suspect) = after[at];
        let is_event_owed = [before[at].0 != mtu, before[at].1 != is_suspect];
        let event = match is_event_owed {
            [true, _] => Some(Event::MtuLowered { rip, mtu }),
            [_, true] => Some(Event::Suspect { rip }),
            _ => None,
        };
        assert_eq!(heard.event, event, "what has changed is reported, and nothing else");
        let told = heard.answer.map(|(packet, to)| {
            assert_eq!(to, IpAddr::from([inner[12], inner[13], inner[14], inner[15]]));
            told(&packet, inner)
        });
        assert_eq!(heard.outcome == Outcome::Relayed, told.is_some());
        if !matches!(heard.outcome, Outcome::Relayed | Outcome::Noted) {
            assert_eq!((before[at], &pending[at]), (after[at], &None), "{:?} changes nothing", heard.outcome);
        }
        let learnt = Learnt { mtu, pending: pending[at].clone(), is_suspect };
        Effect { kind: heard.kind, outcome: heard.outcome, told, learnt }
    }
}

/// What an error from the path does: to its packet's sender, and to what is remembered of the path.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    pub kind: Kind,
    pub outcome: Outcome,
    pub told: Option<Icmpv4Type>,
    pub learnt: Learnt,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Learnt {
    pub mtu: u16,
    /// The error to the sender of the next packet.
    pub pending: Option<Icmpv4Type>,
    pub is_suspect: bool,
}

pub const NOTHING: Learnt = Learnt { mtu: 1500, pending: None, is_suspect: false };

impl Effect {
    pub fn none(kind: Kind, outcome: Outcome) -> Effect {
        Effect { kind, outcome, told: None, learnt: NOTHING }
    }

    pub fn told(kind: Kind, told: Icmpv4Type) -> Effect {
        Effect { told: Some(told), ..Effect::none(kind, Outcome::Relayed) }
    }

    pub fn pending(kind: Kind, pending: Icmpv4Type) -> Effect {
        Effect { learnt: Learnt { pending: Some(pending), ..NOTHING }, ..Effect::none(kind, Outcome::Noted) }
    }

    /// The path MTU is learnt, and no one is notified.
    pub fn lowered(mtu: u16) -> Effect {
        Effect { learnt: Learnt { mtu, ..NOTHING }, ..Effect::none(Kind::TooBig, Outcome::Noted) }
    }

    pub fn lowered_and_told(mtu: u16) -> Effect {
        Effect { outcome: Outcome::Relayed, told: Some(fits(mtu - 20)), ..Effect::lowered(mtu) }
    }
}

/// The message of a router on the path about an outer packet of ours.
#[derive(Clone, Debug)]
pub struct PathError {
    pub to: Ipv4Addr,
    pub kind: u8,
    pub code: u8,
    pub mtu: u16,
    /// The outer packet, or its beginning.
    pub quote: Vec<u8>,
}

impl PathError {
    pub fn bytes(&self) -> Vec<u8> {
        let [high, low] = self.mtu.to_be_bytes();
        let mut message = vec![self.kind, self.code, 0, 0, 0, 0, high, low];
        message.extend(&self.quote);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        ip(ROUTER, self.to, 1, &message)
    }

    /// The quoted packet.
    pub fn outer_mut(&mut self) -> &mut [u8] {
        &mut self.quote
    }

    /// The packet inside the quoted one.
    pub fn inner_mut(&mut self) -> &mut [u8] {
        &mut self.quote[20..]
    }

    /// The same with no more than so many bytes quoted.
    pub fn quoting(&self, length: usize) -> PathError {
        let mut error = self.clone();
        error.quote.truncate(length);
        error
    }

    /// What is quoted of the inner packet.
    fn inner(&self) -> &[u8] {
        self.quote.get(20..).unwrap_or_default()
    }
}

pub fn error(kind: u8, code: u8, quote: Vec<u8>) -> PathError {
    PathError { to: DIRECTOR, kind, code, mtu: 0, quote }
}

pub fn too_big(mtu: u16, quote: Vec<u8>) -> PathError {
    PathError { mtu, ..error(3, 4, quote) }
}

/// A client's packet as the director has wrapped it.
pub fn outer_to(rip: Ipv4Addr, inner: &[u8]) -> Vec<u8> {
    changed(&ip(DIRECTOR, rip, 4, inner), |bytes| bytes[6] = inner[6] & 0x40)
}

pub fn outer_of(inner: &[u8]) -> Vec<u8> {
    outer_to(SERVER2, inner)
}

/// A segment of the known connection to server2 that makes an outer packet of `length` bytes, with DF.
pub fn segment_of(length: usize) -> Vec<u8> {
    let packet = as_fragment(&tcp(ACK, &vec![7; length - 20 - 44]), 0x4000);
    assert_eq!(packet.len(), length - 20);
    packet
}

/// It fills an Ethernet frame.
pub fn big() -> Vec<u8> {
    segment_of(1500)
}

/// Reads an ICMP error of ours about `packet`, or as much of it as is known, and checks everything about it.
pub fn told(answer: &[u8], packet: &[u8]) -> Icmpv4Type {
    let (ip, payload) = Ipv4Header::from_slice(answer).expect("an IPv4 header");
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    assert_eq!((usize::from(ip.total_len), ip.options.len()), (answer.len(), 0));
    assert_eq!((ip.protocol, ip.time_to_live), (IpNumber::ICMP, 64));
    // RFC 1812 §4.3.2.5: precedence 6, internetwork control.
    assert_eq!((ip.dscp.value(), ip.ecn.value()), (48, 0));
    assert!(!ip.is_fragmenting_payload());
    assert_eq!(ip.source, packet[16..20], "we answer as the address that was queried");
    assert_eq!(ip.destination, packet[12..16]);
    let message = Icmpv4Slice::from_slice(payload).expect("an ICMP message");
    let icmp_type = message.icmp_type();
    assert_eq!(message.checksum(), icmp_type.calc_checksum(message.payload()));
    // RFC 1812 §4.3.2.3: as much as fits into 576 bytes.
    let known = packet.len().min(u16::from_be_bytes([packet[2], packet[3]]).into());
    assert_eq!(message.payload(), &packet[..known.min(548)], "it is about this packet");
    let has_mtu = (message.type_u8(), message.code_u8()) == (3, 4);
    let unused = message.bytes5to8();
    assert_eq!(unused[..if has_mtu { 2 } else { 4 }].iter().sum::<u8>(), 0, "unused bytes are zero");
    icmp_type
}
