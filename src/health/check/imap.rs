//! Check `imap`: the greeting is not BYE, and LOGOUT is answered (RFC 9051 §7.1).

use super::exchange::{LINE_OPTIONS, build, line_step, transport};
use crate::health::spec::Row;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "imap",
    summary: "an IMAP server greets and takes leave",
    transport,
    port: Some(143),
    options: &LINE_OPTIONS,
    build: |options| {
        build(
            options,
            vec![
                line_step("", r"^\* (OK|PREAUTH)\b", r"\n")?,
                line_step(r"a1 LOGOUT\r\n", r"(?m)^(\* BYE|a1 OK)\b", r"(?m)^(\* BYE|a1 ).*\n")?,
            ],
        )
    },
};
