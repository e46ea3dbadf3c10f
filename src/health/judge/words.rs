//! Why a check is down, in words.

use std::net::IpAddr;

use crate::health::spec::Via;
use crate::health::verdict::{Failure, FailureClass};

/// A failure as a part of a sentence: "connection refused by 172.25.3.2 through the tunnel".
pub(super) fn describe(failure: &Failure, asked: IpAddr, way: Via) -> String {
    let (before, after) = phrase(failure.class);
    let way = match (failure.class, way) {
        (FailureClass::Command | FailureClass::Local, _) => "",
        (_, Via::Tunnel) => " through the tunnel",
        (_, Via::Direct) => " directly",
    };
    let phrase = format!("{before} {asked}{after}{way}");
    let text = failure.text.trim();
    if text.is_empty() || phrase.contains(text) { phrase } else { format!("{phrase} ({text})") }
}

/// The words before and after the address.
const fn phrase(class: FailureClass) -> (&'static str, &'static str) {
    match class {
        FailureClass::Refused => ("connection refused by", ""),
        FailureClass::Reset => ("connection reset by", ""),
        FailureClass::Timeout => ("no answer in time from", ""),
        FailureClass::Unreachable => ("no route to", ""),
        FailureClass::ProtocolUnreachable => ("encapsulated packets not accepted by", ""),
        FailureClass::Closed => ("connection closed too early by", ""),
        FailureClass::Tls => ("TLS failed with", ""),
        FailureClass::Garbage => ("invalid answer from", ""),
        FailureClass::Unexpected => ("unexpected answer from", ""),
        FailureClass::Mtu => ("large packets do not reach", ""),
        FailureClass::Command => ("command failed for", ""),
        FailureClass::Local => ("probe of", " not possible on this host"),
    }
}
