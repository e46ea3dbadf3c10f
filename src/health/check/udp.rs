//! Check `udp`: a datagram is sent, and no ICMP error or the expected reply comes back.

use std::sync::Arc;

use super::bytes::{Pattern, bytes};
use super::options::{shown, text};
use super::{Check, Exchange, Step, Target};
use crate::health::spec::{BadOption, OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "udp",
    summary: "a datagram causes no ICMP error, or the expected reply",
    transport: |_| Transport::Udp,
    port: None,
    options: &[
        OptionRow {
            name: "send",
            help: "the datagram, as text with \\r, \\n, \\t, \\0, \\\\ and \\xHH or as \"hex:…\"; default: an empty one",
            shape: Shape::Text,
        },
        OptionRow {
            name: "expect",
            help: "how the reply must begin, as `send`; in \"hex:…\" an x stands for any digit; default: any reply",
            shape: Shape::Text,
        },
        OptionRow {
            name: "reply",
            help: "\"required\", or \"no-error\": silence is a success too; default \"required\" with `expect`, otherwise \"no-error\"",
            shape: Shape::Words(&["required", "no-error"]),
        },
    ],
    build,
};

fn build(options: &Options) -> Result<Arc<dyn Check>, BadOption> {
    let send = bytes("send", text(options, "send").unwrap_or_default())?;
    // The largest payload of an IPv4 packet: 65,535 bytes less both headers.
    if send.len() > 65_507 {
        return Err(("send", format!("{} bytes are more than a datagram carries", send.len())));
    }
    let expect = text(options, "expect").map(|expect| Pattern::read("expect", expect)).transpose()?;
    let is_required = match text(options, "reply") {
        Some(word) => word == "required",
        None => expect.is_some(),
    };
    Ok(Arc::new(Datagram { send, expect, is_required }))
}

#[derive(Clone, Debug)]
struct Datagram {
    send: Vec<u8>,
    expect: Option<Pattern>,
    is_required: bool,
}

impl Check for Datagram {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(self.clone())
    }
}

impl Exchange for Datagram {
    fn start(&mut self) -> Step {
        Step::Send(self.send.clone())
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        Step::Done(match &self.expect {
            Some(expect) if !expect.is_start_of(bytes) => {
                let text = format!("the reply begins with {}, which is not expected", shown(bytes));
                Err(Failure::new(FailureClass::Unexpected, text))
            }
            _ => Ok(Success::default()),
        })
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(FailureClass::Closed, "no reply")))
    }

    fn on_timeout(&mut self) -> Option<Outcome> {
        (!self.is_required).then(|| Ok(Success::default()))
    }
}
