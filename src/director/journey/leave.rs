//! The way out: decides how a packet travels to its real server, or how its sender learns that it cannot.

use super::super::Director;
use super::super::classify::{Content, Packet};
use super::super::reply::IcmpError;
use super::super::route::apply::apply;
use super::super::route::decide::{Choice, decide};
use super::super::route::size::{Shape, Unfit};
use super::super::route::{Route, Tracking};
use super::super::verdict::DropReason;
use super::{At, Refusal};
use crate::packet::Frame;
use crate::packet::frame::Segments;
use crate::packet::tcp::Flags;

/// How the packet travels to its real server.
#[inline]
pub(in crate::director) fn decide_route(
    at: At,
    packet: &Packet,
    segments: Option<Segments>,
    choice: &Choice,
) -> Result<Route, Refusal> {
    if choice.real_server.is_local && !at.cluster.has_local_vip(packet.destination) {
        return Err(DropReason::VipNotLocal.into());
    }
    let (total_length, has_dont_fragment) = (packet.total_length, packet.has_dont_fragment);
    let shape = Shape { total_length, has_dont_fragment, segments };
    decide(choice, at.cluster.config(), &shape, at.now).map_err(|unfit| match unfit {
        Unfit::TooBig { mtu } => Refusal::error(DropReason::TooBig, IcmpError::TooBig { mtu }, packet),
        Unfit::NoPacket => DropReason::TooBig.into(),
    })
}

impl Director {
    /// Wraps the packet as decided.
    #[inline]
    pub(in crate::director) fn apply(
        &mut self,
        route: &Route,
        choice: &Choice,
        frame: &mut Frame,
    ) -> Result<(), DropReason> {
        Ok(apply(route, frame, &choice.real_server.soft.identifications, &mut self.outbox.pieces)?)
    }

    /// RFC 2003 §5: an error from the path quoted too little to identify the packet it was about, so the
    /// sender of the next packet gets it, and that packet is forwarded anyway. Only for a known connection:
    /// the sender of a first packet would abort at once because of an error that may be forged.
    #[inline]
    pub(in crate::director) fn send_pending_error(
        &mut self,
        at: At,
        frame: &Frame,
        packet: &Packet,
        choice: &Choice,
    ) {
        let is_due = choice.tracking == Tracking::Known
            && match packet.content {
                Content::Tcp(flags) => !flags.has(Flags::SYN) && !flags.has(Flags::RST),
                Content::Udp => true,
                _ => false,
            };
        if !is_due {
            return;
        }
        if let Some(error) = choice.real_server.soft.take_pending_error(at.now) {
            self.outbox.errors.push_back((Frame::from_packet(frame.packet()), error));
        }
    }
}
