//! Check `icmp`: an echo request is answered with the same payload (RFC 792).

use std::sync::Arc;

use super::options::number;
use super::{Check, Exchange, Step, Target};
use crate::health::spec::{OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "icmp",
    summary: "an ICMP echo request is answered",
    transport: |_| Transport::Icmp,
    port: None,
    options: &[OptionRow {
        name: "size",
        help: "bytes of payload in the echo request; default 56",
        shape: Shape::Number(8, 65_000),
    }],
    build: |options| Ok(Arc::new(Ping { size: size(options) })),
};

fn size(options: &Options) -> usize {
    number(options, "size").and_then(|size| usize::try_from(size).ok()).unwrap_or(56)
}

/// A payload that only its sender can know beforehand: `chance`, then bytes that count.
pub(super) fn payload(size: usize, chance: u64) -> Vec<u8> {
    chance.to_be_bytes().into_iter().chain((8..=u8::MAX).cycle()).take(size).collect()
}

#[derive(Debug)]
struct Ping {
    size: usize,
}

impl Check for Ping {
    fn begin(&self, _: &Target, chance: u64) -> Box<dyn Exchange> {
        Box::new(Echo { payload: payload(self.size, chance) })
    }
}

struct Echo {
    payload: Vec<u8>,
}

impl Exchange for Echo {
    fn start(&mut self) -> Step {
        Step::Send(self.payload.clone())
    }

    /// A reply with another payload answers another request.
    fn receive(&mut self, bytes: &[u8]) -> Step {
        if bytes == self.payload { Step::Done(Ok(Success::default())) } else { Step::Wait }
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(FailureClass::Closed, "no echo reply")))
    }
}
