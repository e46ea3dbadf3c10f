//! A real server's worker: unwraps packets, counts what became of them, and notes who sent them.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::daemon::worker::{Fate, Handler};
use crate::datapath::Exit;
use crate::metrics::counters::RealserverCounters;
use crate::metrics::sightings::Sightings;
use crate::packet::ipv4::Ipv4;
use crate::packet::{Frame, Protocol, udp};
use crate::realserver::Decapsulator;
use crate::realserver::verdict::{DropReason, Verdict};
use crate::time::Moment;

/// Who sent packets, and where they went.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whose packets were delivered; by [`Seen::of_source`].
    pub directors: Sightings,
    /// Whose packets were dropped, and why; by [`Seen::of_refusal`].
    pub refused: Sightings,
    /// For which VIPs and ports; by [`Seen::of_port`].
    pub ports: Sightings,
}

impl Seen {
    pub(super) fn of_source(source: Ipv4Addr) -> u64 {
        u32::from(source).into()
    }

    /// The reverse of [`Seen::of_source`].
    pub(super) fn source(key: u64) -> Ipv4Addr {
        Ipv4Addr::from((key & 0xffff_ffff) as u32)
    }

    pub(super) fn of_refusal(source: Ipv4Addr, reason: DropReason) -> u64 {
        (reason as u64) << 32 | Seen::of_source(source)
    }

    /// The reverse of [`Seen::of_refusal`].
    pub(super) fn refusal(key: u64) -> (Ipv4Addr, DropReason) {
        let reason = DropReason::ALL.get((key >> 32) as usize).copied();
        (Seen::source(key), reason.unwrap_or(DropReason::Truncated))
    }

    /// `vip` is the index in the configuration.
    pub(super) fn of_port(vip: usize, protocol: Protocol, port: u16) -> u64 {
        (vip as u64 & 0xffff_ffff) << 24 | u64::from(protocol.number()) << 16 | u64::from(port)
    }

    /// The reverse of [`Seen::of_port`].
    pub(super) fn port(key: u64) -> (usize, Protocol, u16) {
        let is_tcp = (key >> 16) & 0xff == u64::from(Protocol::Tcp.number());
        let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
        ((key >> 24) as usize, protocol, (key & 0xffff) as u16)
    }
}

pub(super) struct RealserverHandler {
    pub decapsulator: Decapsulator,
    pub counters: Arc<RealserverCounters>,
    pub seen: Arc<Seen>,
}

impl Handler for RealserverHandler {
    type Verdict = Verdict;

    const SEND_ERROR: Verdict = Verdict::Drop(DropReason::SendError);

    fn handle(&mut self, frame: &mut Frame, now: Moment) -> (Verdict, Option<Exit>) {
        let source = Ipv4::parse_unsummed(frame.packet()).map(|outer| outer.source());
        let verdict = self.decapsulator.handle_packet(frame);
        if let Ok(source) = source {
            self.note(source, &verdict, frame.packet(), now);
        }
        (verdict, matches!(verdict, Verdict::Deliver(_)).then_some(Exit::Host))
    }

    fn count(&mut self, fate: &Fate<Verdict>) {
        self.counters.count(&fate.verdict, fate.captured, fate.handled);
    }

    fn on_failure(&mut self, _: Option<&Verdict>, error: &io::Error) {
        self.counters.errors.add(error);
    }
}

impl RealserverHandler {
    fn note(&self, source: Ipv4Addr, verdict: &Verdict, inner: &[u8], now: Moment) {
        match verdict {
            Verdict::Drop(reason) => self.seen.refused.note(Seen::of_refusal(source, *reason), now),
            Verdict::Deliver(delivery) => {
                self.seen.directors.note(Seen::of_source(source), now);
                if let Some((protocol, port)) = destination_port(inner) {
                    self.seen.ports.note(Seen::of_port(delivery.vip, protocol, port), now);
                }
            }
        }
    }
}

/// Later fragments have none.
fn destination_port(inner: &[u8]) -> Option<(Protocol, u16)> {
    let ip = Ipv4::parse_unsummed(inner).ok().filter(|ip| ip.fragment_offset() == 0)?;
    let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.number() == ip.protocol())?;
    // The ports of TCP are in the same place.
    let port = udp::field::DESTINATION_PORT;
    port.is_inside(ip.payload()).then(|| (protocol, port.read(ip.payload())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_read_back() {
        let source = Ipv4Addr::new(203, 0, 113, 255);
        assert_eq!(Seen::source(Seen::of_source(source)), source);
        for reason in DropReason::ALL {
            assert_eq!(Seen::refusal(Seen::of_refusal(source, *reason)), (source, *reason));
        }
        for seen in [(0, Protocol::Tcp, 0), (70_000, Protocol::Udp, 65_535), (3, Protocol::Tcp, 80)] {
            assert_eq!(Seen::port(Seen::of_port(seen.0, seen.1, seen.2)), seen);
        }
    }
}
