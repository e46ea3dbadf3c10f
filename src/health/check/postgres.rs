//! Check `postgres`: the server begins to authenticate a user (PostgreSQL, "Message Flow", about the start-up). The probe
//! ends before it logs in, so that the user need not exist. The request for TLS would show less: a server answers it while
//! it is starting up, too.

use std::sync::Arc;

use super::options::{shown, text};
use super::{Check, Exchange, Step, Target};
use crate::health::spec::{BadOption, OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "postgres",
    summary: "a PostgreSQL server accepts connections",
    transport: |_| Transport::Tcp,
    port: Some(5432),
    options: &[OptionRow {
        name: "user",
        help: "the user and the database that the probe names; default \"lvs-tund\"",
        shape: Shape::Text,
    }],
    build,
};

/// Version 3.0 of the protocol, first in a StartupMessage.
const VERSION: [u8; 4] = [0, 3, 0, 0];

/// The most bytes of an error message.
const ERROR_MAX: usize = 8192;

/// Classes of SQLSTATE that concern the server rather than this user: insufficient resources, operator intervention (the
/// database is starting up, or shutting down), system error, internal error (PostgreSQL, "Error Codes").
const DOWN: [&[u8]; 4] = [b"53", b"57", b"58", b"XX"];

fn build(options: &Options) -> Result<Arc<dyn Check>, BadOption> {
    let user = text(options, "user").unwrap_or("lvs-tund");
    if user.is_empty() || user.chars().any(char::is_control) {
        return Err(("user", format!("{user:?} is no name of a user")));
    }
    Ok(Arc::new(Postgres { user: user.to_owned(), answer: Vec::new() }))
}

#[derive(Debug)]
struct Postgres {
    user: String,
    answer: Vec<u8>,
}

impl Check for Postgres {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(Postgres { user: self.user.clone(), answer: Vec::new() })
    }
}

fn garbage() -> Step {
    Step::Done(Err(Failure::new(FailureClass::Garbage, "the answer is not one of PostgreSQL")))
}

impl Exchange for Postgres {
    fn start(&mut self) -> Step {
        let parameters = format!("user\0{0}\0database\0{0}\0\0", self.user);
        // A longer name would not fit into a file.
        let length = u32::try_from(8 + parameters.len()).unwrap_or(u32::MAX).to_be_bytes();
        Step::Send([&length[..], &VERSION, parameters.as_bytes()].concat())
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        self.answer.extend_from_slice(bytes);
        let [kind, rest @ ..] = &self.answer[..] else { return Step::Wait };
        let Some((length, rest)) = rest.split_first_chunk() else {
            return if matches!(kind, b'R' | b'E') { Step::Wait } else { garbage() };
        };
        // The length counts itself.
        let length = u32::from_be_bytes(*length) as usize;
        match kind {
            // A request to authenticate has at least its kind, a number of four bytes.
            b'R' if (8..=ERROR_MAX).contains(&length) => Step::Done(Ok(Success::default())),
            b'E' if (4..=ERROR_MAX).contains(&length) => match rest.get(..length - 4) {
                Some(fields) => Step::Done(judge(fields)),
                None => Step::Wait,
            },
            _ => garbage(),
        }
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(FailureClass::Closed, "connection closed without an answer")))
    }
}

/// Judges the fields of an error: each begins with a letter and ends with a NUL.
fn judge(fields: &[u8]) -> Outcome {
    let field = |letter: u8| fields.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[letter]));
    match field(b'C') {
        Some(code) if !DOWN.iter().any(|class| code.starts_with(class)) => Ok(Success::default()),
        _ => {
            let text = format!("error: {}", shown(field(b'M').unwrap_or_default()));
            Err(Failure::new(FailureClass::Unexpected, text))
        }
    }
}
