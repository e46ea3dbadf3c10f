//! The way out: wraps a packet for the path to its real server, fragments it if necessary and allowed, or
//! answers its sender.

use std::collections::VecDeque;

use super::super::Director;
use super::super::classify::{Content, Packet};
use super::super::path::Owed;
use super::super::real_server::RealServer;
use super::super::reply::Answer;
use super::super::verdict::{DropReason, Memory};
use super::{At, Choice, Refusal};
use crate::encapsulation::{CannotEncapsulate, Outer};
use crate::packet::Frame;
use crate::packet::fragment;
use crate::packet::frame::PACKET_MAX;
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::segment;
use crate::packet::tcp::Flags;

impl Director {
    /// Wraps the packet for the path to its real server. One that is too big is fragmented before it is
    /// wrapped, if it may be (RFC 2003 §5.1 prefers this to fragmenting the outer packet). Otherwise its
    /// sender gets an error, unless `ignore_df` is configured: then the outer packet is fragmented. A
    /// super-packet is judged by the size of its segments, and leaves as segments.
    pub(in crate::director) fn encapsulate(
        &mut self,
        at: At,
        frame: &mut Frame,
        packet: &Packet,
        choice: &Choice,
    ) -> Result<(), Refusal> {
        let real_server = choice.real_server;
        let config = at.cluster.config();
        if config.decrements_ttl {
            ipv4::set_ttl(frame.packet_mut(), packet.ttl - 1);
        }
        self.pay_debt(at, frame, packet, choice);
        let mtu = real_server.inner_mtu(at.now);
        if frame.offload.segments.is_none() && packet.total_length <= usize::from(mtu) {
            return self.wrap(at, frame, real_server, packet.has_dont_fragment);
        }
        let size = frame.offload.segments.map_or(packet.total_length, |segments| {
            packet.total_length.min(usize::from(segments.header_length) + usize::from(segments.size))
        });
        if size > usize::from(mtu) && packet.has_dont_fragment && !config.ignores_df {
            return Err(Refusal::error(DropReason::TooBig, Answer::TooBig { mtu }, packet));
        }
        if size + usize::from(real_server.encapsulation.overhead) > PACKET_MAX {
            return Err(DropReason::TooBig.into());
        }
        let mut leaving = VecDeque::new();
        let whole = Ipv4::parse_unsummed(frame.packet()).map_err(DropReason::from)?;
        match frame.offload.segments {
            None => self.cut(at, &whole, real_server, &mut leaving)?,
            Some(segments) => {
                for segment in segment::split(&whole, segments).map_err(DropReason::from)? {
                    let segment = Ipv4::parse_unsummed(&segment).map_err(DropReason::from)?;
                    self.cut(at, &segment, real_server, &mut leaving)?;
                }
            }
        }
        // The first takes the packet's place in the same buffer, because the next capture needs the whole
        // buffer.
        frame.replace(leaving.pop_front().ok_or(DropReason::Truncated)?.packet());
        let to = real_server.rip.into();
        self.outbox.pieces.extend(leaving.into_iter().map(|piece| (piece, to)));
        Ok(())
    }

    /// Wraps one packet of the largest allowed size, whole or in pieces.
    fn cut(
        &self,
        at: At,
        whole: &Ipv4,
        real_server: &RealServer,
        leaving: &mut VecDeque<Frame>,
    ) -> Result<(), Refusal> {
        let (mtu, has_dont_fragment) = (real_server.inner_mtu(at.now), whole.has_dont_fragment());
        let wrapped = |packet: &[u8]| -> Result<Frame, Refusal> {
            let mut frame = Frame::from_packet(packet);
            self.wrap(at, &mut frame, real_server, has_dont_fragment)?;
            Ok(frame)
        };
        if whole.total_length() <= usize::from(mtu) {
            leaving.push_back(wrapped(whole.packet())?);
        } else if has_dont_fragment {
            // The inner packet must stay whole, because its identification need not be unique (RFC 6864
            // §4.1).
            let frame = wrapped(whole.packet())?;
            let outer = Ipv4::parse_unsummed(frame.packet()).map_err(DropReason::from)?;
            let pieces = fragment::split(&outer, real_server.path_mtu(at.now).into());
            leaving.extend(pieces.ok_or(DropReason::TooBig)?.iter().map(|piece| Frame::from_packet(piece)));
        } else {
            for piece in fragment::split(whole, mtu.into()).ok_or(DropReason::TooBig)? {
                leaving.push_back(wrapped(&piece)?);
            }
        }
        Ok(())
    }

    /// RFC 2003 §5: an error from the path quoted too little to identify the packet it was about, so the
    /// sender of the next packet gets it, and that packet is forwarded anyway. Only for a known connection:
    /// the sender of a first packet would give up at once because of an error that may be forged.
    fn pay_debt(&mut self, at: At, frame: &Frame, packet: &Packet, choice: &Choice) {
        let is_due = choice.memory == Memory::Known
            && match packet.content {
                Content::Tcp(flags) => !flags.has(Flags::SYN) && !flags.has(Flags::RST),
                Content::Udp => true,
                _ => false,
            };
        if !is_due {
            return;
        }
        let answer = match choice.real_server.soft.take_owed(at.now) {
            Some(Owed::HostUnreachable) => Answer::HostUnreachable,
            Some(Owed::NetUnreachable) => Answer::NetUnreachable,
            None => return,
        };
        self.outbox.answers.push_back((Frame::from_packet(frame.packet()), answer));
    }

    fn wrap(
        &self,
        at: At,
        frame: &mut Frame,
        real_server: &RealServer,
        has_dont_fragment: bool,
    ) -> Result<(), Refusal> {
        let config = at.cluster.config();
        let keeps_df = has_dont_fragment && !config.ignores_df;
        let identification = if keeps_df { 0 } else { real_server.soft.next_identification() };
        let outer = Outer {
            source: real_server.path.source,
            destination: real_server.rip,
            ttl: config.ttl,
            identification,
            ignores_df: config.ignores_df,
        };
        (real_server.encapsulation.encapsulate)(frame, &outer).map_err(|cannot| match cannot {
            CannotEncapsulate::TooBig => DropReason::TooBig.into(),
            CannotEncapsulate::Malformed => DropReason::Truncated.into(),
            CannotEncapsulate::Expired => DropReason::TtlExpired.into(),
        })
    }
}
