//! Check `memcached`: the command version is answered.

use super::exchange::{LINE_OPTIONS, build, line_step, transport};
use crate::health::spec::Row;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "memcached",
    summary: "a memcached server answers with its version",
    transport,
    port: Some(11211),
    options: &LINE_OPTIONS,
    build: |options| build(options, vec![line_step(r"version\r\n", r"^VERSION ", r"\n")?]),
};
