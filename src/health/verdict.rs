//! The outcome of one probe.

use crate::label::labels;

labels! {
    /// What went wrong in a probe; the label of metrics.
    pub enum FailureClass {
        /// The real server's host answered that nothing listens there.
        Refused = "refused",
        /// The connection was reset.
        Reset = "reset",
        /// No answer in time.
        Timeout = "timeout",
        /// A host on the path, or this one, reported that the packet cannot be delivered.
        Unreachable = "unreachable",
        /// The real server's host does not take encapsulated packets.
        ProtocolUnreachable = "protocol_unreachable",
        /// The peer closed the connection before its answer was complete.
        Closed = "closed",
        /// TLS failed: handshake or certificate.
        Tls = "tls",
        /// The answer does not follow the protocol.
        Garbage = "garbage",
        /// The answer is valid, but not the expected one.
        Unexpected = "unexpected",
        /// The path does not carry packets of the expected size.
        Mtu = "mtu",
        /// The command failed.
        Command = "command",
        /// The probe could not be made on this host: no file descriptor, no port, no such program.
        Local = "local",
    }
}

/// A failed probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: FailureClass,
    /// A part of a sentence without a full stop, such as "status 503, expected 200-299".
    pub text: String,
    /// As in [`Success::path_mtu`].
    pub path_mtu: Option<u16>,
}

impl Failure {
    /// A failure with these words.
    pub fn new(class: FailureClass, text: impl Into<String>) -> Failure {
        Failure { class, text: text.into(), path_mtu: None }
    }
}

/// A probe that found the real server healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Success {
    /// The weight that the real server or the command requested; `None`: the configured one.
    pub weight: Option<u32>,
    /// As `weight`, in hundredths of the configured one; `weight` counts if both are there.
    pub weight_percent: Option<u32>,
    /// What an operator should know although the probe succeeded, such as a certificate that expires soon.
    pub warning: Option<String>,
    /// The largest packet that came through, in bytes of the outer packet; only check `mtu` measures it.
    pub path_mtu: Option<u16>,
}

/// The outcome of a probe.
pub type Outcome = Result<Success, Failure>;
