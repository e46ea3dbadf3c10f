//! Why a check is down, in words.

use std::net::IpAddr;

use crate::health::spec::Via;
use crate::health::verdict::{Failure, FailureClass};

/// The way of a check's probes: `None` if the real server is this host, which needs no way.
pub(super) type Way = Option<Via>;

/// A failure as a part of a sentence: "connection refused by 172.25.3.2 through the tunnel".
pub(super) fn describe(failure: &Failure, asked: IpAddr, way: Way) -> String {
    let (before, after) = phrase(failure.class);
    let way = match (failure.class, way) {
        (FailureClass::Command | FailureClass::Local, _) => "",
        (_, Some(Via::Tunnel)) => " through the tunnel",
        (_, Some(Via::Direct)) => " directly",
        (_, None) => " on this host",
    };
    let phrase = format!("{before} {asked}{after}{way}");
    let text = failure.text.trim();
    // Also if it is empty.
    if phrase.contains(text) { phrase } else { format!("{phrase} ({text})") }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn words(class: FailureClass, text: &str, way: Way) -> String {
        describe(&Failure::new(class, text), IpAddr::V4(Ipv4Addr::new(172, 25, 3, 2)), way)
    }

    #[test]
    fn every_class_of_failure_has_its_words() {
        let rows = [
            (FailureClass::Refused, "connection refused by 172.25.3.2 through the tunnel"),
            (FailureClass::Reset, "connection reset by 172.25.3.2 through the tunnel"),
            (FailureClass::Timeout, "no answer in time from 172.25.3.2 through the tunnel"),
            (FailureClass::Unreachable, "no route to 172.25.3.2 through the tunnel"),
            (
                FailureClass::ProtocolUnreachable,
                "encapsulated packets not accepted by 172.25.3.2 through the tunnel",
            ),
            (FailureClass::Closed, "connection closed too early by 172.25.3.2 through the tunnel"),
            (FailureClass::Tls, "TLS failed with 172.25.3.2 through the tunnel"),
            (FailureClass::Garbage, "invalid answer from 172.25.3.2 through the tunnel"),
            (FailureClass::Unexpected, "unexpected answer from 172.25.3.2 through the tunnel"),
            (FailureClass::Mtu, "large packets do not reach 172.25.3.2 through the tunnel"),
            (FailureClass::Command, "command failed for 172.25.3.2"),
            (FailureClass::Local, "probe of 172.25.3.2 not possible on this host"),
        ];
        assert_eq!(rows.len(), FailureClass::ALL.len());
        for (class, expected) in rows {
            let instead = |way| expected.replace("through the tunnel", way);
            assert_eq!(words(class, "", Some(Via::Tunnel)), expected);
            assert_eq!(words(class, "", Some(Via::Direct)), instead("directly"));
            assert_eq!(words(class, "", None), instead("on this host"));
        }
    }

    #[test]
    fn the_text_of_a_failure_is_added_unless_it_repeats_the_words() {
        let unexpected = words(FailureClass::Unexpected, "status 503, expected 200-299", Some(Via::Direct));
        assert_eq!(unexpected, "unexpected answer from 172.25.3.2 directly (status 503, expected 200-299)");
        let refused = words(FailureClass::Refused, "connection refused", Some(Via::Direct));
        assert_eq!(refused, "connection refused by 172.25.3.2 directly");
    }
}
