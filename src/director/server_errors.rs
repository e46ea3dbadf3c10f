//! What went wrong on the path to one real server: packets that the kernel refused to send, and ICMP errors about those
//! that it sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::label::labels;
use crate::time::Moment;

/// How long a cause counts as present after the last packet that it stopped.
const PRESENT_FOR: Duration = Duration::from_secs(10);

labels! {
    /// Why the kernel refused a packet, by the causes that an operator needs to distinguish.
    pub enum Cause {
        /// EMSGSIZE: the kernel has learned a smaller path MTU.
        MessageTooLong = "message_too_long",
        /// ENOBUFS: a queue is full.
        NoBuffer = "no_buffer",
        /// EAGAIN: the socket's buffer is full.
        WouldBlock = "would_block",
        /// EPERM: the host's packet filter dropped it.
        NotPermitted = "not_permitted",
        /// ENETUNREACH: no route.
        NetworkUnreachable = "network_unreachable",
        /// EHOSTUNREACH: no neighbour, or a route that forbids it.
        HostUnreachable = "host_unreachable",
        /// ENETDOWN: the interface is down.
        NetworkDown = "network_down",
        /// EINVAL: the kernel does not accept the header.
        Invalid = "invalid",
        /// EIO: the device is down.
        InputOutput = "input_output",
        /// Any other error.
        Other = "other",
    }
}

impl Cause {
    /// The cause that stands for an error of the kernel.
    pub const fn of_errno(errno: i32) -> Cause {
        use nix::libc;
        match errno {
            libc::EMSGSIZE => Cause::MessageTooLong,
            libc::ENOBUFS => Cause::NoBuffer,
            libc::EAGAIN => Cause::WouldBlock,
            libc::EPERM => Cause::NotPermitted,
            libc::ENETUNREACH => Cause::NetworkUnreachable,
            libc::EHOSTUNREACH => Cause::HostUnreachable,
            libc::ENETDOWN => Cause::NetworkDown,
            libc::EINVAL => Cause::Invalid,
            libc::EIO => Cause::InputOutput,
            _ => Cause::Other,
        }
    }
}

labels! {
    /// The kind of an error from the path.
    pub enum Kind {
        /// Type 3, code 4, with or without an MTU (RFC 1191).
        TooBig = "too_big",
        /// Type 3, other codes: the network or the host.
        Unreachable = "unreachable",
        /// Type 3, code 2: no program there decapsulates.
        ProtocolUnreachable = "protocol_unreachable",
        /// Type 11, from a routing loop or a TTL that is too small for the path.
        TimeExceeded = "time_exceeded",
        /// What changes nothing, whatever it is about.
        Other = "other",
    }
}

labels! {
    /// What the director does with an error from the path.
    pub enum Outcome {
        /// The client gets an error.
        Relayed = "relayed",
        /// Recorded for later packets.
        Noted = "noted",
        /// A narrower path, which a probe has yet to confirm.
        Unconfirmed = "unconfirmed",
        /// Contains nothing new or useful.
        Ignored = "ignored",
        /// Not about one of the director's packets: forged, or another program's.
        Mismatch = "mismatch",
        /// Not an ICMP error, or one that quotes no IPv4 header.
        Malformed = "malformed",
        /// Above the budget of messages examined per second.
        RateLimited = "rate_limited",
    }
}

/// Counts of one real server. Any thread may count: errors are rare, and the receiver of ICMP errors is not a worker.
#[derive(Debug, Default)]
pub struct ServerErrors {
    transmit: [AtomicU64; Cause::ALL.len()],
    /// By cause: nanoseconds of the [`Moment`] of the last packet, plus 1; 0: none.
    transmit_last: [AtomicU64; Cause::ALL.len()],
    path: [[AtomicU64; Outcome::ALL.len()]; Kind::ALL.len()],
}

impl ServerErrors {
    /// Counts a packet that the kernel refused.
    pub fn count_transmit(&self, cause: Cause, now: Moment) {
        self.transmit[cause as usize].fetch_add(1, Ordering::Relaxed);
        self.transmit_last[cause as usize].store(now.as_nanos().saturating_add(1), Ordering::Relaxed);
    }

    /// Counts an ICMP error about a packet to this real server.
    pub fn count_path(&self, kind: Kind, outcome: Outcome) {
        self.path[kind as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Packets that the kernel refused, of the causes that occurred.
    pub fn transmit(&self) -> impl Iterator<Item = (Cause, u64)> {
        let counts =
            Cause::ALL.iter().map(|cause| (*cause, self.transmit[*cause as usize].load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }

    /// ICMP errors, of the kinds and outcomes that occurred.
    pub fn path(&self) -> impl Iterator<Item = (Kind, Outcome, u64)> {
        let outcomes = |kind: &Kind| {
            let kind = *kind;
            Outcome::ALL.iter().map(move |outcome| (kind, *outcome))
        };
        let counts = Kind::ALL.iter().flat_map(outcomes);
        let counts = counts.map(|(kind, outcome)| {
            (kind, outcome, self.path[kind as usize][outcome as usize].load(Ordering::Relaxed))
        });
        counts.filter(|(_, _, count)| *count > 0)
    }

    /// The causes that stop packets at present.
    pub fn present(&self, now: Moment) -> impl Iterator<Item = Cause> {
        let is_present =
            move |cause: &Cause| match self.transmit_last[*cause as usize].load(Ordering::Relaxed) {
                0 => false,
                last => now.since(Moment::from_nanos(last - 1)) < PRESENT_FOR,
            };
        Cause::ALL.iter().copied().filter(is_present)
    }
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    #[test]
    fn every_cause_is_some_errno() {
        let found: Vec<Cause> = (0..200).map(Cause::of_errno).collect();
        for cause in Cause::ALL {
            let count = found.iter().filter(|found| *found == cause).count();
            assert_eq!(count, if *cause == Cause::Other { 191 } else { 1 }, "{cause}");
        }
        assert_eq!(Cause::of_errno(libc::EPERM), Cause::NotPermitted);
        assert_eq!(Cause::of_errno(libc::ENETDOWN), Cause::NetworkDown);
    }

    #[test]
    fn only_what_occurred_is_listed_and_a_cause_is_present_for_a_while() {
        let errors = ServerErrors::default();
        assert_eq!((errors.transmit().count(), errors.path().count()), (0, 0));
        assert_eq!(errors.present(Moment::ZERO).count(), 0);
        errors.count_transmit(Cause::NoBuffer, Moment::ZERO);
        errors.count_transmit(Cause::NoBuffer, Moment::ZERO);
        errors.count_transmit(Cause::NotPermitted, Moment::from_secs(5));
        errors.count_path(Kind::Unreachable, Outcome::Relayed);
        assert_eq!(errors.transmit().collect::<Vec<_>>(), [(Cause::NoBuffer, 2), (Cause::NotPermitted, 1)]);
        assert_eq!(errors.path().collect::<Vec<_>>(), [(Kind::Unreachable, Outcome::Relayed, 1)]);
        let present = |seconds| errors.present(Moment::from_secs(seconds)).collect::<Vec<_>>();
        assert_eq!(present(9), [Cause::NoBuffer, Cause::NotPermitted]);
        assert_eq!(present(10), [Cause::NotPermitted]);
        assert_eq!(present(15), []);
    }
}
