//! Checks `http` and `https`: the answers to requests have the expected status and body (RFC 9110, RFC 9112).

mod request;
mod response;
mod status;

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use md5::{Digest, Md5};
use regex::bytes::Regex;

use super::bytes::Pattern;
use super::options::{regex_option, shown, text, texts};
use super::tls::tls;
use super::{ANSWER_MAX, Check, Exchange, Step, Target, Tls};
use crate::health::spec::{BadOption, OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};
use request::Request;
use response::Response;
use status::StatusCodes;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "http",
    summary: "the answer to an HTTP request has the expected status and body",
    transport: |_| Transport::Tcp,
    port: Some(80),
    options: HTTP_OPTIONS,
    build: |options| build(options, false),
};

const fn option(name: &'static str, shape: Shape, help: &'static str) -> OptionRow {
    OptionRow { name, help, shape }
}

/// The options of a request and of what its answer must be.
pub(super) const HTTP_OPTIONS: &[OptionRow] = &[
    option("path", Shape::Text, "path and query of the request; default \"/\""),
    option(
        "paths",
        Shape::Texts,
        "several paths, one connection each: every answer must be as expected; default: `path`",
    ),
    option("method", Shape::Text, "the method, such as \"HEAD\" or \"OPTIONS\"; default \"GET\""),
    option(
        "host",
        Shape::Text,
        "the header field Host; default: the address to which the probe is sent, with its port unless it is that of the scheme",
    ),
    option(
        "headers",
        Shape::Table,
        "more header fields, which replace those that are sent by default; default: none",
    ),
    option(
        "version",
        Shape::Words(&["1.0", "1.1"]),
        "the version of HTTP; default \"1.1\", with Connection: close",
    ),
    option("status", Shape::Texts, "status codes and ranges, such as \"200, 301-399\"; default \"200-299\""),
    option("body", Shape::Text, "text that the body must contain; default: any body"),
    option("body_regex", Shape::Text, "regular expression that the body must match; default: any body"),
    option("body_not", Shape::Text, "regular expression that the body must not match; default: none"),
    option("body_md5", Shape::Text, "MD5 of the body, 32 hexadecimal digits; default: any body"),
    option(
        "weight_header",
        Shape::Text,
        "a header field of the answer whose number becomes the weight; default: none",
    ),
];

/// Creates the check from its options.
pub(super) fn build(options: &Options, is_tls: bool) -> Result<Arc<dyn Check>, BadOption> {
    let host = text(options, "host");
    let weight_header = text(options, "weight_header").map(str::to_owned);
    if let Some(name) = weight_header.as_deref().filter(|name| !request::is_token(name)) {
        return Err(("weight_header", format!("{name:?} is no name of a header field")));
    }
    let expected = Expected {
        status: match texts(options, "status") {
            [] => StatusCodes::read(&["200-299".to_owned()]),
            given => StatusCodes::read(given),
        }
        .map_err(|reason| ("status", reason))?,
        body: text(options, "body").map(|body| Pattern::read("body", body)).transpose()?,
        body_regex: regex_option(options, "body_regex")?,
        body_not: regex_option(options, "body_not")?,
        body_md5: text(options, "body_md5").map(read_md5).transpose()?,
        weight_header,
    };
    // RFC 9110 §9.3.2: the answer to HEAD has no content.
    let bodies = ["body", "body_regex", "body_md5"];
    let body =
        bodies.iter().find(|name| text(options, "method") == Some("HEAD") && options.contains_key(*name));
    if let Some(name) = body {
        return Err((name, "the answer to HEAD has no body".to_owned()));
    }
    let tls = is_tls.then(|| tls(options, host, &["http/1.1"])).transpose()?;
    Ok(Arc::new(Http { requests: request::read(options, is_tls)?, expected: Arc::new(expected), tls }))
}

fn read_md5(text: &str) -> Result<[u8; 16], BadOption> {
    let wrong = || ("body_md5", format!("{text:?} is no MD5: expected 32 hexadecimal digits"));
    let is_hexadecimal = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hexadecimal).ok_or_else(wrong)?;
    Ok(number.to_be_bytes())
}

#[derive(Debug)]
struct Http {
    requests: Vec<Request>,
    expected: Arc<Expected>,
    tls: Option<Tls>,
}

/// What an answer must be.
#[derive(Debug)]
struct Expected {
    status: StatusCodes,
    body: Option<Pattern>,
    body_regex: Option<Regex>,
    body_not: Option<Regex>,
    body_md5: Option<[u8; 16]>,
    weight_header: Option<String>,
}

impl Check for Http {
    fn begin(&self, target: &Target, _: u64) -> Box<dyn Exchange> {
        let written = |request: &Request| Question {
            bytes: request.written(target),
            is_head: request.is_head(),
            place: if self.requests.len() > 1 { format!("{}: ", request.path) } else { String::new() },
        };
        Box::new(HttpExchange {
            questions: self.requests.iter().map(written).collect(),
            expected: self.expected.clone(),
            response: Response::default(),
            place: String::new(),
            received: 0,
            success: Success::default(),
        })
    }

    fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }
}

struct Question {
    bytes: Vec<u8>,
    is_head: bool,
    /// The beginning of a failure's text, if there are several requests.
    place: String,
}

struct HttpExchange {
    /// Those that are not sent yet.
    questions: VecDeque<Question>,
    expected: Arc<Expected>,
    response: Response,
    place: String,
    received: usize,
    success: Success,
}

impl HttpExchange {
    fn judge(&mut self, is_cut: bool) -> Step {
        if let Err(failure) = self.expected.judge(&self.response, is_cut) {
            return Step::Done(Err(self.placed(failure)));
        }
        let name = self.expected.weight_header.as_deref();
        if let Some((name, value)) = name.and_then(|name| Some((name, self.response.field(name)?))) {
            match value.parse().ok().filter(|weight| *weight <= WEIGHT_MAX) {
                Some(weight) => self.success.weight = Some(weight),
                None => {
                    let text = format!("header field {name}: {} is no weight", shown(value.as_bytes()));
                    self.success.warning = Some(text);
                }
            }
        }
        if self.questions.is_empty() { Step::Done(Ok(self.success.clone())) } else { Step::Reconnect }
    }

    fn placed(&self, failure: Failure) -> Failure {
        Failure::new(failure.class, format!("{}{}", self.place, failure.text))
    }
}

/// The largest weight of a real server.
const WEIGHT_MAX: u32 = i32::MAX.unsigned_abs();

impl Exchange for HttpExchange {
    fn start(&mut self) -> Step {
        let Some(question) = self.questions.pop_front() else { return Step::Done(Ok(self.success.clone())) };
        self.response = Response::new(question.is_head);
        self.place = question.place;
        self.received = 0;
        Step::Send(question.bytes)
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        let taken = &bytes[..bytes.len().min(ANSWER_MAX - self.received)];
        self.received += taken.len();
        if let Err(failure) = self.response.receive(taken) {
            return Step::Done(Err(self.placed(failure)));
        }
        let has_wrong_status =
            self.response.has_head() && !self.expected.status.contain(self.response.status);
        let is_cut = self.received == ANSWER_MAX && !self.response.is_complete();
        if !(self.response.is_complete() || has_wrong_status || is_cut) {
            return Step::Wait;
        }
        self.judge(is_cut)
    }

    fn on_close(&mut self) -> Step {
        match self.response.on_close() {
            Ok(()) => self.judge(false),
            Err(failure) => Step::Done(Err(self.placed(failure))),
        }
    }

    fn on_timeout(&mut self) -> Option<Outcome> {
        let text = match self.response.status {
            0 => "no answer in time".to_owned(),
            status => format!("status {status}, but no end of the answer in time"),
        };
        Some(Err(self.placed(Failure::new(FailureClass::Timeout, text))))
    }
}

impl Expected {
    /// `is_cut`: the body continues, and an expectation counts only if the rest cannot change it.
    fn judge(&self, response: &Response, is_cut: bool) -> Result<(), Failure> {
        let unexpected = |text: String| Err(Failure::new(FailureClass::Unexpected, text));
        let (status, body) = (response.status, &response.body);
        if !self.status.contain(status) {
            return unexpected(format!("status {status}, expected {}", self.status.shown()));
        }
        let within = if is_cut { format!(" in its first {} bytes", body.len()) } else { String::new() };
        if self.body.as_ref().is_some_and(|text| !text.is_in(body)) {
            return unexpected(format!(
                "status {status}, but the body does not contain the expected text{within}"
            ));
        }
        // A match that ends where the body is cut may depend on what follows.
        let is_match =
            |regex: &Regex| regex.find(body).is_some_and(|found| !is_cut || found.end() < body.len());
        if self.body_regex.as_ref().is_some_and(|regex| !is_match(regex)) {
            return unexpected(format!("status {status}, but the body does not match body_regex{within}"));
        }
        if self.body_not.as_ref().is_some_and(is_match) {
            return unexpected(format!("status {status}, but the body matches body_not"));
        }
        if is_cut && (self.body_not.is_some() || self.body_md5.is_some()) {
            return unexpected(format!("status {status}, but the body is longer than {} bytes", body.len()));
        }
        match self.body_md5 {
            Some(expected) if expected != <[u8; 16]>::from(Md5::digest(body)) => unexpected(format!(
                "status {status}, but the MD5 of the body is {}",
                hexadecimal(&Md5::digest(body))
            )),
            _ => Ok(()),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
