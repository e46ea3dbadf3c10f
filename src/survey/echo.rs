//! Pings with DF set: the longest packet that a path carries.

use std::collections::HashMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use pnet_packet::icmp::echo_reply::EchoReplyPacket;
use pnet_packet::icmp::echo_request::{IcmpCodes, MutableEchoRequestPacket};
use pnet_packet::icmp::{IcmpPacket, IcmpTypes, checksum};
use pnet_packet::ipv4::{Ipv4Flags, MutableIpv4Packet};
use pnet_packet::{MutablePacket, Packet};
use socket2::{Domain, Protocol, Socket, Type};

use crate::doctor::facts::Echo;

/// Four-byte words of an IPv4 header without options (RFC 791 §3.1).
const IPV4_WORDS: u8 = 5;
const IPV4_HEADER: usize = IPV4_WORDS as usize * 4;
const ICMP_HEADER: usize = 8;

/// RFC 791 §3.1: every link carries this.
const SHORTEST: u32 = 68;
/// The search ends when the longest answered and the shortest lost are this near, in bytes.
const PRECISION: u32 = 4;
/// For the answers of one round; what was not answered after half of it is sent again, so that a single lost packet does
/// not matter.
const PATIENCE: Duration = Duration::from_millis(400);
const ROUNDS_MAX: u16 = 16;

/// The search on one path: everything up to `carried` was answered, everything from `lost` on was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Search {
    longest: u32,
    carried: u32,
    lost: u32,
}

impl Search {
    fn new(longest: u32) -> Search {
        Search { longest: longest.max(SHORTEST), carried: 0, lost: longest.max(SHORTEST) + 1 }
    }

    /// The lengths to try next; none when the result is known.
    fn next(&self) -> Vec<u32> {
        if self.carried == 0 && self.lost > SHORTEST {
            vec![SHORTEST, self.longest]
        } else if self.carried > 0 && self.carried < self.longest && self.lost - self.carried > PRECISION {
            vec![self.carried + (self.lost - self.carried) / 2]
        } else {
            Vec::new()
        }
    }

    fn learn(&mut self, tried: &[u32], answered: &[u32]) {
        for length in tried {
            match answered.contains(length) {
                true => self.carried = self.carried.max(*length),
                false => self.lost = self.lost.min(*length),
            }
        }
    }

    fn result(&self) -> Echo {
        if self.carried == 0 { Echo::Silent } else { Echo::Answered(self.carried) }
    }
}

/// The longest packet that each path carries, at most the number of bytes given for it; nothing without the privilege to
/// send pings.
pub(super) fn longest(paths: &[(Ipv4Addr, u32)]) -> HashMap<Ipv4Addr, Echo> {
    let mut searches: HashMap<Ipv4Addr, Search> =
        paths.iter().map(|(address, longest)| (*address, Search::new(*longest))).collect();
    let Ok(mut socket) = open() else { return HashMap::new() };
    for round in 0..ROUNDS_MAX {
        let tried: HashMap<Ipv4Addr, Vec<u32>> =
            searches.iter().map(|(address, search)| (*address, search.next())).collect();
        if tried.values().all(Vec::is_empty) {
            break;
        }
        let answered = one_round(&mut socket, &tried, round);
        for (address, search) in &mut searches {
            let answered = answered.get(address).map(Vec::as_slice).unwrap_or_default();
            search.learn(&tried[address], answered);
        }
    }
    searches.iter().map(|(address, search)| (*address, search.result())).collect()
}

fn open() -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_header_included_v4(true)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// Which lengths each address answered.
fn one_round(
    socket: &mut Socket,
    tried: &HashMap<Ipv4Addr, Vec<u32>>,
    round: u16,
) -> HashMap<Ipv4Addr, Vec<u32>> {
    let identifier = (std::process::id() & 0xffff) as u16;
    let mut answered: HashMap<Ipv4Addr, Vec<u32>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    for _ in 0..2 {
        let started = Instant::now();
        let open = unanswered(tried, &answered);
        for (address, length) in &open {
            // A packet longer than the device's MTU is refused, and so counts as lost.
            let packet = request(*address, *length, identifier, round);
            let _ = socket.send_to(&packet, &SocketAddrV4::new(*address, 0).into());
        }
        while started.elapsed() < PATIENCE / 2 && !unanswered(tried, &answered).is_empty() {
            let Ok(length) = socket.read(&mut buffer) else { continue };
            let Some(source) = answer(&buffer[..length], identifier, round) else { continue };
            answered.entry(source).or_default().extend(u32::try_from(length).ok());
        }
    }
    answered
}

fn unanswered(
    tried: &HashMap<Ipv4Addr, Vec<u32>>,
    answered: &HashMap<Ipv4Addr, Vec<u32>>,
) -> Vec<(Ipv4Addr, u32)> {
    let is_answered =
        |address: &Ipv4Addr, length: &u32| answered.get(address).is_some_and(|found| found.contains(length));
    let of = |(address, lengths): (&Ipv4Addr, &Vec<u32>)| {
        lengths
            .iter()
            .filter(|length| !is_answered(address, length))
            .map(|length| (*address, *length))
            .collect()
    };
    tried.iter().flat_map(|path| -> Vec<_> { of(path) }).collect()
}

/// The source of an answer to one of this round's requests.
fn answer(packet: &[u8], identifier: u16, round: u16) -> Option<Ipv4Addr> {
    let ip = pnet_packet::ipv4::Ipv4Packet::new(packet)?;
    let reply = EchoReplyPacket::new(packet.get(usize::from(ip.get_header_length()) * 4..)?)?;
    let is_ours = reply.get_icmp_type() == IcmpTypes::EchoReply
        && (reply.get_identifier(), reply.get_sequence_number()) == (identifier, round);
    is_ours.then(|| ip.get_source())
}

/// The kernel fills in source, identification and header checksum (raw(7)).
fn request(destination: Ipv4Addr, length: u32, identifier: u16, round: u16) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    let mut ip = MutableIpv4Packet::new(&mut bytes).expect("because the length is at least SHORTEST");
    ip.set_version(4);
    ip.set_header_length(IPV4_WORDS);
    ip.set_total_length(u16::try_from(length).unwrap_or(u16::MAX));
    ip.set_flags(Ipv4Flags::DontFragment);
    ip.set_ttl(64);
    ip.set_next_level_protocol(pnet_packet::ip::IpNextHeaderProtocols::Icmp);
    ip.set_destination(destination);
    let mut echo =
        MutableEchoRequestPacket::new(ip.payload_mut()).expect("because the length is at least SHORTEST");
    echo.set_icmp_type(IcmpTypes::EchoRequest);
    echo.set_icmp_code(IcmpCodes::NoCode);
    echo.set_identifier(identifier);
    echo.set_sequence_number(round);
    let sum = IcmpPacket::new(echo.packet()).map_or(0, |icmp| checksum(&icmp));
    echo.set_checksum(sum);
    debug_assert!(bytes.len() >= IPV4_HEADER + ICMP_HEADER);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found on a path that carries `carries` bytes, and in how many rounds.
    fn search(longest: u32, carries: u32) -> (Echo, usize) {
        let mut search = Search::new(longest);
        let mut rounds = 0;
        loop {
            let tried = search.next();
            if tried.is_empty() {
                return (search.result(), rounds);
            }
            let answered: Vec<u32> = tried.iter().copied().filter(|length| *length <= carries).collect();
            search.learn(&tried, &answered);
            rounds += 1;
            assert!(rounds <= usize::from(ROUNDS_MAX));
        }
    }

    #[test]
    fn the_longest_packet_is_found() {
        assert_eq!(search(1500, 9000), (Echo::Answered(1500), 1));
        assert_eq!(search(1500, 0), (Echo::Silent, 1));
        for carries in [68, 100, 576, 1280, 1400, 1499] {
            let (Echo::Answered(found), _) = search(1500, carries) else { panic!("{carries}: nothing") };
            assert!(found <= carries && carries < found + PRECISION, "{carries}: {found}");
        }
        assert_eq!(search(65_535, 1500).1, 1 + 14);
    }
}
