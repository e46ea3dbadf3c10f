//! Check `mtu`: packets of the full size reach the real server and are not fragmented on the path. Echo requests with
//! DF go out in the expected size and in a small one. If only the small one is answered, sizes between them follow, so
//! that the largest that passes is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::icmp::payload;
use super::options::{number, text};
use super::{Check, Exchange, Step, Target};
use crate::health::spec::{OptionRow, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "mtu",
    summary: "packets of the full size pass, unfragmented",
    transport: |_| Transport::Icmp,
    port: None,
    options: &[
        OptionRow {
            name: "size",
            help: "the size that must pass, in bytes of the inner IP packet; default: the path MTU less the encapsulation",
            shape: Shape::Number(SMALLEST as i64, u16::MAX as i64),
        },
        OptionRow {
            name: "smaller",
            help: "what it means that only smaller packets pass: \"fail\", or \"warn\": a success with a warning; default \"fail\"",
            shape: Shape::Words(&["fail", "warn"]),
        },
    ],
    build: |options| {
        let size = number(options, "size").and_then(|size| u16::try_from(size).ok());
        Ok(Arc::new(Mtu { size, is_warning: text(options, "smaller") == Some("warn") }))
    },
};

/// RFC 791 §3.2: every host accepts a packet of this size.
const SMALLEST: u16 = 576;

/// Sizes of outer packets that links and tunnels have, as RFC 1191 §7.1 lists them for its time: jumbo frames, FDDI,
/// Ethernet, PPPoE, one more IP header, GRE, VXLAN, WireGuard and common values of VPNs, and the minimum of IPv6.
const PLATEAUS: &[u16] =
    &[9000, 4352, 2002, 1500, 1492, 1480, 1476, 1460, 1450, 1440, 1420, 1400, 1380, 1360, 1320, 1280, 1006];

/// The header of an echo message.
const ICMP_HEADER: u16 = 8;

#[derive(Debug)]
struct Mtu {
    size: Option<u16>,
    is_warning: bool,
}

impl Check for Mtu {
    fn begin(&self, target: &Target, chance: u64) -> Box<dyn Exchange> {
        let largest = target.path_mtu.saturating_sub(target.overhead);
        Box::new(Probe {
            expected: self.size.unwrap_or(largest).max(SMALLEST),
            overhead: target.overhead,
            headers: ICMP_HEADER + if target.address.is_ipv6() { 40 } else { 20 },
            chance,
            is_warning: self.is_warning,
            sent: BTreeSet::new(),
            largest: None,
        })
    }
}

struct Probe {
    /// Sizes are those of inner packets.
    expected: u16,
    overhead: u16,
    /// What the payload of an echo request has in front of it.
    headers: u16,
    chance: u64,
    is_warning: bool,
    sent: BTreeSet<u16>,
    /// The largest that was answered.
    largest: Option<u16>,
}

impl Probe {
    fn payload(&self, size: u16) -> Vec<u8> {
        payload(usize::from(size - self.headers), self.chance)
    }

    fn send(&mut self, sizes: BTreeSet<u16>) -> Step {
        let payloads = sizes.iter().rev().map(|size| self.payload(*size)).collect();
        self.sent.extend(sizes);
        Step::SendAll(payloads)
    }

    fn outcome(&self, size: u16) -> Outcome {
        let outer = size.saturating_add(self.overhead);
        let success = Success { path_mtu: Some(outer), ..Success::default() };
        if size == self.expected {
            return Ok(success);
        }
        let text = format!(
            "packets of {} bytes do not pass; the largest that passed has {size}, {outer} with the encapsulation",
            self.expected
        );
        match self.is_warning {
            true => Ok(Success { warning: Some(text), ..success }),
            false => Err(Failure { path_mtu: Some(outer), ..Failure::new(FailureClass::Mtu, text) }),
        }
    }
}

impl Exchange for Probe {
    fn start(&mut self) -> Step {
        self.send(BTreeSet::from([self.expected, SMALLEST]))
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        let size = u16::try_from(bytes.len()).ok().and_then(|length| length.checked_add(self.headers));
        let Some(size) = size.filter(|size| self.sent.contains(size) && self.payload(*size) == bytes) else {
            return Step::Wait;
        };
        let is_first = self.largest.is_none();
        self.largest = self.largest.max(Some(size));
        if size == self.expected {
            return Step::Done(self.outcome(size));
        }
        if !is_first {
            return Step::Wait;
        }
        let between = |inner: &u16| (SMALLEST + 1..self.expected).contains(inner);
        self.send(PLATEAUS.iter().map(|outer| outer.saturating_sub(self.overhead)).filter(between).collect())
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(FailureClass::Closed, "no echo reply")))
    }

    fn on_timeout(&mut self) -> Option<Outcome> {
        self.largest.map(|largest| self.outcome(largest))
    }
}
