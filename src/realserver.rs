//! The real server's decision, the mirror of the director's: unwraps the packet, checks it, and delivers it
//! to the host's own stack. Pure: bytes in, verdict out. It relies on nothing that it has not checked, and
//! never answers.

pub mod guard;
pub mod mss;
pub mod verdict;

use std::net::IpAddr;
use std::ops::Range;

use crate::encapsulation::ecn::{self, Egress};
use crate::encapsulation::{Decapsulated, Row};
use crate::packet::frame::{PartialChecksum, SegmentKind, Segments};
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::tcp::{self, Tcp};
use crate::packet::{Frame, Ip, Offload, checksum, protocol, udp};

use guard::Guard;
use verdict::{Delivery, DropReason, Verdict};

/// Unwraps packets for one host.
pub struct Decapsulator {
    guard: Guard,
    encapsulations: &'static [Row],
    /// MTU of the device for deliveries; a larger packet was coalesced on its way.
    mtu: u16,
}

/// What is done to an accepted packet: which part of it is delivered, and how.
struct Unwrapping {
    inner: Range<usize>,
    /// The inner packet's new TOS, if the congestion that the outer one met changes it.
    tos: Option<u8>,
    offload: Offload,
    delivery: Delivery,
}

impl Decapsulator {
    /// A real server that accepts these formats.
    pub fn new(guard: Guard, encapsulations: &'static [Row], mtu: u16) -> Decapsulator {
        Decapsulator { guard, encapsulations, mtu }
    }

    /// The VIP with this index in the configuration.
    pub fn vip(&self, index: usize) -> Option<IpAddr> {
        self.guard.config().vips.get(index).copied()
    }

    /// Decides one outer packet. After `Deliver` the frame contains the inner packet and the state of its
    /// checksum; after `Drop` its content is undefined.
    pub fn handle_packet(&self, frame: &mut Frame) -> Verdict {
        match self.decide(frame.packet()) {
            Ok(unwrapping) => {
                apply(&unwrapping, frame);
                Verdict::Deliver(unwrapping.delivery)
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Checks the outer packet and then the inner one: the sender first, before the content is read.
    fn decide(&self, packet: &[u8]) -> Result<Unwrapping, DropReason> {
        let outer = Ipv4::parse_unsummed(packet)?;
        let row = self.encapsulations.iter().find(|row| row.carrier.carries(&outer));
        let row = row.ok_or(DropReason::WrongEncapsulation)?;
        self.guard.admit_outer(&Ip::V4(outer))?;
        let taken = (row.decapsulate)(outer)?;
        let vip = self.guard.admit_inner(&Ip::V4(taken.inner), taken.outer.source().into())?;
        let (tos, has_surprising_ecn) = carry_congestion(&taken)?;
        let offload = self.offload_of(&taken.inner, row.overhead);
        let delivery = Delivery { vip, has_surprising_ecn };
        Ok(Unwrapping { inner: taken.range(), tos, offload, delivery })
    }

    /// What a raw socket does not pass on (raw_recvmsg()): whether the transport checksum is only partial, and
    /// whether the packet represents several segments.
    fn offload_of(&self, inner: &Ipv4, overhead: u16) -> Offload {
        let Some(checksum) = partial_checksum(inner) else { return Offload::default() };
        Offload { checksum: Some(checksum), segments: self.segments_of(inner, overhead) }
    }

    fn segments_of(&self, inner: &Ipv4, overhead: u16) -> Option<Segments> {
        if inner.protocol() != protocol::TCP || inner.total_length() <= usize::from(self.mtu) {
            return None;
        }
        let transport = Tcp::parse(inner.payload()).ok()?;
        let header_length = u16::try_from(inner.header_length() + transport.header_length()).ok()?;
        // Its sender's segments fitted the encapsulated path: the device's MTU minus one more header.
        let size = self.mtu.saturating_sub(header_length + overhead).max(1);
        Some(Segments { kind: SegmentKind::TcpV4, size, header_length })
    }
}

/// Leaves the inner packet in the frame.
fn apply(unwrapping: &Unwrapping, frame: &mut Frame) {
    frame.truncate(unwrapping.inner.end);
    frame.strip_front(unwrapping.inner.start);
    if let Some(tos) = unwrapping.tos {
        ipv4::set_tos(frame.packet_mut(), tos);
    }
    frame.offload = unwrapping.offload;
}

/// RFC 6040 §4.2. Returns the inner packet's new TOS, if it changes, and whether the combination is currently
/// unused.
fn carry_congestion(taken: &Decapsulated) -> Result<(Option<u8>, bool), DropReason> {
    let tos = taken.inner.tos();
    match ecn::egress(tos, taken.outer.tos()) {
        Egress::Drop => Err(DropReason::EcnCeOnNotEct),
        Egress::Keep { surprising } => Ok((None, surprising)),
        Egress::Set { ecn, surprising } => Ok((Some((tos & !ecn::MASK) | ecn), surprising)),
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
    let start = u16::try_from(inner.header_length()).ok()?;
    let field_at = start + u16::try_from(field.0).ok()?;
    (field.read(payload) == checksum::fold(pseudo)).then_some(PartialChecksum { start, field: field_at })
}
