//! Check `redis`: PING is answered with PONG, or with the request to authenticate.

use super::exchange::{LINE_OPTIONS, build, line_step, transport};
use crate::health::spec::Row;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "redis",
    summary: "a Redis server answers PING",
    transport,
    port: Some(6379),
    options: &LINE_OPTIONS,
    build: |options| build(options, vec![line_step(r"PING\r\n", r"^(\+PONG|-NOAUTH\b|-NOPERM\b)", r"\n")?]),
};
