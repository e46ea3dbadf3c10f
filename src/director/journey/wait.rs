//! Packets of connections whose virtual service or real server was removed a moment ago: they wait for it to come back.

use super::super::Director;
use super::super::classify::{Content, Packet};
use super::super::connection::Event;
use super::super::fate::{self, Fate};
use super::{At, event_of};

impl Director {
    /// Whether a packet that no virtual service matches belongs to a connection that waits.
    pub(super) fn waits(&self, at: At, packet: &Packet) -> bool {
        let has_flow = matches!(packet.content, Content::Tcp(_) | Content::Udp);
        if at.cluster.awaited().is_empty() || !has_flow {
            return false;
        }
        match self.tables.connections.get(&packet.flow) {
            Some(entry) => {
                matches!(fate::of_packet(at.cluster, &entry, event_of(packet), at.now), Fate::Wait)
            }
            None => self.waits_after_flood(at, packet),
        }
    }

    /// Whether a packet belongs to a flow that a flood left without an entry, and that waits.
    pub(super) fn waits_after_flood(&self, at: At, packet: &Packet) -> bool {
        if at.cluster.awaited().is_empty() || event_of(packet) == Event::Syn {
            return false;
        }
        let noted = self.flood.recall(&packet.flow, at.now);
        noted.is_some_and(|slot| fate::flood_waits(at.cluster, slot))
    }
}
