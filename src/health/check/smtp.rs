//! Check `smtp`: the greeting is 220, and HELO and QUIT are answered (RFC 5321 §4.3.2).

use super::exchange::{LINE_OPTIONS, build, line_step, transport};
use super::options::{joined, text};
use crate::health::spec::{OptionRow, Row, Shape};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "smtp",
    summary: "an SMTP server greets and answers HELO",
    transport,
    port: Some(25),
    options: &OPTIONS,
    build: |options| {
        let helo = text(options, "helo").unwrap_or("localhost");
        if helo.is_empty() || !helo.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(("helo", format!("{helo:?} is no name of a host")));
        }
        // The last line of a reply has a space behind its code.
        let end = r"(?m)^\d{3}( .*|\r?)\n";
        let steps = vec![
            line_step("", "^220[ -]", end)?,
            line_step(&format!("HELO {helo}\\r\\n"), "^250[ -]", end)?,
            line_step(r"QUIT\r\n", "^221", end)?,
        ];
        build(options, steps)
    },
};

const HELO: OptionRow =
    OptionRow { name: "helo", help: "the name that HELO gives; default \"localhost\"", shape: Shape::Text };

static OPTIONS: [OptionRow; 1 + LINE_OPTIONS.len()] = joined(&[HELO], &LINE_OPTIONS);
