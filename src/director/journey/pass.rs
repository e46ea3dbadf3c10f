//! Packets that are the host's. Where a VIP is an address of the host, the director takes only what belongs to its
//! virtual services there, as IPVS does; everything else is left to the host's own stack, which judges it.
//!
//! | for a VIP that is an address of the host | |
//! |---|---|
//! | another port, another protocol, echo, an ICMP message about no connection | the host's |
//! | a segment without an entry on a port of a service, if the service resets those | the host's: it may belong to a connection of the host that is older than the service, or that the host has opened from this port; otherwise its TCP resets it |
//! | a packet that no TCP/IP host should accept | dropped if it belongs to a service, otherwise the host's |
//! | a later fragment | follows the first one |

use super::super::Director;
use super::super::classify::Packet;
use super::super::cluster::{UnknownTcp, VirtualService};
use super::super::fragment::FragmentFate;
use super::super::verdict::DropReason;
use super::choose::may_begin;
use super::{At, Refusal};
use crate::packet::ip::{FragmentId, FragmentKey};
use crate::packet::upper::Upper;
use crate::packet::{Flow, Ip, protocol, udp};
use crate::time::Moment;

impl Director {
    /// The packet is the host's, and so are its later fragments.
    pub(super) fn leave_to_host(&mut self, packet: &Packet, now: Moment) -> Refusal {
        self.remember_fragment(packet, FragmentFate::Host, now);
        Refusal::hosts()
    }

    /// A packet of no connection is the host's if the VIP is; otherwise `refusal` stays.
    pub(super) fn unless_hosts(&mut self, at: At, packet: &Packet, refusal: Refusal) -> Refusal {
        let is_unknown = refusal.reason == Some(DropReason::NoConnection);
        match is_unknown && at.cluster.has_local_vip(packet.destination) {
            true => self.leave_to_host(packet, at.now),
            false => refusal,
        }
    }

    /// As [`may_begin`], where the VIP may be the host's.
    pub(super) fn may_begin(
        &mut self,
        at: At,
        service: &VirtualService,
        packet: &Packet,
    ) -> Result<bool, Refusal> {
        may_begin(service, packet).map_err(|refusal| match service.config.unknown_tcp {
            UnknownTcp::Drop => refusal,
            UnknownTcp::Rst | UnknownTcp::Schedule => self.unless_hosts(at, packet, refusal),
        })
    }

    /// What happens to a packet that was refused for `reason` before it was known what it is for.
    pub(in crate::director) fn refuse_unclassified(
        &mut self,
        at: At,
        packet: &[u8],
        reason: DropReason,
    ) -> Refusal {
        let Ok(ip) = Ip::parse(packet) else { return reason.into() };
        if !at.cluster.has_local_vip(ip.destination()) {
            return reason.into();
        }
        let Ok(upper) = ip.upper() else { return reason.into() };
        let (source, destination) = (ip.source(), ip.destination());
        let key = FragmentId::of(&ip, &upper).map(|id| FragmentKey { source, destination, id });
        let belongs_to_service = match key.filter(|_| upper.is_later_fragment()) {
            Some(key) => matches!(self.fragments.find(&key, at.now), Some(FragmentFate::RealServer(_))),
            None => flow_of(&ip, &upper).is_some_and(|flow| at.cluster.find(&flow).is_some()),
        };
        if belongs_to_service {
            return reason.into();
        }
        if let Some(key) = key.filter(|_| !upper.is_later_fragment()) {
            let released = self.fragments.learn(key, FragmentFate::Host, at.now);
            self.outbox.released.extend(released);
        }
        Refusal::hosts()
    }
}

/// The flow of a packet that may be cut short or contradict itself, as far as it has ports; TCP has them where UDP does.
fn flow_of(ip: &Ip, upper: &Upper) -> Option<Flow> {
    use udp::field::{DESTINATION_PORT, SOURCE_PORT};
    let has_ports = [protocol::TCP, protocol::UDP].contains(&upper.protocol);
    let payload = Some(upper.payload).filter(|payload| has_ports && DESTINATION_PORT.is_inside(payload))?;
    Some(Flow::of(ip, upper.protocol, SOURCE_PORT.read(payload), DESTINATION_PORT.read(payload)))
}
