//! Packets that follow another one: ICMP errors follow the connection they are about, later fragments their
//! first.

use super::super::classify::{Content, Packet};
use super::super::cluster::OnRemoved;
use super::super::fragment::Follow;
use super::super::route::FoundBy;
use super::super::scheduler::Request;
use super::super::verdict::{DropReason, Tracking};
use super::{Choice, Journey, Refusal, carries_on_without_entry, refuse_exit};

impl<'a> Journey<'a> {
    /// An ICMP error about a connection goes to the connection's real server, because only that can act on it
    /// (RFC 7690 §3). Without an entry it goes where the hash sends the connection's packets.
    pub(in crate::director) fn follow_error(&mut self, packet: &Packet) -> Result<Choice<'a>, Refusal> {
        self.refuse_untunnelable(packet)?;
        let Some(slot) = self.tables.connections.peek(&packet.flow, self.now) else {
            return self.follow_hash(packet);
        };
        let real_server = self.cluster.real_server(slot).ok_or(DropReason::NoConnection)?;
        let service = self.cluster.virtual_service(real_server.virtual_service);
        let is_kept = service.is_some_and(|service| service.config.on_removed == OnRemoved::Keep);
        if !real_server.is_present && !is_kept {
            return Err(DropReason::NoConnection.into());
        }
        refuse_exit(packet, real_server)?;
        Ok(Choice { real_server, tracking: Tracking::Known, found_by: FoundBy::Entry })
    }

    fn follow_hash(&mut self, packet: &Packet) -> Result<Choice<'a>, Refusal> {
        let service = self.cluster.find(&packet.flow).ok_or(DropReason::NoConnection)?;
        if let Some(real_server) = self.recall(service, packet) {
            refuse_exit(packet, real_server)?;
            return Ok(Choice { real_server, tracking: Tracking::Flood, found_by: FoundBy::FloodRecord });
        }
        if !carries_on_without_entry(service, packet) {
            return Err(DropReason::NoConnection.into());
        }
        let request =
            Request { flow: &packet.flow, now: self.now, chance: self.chance.draw(), is_new: false };
        let chosen = service.scheduler.choose(&service.real_servers, &request);
        let real_server = &service.real_servers[chosen.ok_or(DropReason::NoConnection)?];
        refuse_exit(packet, real_server)?;
        Ok(Choice { real_server, tracking: Tracking::None, found_by: FoundBy::Scheduler })
    }

    /// A later fragment has no ports: it follows the first one, or waits for it.
    pub(in crate::director) fn follow_fragment(&self, packet: &Packet) -> Result<Choice<'a>, Refusal> {
        self.refuse_untunnelable(packet)?;
        if !self.cluster.has_vip(packet.destination) {
            return Err(DropReason::NoService.into());
        }
        let key = packet.fragment_key().ok_or(DropReason::FragmentUnknown)?;
        let waits = Refusal { reason: Some(DropReason::FragmentUnknown), reply: None, waits_for: Some(key) };
        match self.fragments.find(&key, self.now).ok_or(waits)? {
            Follow::Echo => Err(Refusal::echo()),
            Follow::RealServer(slot) => {
                let real_server = self.cluster.real_server(slot).ok_or(DropReason::FragmentUnknown)?;
                Ok(Choice { real_server, tracking: Tracking::Known, found_by: FoundBy::FirstFragment })
            }
        }
    }

    /// Makes later fragments follow a first one, and releases those that are waiting already.
    pub(in crate::director) fn remember_fragment(&mut self, packet: &Packet, follow: Follow) {
        if let Some(key) = packet.fragment_key().filter(|_| packet.content != Content::LaterFragment) {
            let released = self.fragments.learn(key, follow, self.now);
            self.outbox.released.extend(released);
        }
    }
}
