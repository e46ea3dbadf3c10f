//! Checks `http` and `https`: the answers to requests have the expected status and body (RFC 9110, RFC 9112).

mod body;
mod redirect;
mod request;
mod response;
mod status;

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use super::bytes::Pattern;
use super::expression::Expression;
use super::options::{clipped, number, shown, text, texts};
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

/// More than any page needs.
const REDIRECTS_MAX: i64 = 20;

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
    option(
        "redirects",
        Shape::Number(0, REDIRECTS_MAX),
        "how many redirects in a row to the same host are followed; default 0",
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
        body_regex: Expression::option(options, "body_regex")?,
        body_not: Expression::option(options, "body_not")?,
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
    let redirects = number(options, "redirects").and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    let requests = request::read(options, is_tls)?;
    Ok(Arc::new(Http { requests, redirects, expected: Arc::new(expected), tls }))
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
    redirects: u32,
    expected: Arc<Expected>,
    tls: Option<Tls>,
}

/// What an answer must be.
#[derive(Debug)]
struct Expected {
    status: StatusCodes,
    body: Option<Pattern>,
    body_regex: Option<Expression>,
    body_not: Option<Expression>,
    body_md5: Option<[u8; 16]>,
    weight_header: Option<String>,
}

impl Check for Http {
    fn begin(&self, target: &Target, _: u64) -> Box<dyn Exchange> {
        let question = |request: &Request| Question {
            place: if self.requests.len() > 1 { format!("{}: ", request.path) } else { String::new() },
            request: request.clone(),
            followed: 0,
        };
        Box::new(HttpExchange {
            questions: self.requests.iter().map(question).collect(),
            target: target.clone(),
            redirects: self.redirects,
            expected: self.expected.clone(),
            asked: None,
            response: Response::default(),
            received: 0,
            success: Success::default(),
        })
    }

    fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }
}

struct Question {
    request: Request,
    /// The beginning of a failure's text: which of several requests it is about.
    place: String,
    /// Redirects that have led here.
    followed: u32,
}

struct HttpExchange {
    /// Those that are not sent yet.
    questions: VecDeque<Question>,
    target: Target,
    redirects: u32,
    expected: Arc<Expected>,
    /// The one that is sent.
    asked: Option<Question>,
    response: Response,
    received: usize,
    success: Success,
}

impl HttpExchange {
    fn judge(&mut self, is_cut: bool) -> Step {
        if let Err(failure) = self.expected.judge(&self.response, is_cut) {
            return self.failed(failure);
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

    /// Follows a redirect, if the answer is one and redirects are followed.
    fn follow(&mut self) -> Option<Step> {
        let status = self.response.status;
        let asked = self.asked.as_ref().filter(|_| self.redirects > 0 && redirect::is_redirect(status))?;
        let location = self.response.field("Location")?;
        let unexpected = |text: String| Failure::new(FailureClass::Unexpected, text);
        let seen = clipped(location.as_bytes());
        let Some(request) = asked.request.redirected(status, location, &self.target) else {
            return Some(self.failed(unexpected(format!("redirected to {seen}, which is not followed"))));
        };
        if asked.followed == self.redirects {
            let text = format!("more redirects in a row than {}, the next to {seen}", self.redirects);
            return Some(self.failed(unexpected(text)));
        }
        // The last redirect is the one whose answer fails.
        let before = asked.place.split("redirected to ").next().unwrap_or_default();
        let place = format!("{before}redirected to {seen}: ");
        self.questions.push_front(Question { request, place, followed: asked.followed + 1 });
        Some(Step::Reconnect)
    }

    fn placed(&self, failure: Failure) -> Failure {
        let place = self.asked.as_ref().map_or("", |asked| &asked.place);
        Failure::new(failure.class, format!("{place}{}", failure.text))
    }

    fn failed(&self, failure: Failure) -> Step {
        Step::Done(Err(self.placed(failure)))
    }
}

/// The largest weight of a real server.
const WEIGHT_MAX: u32 = i32::MAX.unsigned_abs();

impl Exchange for HttpExchange {
    fn start(&mut self) -> Step {
        let Some(question) = self.questions.pop_front() else { return Step::Done(Ok(self.success.clone())) };
        let bytes = question.request.written(&self.target);
        self.response = Response::new(question.request.is_head(), self.expected.body_md5.is_some());
        self.asked = Some(question);
        self.received = 0;
        Step::Send(bytes)
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        let most = if self.is_limited() { ANSWER_MAX } else { usize::MAX };
        let taken = &bytes[..bytes.len().min(most - self.received)];
        self.received = self.received.saturating_add(taken.len());
        if let Err(failure) = self.response.receive(taken) {
            return self.failed(failure);
        }
        if self.response.has_head()
            && let Some(step) = self.follow()
        {
            return step;
        }
        let has_wrong_status =
            self.response.has_head() && !self.expected.status.contain(self.response.status);
        let is_cut = self.received == most && !self.response.is_complete();
        if !(self.response.is_complete() || has_wrong_status || is_cut) {
            return Step::Wait;
        }
        self.judge(is_cut)
    }

    /// The MD5 is that of the whole body, of which only the beginning is kept.
    fn is_limited(&self) -> bool {
        self.expected.body_md5.is_none()
    }

    fn on_close(&mut self) -> Step {
        match self.response.on_close() {
            Ok(()) => self.judge(false),
            Err(failure) => self.failed(failure),
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
        let (status, body) = (response.status, response.body.kept());
        let is_cut = is_cut || response.body.is_longer_than_kept();
        if !self.status.contain(status) {
            return unexpected(format!("status {status}, expected {}", self.status.shown()));
        }
        let within = if is_cut { format!(" in its first {} bytes", body.len()) } else { String::new() };
        if self.body.as_ref().is_some_and(|text| !text.is_in(body)) {
            return unexpected(format!(
                "status {status}, but the body does not contain the expected text{within}"
            ));
        }
        let is_match = |expression: &Expression| match is_cut {
            true => expression.is_match_of_beginning(body),
            false => expression.is_match(body),
        };
        if self.body_regex.as_ref().is_some_and(|expression| !is_match(expression)) {
            return unexpected(format!("status {status}, but the body does not match body_regex{within}"));
        }
        if self.body_not.as_ref().is_some_and(is_match) {
            return unexpected(format!("status {status}, but the body matches body_not"));
        }
        if is_cut && self.body_not.is_some() {
            return unexpected(format!("status {status}, but the body is longer than {} bytes", body.len()));
        }
        match (self.body_md5, response.body.md5()) {
            (Some(expected), Some(found)) if expected != found => {
                unexpected(format!("status {status}, but the MD5 of the body is {}", hexadecimal(&found)))
            }
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
