//! Echo replies and ICMP errors for probes, from a packet socket.
//!
//! The kernel hands each packet that arrives to packet sockets before it looks at its source (packet(7)). Errors that the
//! director relays from the path arrive on `lo`.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::director::pins::quoted_probe;
use crate::packet::icmp::{self, Icmp};
use crate::packet::ipv4::Ipv4;
use crate::packet::probe::PORTS;
use crate::packet::{Flow, protocol};

/// linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;

/// Messages that wait for a probe; more are lost, as on the network.
const WAITING_MAX: usize = 64;

/// What is received about a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Received {
    /// An echo reply: the whole message.
    Reply(Vec<u8>),
    /// An error about one of its packets, as the kernel's sockets report it (icmp_err_convert).
    Error(Errno),
}

type Inboxes = Mutex<HashMap<Flow, mpsc::Sender<Received>>>;

/// Receives for all probes.
pub(super) struct IcmpReceiver {
    inboxes: Arc<Inboxes>,
    task: JoinHandle<()>,
}

/// What is received about one probe, as long as this exists.
pub(super) struct Inbox {
    inboxes: Arc<Inboxes>,
    flow: Flow,
    messages: mpsc::Receiver<Received>,
}

impl IcmpReceiver {
    pub(super) fn open() -> io::Result<IcmpReceiver> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(i32::from(ETH_P_IP.to_be()))))?;
        socket.attach_filter(&filter())?;
        // To the runtime every socket for datagrams is the same.
        let socket = UdpSocket::from_std(socket.into())?;
        let inboxes = Arc::<Inboxes>::default();
        let task = tokio::spawn(receive(socket, inboxes.clone()));
        Ok(IcmpReceiver { inboxes, task })
    }

    /// For what concerns this flow from now on.
    pub(super) fn inbox(&self, flow: &Flow) -> Inbox {
        let (sender, messages) = mpsc::channel(WAITING_MAX);
        lock(&self.inboxes).insert(*flow, sender);
        Inbox { inboxes: self.inboxes.clone(), flow: *flow, messages }
    }
}

impl Drop for IcmpReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inbox {
    /// The next message. Cancel-safe.
    pub(super) async fn next(&mut self) -> Received {
        match self.messages.recv().await {
            Some(received) => received,
            // The receiver has ended with the daemon.
            None => std::future::pending().await,
        }
    }

    /// The next error. Cancel-safe.
    pub(super) async fn error(&mut self) -> io::Error {
        loop {
            if let Received::Error(errno) = self.next().await {
                return errno.into();
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        lock(&self.inboxes).remove(&self.flow);
    }
}

/// No code that holds the lock can panic half way.
fn lock(inboxes: &Inboxes) -> MutexGuard<'_, HashMap<Flow, mpsc::Sender<Received>>> {
    inboxes.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(socket: UdpSocket, inboxes: Arc<Inboxes>) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        // ENETDOWN is the end of one interface, not of the socket.
        let Ok(length) = socket.recv(&mut buffer).await else { continue };
        if let Some((flow, received)) = understood(&buffer[..length])
            && let Some(inbox) = lock(&inboxes).get(&flow)
        {
            // A probe that does not read loses it.
            let _ = inbox.try_send(received);
        }
    }
}

/// Which probe a packet concerns, in the direction of the probe's packets.
fn understood(packet: &[u8]) -> Option<(Flow, Received)> {
    let ip = Ipv4::parse(packet).ok().filter(|ip| ip.protocol() == protocol::ICMP && !ip.is_fragment())?;
    let message = Icmp::parse(ip.payload()).ok()?;
    if message.kind() == icmp::ECHO_REPLY {
        let (client, vip): (IpAddr, IpAddr) = (ip.destination().into(), ip.source().into());
        let flow =
            Flow { protocol: protocol::ICMP, client, client_port: message.identifier(), vip, vip_port: 0 };
        return Some((flow, Received::Reply(ip.payload().to_vec())));
    }
    let errno = errno_of(&message)?;
    let quoted = icmp::quoted_packet(message.body()).ok()?;
    if quoted.source() != IpAddr::V4(ip.destination()) {
        return None;
    }
    Some((quoted_probe(&quoted)?, Received::Error(errno)))
}

/// The error of a socket whose packet met this; `None` for what does not end a probe, such as a path MTU.
fn errno_of(message: &Icmp) -> Option<Errno> {
    match (message.kind(), message.code()) {
        (icmp::DESTINATION_UNREACHABLE, icmp::FRAGMENTATION_NEEDED) => None,
        (icmp::DESTINATION_UNREACHABLE, icmp::PROTOCOL_UNREACHABLE) => Some(Errno::ENOPROTOOPT),
        (icmp::DESTINATION_UNREACHABLE, icmp::PORT_UNREACHABLE) => Some(Errno::ECONNREFUSED),
        // Those of a network: unreachable, unknown, prohibited, unreachable for the type of service.
        (icmp::DESTINATION_UNREACHABLE, 0 | 6 | 9 | 11) => Some(Errno::ENETUNREACH),
        (icmp::DESTINATION_UNREACHABLE | icmp::TIME_EXCEEDED, _) => Some(Errno::EHOSTUNREACH),
        (icmp::PARAMETER_PROBLEM, _) => Some(Errno::EPROTO),
        _ => None,
    }
}

/// Keeps ICMP echo replies with an identifier of a probe, and errors that quote a packet without options from such a port
/// or with such an identifier. The codes are those of the kernel's Documentation/networking/filter.rst.
fn filter() -> [SockFilter; 21] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_X_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_HALF_AT_X: u16 = 0x48;
    const LOAD_BYTE_AT_X: u16 = 0x50;
    const JUMP: u16 = 0x05;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_ABOVE: u16 = 0x25;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const ICMP: u32 = protocol::ICMP as u32;
    let at = SockFilter::new;
    [
        at(LOAD_BYTE, 0, 0, 9),
        at(JUMP_IF_EQUAL, 0, 18, ICMP),
        // A later fragment.
        at(LOAD_HALF, 0, 0, 6),
        at(JUMP_IF_ANY_BIT, 16, 0, 0x1fff),
        at(LOAD_X_HEADER_LENGTH, 0, 0, 0),
        at(LOAD_BYTE_AT_X, 0, 0, 0),
        at(JUMP_IF_EQUAL, 9, 0, icmp::ECHO_REPLY.into()),
        at(JUMP_IF_EQUAL, 2, 0, icmp::DESTINATION_UNREACHABLE.into()),
        at(JUMP_IF_EQUAL, 1, 0, icmp::TIME_EXCEEDED.into()),
        at(JUMP_IF_EQUAL, 0, 10, icmp::PARAMETER_PROBLEM.into()),
        // The protocol of the quoted packet, and its port or its identifier.
        at(LOAD_BYTE_AT_X, 0, 0, 8 + 9),
        at(JUMP_IF_EQUAL, 2, 0, ICMP),
        at(LOAD_HALF_AT_X, 0, 0, 8 + 20),
        at(JUMP, 0, 0, 3),
        at(LOAD_HALF_AT_X, 0, 0, 8 + 20 + 4),
        at(JUMP, 0, 0, 1),
        // The identifier of a reply.
        at(LOAD_HALF_AT_X, 0, 0, 4),
        at(JUMP_IF_AT_LEAST, 0, 2, (*PORTS.start()).into()),
        at(JUMP_IF_ABOVE, 1, 0, (*PORTS.end()).into()),
        at(RETURN, 0, 0, u32::MAX),
        at(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::packet::{checksum, ipv4};

    const DIP: [u8; 4] = [172, 25, 3, 1];
    const VIP: [u8; 4] = [172, 25, 3, 100];

    fn packet(number: u8, (source, destination): ([u8; 4], [u8; 4]), payload: &[u8]) -> Vec<u8> {
        let mut bytes = [&[0; ipv4::HEADER][..], payload].concat();
        let header = ipv4::Header {
            tos: 0,
            total_length: u16::try_from(bytes.len()).unwrap(),
            identification: 1,
            dont_fragment: true,
            ttl: 64,
            protocol: number,
            source: source.into(),
            destination: destination.into(),
        };
        header.write(&mut bytes);
        bytes
    }

    fn message(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, code, 0, 0][..], &rest, body].concat();
        checksum::fill(&mut message, icmp::field::CHECKSUM, 0);
        message
    }

    fn echo(kind: u8, identifier: u16) -> Vec<u8> {
        let [high, low] = identifier.to_be_bytes();
        message(kind, 0, [high, low, 0, 1], b"ping")
    }

    fn reply(identifier: u16) -> Vec<u8> {
        packet(protocol::ICMP, (VIP, DIP), &echo(0, identifier))
    }

    fn quoted(number: u8, payload: &[u8]) -> Vec<u8> {
        packet(number, (DIP, VIP), payload)
    }

    fn ports(source: u16) -> Vec<u8> {
        [&source.to_be_bytes()[..], &80u16.to_be_bytes(), &[0; 4]].concat()
    }

    fn error(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
        packet(protocol::ICMP, ([172, 25, 3, 2], DIP), &message(kind, code, [0; 4], quoted))
    }

    /// A filter works alike on every kind of socket.
    fn is_kept(packet: &[u8]) -> bool {
        let (sender, receiver) = Socket::pair(Domain::UNIX, Type::DGRAM.nonblocking(), None).unwrap();
        receiver.attach_filter(&filter()).unwrap();
        sender.send(packet).unwrap();
        receiver.recv(&mut [MaybeUninit::uninit(); 200]).is_ok()
    }

    #[test]
    fn replies_and_errors_of_probes_are_kept_and_no_other_packet() {
        for (port, expected) in [(60_999, false), (61_000, true), (62_999, true), (63_000, false)] {
            assert_eq!(is_kept(&reply(port)), expected, "{port}");
            for kind in [3, 11, 12] {
                for number in [protocol::TCP, protocol::UDP] {
                    assert_eq!(is_kept(&error(kind, 1, &quoted(number, &ports(port)))), expected, "{port}");
                }
                let ping = quoted(protocol::ICMP, &echo(8, port));
                assert_eq!(is_kept(&error(kind, 1, &ping)), expected, "{port}");
            }
        }
        let request = packet(protocol::ICMP, (VIP, DIP), &echo(8, 61_000));
        assert!(!is_kept(&request), "a request");
        assert!(!is_kept(&packet(protocol::UDP, (VIP, DIP), &echo(0, 61_000))), "a datagram");
        assert!(!is_kept(&error(5, 1, &quoted(protocol::TCP, &ports(61_000)))), "a redirect");
        let mut fragment = reply(61_000);
        fragment[7] = 1;
        assert!(!is_kept(&fragment), "a later fragment");
        assert!(!is_kept(&reply(61_000)[..25]), "cut short");
    }

    fn flow(number: u8, vip_port: u16) -> Flow {
        Flow { protocol: number, client: DIP.into(), client_port: 61_000, vip: VIP.into(), vip_port }
    }

    #[test]
    fn a_message_concerns_the_probe_that_it_answers_or_quotes() {
        let (found, received) = understood(&reply(61_000)).unwrap();
        assert_eq!((found, received), (flow(protocol::ICMP, 0), Received::Reply(echo(0, 61_000))));
        let rows = [
            (3, 0, Some(Errno::ENETUNREACH)),
            (3, 1, Some(Errno::EHOSTUNREACH)),
            (3, 2, Some(Errno::ENOPROTOOPT)),
            (3, 3, Some(Errno::ECONNREFUSED)),
            (3, 4, None),
            (3, 6, Some(Errno::ENETUNREACH)),
            (3, 9, Some(Errno::ENETUNREACH)),
            (3, 10, Some(Errno::EHOSTUNREACH)),
            (3, 11, Some(Errno::ENETUNREACH)),
            (3, 13, Some(Errno::EHOSTUNREACH)),
            (11, 0, Some(Errno::EHOSTUNREACH)),
            (12, 0, Some(Errno::EPROTO)),
            (5, 1, None),
        ];
        for (kind, code, errno) in rows {
            for (number, vip_port) in [(protocol::TCP, 80), (protocol::UDP, 80)] {
                let expected = errno.map(|errno| (flow(number, vip_port), Received::Error(errno)));
                let packet = error(kind, code, &quoted(number, &ports(61_000)));
                assert_eq!(understood(&packet), expected, "{kind} {code}");
            }
            let expected = errno.map(|errno| (flow(protocol::ICMP, 0), Received::Error(errno)));
            assert_eq!(understood(&error(kind, code, &quoted(protocol::ICMP, &echo(8, 61_000)))), expected);
        }
    }

    #[test]
    fn what_this_host_has_not_sent_or_what_is_broken_concerns_no_probe() {
        let foreign = packet(protocol::TCP, ([172, 25, 3, 9], VIP), &ports(61_000));
        assert_eq!(understood(&error(3, 1, &foreign)), None, "another host's packet");
        let mut broken = reply(61_000);
        broken[24] ^= 1;
        assert_eq!(understood(&broken), None, "a wrong checksum");
        assert_eq!(understood(&[]), None);
        let mut first = reply(61_000);
        first[6] = 0x20;
        ipv4::fill_checksum(&mut first[..ipv4::HEADER]);
        assert_eq!(understood(&first), None, "a first fragment");
    }
}
