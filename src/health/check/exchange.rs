//! Check `exchange`: bytes are sent and expected, step by step. Checks of common protocols are such steps with a name.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::bytes::{Pattern, bytes};
use super::expression::Expression;
use super::options::{flag, joined, shown, tables};
use super::tls::{TLS_OPTIONS, tls};
use super::{Check, Exchange, Step, Target, Tls};
use crate::health::spec::{BadOption, OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "exchange",
    summary: "bytes are sent and expected, step by step",
    transport,
    port: None,
    options: &OPTIONS,
    build: |options| build(options, read_steps(tables(options, "steps"))?),
};

/// The option that sets whether the exchange runs over TLS, and those of TLS.
pub(super) static LINE_OPTIONS: [OptionRow; 1 + TLS_OPTIONS.len()] = joined(&[TLS], TLS_OPTIONS);

const TLS: OptionRow =
    OptionRow { name: "tls", help: "TLS from the first byte on; default false", shape: Shape::Flag };

static OPTIONS: [OptionRow; 2 + TLS_OPTIONS.len()] = joined(&[STEPS, TLS], TLS_OPTIONS);

const STEPS: OptionRow = OptionRow {
    name: "steps",
    help: "a list of steps { send, expect, expect_text, until }, see docs/checks.md; required",
    shape: Shape::Tables(&["send", "expect", "expect_text", "until"]),
};

/// The most bytes of the answer in one step.
const STEP_MAX: usize = 4096;

/// What carries an exchange.
pub(super) fn transport(options: &Options) -> Transport {
    if flag(options, "tls", false) { Transport::Tls } else { Transport::Tcp }
}

/// Something to send, and what the answer must be.
#[derive(Clone, Debug, Default)]
pub(super) struct LineStep {
    send: Vec<u8>,
    expect: Option<Expression>,
    expect_text: Option<Pattern>,
    /// The answer is complete where this matches for the first time.
    until: Option<Expression>,
}

/// A step of a protocol with a name of its own; `send` may be empty.
pub(super) fn line_step(send: &str, expect: &str, until: &str) -> Result<LineStep, BadOption> {
    let fields = [("send", send), ("expect", expect), ("until", until)];
    read_step(&fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn read_step(fields: &BTreeMap<String, String>) -> Result<LineStep, BadOption> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let expression = |name: &str| field(name).map(|text| Expression::read("steps", text)).transpose();
    let step = LineStep {
        send: bytes("steps", field("send").unwrap_or_default())?,
        expect: expression("expect")?,
        expect_text: field("expect_text").map(|text| Pattern::read("steps", text)).transpose()?,
        until: expression("until")?,
    };
    if step.send.is_empty() && !step.is_waiting() {
        return Err(("steps", "a step has nothing to send and nothing to expect".to_owned()));
    }
    Ok(step)
}

fn read_steps(written: &[BTreeMap<String, String>]) -> Result<Vec<LineStep>, BadOption> {
    let steps = written.iter().map(read_step).collect::<Result<Vec<_>, _>>()?;
    match steps.last() {
        Some(last) if last.is_waiting() => Ok(steps),
        Some(_) => Err(("steps", "the last step expects nothing".to_owned())),
        None => Err(("steps", "at least one step is required".to_owned())),
    }
}

/// Creates a check from steps.
pub(super) fn build(options: &Options, steps: Vec<LineStep>) -> Result<Arc<dyn Check>, BadOption> {
    let tls = (transport(options) == Transport::Tls).then(|| tls(options, None, &[])).transpose()?;
    Ok(Arc::new(Lines { steps, tls }))
}

#[derive(Debug)]
struct Lines {
    steps: Vec<LineStep>,
    tls: Option<Tls>,
}

impl Check for Lines {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        let steps = self.steps.iter().cloned().collect();
        Box::new(LineExchange { steps, answer: Vec::new(), count: self.steps.len() })
    }

    fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }
}

impl LineStep {
    fn is_waiting(&self) -> bool {
        self.expect.is_some() || self.expect_text.is_some() || self.until.is_some()
    }

    fn is_expected(&self, answer: &[u8]) -> bool {
        self.expect.as_ref().is_none_or(|expect| expect.is_match(answer))
            && self.expect_text.as_ref().is_none_or(|text| text.is_in(answer))
    }

    /// Judges the answer so far. `None`: it is not complete.
    fn judge(&self, answer: &[u8]) -> Option<Result<(), Failure>> {
        let is_complete = self.until.as_ref().is_none_or(|until| until.is_match(answer));
        match (is_complete && self.is_expected(answer), &self.until) {
            (true, _) => Some(Ok(())),
            (false, Some(_)) if is_complete => {
                let text = format!("the answer {} is not expected", shown(answer));
                Some(Err(Failure::new(FailureClass::Unexpected, text)))
            }
            _ if answer.len() >= STEP_MAX => {
                let text = format!("{STEP_MAX} bytes, beginning with {}, are not expected", shown(answer));
                Some(Err(Failure::new(FailureClass::Garbage, text)))
            }
            _ => None,
        }
    }
}

struct LineExchange {
    /// The first one is the current one; its bytes are sent.
    steps: VecDeque<LineStep>,
    /// What has arrived in this step.
    answer: Vec<u8>,
    count: usize,
}

impl LineExchange {
    /// Takes what the current steps send, up to one that waits.
    fn send(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(step) = self.steps.front() {
            bytes.extend_from_slice(&step.send);
            if step.is_waiting() {
                break;
            }
            self.steps.pop_front();
        }
        bytes
    }

    fn placed(&self, failure: Failure) -> Failure {
        match self.count {
            1 => failure,
            count => {
                let number = count - self.steps.len() + 1;
                Failure::new(failure.class, format!("{} in step {number} of {count}", failure.text))
            }
        }
    }
}

impl Exchange for LineExchange {
    fn start(&mut self) -> Step {
        let bytes = self.send();
        if bytes.is_empty() { Step::Wait } else { Step::Send(bytes) }
    }

    /// Byte by byte, so that the answer of a step ends at the same byte wherever packets end.
    fn receive(&mut self, bytes: &[u8]) -> Step {
        let mut sent = Vec::new();
        for byte in bytes {
            self.answer.push(*byte);
            let judged = self.steps.front().and_then(|step| step.judge(&self.answer));
            match judged {
                None => {}
                Some(Err(failure)) => return Step::Done(Err(self.placed(failure))),
                Some(Ok(())) => {
                    self.answer.clear();
                    self.steps.pop_front();
                    if self.steps.is_empty() {
                        return Step::Done(Ok(Success::default()));
                    }
                    sent.extend(self.send());
                }
            }
        }
        if sent.is_empty() { Step::Wait } else { Step::Send(sent) }
    }

    fn on_close(&mut self) -> Step {
        let text = match self.answer.is_empty() {
            true => "connection closed without an answer".to_owned(),
            false => format!("connection closed after {}", shown(&self.answer)),
        };
        Step::Done(Err(self.placed(Failure::new(FailureClass::Closed, text))))
    }

    fn on_timeout(&mut self) -> Option<Outcome> {
        let text = match self.answer.is_empty() {
            true => "no answer in time".to_owned(),
            false => format!("no expected answer in time, only {}", shown(&self.answer)),
        };
        Some(Err(self.placed(Failure::new(FailureClass::Timeout, text))))
    }
}
