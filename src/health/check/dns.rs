//! Check `dns`: a question gets an answer with the expected code and records (RFC 1035). An answer to another question
//! is ignored: it may be forged.

mod message;
mod name;
mod record;

use std::sync::Arc;

use super::options::{clipped, text, texts};
use super::{Check, Exchange, Step, Target};
use crate::health::spec::{BadOption, OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};
use message::{Answer, Read};
use record::RecordType;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "dns",
    summary: "a DNS question gets an answer with the expected code and records",
    transport: |options| if is_tcp(options) { Transport::Tcp } else { Transport::Udp },
    port: Some(53),
    options: &[
        OptionRow { name: "name", help: "the name in the question; default \".\"", shape: Shape::Text },
        OptionRow {
            name: "record",
            help: "the type in the question: \"A\", \"AAAA\", \"CNAME\", \"MX\", \"NS\", \"PTR\", \"SOA\", \"SRV\", \"TXT\", or a number; default \"A\"",
            shape: Shape::Text,
        },
        OptionRow {
            name: "expect",
            help: "records that must be among the answers, such as \"192.0.2.1\" or \"10 mail.example.org\"; default: none",
            shape: Shape::Texts,
        },
        OptionRow {
            name: "rcode",
            help: "the response codes that are good, by name or number; default \"NOERROR\"",
            shape: Shape::Texts,
        },
        OptionRow {
            name: "transport",
            help: "what carries the question: \"udp\" or \"tcp\"; default \"udp\"",
            shape: Shape::Words(&["udp", "tcp"]),
        },
    ],
    build,
};

fn is_tcp(options: &Options) -> bool {
    text(options, "transport") == Some("tcp")
}

fn build(options: &Options) -> Result<Arc<dyn Check>, BadOption> {
    let name = text(options, "name").unwrap_or(".");
    let record = text(options, "record").unwrap_or("A");
    let record = RecordType::read(record)
        .ok_or_else(|| ("record", format!("{record:?} is no type of a record; a number stands for any")))?;
    let rcodes = texts(options, "rcode")
        .iter()
        .map(|code| message::rcode(code).ok_or_else(|| ("rcode", format!("{code:?} is no response code"))));
    let rcodes = rcodes.collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Dns {
        name: name::written(name).map_err(|reason| ("name", format!("{name:?}: {reason}")))?,
        record,
        expect: texts(options, "expect").iter().map(|text| record.normal(text)).collect(),
        rcodes: if rcodes.is_empty() { vec![0] } else { rcodes },
        is_tcp: is_tcp(options),
    }))
}

#[derive(Clone, Debug)]
struct Dns {
    /// As in a message.
    name: Vec<u8>,
    record: RecordType,
    /// In the form that [`RecordType::shown`] has.
    expect: Vec<String>,
    rcodes: Vec<u8>,
    is_tcp: bool,
}

impl Check for Dns {
    fn begin(&self, _: &Target, chance: u64) -> Box<dyn Exchange> {
        let [.., high, low] = chance.to_be_bytes();
        let id = u16::from_be_bytes([high, low]);
        Box::new(Query { dns: self.clone(), id, received: Vec::new(), ignored: 0 })
    }
}

struct Query {
    dns: Dns,
    id: u16,
    /// Over TCP: what is not yet a whole message.
    received: Vec<u8>,
    /// Messages that answer something else.
    ignored: u32,
}

impl Query {
    fn message(&mut self, bytes: &[u8]) -> Step {
        match message::read(bytes, self.id, &self.dns.name, self.dns.record) {
            Read::Other => {
                self.ignored = self.ignored.saturating_add(1);
                Step::Wait
            }
            Read::Answer(answer) => Step::Done(self.dns.judge(&answer)),
        }
    }
}

impl Dns {
    fn judge(&self, answer: &Answer) -> Outcome {
        let failure = |class, text: String| Err(Failure::new(class, text));
        if !self.rcodes.contains(&answer.rcode) {
            let expected: Vec<String> = self.rcodes.iter().map(|code| message::rcode_shown(*code)).collect();
            let text = format!("{}, expected {}", message::rcode_shown(answer.rcode), expected.join(" or "));
            return failure(FailureClass::Unexpected, text);
        }
        let missing = self.expect.iter().find(|text| !answer.records.contains(text));
        match missing {
            _ if answer.is_broken && !answer.is_truncated => {
                failure(FailureClass::Garbage, "the records of the answer cannot be read".to_owned())
            }
            None => Ok(Success::default()),
            Some(text) if answer.is_truncated => {
                let text = format!(
                    "{text} is not in the answer, which is truncated; transport = \"tcp\" gets all of it"
                );
                failure(FailureClass::Unexpected, text)
            }
            Some(text) if answer.records.is_empty() => failure(
                FailureClass::Unexpected,
                format!("{text} is not in the answer, which has no such record"),
            ),
            Some(text) => {
                const SHOWN_MAX: usize = 4;
                let shown = answer.records.iter().take(SHOWN_MAX).map(|record| clipped(record.as_bytes()));
                let shown: Vec<String> = shown.collect();
                let text = format!("{text} is not in the answer, which has {}", shown.join(", "));
                failure(FailureClass::Unexpected, text)
            }
        }
    }
}

impl Exchange for Query {
    fn start(&mut self) -> Step {
        let question = message::question(self.id, &self.dns.name, self.dns.record);
        // RFC 1035 §4.2.2: over TCP the length stands in front of a message. A name has at most 255 bytes.
        let length = u16::try_from(question.len()).unwrap_or(u16::MAX).to_be_bytes();
        Step::Send(if self.dns.is_tcp { [&length[..], &question].concat() } else { question })
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        if !self.dns.is_tcp {
            return self.message(bytes);
        }
        self.received.extend_from_slice(bytes);
        while let Some((length, rest)) = self.received.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            if rest.len() < length {
                break;
            }
            let message: Vec<u8> = self.received.drain(..2 + length).skip(2).collect();
            if let Step::Done(outcome) = self.message(&message) {
                return Step::Done(outcome);
            }
        }
        Step::Wait
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(FailureClass::Closed, "connection closed without an answer")))
    }

    fn on_timeout(&mut self) -> Option<Outcome> {
        let text = match self.ignored {
            0 => return None,
            count => format!("no answer in time; {count} messages with another id or question were ignored"),
        };
        Some(Err(Failure::new(FailureClass::Timeout, text)))
    }
}
