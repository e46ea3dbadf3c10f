//! The way out: a packet is wrapped for the way to its real server, cut if it must and may be, or its sender
//! told why not.

use super::super::classify::Packet;
use super::super::cluster::RealServer;
use super::super::path::Owed;
use super::super::reply::Answer;
use super::super::verdict::DropReason;
use super::{Choice, Journey, Refusal};
use crate::encapsulation::{CannotEncapsulate, Outer};
use crate::packet::Frame;
use crate::packet::fragment;
use crate::packet::frame::PACKET_MAX;
use crate::packet::ipv4::{self, Ipv4};

impl Journey<'_> {
    /// Wraps the packet for the way to its real server. One that is too big is cut before it is wrapped,
    /// where it may be (RFC 2003 §5.1: better than cutting the outer one); else its sender is told, unless
    /// the operator has said that nobody hears it: then the outer packet is cut.
    pub(in crate::director) fn encapsulate(
        &mut self,
        frame: &mut Frame,
        packet: &Packet,
        choice: &Choice,
    ) -> Result<(), Refusal> {
        let real_server = choice.real_server;
        let config = self.cluster.config();
        if config.decrements_ttl {
            ipv4::set_ttl(frame.packet_mut(), packet.ttl - 1);
        }
        self.pay_debt(frame, packet, real_server);
        let mtu = real_server.inner_mtu(self.now);
        if packet.total_length <= usize::from(mtu) {
            return self.wrap(frame, real_server, packet.has_dont_fragment);
        }
        if packet.has_dont_fragment && !config.ignores_df {
            return Err(Refusal::error(DropReason::TooBig, Answer::TooBig { mtu }, packet));
        }
        let overhead = usize::from(real_server.encapsulation.overhead);
        if packet.total_length + overhead > PACKET_MAX {
            return Err(DropReason::TooBig.into());
        }
        if packet.has_dont_fragment {
            self.wrap(frame, real_server, true)?;
            return self.cut_outer(frame, real_server);
        }
        let whole = Ipv4::parse_unsummed(frame.packet()).map_err(DropReason::from)?;
        let pieces = fragment::split(&whole, mtu.into()).ok_or(DropReason::TooBig)?;
        self.give_out(frame, pieces, real_server, |journey, frame| journey.wrap(frame, real_server, false))
    }

    /// The inner packet must stay whole, for its identification need not be unique (RFC 6864 §4.1).
    fn cut_outer(&mut self, frame: &mut Frame, real_server: &RealServer) -> Result<(), Refusal> {
        let whole = Ipv4::parse_unsummed(frame.packet()).map_err(DropReason::from)?;
        let mtu = real_server.path_mtu(self.now);
        let pieces = fragment::split(&whole, mtu.into()).ok_or(DropReason::TooBig)?;
        self.give_out(frame, pieces, real_server, |_, _| Ok(()))
    }

    /// The first piece takes the packet's place, the others leave behind it.
    fn give_out(
        &mut self,
        frame: &mut Frame,
        pieces: Vec<Vec<u8>>,
        real_server: &RealServer,
        finish: impl Fn(&Self, &mut Frame) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for (index, piece) in pieces.into_iter().enumerate() {
            if index == 0 {
                frame.replace(&piece);
                finish(self, frame)?;
            } else {
                let mut frame = Frame::from_packet(&piece);
                finish(self, &mut frame)?;
                self.outbox.pieces.push_back((frame, real_server.rip.into()));
            }
        }
        Ok(())
    }

    /// RFC 2003 §5: an error from the path quoted too little to say whose packet it was about, so the next
    /// packet's sender is told, and that packet goes its way all the same.
    fn pay_debt(&mut self, frame: &Frame, packet: &Packet, real_server: &RealServer) {
        let Some(Owed::HostUnreachable) = real_server.soft.take_owed(self.now) else { return };
        let refusal = Refusal::error(DropReason::NoRealServer, Answer::HostUnreachable, packet);
        if let Some(answer) = refusal.answer {
            self.outbox.answers.push_back((Frame::from_packet(frame.packet()), answer));
        }
    }

    fn wrap(
        &self,
        frame: &mut Frame,
        real_server: &RealServer,
        has_dont_fragment: bool,
    ) -> Result<(), Refusal> {
        let config = self.cluster.config();
        let keeps_df = has_dont_fragment && !config.ignores_df;
        let identification = if keeps_df { 0 } else { real_server.live.next_identification() };
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
