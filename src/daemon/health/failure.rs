//! What an error of a socket shows about a real server: the class of the failure, and words for an operator.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

use crate::health::{Failure, FailureClass};

/// How far a probe has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing has been exchanged.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Question and answer.
    Answer,
}

/// The failure that an error of a socket stands for.
pub(super) fn of_error(error: &io::Error, stage: Stage) -> Failure {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw) else { return of_kind(error) };
    if let Some(why) = local(errno) {
        return Failure::new(FailureClass::Local, why);
    }
    let (class, text) = match errno {
        Errno::ECONNREFUSED => (FailureClass::Refused, "connection refused".to_owned()),
        Errno::ECONNRESET | Errno::ECONNABORTED => (FailureClass::Reset, reset(stage).to_owned()),
        Errno::EPIPE => (FailureClass::Closed, "before the question was sent".to_owned()),
        Errno::ETIMEDOUT => (FailureClass::Timeout, "the kernel gave up".to_owned()),
        Errno::ENOPROTOOPT => (
            FailureClass::ProtocolUnreachable,
            "the host answers \"protocol unreachable\": no program there takes encapsulated packets"
                .to_owned(),
        ),
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN => (
            FailureClass::Unreachable,
            "no neighbour answers, or a router reports that it cannot deliver".to_owned(),
        ),
        Errno::ENETUNREACH => (FailureClass::Unreachable, "network unreachable".to_owned()),
        Errno::EMSGSIZE => (FailureClass::Mtu, "the packet is larger than the path takes".to_owned()),
        errno => (FailureClass::Unreachable, errno.desc().to_lowercase()),
    };
    Failure::new(class, text)
}

/// The time is over.
pub(super) fn of_timeout(stage: Stage, timeout: Duration) -> Failure {
    let what = match stage {
        Stage::Connect => "no connection",
        Stage::Handshake => "no end of the TLS handshake",
        Stage::Answer => "no complete answer",
    };
    Failure::new(FailureClass::Timeout, format!("{what} within {}", humantime::format_duration(timeout)))
}

fn reset(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => "connection reset",
        Stage::Handshake => "in the TLS handshake",
        Stage::Answer => "before the answer was complete",
    }
}

/// Errors that a library made, without a number of the kernel.
fn of_kind(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::Unsupported
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::NotFound
        | io::ErrorKind::PermissionDenied => Failure::new(FailureClass::Local, error.to_string()),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            Failure::new(FailureClass::Closed, "before the answer was complete")
        }
        _ => Failure::new(FailureClass::Garbage, error.to_string()),
    }
}

/// Why this host could not even ask, with the remedy; `None` if the error is about the real server.
fn local(errno: Errno) -> Option<String> {
    let why = match errno {
        Errno::EMFILE => {
            "too many open files in this process; raise LimitNOFILE= of the unit, or check less often"
        }
        Errno::ENFILE => "too many open files on this host; raise fs.file-max",
        Errno::EADDRNOTAVAIL | Errno::EADDRINUSE => {
            "no free source port or address on this host; check less often, or widen net.ipv4.ip_local_port_range for checks \
             without the tunnel (those through it have ports 61000 to 62999)"
        }
        Errno::ENOBUFS | Errno::ENOMEM => "no memory for a socket on this host",
        Errno::EAGAIN => "the kernel has no room for another packet or process",
        Errno::EPERM | Errno::EACCES => {
            "this host does not let the packet out; accept it in the output rules, see: nft list ruleset"
        }
        Errno::ENETDOWN => "the interface of this host is down",
        Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => "this host does not support the address's family",
        _ => return None,
    };
    Some(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(errno: Errno, stage: Stage) -> FailureClass {
        of_error(&io::Error::from(errno), stage).class
    }

    #[test]
    fn an_error_of_a_socket_is_the_real_server_s_or_this_host_s() {
        let rows = [
            (Errno::ECONNREFUSED, FailureClass::Refused),
            (Errno::ECONNRESET, FailureClass::Reset),
            (Errno::ECONNABORTED, FailureClass::Reset),
            (Errno::EPIPE, FailureClass::Closed),
            (Errno::ETIMEDOUT, FailureClass::Timeout),
            (Errno::ENOPROTOOPT, FailureClass::ProtocolUnreachable),
            (Errno::EHOSTUNREACH, FailureClass::Unreachable),
            (Errno::EHOSTDOWN, FailureClass::Unreachable),
            (Errno::ENETUNREACH, FailureClass::Unreachable),
            (Errno::EMSGSIZE, FailureClass::Mtu),
            (Errno::EPROTO, FailureClass::Unreachable),
            (Errno::EMFILE, FailureClass::Local),
            (Errno::ENFILE, FailureClass::Local),
            (Errno::EADDRNOTAVAIL, FailureClass::Local),
            (Errno::EADDRINUSE, FailureClass::Local),
            (Errno::ENOBUFS, FailureClass::Local),
            (Errno::ENOMEM, FailureClass::Local),
            (Errno::EAGAIN, FailureClass::Local),
            (Errno::EPERM, FailureClass::Local),
            (Errno::EACCES, FailureClass::Local),
            (Errno::ENETDOWN, FailureClass::Local),
            (Errno::EAFNOSUPPORT, FailureClass::Local),
        ];
        for (errno, expected) in rows {
            assert_eq!(class(errno, Stage::Connect), expected, "{errno}");
            let text = of_error(&io::Error::from(errno), Stage::Answer).text;
            assert!(!text.is_empty() && !text.ends_with('.'), "{errno}: {text}");
        }
        let other = |kind| of_error(&io::Error::from(kind), Stage::Answer).class;
        assert_eq!(other(io::ErrorKind::Unsupported), FailureClass::Local);
        assert_eq!(other(io::ErrorKind::NotFound), FailureClass::Local);
        assert_eq!(other(io::ErrorKind::UnexpectedEof), FailureClass::Closed);
        assert_eq!(other(io::ErrorKind::InvalidData), FailureClass::Garbage);
    }

    #[test]
    fn the_words_of_a_failure_show_how_far_the_probe_has_come() {
        let reset = |stage| of_error(&io::Error::from(Errno::ECONNRESET), stage).text;
        assert_eq!(reset(Stage::Connect), "connection reset");
        assert_eq!(reset(Stage::Handshake), "in the TLS handshake");
        assert_eq!(reset(Stage::Answer), "before the answer was complete");
        let late = |stage| of_timeout(stage, Duration::from_millis(1500)).text;
        assert_eq!(late(Stage::Connect), "no connection within 1s 500ms");
        assert_eq!(late(Stage::Handshake), "no end of the TLS handshake within 1s 500ms");
        assert_eq!(late(Stage::Answer), "no complete answer within 1s 500ms");
    }
}
