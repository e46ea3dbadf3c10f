//! Check `https`: as [`super::http`], over TLS.

use super::http::{HTTP_OPTIONS, build};
use super::options::joined;
use super::tls::TLS_OPTIONS;
use crate::health::spec::{OptionRow, Row, Transport};

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "https",
    summary: "as http, over TLS",
    transport: |_| Transport::Tls,
    port: Some(443),
    options: &OPTIONS,
    build: |options| build(options, true),
};

static OPTIONS: [OptionRow; HTTP_OPTIONS.len() + TLS_OPTIONS.len()] = joined(HTTP_OPTIONS, TLS_OPTIONS);
