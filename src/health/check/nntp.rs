//! Check `nntp`: the greeting is 200 or 201, and QUIT is answered with 205 (RFC 3977 §5.1).

use super::exchange::{LINE_OPTIONS, build, line_step, transport};
use crate::health::spec::Row;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "nntp",
    summary: "an NNTP server greets and takes leave",
    transport,
    port: Some(119),
    options: &LINE_OPTIONS,
    build: |options| {
        build(options, vec![line_step("", r"^20[01]\b", r"\n")?, line_step(r"QUIT\r\n", r"^205\b", r"\n")?])
    },
};
