//! Check `tls`: the TLS handshake succeeds and the certificate is valid. Its options are those of every check that can
//! use TLS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::options::{duration, flag, text};
use super::{Check, Exchange, Step, Target, Tls};
use crate::health::spec::{BadOption, OptionRow, Options, Row, Shape, Transport};
use crate::health::verdict::Success;

/// The row of this check.
pub(super) static ROW: Row = Row {
    name: "tls",
    summary: "a TLS handshake succeeds, and the certificate is valid",
    transport: |_| Transport::Tls,
    port: Some(443),
    options: TLS_OPTIONS,
    build: |options| Ok(Arc::new(Handshake { tls: tls(options, None, &[])? })),
};

/// The options of TLS.
pub(super) const TLS_OPTIONS: &[OptionRow] = &[
    OptionRow {
        name: "server_name",
        help: "the name in the handshake, which the certificate must have; default: the name in `host` if there is one, otherwise the address",
        shape: Shape::Text,
    },
    OptionRow {
        name: "verify",
        help: "verify the certificate: chain, name and dates; default true",
        shape: Shape::Flag,
    },
    OptionRow {
        name: "ca_file",
        help: "certificates of the authorities, in PEM; default: those of the host",
        shape: Shape::Text,
    },
    OptionRow {
        name: "cert_file",
        help: "the client's certificate and its chain, in PEM, together with key_file; default: none",
        shape: Shape::Text,
    },
    OptionRow {
        name: "key_file",
        help: "the key of the client's certificate, in PEM; default: none",
        shape: Shape::Text,
    },
    OptionRow {
        name: "expiry_warning",
        help: "warn if the certificate expires within this time, \"0s\": never; default \"14d\"",
        shape: Shape::Duration,
    },
];

const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);

/// Reads the options of TLS. `host` is the name that the check's question contains, with or without a port.
pub(super) fn tls(options: &Options, host: Option<&str>, protocols: &[&str]) -> Result<Tls, BadOption> {
    let path = |name: &'static str| match text(options, name) {
        Some("") => Err((name, "the name of a file is missing".to_owned())),
        path => Ok(path.map(PathBuf::from)),
    };
    let client = match (path("cert_file")?, path("key_file")?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(("cert_file", "needs key_file".to_owned())),
        (None, Some(_)) => return Err(("key_file", "needs cert_file".to_owned())),
    };
    if text(options, "server_name") == Some("") {
        return Err(("server_name", "the name is empty".to_owned()));
    }
    Ok(Tls {
        server_name: text(options, "server_name").or(host.and_then(name_of)).map(str::to_owned),
        verify: flag(options, "verify", true),
        ca_file: path("ca_file")?,
        client,
        protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
        expiry_warning: duration(options, "expiry_warning").unwrap_or(EXPIRY_WARNING),
    })
}

/// The host without its port; nothing for an IPv6 address in brackets.
fn name_of(host: &str) -> Option<&str> {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    (!name.is_empty() && !name.starts_with('[')).then_some(name)
}

#[derive(Debug)]
struct Handshake {
    tls: Tls,
}

impl Check for Handshake {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(Established)
    }

    fn tls(&self) -> Option<Tls> {
        Some(self.tls.clone())
    }
}

/// The driver has done the handshake.
struct Established;

impl Exchange for Established {
    fn start(&mut self) -> Step {
        Step::Done(Ok(Success::default()))
    }

    fn receive(&mut self, _: &[u8]) -> Step {
        Step::Done(Ok(Success::default()))
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Ok(Success::default()))
    }
}
