//! Check `postgres`: the request for TLS is answered, whether with yes or no (PostgreSQL, "Message Flow", about
//! encryption), and no user is needed. With `user` the probe begins to log in instead, which a server refuses while it serves no
//! clients, and ends before the password.

use std::sync::Arc;

use super::options::{shown, text};
use super::{Check, Exchange, Step, Target};
use crate::health::spec::{BadOption, OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::{Failure, FailureClass, Outcome, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "postgres",
    summary: "a PostgreSQL server answers the request for TLS",
    transport: |_| Transport::Tcp,
    port: Some(5432),
    options: &OPTIONS,
    build,
};

static OPTIONS: [OptionRow; 2] = [
    OptionRow {
        name: "user",
        help: "begin to log in as this user, so that a server that admits no one yet is down; default: request TLS only",
        shape: Shape::Text,
    },
    OptionRow {
        name: "database",
        help: "the database to log in to; default: the one with the name of the user",
        shape: Shape::Text,
    },
];

/// Length 8 and code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Version 3.0 of the protocol, first in a StartupMessage.
const VERSION: [u8; 4] = [0, 3, 0, 0];

/// The most bytes of an error message.
const ERROR_MAX: usize = 8192;

/// The most bytes of a name (NAMEDATALEN less the NUL).
const NAME_MAX: usize = 63;

/// Classes of SQLSTATE that a server which accepts connections has for a user or database that it does not admit: invalid
/// authorization, invalid catalog name, access rule violation (PostgreSQL, "Error Codes").
const NOT_ADMITTED: [&[u8]; 3] = [b"28", b"3D", b"42"];

fn build(options: &Options) -> Result<Arc<dyn Check>, BadOption> {
    let (user, database) = (text(options, "user"), text(options, "database"));
    for (option, name) in [("user", user), ("database", database)] {
        let is_name = |name: &&str| (1..=NAME_MAX).contains(&name.len()) && !name.contains('\0');
        if let Some(name) = name.filter(|name| !is_name(name)) {
            return Err((option, format!("{name:?} is no name of 1 to {NAME_MAX} bytes")));
        }
    }
    let question = match (user, database) {
        (Some(user), database) => Question::Login(startup(user, database)),
        (None, None) => Question::Tls,
        (None, Some(_)) => return Err(("database", "it needs `user`".to_owned())),
    };
    Ok(Arc::new(Postgres { question, error: None }))
}

fn startup(user: &str, database: Option<&str>) -> Vec<u8> {
    let mut body = VERSION.to_vec();
    for (key, value) in [("user", Some(user)), ("database", database)] {
        let Some(value) = value else { continue };
        for word in [key, value] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &body].concat()
}

#[derive(Clone, Debug)]
enum Question {
    Tls,
    /// The StartupMessage.
    Login(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Postgres {
    question: Question,
    /// An error message as far as it has arrived.
    error: Option<Vec<u8>>,
}

impl Check for Postgres {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(self.clone())
    }
}

impl Postgres {
    /// An answer without an error: yes or no to TLS, or how the server requires the user to log in.
    fn is_welcome(&self, first: u8) -> bool {
        match self.question {
            Question::Tls => matches!(first, b'S' | b'N'),
            Question::Login(_) => first == b'R',
        }
    }

    fn judge(&self, fields: &[u8]) -> Outcome {
        let words = format!("error: {}", shown(field(fields, b'M')));
        let class = field(fields, b'C').get(..2).unwrap_or_default();
        let is_admission = matches!(self.question, Question::Login(_)) && NOT_ADMITTED.contains(&class);
        match is_admission {
            true => Ok(Success { warning: Some(words), ..Success::default() }),
            false => Err(Failure::new(FailureClass::Unexpected, words)),
        }
    }
}

impl Exchange for Postgres {
    fn start(&mut self) -> Step {
        Step::Send(match &self.question {
            Question::Tls => SSL_REQUEST.to_vec(),
            Question::Login(startup) => startup.clone(),
        })
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        let garbage =
            || Step::Done(Err(Failure::new(FailureClass::Garbage, "the answer is not one of PostgreSQL")));
        let mut error = match (self.error.take(), bytes.first()) {
            (Some(error), _) => error,
            (None, None) => return Step::Wait,
            (None, Some(first)) if self.is_welcome(*first) => return Step::Done(Ok(Success::default())),
            (None, Some(b'E')) => Vec::new(),
            (None, Some(_)) => return garbage(),
        };
        error.extend_from_slice(bytes);
        let length =
            error.get(1..5).map(|length| length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)));
        match length {
            Some(length) if !(4..=ERROR_MAX).contains(&length) => garbage(),
            Some(length) if error.len() > length => Step::Done(self.judge(&error[5..=length])),
            _ => {
                self.error = Some(error);
                Step::Wait
            }
        }
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(FailureClass::Closed, "connection closed without an answer")))
    }
}

/// A field of an error: fields begin with a letter and end with a NUL.
fn field(fields: &[u8], letter: u8) -> &[u8] {
    fields.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[letter])).unwrap_or_default()
}
