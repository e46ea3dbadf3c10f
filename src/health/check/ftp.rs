//! Check `ftp`: the greeting is 220, and QUIT is answered with 221 (RFC 959 §5.4).

use super::exchange::{LINE_OPTIONS, build, line_step, transport};
use crate::health::spec::Row;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "ftp",
    summary: "an FTP server greets and takes leave",
    transport,
    port: Some(21),
    options: &LINE_OPTIONS,
    build: |options| {
        build(
            options,
            vec![
                line_step("", r"^220[ -]", r"(?m)^\d{3} .*\n")?,
                line_step(r"QUIT\r\n", r"^221[ -]", r"(?m)^\d{3} .*\n")?,
            ],
        )
    },
};
