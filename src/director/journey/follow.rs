//! Packets that follow another one: ICMP errors follow the connection they are about, later fragments their
//! first.

use super::super::Director;
use super::super::classify::Packet;
use super::super::fate::{self, Fate};
use super::super::fragment::FragmentFate;
use super::super::route::{FoundBy, Tracking};
use super::super::verdict::DropReason;
use super::choose::{carries_on_without_entry, refuse_exit};
use super::{At, Choice, Refusal, refuse_untunnelable};

impl Director {
    /// An ICMP error about a connection goes to the connection's real server, because only that can act on it
    /// (RFC 7690 §3). Without an entry it goes where the hash sends the connection's packets.
    pub(in crate::director) fn follow_error<'a>(
        &mut self,
        at: At<'a>,
        packet: &Packet,
    ) -> Result<Choice<'a>, Refusal> {
        refuse_untunnelable(at.cluster, packet)?;
        let Some(slot) = self.tables.connections.peek(&packet.flow, at.now) else {
            return self.follow_hash(at, packet).map_err(|refusal| self.unless_hosts(at, packet, refusal));
        };
        let real_server = match fate::of_connection(at.cluster, slot, packet.flow.protocol) {
            Fate::Follow(real_server) => real_server,
            Fate::Wait => return Err(DropReason::ConnectionWaits.into()),
            Fate::Refuse | Fate::GiveUp => return Err(DropReason::NoConnection.into()),
        };
        refuse_exit(packet, real_server)?;
        Ok(Choice { real_server, tracking: Tracking::Known, found_by: FoundBy::Entry })
    }

    fn follow_hash<'a>(&mut self, at: At<'a>, packet: &Packet) -> Result<Choice<'a>, Refusal> {
        let service = at.cluster.find(&packet.flow).ok_or(DropReason::NoConnection)?;
        if let Some(real_server) = self.recall(at, service, packet) {
            refuse_exit(packet, real_server)?;
            return Ok(Choice { real_server, tracking: Tracking::Flood, found_by: FoundBy::FloodRecord });
        }
        if !carries_on_without_entry(service, packet) {
            return Err(DropReason::NoConnection.into());
        }
        let real_server = self.schedule(at, service, packet, false).ok_or(DropReason::NoConnection)?;
        refuse_exit(packet, real_server)?;
        Ok(Choice { real_server, tracking: Tracking::None, found_by: FoundBy::Scheduler })
    }

    /// A later fragment has no ports: it follows the first one, or waits for it.
    pub(in crate::director) fn follow_fragment<'a>(
        &self,
        at: At<'a>,
        packet: &Packet,
    ) -> Result<Choice<'a>, Refusal> {
        let key = packet.fragment_key().ok_or(DropReason::FragmentUnknown)?;
        let first = self.fragments.find(&key, at.now);
        if first != Some(FragmentFate::Host) {
            refuse_untunnelable(at.cluster, packet)?;
            if !at.cluster.has_vip(packet.destination) {
                return Err(DropReason::NoService.into());
            }
        }
        let waits = Refusal { waits_for: Some(key), ..DropReason::FragmentUnknown.into() };
        match first.ok_or(waits)? {
            FragmentFate::Host => Err(Refusal::hosts()),
            FragmentFate::Echo => Err(Refusal::echo()),
            FragmentFate::RealServer(slot) => {
                let real_server = at.cluster.real_server(slot).ok_or(DropReason::FragmentUnknown)?;
                if let Fate::Wait = fate::of_connection(at.cluster, slot, packet.flow.protocol) {
                    return Err(DropReason::ConnectionWaits.into());
                }
                Ok(Choice { real_server, tracking: Tracking::Known, found_by: FoundBy::FirstFragment })
            }
        }
    }
}
