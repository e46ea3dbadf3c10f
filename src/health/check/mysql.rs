//! Check `mysql`: the server begins its handshake with a packet of protocol version 10 (MySQL, "Connection Phase"). An
//! error packet is a failure, unless it only shows that the server does not admit this host.

use std::sync::Arc;

use super::options::shown;
use super::{Check, Exchange, Step, Target};
use crate::health::spec::{Row, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "mysql",
    summary: "a MySQL or MariaDB server begins its handshake",
    transport: |_| Transport::Tcp,
    port: Some(3306),
    options: &[],
    build: |_| Ok(Arc::new(Mysql { received: Vec::new() })),
};

/// The first packet of a server is much shorter.
const PACKET_MAX: usize = 4096;

/// ER_HOST_IS_BLOCKED and ER_HOST_NOT_PRIVILEGED: the server works, but not for this host.
const NOT_ADMITTED: [u16; 2] = [1129, 1130];

#[derive(Debug)]
struct Mysql {
    received: Vec<u8>,
}

impl Check for Mysql {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(Mysql { received: Vec::new() })
    }
}

fn judge(packet: &[u8]) -> Outcome {
    match packet {
        // The version of the server follows, ended by a NUL.
        [10, rest @ ..] if rest.contains(&0) => Ok(Success::default()),
        [0xff, low, high, message @ ..] => {
            let code = u16::from_le_bytes([*low, *high]);
            // A number sign and five characters of state may stand in front of the message.
            let message = message.strip_prefix(b"#").and_then(|rest| rest.get(5..)).unwrap_or(message);
            let text = format!("error {code}: {}", shown(message));
            match NOT_ADMITTED.contains(&code) {
                true => Ok(Success { warning: Some(text), ..Success::default() }),
                false => Err(Failure::new(FailureClass::Unexpected, text)),
            }
        }
        _ => Err(garbage()),
    }
}

fn garbage() -> Failure {
    Failure::new(FailureClass::Garbage, "the first packet is not one of MySQL")
}

impl Exchange for Mysql {
    fn start(&mut self) -> Step {
        Step::Wait
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        self.received.extend_from_slice(bytes);
        // Three bytes of length, the lowest first, and the number of the packet.
        let [low, middle, high, number, packet @ ..] = &self.received[..] else { return Step::Wait };
        let length = usize::from(*low) | usize::from(*middle) << 8 | usize::from(*high) << 16;
        match packet.get(..length) {
            _ if length > PACKET_MAX || *number != 0 => Step::Done(Err(garbage())),
            None => Step::Wait,
            Some(packet) => Step::Done(judge(packet)),
        }
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(FailureClass::Closed, "connection closed without a handshake")))
    }
}
