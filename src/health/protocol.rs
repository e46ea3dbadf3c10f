//! The contract of checks: what the driver calls, and what a check replies.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::verdict::{Failure, FailureClass, Outcome};

/// The destination of a probe, for protocols that name it in their question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The VIP of the virtual service.
    pub vip: IpAddr,
    /// The real server.
    pub rip: IpAddr,
    /// Where the probe is sent: the VIP, the RIP or the check's own address.
    pub address: IpAddr,
    /// Where the probe is sent.
    pub port: u16,
    /// The name of the virtual service.
    pub virtual_service: String,
    /// The name of the real server.
    pub real_server: String,
    /// The current path MTU to the real server, in bytes of the outer packet.
    pub path_mtu: u16,
    /// What the encapsulation adds, in bytes; 0 without a tunnel.
    pub overhead: u16,
}

/// TLS as a check requires it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The name in the handshake and in the certificate; `None`: the address.
    pub server_name: Option<String>,
    /// Whether the certificate is verified: chain, name and dates.
    pub verify: bool,
    /// Certificates of the authorities, in PEM; `None`: those of the host.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate chain and key, in PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Protocols for ALPN.
    pub protocols: Vec<String>,
    /// A certificate that expires within this time causes a warning; zero: none.
    pub expiry_warning: Duration,
}

/// A program to run. It gets no shell, and `LVS_TUND_VIP`, `LVS_TUND_RIP`, `LVS_TUND_PORT`, `LVS_TUND_VIRTUAL_SERVICE`
/// and `LVS_TUND_REAL_SERVER` in its environment, in addition to `PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// The user, and the group if it is not the user's; `None`: the daemon's.
    pub user: Option<String>,
    /// As `user`.
    pub group: Option<String>,
}

/// A kind of check with its options.
pub trait Check: Send + Sync + fmt::Debug {
    /// Begins a probe. `chance` is random: for identifiers that cannot be guessed.
    fn begin(&self, target: &Target, chance: u64) -> Box<dyn Exchange>;

    /// The program that it runs, with [`super::Transport::Command`].
    fn command(&self) -> Option<&Command> {
        None
    }

    /// What TLS has to look like, with [`super::Transport::Tls`].
    fn tls(&self) -> Option<Tls> {
        None
    }
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends these bytes (with [`super::Transport::Udp`]: this datagram), then waits for an answer.
    Send(Vec<u8>),
    /// Sends several datagrams at once.
    SendAll(Vec<Vec<u8>>),
    /// Runs a program, with [`super::Transport::Command`].
    Run(Command),
    /// Waits for more.
    Wait,
    /// Closes the connection, opens another one like it, and calls [`Exchange::start`] again; the time for the probe
    /// continues.
    Reconnect,
    /// Ends the probe.
    Done(Outcome),
}

/// One probe in flight, over a connection that is open.
pub trait Exchange: Send {
    /// The first step.
    fn start(&mut self) -> Step;

    /// Bytes have arrived; with [`super::Transport::Udp`] a datagram.
    fn receive(&mut self, bytes: &[u8]) -> Step;

    /// The peer has closed its direction: [`Step::Done`], or [`Step::Reconnect`].
    fn on_close(&mut self) -> Step;

    /// Whether an answer of more than [`super::check::ANSWER_MAX`] bytes ends the probe. A check that keeps only a part of
    /// what it reads may read on until the time is over.
    fn is_limited(&self) -> bool {
        true
    }

    /// The time is over: usually a failure, but silence is a success for some checks. `None`: a timeout.
    fn on_timeout(&mut self) -> Option<Outcome> {
        None
    }

    /// The program has ended: its exit code, `None` after a signal, and the first bytes of its output.
    fn on_exit(&mut self, _code: Option<i32>, _output: &[u8]) -> Outcome {
        Err(Failure::new(FailureClass::Command, "the check runs no program"))
    }
}
