//! Check `agent`: a program on the real server reports in one line of words its state and the weight that it requests.

use std::sync::Arc;

use super::bytes::bytes;
use super::options::{clipped, text};
use super::{Check, Exchange, Step, Target};
use crate::health::spec::{OptionRow, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "agent",
    summary: "a program of the real server reports its state and weight in a line",
    transport: |_| Transport::Tcp,
    port: None,
    options: &[OptionRow {
        name: "send",
        help: "sent after the connection is established, with escapes as in `exchange`; default nothing",
        shape: Shape::Text,
    }],
    build: |options| {
        let send = text(options, "send").map_or(Ok(Vec::new()), |send| bytes("send", send))?;
        Ok(Arc::new(Agent { send }))
    },
};

/// The most bytes of a line.
const LINE_MAX: usize = 1024;

/// The largest percentage of a weight.
const PERCENT_MAX: u32 = 1000;

#[derive(Debug)]
struct Agent {
    send: Vec<u8>,
}

impl Check for Agent {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(Probe { send: self.send.clone(), line: Vec::new() })
    }
}

struct Probe {
    send: Vec<u8>,
    line: Vec<u8>,
}

impl Exchange for Probe {
    fn start(&mut self) -> Step {
        if self.send.is_empty() { Step::Wait } else { Step::Send(std::mem::take(&mut self.send)) }
    }

    fn receive(&mut self, received: &[u8]) -> Step {
        let end = received.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        self.line.extend_from_slice(&received[..end.unwrap_or(received.len())]);
        if self.line.len() > LINE_MAX {
            let text = format!("a line of more than {LINE_MAX} bytes");
            return Step::Done(Err(Failure::new(FailureClass::Garbage, text)));
        }
        if end.is_some() { Step::Done(judge(&self.line)) } else { Step::Wait }
    }

    /// The end of the connection also ends the line.
    fn on_close(&mut self) -> Step {
        let failure = || Failure::new(FailureClass::Closed, "before the agent has reported anything");
        Step::Done(if self.line.is_empty() { Err(failure()) } else { judge(&self.line) })
    }
}

/// Words that are separated by blanks or commas; what follows "#" is for people.
fn judge(line: &[u8]) -> Outcome {
    let line = String::from_utf8_lossy(line);
    let (words, remark) = line.split_once('#').unwrap_or((&line, ""));
    let mut success = Success::default();
    let mut is_understood = false;
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "up" | "ready" => {}
            "drain" => success.weight = Some(0),
            "down" | "fail" | "failed" | "stopped" | "maint" => return Err(reported(&word, remark)),
            // A limit of connections, which a real server has as `upper_threshold`.
            _ if word.starts_with("maxconn:") => {}
            _ => match read_weight(&word) {
                Some((weight, percent)) if success.weight.is_none() => {
                    (success.weight, success.weight_percent) = (weight, percent);
                }
                Some(_) => {}
                None => return Err(not_understood(&line)),
            },
        }
        is_understood = true;
    }
    if is_understood { Ok(success) } else { Err(not_understood(&line)) }
}

/// A weight, or the percentage of the configured one.
fn read_weight(word: &str) -> Option<(Option<u32>, Option<u32>)> {
    match word.strip_suffix('%') {
        Some(percent) => {
            let percent = percent.parse::<u32>().ok().filter(|percent| *percent <= PERCENT_MAX)?;
            Some((None, Some(percent)))
        }
        None => Some((Some(word.parse().ok()?), None)),
    }
}

fn reported(word: &str, remark: &str) -> Failure {
    let text = match remark.trim() {
        "" => format!("the agent reports \"{word}\""),
        remark => format!("the agent reports \"{word}\": \"{}\"", clipped(remark.as_bytes())),
    };
    Failure::new(FailureClass::Unexpected, text)
}

fn not_understood(line: &str) -> Failure {
    let text = format!("\"{}\" is no report of an agent", clipped(line.as_bytes()));
    Failure::new(FailureClass::Garbage, text)
}
