//! The real server's decision, the mirror of the director's: unwraps the packet, checks it, and delivers it
//! to the host's own stack. Pure: bytes in, verdict out. It relies on nothing that it has not checked, and
//! never answers.

pub mod guard;
pub mod mss;
pub mod verdict;

use std::net::IpAddr;

use crate::encapsulation::ecn::{self, Egress};
use crate::encapsulation::{self, Decapsulated};
use crate::packet::frame::{PartialChecksum, SegmentKind, Segments};
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::tcp::{self, Tcp};
use crate::packet::{Frame, Ip, Offload, checksum, protocol, udp};

use guard::Guard;
use verdict::{Delivery, DropReason, Verdict};

/// Unwraps packets for one host.
pub struct Decapsulator {
    guard: Guard,
    encapsulation: &'static encapsulation::Row,
    /// MTU of the device for deliveries; a larger packet was coalesced on its way.
    mtu: u16,
}

impl Decapsulator {
    pub fn new(guard: Guard, encapsulation: &'static encapsulation::Row, mtu: u16) -> Decapsulator {
        Decapsulator { guard, encapsulation, mtu }
    }

    /// The VIP with this index in the configuration.
    pub fn vip(&self, index: usize) -> Option<IpAddr> {
        self.guard.config().vips.get(index).copied()
    }

    /// Decides one outer packet. After `Deliver` the frame contains the inner packet and the state of its
    /// checksum; after `Drop` its content is undefined.
    pub fn handle_packet(&self, frame: &mut Frame) -> Verdict {
        let story = |frame: &mut Frame| -> Result<Delivery, DropReason> {
            let taken = self.decapsulate(frame.packet())?;
            let inner = Ipv4::parse_unsummed(&frame.packet()[taken.inner.clone()])?;
            let vip = self.guard.admit_inner(&Ip::V4(inner), taken.outer_source)?;
            frame.truncate(taken.inner.end);
            frame.strip_front(taken.inner.start);
            let has_surprising_ecn = carry_congestion(frame.packet_mut(), taken.outer_tos)?;
            frame.offload = self.offload_of(frame.packet());
            Ok(Delivery { vip, has_surprising_ecn })
        };
        match story(frame) {
            Ok(delivery) => Verdict::Deliver(delivery),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Checks the outer packet and then the lengths and the header of the inner one: the sender first, before
    /// the content is read.
    fn decapsulate(&self, packet: &[u8]) -> Result<Decapsulated, DropReason> {
        let outer = Ipv4::parse_unsummed(packet)?;
        if outer.protocol() != self.encapsulation.protocol {
            return Err(DropReason::WrongEncapsulation);
        }
        self.guard.admit_outer(outer.source().into(), outer.destination().into())?;
        Ok((self.encapsulation.decapsulate)(packet)?)
    }

    /// What is lost on the way to a raw socket, which passes on no offload state (raw_recvmsg()): whether the
    /// transport checksum is only partial, and whether the packet represents several segments.
    fn offload_of(&self, packet: &[u8]) -> Offload {
        let Ok(inner) = Ipv4::parse_unsummed(packet) else { return Offload::default() };
        let Some(checksum) = partial_checksum(&inner) else { return Offload::default() };
        Offload { checksum: Some(checksum), segments: self.segments_of(&inner) }
    }

    fn segments_of(&self, inner: &Ipv4) -> Option<Segments> {
        if inner.protocol() != protocol::TCP || inner.total_length() <= usize::from(self.mtu) {
            return None;
        }
        let header_length =
            (inner.header_length() + Tcp::parse(inner.payload()).ok()?.header_length()) as u16;
        // Its sender's segments fitted the encapsulated path: the device's MTU minus one more header.
        let size = self.mtu.saturating_sub(header_length + self.encapsulation.overhead).max(1);
        Some(Segments { kind: SegmentKind::TcpV4, size, header_length })
    }
}

/// RFC 6040 §4.2. Returns whether the combination is currently unused.
fn carry_congestion(inner: &mut [u8], outer_tos: u8) -> Result<bool, DropReason> {
    let inner_tos = ipv4::field::TOS.read(inner);
    match ecn::egress(inner_tos, outer_tos) {
        Egress::Drop => Err(DropReason::EcnCeOnNotEct),
        Egress::Keep { surprising } => Ok(surprising),
        Egress::Set { ecn, surprising } => {
            let tos = (inner_tos & !ecn::MASK) | ecn;
            ipv4::set_tos(inner, tos);
            Ok(surprising)
        }
    }
}

/// A partial checksum equals the folded pseudo-header sum, without complement. A complete one equals that sum
/// by chance once in 65,536 packets; it is harmless to mark it as partial then, because the kernel does not
/// verify a partial checksum of a local packet and completes it before forwarding.
fn partial_checksum(inner: &Ipv4) -> Option<PartialChecksum> {
    if inner.is_fragment() {
        return None;
    }
    let field = match inner.protocol() {
        protocol::TCP => tcp::field::CHECKSUM,
        protocol::UDP => udp::field::CHECKSUM,
        _ => return None,
    };
    let payload = inner.payload();
    if !field.is_inside(payload) {
        return None;
    }
    let (source, destination) = (inner.source().into(), inner.destination().into());
    let pseudo = checksum::pseudo_header(source, destination, inner.protocol(), payload.len());
    let start = inner.header_length() as u16;
    (field.read(payload) == checksum::fold(pseudo))
        .then_some(PartialChecksum { start, field: start + field.0 as u16 })
}
