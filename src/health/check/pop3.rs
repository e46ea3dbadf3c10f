//! Check `pop3`: the greeting and the answer to QUIT begin with +OK (RFC 1939 §3).

use super::exchange::{LINE_OPTIONS, build, line_step, transport};
use crate::health::spec::Row;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "pop3",
    summary: "a POP3 server greets and takes leave",
    transport,
    port: Some(110),
    options: &LINE_OPTIONS,
    build: |options| {
        build(options, vec![line_step("", r"^\+OK", r"\n")?, line_step(r"QUIT\r\n", r"^\+OK", r"\n")?])
    },
};
