//! Check `postgres`: the request for TLS is answered, whether with yes or no (PostgreSQL, "Message Flow", about
//! encryption). No user is needed.

use std::sync::Arc;

use super::options::shown;
use super::{Check, Exchange, Step, Target};
use crate::health::spec::{Row, Transport};
use crate::health::verdict::{Failure, FailureClass, Success};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "postgres",
    summary: "a PostgreSQL server answers the request for TLS",
    transport: |_| Transport::Tcp,
    port: Some(5432),
    options: &[],
    build: |_| Ok(Arc::new(Postgres { error: None })),
};

/// Length 8 and code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The most bytes of an error message.
const ERROR_MAX: usize = 8192;

#[derive(Debug)]
struct Postgres {
    /// An error message as far as it has arrived.
    error: Option<Vec<u8>>,
}

impl Check for Postgres {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(Postgres { error: None })
    }
}

impl Exchange for Postgres {
    fn start(&mut self) -> Step {
        Step::Send(SSL_REQUEST.to_vec())
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        let failure = |class, text: String| Step::Done(Err(Failure::new(class, text)));
        let error = match &mut self.error {
            Some(error) => error,
            none => match bytes.first() {
                None => return Step::Wait,
                Some(b'S' | b'N') => return Step::Done(Ok(Success::default())),
                Some(b'E') => none.insert(Vec::new()),
                Some(_) => {
                    return failure(FailureClass::Garbage, "the answer is not one of PostgreSQL".to_owned());
                }
            },
        };
        error.extend_from_slice(bytes);
        let length =
            error.get(1..5).map(|length| length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)));
        match length {
            Some(length) if !(4..=ERROR_MAX).contains(&length) => {
                failure(FailureClass::Garbage, "the answer is not one of PostgreSQL".to_owned())
            }
            Some(length) if error.len() > length => {
                failure(FailureClass::Unexpected, format!("error: {}", message_of(&error[5..=length])))
            }
            _ => Step::Wait,
        }
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(FailureClass::Closed, "connection closed without an answer")))
    }
}

/// The field M of an error: fields end with a NUL, and begin with a letter.
fn message_of(fields: &[u8]) -> String {
    let message = fields.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"));
    shown(message.unwrap_or_default())
}
