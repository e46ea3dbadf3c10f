//! Check `grpc`: the health protocol of gRPC, `grpc.health.v1.Health/Check`, answers SERVING. HTTP/2 with prior
//! knowledge (RFC 9113 §3.3), one stream, as little of it as one call needs.

mod frame;
mod hpack;
mod huffman;

use std::sync::Arc;

use super::options::{clipped, flag, joined, shown, text};
use super::tls::{TLS_OPTIONS, tls};
use super::{ANSWER_MAX, Check, Exchange, Step, Target, Tls};
use crate::health::spec::{BadOption, OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};
use frame::Frame;
use hpack::Decoder;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "grpc",
    summary: "the health protocol of gRPC answers SERVING",
    transport: |options| if flag(options, "tls", false) { Transport::Tls } else { Transport::Tcp },
    port: None,
    options: &OPTIONS,
    build,
};

static OPTIONS: [OptionRow; 3 + TLS_OPTIONS.len()] = joined(
    &[
        OptionRow {
            name: "service",
            help: "the name of the gRPC service; default \"\", which stands for the whole server",
            shape: Shape::Text,
        },
        OptionRow {
            name: "host",
            help: "the authority of the request; default: the address and port to which the probe is sent",
            shape: Shape::Text,
        },
        OptionRow { name: "tls", help: "HTTP/2 over TLS; default false", shape: Shape::Flag },
    ],
    TLS_OPTIONS,
);

/// The most bytes of the service's name, so that the request fits one frame.
const NAME_MAX: usize = 1024;

fn build(options: &Options) -> Result<Arc<dyn Check>, BadOption> {
    let service = text(options, "service").unwrap_or_default();
    let host = text(options, "host");
    if service.len() > NAME_MAX {
        return Err(("service", format!("the name is longer than {NAME_MAX} bytes")));
    }
    let is_host = |host: &&str| {
        (1..=NAME_MAX).contains(&host.len()) && host.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if let Some(host) = host.filter(|host| !is_host(host)) {
        return Err(("host", format!("{host:?} is no name of a host")));
    }
    let is_tls = flag(options, "tls", false);
    Ok(Arc::new(Grpc {
        service: service.to_owned(),
        host: host.map(str::to_owned),
        tls: is_tls.then(|| tls(options, host, &["h2"])).transpose()?,
    }))
}

#[derive(Debug)]
struct Grpc {
    service: String,
    host: Option<String>,
    tls: Option<Tls>,
}

impl Check for Grpc {
    fn begin(&self, target: &Target, _: u64) -> Box<dyn Exchange> {
        let address = std::net::SocketAddr::new(target.address, target.port).to_string();
        let host = self.host.as_deref().unwrap_or(&address);
        Box::new(Call { request: request(&self.service, host, self.tls.is_some()), ..Call::new() })
    }

    fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }
}

/// The stream of the call: a client's streams have odd numbers.
const STREAM: u32 = 1;

fn request(service: &str, host: &str, is_tls: bool) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", if is_tls { "https" } else { "http" }),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", host),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "lvs-tund"),
    ];
    let section: Vec<u8> = fields.iter().flat_map(|(name, value)| hpack::literal(name, value)).collect();
    // ENABLE_PUSH is 0.
    let settings = [0, 2, 0, 0, 0, 0];
    [
        frame::PREFACE.to_vec(),
        frame::written(frame::SETTINGS, 0, 0, &settings),
        frame::written(frame::HEADERS, frame::END_HEADERS, STREAM, &section),
        frame::written(frame::DATA, frame::END_STREAM, STREAM, &message(service)),
    ]
    .concat()
}

/// A HealthCheckRequest behind its prefix: field 1 is the name, as text; an empty one is absent.
fn message(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        write_varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    // Not compressed, and the length.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], &message].concat()
}

fn write_varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap_or_default() | 0x80);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap_or_default());
}

struct Call {
    request: Vec<u8>,
    received: Vec<u8>,
    count: usize,
    decoder: Decoder,
    /// A header section whose rest is in CONTINUATION frames, and whether the stream ends with it.
    section: Option<(Vec<u8>, bool)>,
    has_settings: bool,
    status: Option<String>,
    grpc_status: Option<(String, String)>,
    answer: Vec<u8>,
}

/// The state of a call after a frame.
enum After {
    /// Bytes to send: none, or an acknowledgement.
    Continue(Vec<u8>),
    End(Outcome),
}

fn garbage(text: &str) -> Failure {
    Failure::new(FailureClass::Garbage, text)
}

impl Call {
    fn new() -> Call {
        Call {
            request: Vec::new(),
            received: Vec::new(),
            count: 0,
            decoder: Decoder::new(),
            section: None,
            has_settings: false,
            status: None,
            grpc_status: None,
            answer: Vec::new(),
        }
    }

    fn on_frame(&mut self, frame: &Frame) -> Result<After, Failure> {
        let is_first = !std::mem::replace(&mut self.has_settings, true);
        if is_first && (frame.kind != frame::SETTINGS || frame.has(frame::ACK)) {
            return Err(garbage("the answer does not begin with SETTINGS of HTTP/2"));
        }
        if self.section.is_some() && (frame.kind, frame.stream) != (frame::CONTINUATION, STREAM) {
            return Err(garbage("a header section is interrupted"));
        }
        let unreadable = || garbage("a frame of HTTP/2 cannot be read");
        let nothing = Ok(After::Continue(Vec::new()));
        match frame.kind {
            frame::SETTINGS if !frame.has(frame::ACK) => {
                Ok(After::Continue(frame::written(frame::SETTINGS, frame::ACK, 0, &[])))
            }
            frame::PING if !frame.has(frame::ACK) => {
                let payload = frame.payload.get(..8).ok_or_else(unreadable)?;
                Ok(After::Continue(frame::written(frame::PING, frame::ACK, 0, payload)))
            }
            frame::GOAWAY => {
                let (last, code) =
                    (frame.number(0).ok_or_else(unreadable)?, frame.number(4).ok_or_else(unreadable)?);
                // RFC 9113 §6.8: streams up to this one are still served.
                if last & 0x7fff_ffff >= STREAM { nothing } else { Err(refused("the connection", code)) }
            }
            frame::PUSH_PROMISE => Err(garbage("a push although it is disabled")),
            _ if frame.stream != STREAM => nothing,
            frame::RST_STREAM => Err(refused("the stream", frame.number(0).ok_or_else(unreadable)?)),
            frame::HEADERS => {
                let section = frame.content().ok_or_else(unreadable)?.to_vec();
                self.on_section(section, frame.has(frame::END_HEADERS), frame.has(frame::END_STREAM))
            }
            frame::CONTINUATION => {
                let (mut section, is_last) = self.section.take().ok_or_else(unreadable)?;
                section.extend_from_slice(&frame.payload);
                self.on_section(section, frame.has(frame::END_HEADERS), is_last)
            }
            frame::DATA => {
                self.answer.extend_from_slice(frame.content().ok_or_else(unreadable)?);
                if frame.has(frame::END_STREAM) { Ok(After::End(self.judge())) } else { nothing }
            }
            _ => nothing,
        }
    }

    fn on_section(&mut self, section: Vec<u8>, is_complete: bool, is_last: bool) -> Result<After, Failure> {
        if !is_complete {
            self.section = Some((section, is_last));
            return Ok(After::Continue(Vec::new()));
        }
        let fields =
            self.decoder.decode(&section).ok_or_else(|| garbage("header fields cannot be decoded"))?;
        let value = |name: &str| {
            let found = fields.iter().find(|(found, _)| found == name.as_bytes());
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        // RFC 9110 §15.2: interim responses come before the status.
        self.status = value(":status").or(self.status.take());
        if let Some(code) = value("grpc-status") {
            self.grpc_status = Some((code, value("grpc-message").unwrap_or_default()));
        }
        Ok(if is_last { After::End(self.judge()) } else { After::Continue(Vec::new()) })
    }

    /// The stream has ended.
    fn judge(&self) -> Outcome {
        let unexpected = |text: String| Err(Failure::new(FailureClass::Unexpected, text));
        match (self.status.as_deref(), &self.grpc_status) {
            (None, _) => return Err(garbage("the answer has no status")),
            (Some("200"), Some((code, message))) if code != "0" => {
                let name =
                    STATUS_NAMES.iter().find(|(number, _)| number == code).map_or("", |(_, name)| name);
                let message = if message.is_empty() {
                    String::new()
                } else {
                    format!(", {}", shown(message.as_bytes()))
                };
                let code = clipped(code.as_bytes());
                return unexpected(format!("gRPC status {code}{name}{message}"));
            }
            (Some("200"), Some(_)) => {}
            (Some("200"), None) => return Err(garbage("the answer has no gRPC status")),
            (Some(status), _) => return unexpected(format!("HTTP status {}", shown(status.as_bytes()))),
        }
        match serving_status(&self.answer) {
            None => Err(garbage("the message of the answer cannot be read")),
            Some(1) => Ok(Success::default()),
            Some(0) => unexpected("the service is UNKNOWN".to_owned()),
            Some(2) => unexpected("the service is NOT_SERVING".to_owned()),
            Some(3) => unexpected("the service is SERVICE_UNKNOWN".to_owned()),
            Some(other) => unexpected(format!("the service has status {other}")),
        }
    }
}

/// What a person meets who checks the wrong service or the wrong server.
const STATUS_NAMES: &[(&str, &str)] = &[
    ("5", ", the server has no such service"),
    ("12", ", the server has no health protocol"),
    ("14", ", unavailable"),
    ("16", ", not authenticated"),
];

fn refused(what: &str, code: u32) -> Failure {
    Failure::new(FailureClass::Closed, format!("the server ended {what} with error {code} of HTTP/2"))
}

/// The status in a HealthCheckResponse behind its prefix: field 1, a number; absent it is 0.
fn serving_status(answer: &[u8]) -> Option<u64> {
    let (prefix, message) = answer.split_first_chunk::<5>()?;
    let length = prefix[1..].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    // The request admits no compression.
    if prefix[0] != 0 || message.len() != length {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

impl Exchange for Call {
    fn start(&mut self) -> Step {
        Step::Send(std::mem::take(&mut self.request))
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        let taken = &bytes[..bytes.len().min(ANSWER_MAX - self.count)];
        self.count += taken.len();
        self.received.extend_from_slice(taken);
        let mut sent = Vec::new();
        while let Some(frame) = frame::take(&mut self.received) {
            let frame = frame.ok_or_else(|| match self.has_settings {
                true => garbage("a frame of HTTP/2 is too large"),
                false => garbage("the answer does not begin with SETTINGS of HTTP/2"),
            });
            match frame.and_then(|frame| self.on_frame(&frame)) {
                Ok(After::Continue(bytes)) => sent.extend(bytes),
                Ok(After::End(outcome)) => return Step::Done(outcome),
                Err(failure) => return Step::Done(Err(failure)),
            }
        }
        match () {
            () if self.count == ANSWER_MAX => Step::Done(Err(garbage("the answer does not end"))),
            () if sent.is_empty() => Step::Wait,
            () => Step::Send(sent),
        }
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(FailureClass::Closed, "connection closed before the end of the answer")))
    }
}
