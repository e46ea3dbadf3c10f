//! What went wrong in TLS, in words that name the remedy.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use tokio_rustls::rustls::pki_types::{ServerName, UnixTime};
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

use crate::daemon::health::failure::{self, Stage};
use crate::health::{Failure, FailureClass};

/// The names of a certificate that are listed.
const NAMES_MAX: usize = 3;

/// Why a handshake failed, or what follows it. With TLS 1.3 the client has finished before the server has seen its
/// certificate (RFC 8446 §4.4.2.4).
pub(super) fn of_error(error: &io::Error, stage: Stage) -> Failure {
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(error) => Failure::new(FailureClass::Tls, words(error)),
        None if stage == Stage::Handshake && error.kind() == io::ErrorKind::UnexpectedEof => Failure::new(
            FailureClass::Closed,
            "the connection was closed in the TLS handshake; does the port use TLS?",
        ),
        None => failure::of_error(error, stage),
    }
}

/// The date as 2026-01-02, UTC.
pub(super) fn day(time: UnixTime) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(time.as_secs());
    let mut text = humantime::format_rfc3339_seconds(time).to_string();
    text.truncate("2026-01-02".len());
    text
}

fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => format!("the real server refuses TLS: {}", refusal(*alert)),
        Error::InvalidMessage(_) => "the answer is no TLS; does the port use TLS?".to_owned(),
        Error::PeerIncompatible(why) => format!("no TLS 1.2 or 1.3 in common: {why:?}"),
        Error::NoApplicationProtocol => "no protocol of ALPN in common".to_owned(),
        Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        error => format!("TLS failed: {error}"),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate expired on {}", day(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}", day(*not_before))
        }
        CertificateError::UnknownIssuer => {
            "the certificate is signed by an unknown authority; set ca_file or verify = false".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => other_name(expected, presented),
        CertificateError::BadSignature => {
            "the certificate's signature is wrong; is ca_file of another authority with the same name?"
                .to_owned()
        }
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
            "the certificate is not for servers (extended key usage)".to_owned()
        }
        CertificateError::BadEncoding => "the certificate cannot be read".to_owned(),
        CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "the server shows the certificate of an authority as its own; set verify = false".to_owned()
        }
        error => format!("the certificate is not accepted: {error}"),
    }
}

/// webpki describes names as `DnsName("a.example")` and `IpAddress(192.0.2.1)`.
fn other_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = expected.to_str();
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    let names: Vec<String> = presented.iter().take(NAMES_MAX).map(bare).collect();
    let more = if presented.len() > NAMES_MAX { " and others" } else { "" };
    match names.is_empty() {
        true => format!("the certificate names no host, so it is not for {expected}; set verify = false"),
        false => format!("the certificate is for {}{more}, not {expected}", names.join(", ")),
    }
}

fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::HandshakeFailure => {
            "it has no version or cipher in common, or requires a client certificate".to_owned()
        }
        AlertDescription::CertificateRequired => "it requires a client certificate".to_owned(),
        AlertDescription::UnrecognisedName => "it does not know the requested name (SNI)".to_owned(),
        AlertDescription::ProtocolVersion => "it has no TLS version in common".to_owned(),
        AlertDescription::NoApplicationProtocol => "it has no protocol of ALPN in common".to_owned(),
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked => {
            format!("it does not accept the client certificate ({alert:?})")
        }
        alert => format!("alert {alert:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_for_another_name_names_both() {
        let expected = ServerName::try_from("api.example.com").unwrap();
        let presented = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            other_name(&expected, &presented(&["DnsName(\"www.example.com\")", "IpAddress(192.0.2.1)"])),
            "the certificate is for www.example.com, 192.0.2.1, not api.example.com"
        );
        assert_eq!(
            other_name(&expected, &presented(&["a", "b", "c", "d"])),
            "the certificate is for a, b, c and others, not api.example.com"
        );
        assert_eq!(
            other_name(&expected, &[]),
            "the certificate names no host, so it is not for api.example.com; set verify = false"
        );
    }

    #[test]
    fn a_day_is_written_as_in_rfc_3339() {
        assert_eq!(day(UnixTime::since_unix_epoch(Duration::from_secs(1_767_355_200))), "2026-01-02");
    }

    #[test]
    fn a_refusal_names_what_the_real_server_requires() {
        let text = |alert| words(&Error::AlertReceived(alert));
        assert_eq!(
            text(AlertDescription::CertificateRequired),
            "the real server refuses TLS: it requires a client certificate"
        );
        assert!(text(AlertDescription::UnknownCA).contains("does not accept the client certificate"));
        assert!(text(AlertDescription::InternalError).ends_with("alert InternalError"));
    }
}
