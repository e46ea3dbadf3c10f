//! Runs one probe: opens what carries it, follows the steps of the check's protocol, and limits time and answers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::echoes::Echoes;
use super::failure::{self, Stage};
use super::program::{Ended, NotStarted, Program, Starter};
use super::sockets::{Datagrams, Place, ProbeSockets};
use super::tls::{self, Connectors};
use crate::health::check::{ANSWER_MAX, Check, Command, Exchange, Step, Target};
use crate::health::{CheckConfig, Failure, FailureClass, Outcome, Success, Transport};

/// What is read at once from a connection.
const READ_MAX: usize = 16 << 10;

/// What probes need of the host.
pub(in crate::daemon) struct Tools<S> {
    sockets: S,
    starter: Starter,
    pub(super) connectors: Connectors,
}

impl<S> Tools<S> {
    pub(in crate::daemon) fn new(sockets: S, starter: Starter) -> Tools<S> {
        Tools { sockets, starter, connectors: Connectors::default() }
    }
}

/// Runs one probe to its outcome, and measures how long it took. `chance` is random. Dropping the future closes the
/// socket and kills the program.
pub(super) async fn run<S: ProbeSockets>(
    config: &CheckConfig,
    check: &dyn Check,
    (target, is_local): (&Target, bool),
    chance: u64,
    tools: &Tools<S>,
) -> (Outcome, Duration) {
    let begun = Instant::now();
    let place = Place {
        via: config.way(),
        vip: target.vip,
        rip: target.rip,
        virtual_service: target.virtual_service.clone(),
        address: SocketAddr::new(target.address, target.port),
        is_local,
    };
    let [.., high, low] = chance.to_be_bytes();
    let identifier = u16::from_be_bytes([high, low]);
    let mut probe =
        Probe { exchange: check.begin(target, chance), stage: Stage::Connect, read: 0, identifier };
    let deadline = begun + config.timeout;
    let transport = (config.row.transport)(&config.options);
    let outcome = match transport {
        // It ends the program at the deadline itself, and reports when nothing of it is left.
        Transport::Command => probe.command(target, tools, deadline, config.timeout).await,
        _ => {
            let limited = timeout_at(deadline, probe.over(transport, check, &place, tools)).await;
            limited.unwrap_or_else(|_| probe.on_timeout(config.timeout))
        }
    };
    (outcome, begun.elapsed())
}

/// How an exchange over one connection has ended.
enum Talk {
    Over(Outcome),
    /// The exchange continues over another connection.
    Again,
}

struct Probe {
    exchange: Box<dyn Exchange>,
    stage: Stage,
    /// Bytes of the answer so far.
    read: usize,
    /// Of echo requests.
    identifier: u16,
}

impl Probe {
    async fn over<S: ProbeSockets>(
        &mut self,
        transport: Transport,
        check: &dyn Check,
        place: &Place,
        tools: &Tools<S>,
    ) -> Outcome {
        match transport {
            Transport::Tcp => loop {
                (self.stage, self.read) = (Stage::Connect, 0);
                let mut stream = tools.sockets.connect_tcp(place).await.map_err(not_opened)?;
                self.stage = Stage::Answer;
                let explain = |error: &io::Error| failure::of_error(error, Stage::Answer);
                if let Talk::Over(outcome) = self.talk(&mut stream, explain).await? {
                    return outcome;
                }
            },
            Transport::Tls => loop {
                (self.stage, self.read) = (Stage::Connect, 0);
                let stream = tools.sockets.connect_tcp(place).await.map_err(not_opened)?;
                self.stage = Stage::Handshake;
                let tls = check.tls().ok_or_else(|| impossible("the check has no options of TLS"))?;
                let connected = tools.connectors.connect(&tls, place.address.ip(), stream).await;
                let (mut stream, warning) = connected?;
                self.stage = Stage::Answer;
                if let Talk::Over(outcome) = self.talk(&mut stream, tls::of_error).await? {
                    let success = outcome?;
                    return Ok(Success { warning: success.warning.or(warning), ..success });
                }
            },
            Transport::Udp => {
                let mut socket = tools.sockets.open_udp(place).await.map_err(not_opened)?;
                self.stage = Stage::Answer;
                self.exchange_datagrams(&mut socket, false).await
            }
            Transport::Icmp => {
                let socket = tools.sockets.open_echo(place).await.map_err(not_opened)?;
                self.stage = Stage::Answer;
                self.exchange_datagrams(&mut Echoes::new(socket, self.identifier), true).await
            }
            Transport::Command => Err(impossible("a program needs no socket")),
        }
    }

    /// Follows the steps over a stream, whose errors `explain` explains.
    async fn talk(
        &mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        explain: fn(&io::Error) -> Failure,
    ) -> Result<Talk, Failure> {
        let failed = |error: io::Error| explain(&error);
        let mut buffer = vec![0; READ_MAX];
        let mut step = self.exchange.start();
        loop {
            match step {
                Step::Done(outcome) => return Ok(Talk::Over(outcome)),
                Step::Reconnect => return Ok(Talk::Again),
                Step::Send(bytes) => stream.write_all(&bytes).await.map_err(failed)?,
                Step::SendAll(all) => stream.write_all(&all.concat()).await.map_err(failed)?,
                Step::Wait => {}
                Step::Run(_) => return Err(impossible("a program does not run over a connection")),
            }
            stream.flush().await.map_err(failed)?;
            step = match stream.read(&mut buffer).await {
                Ok(0) => self.exchange.on_close(),
                // A TLS server that closes the connection without reporting so (RFC 8446 §6.1).
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.exchange.on_close(),
                Err(error) => return Err(failed(error)),
                Ok(length) => self.received(&buffer[..length])?,
            };
        }
    }

    /// Follows the steps over datagrams. With `may_be_too_large`, one that does not leave this host is as if it were lost on
    /// the path.
    async fn exchange_datagrams(&mut self, socket: &mut impl Datagrams, may_be_too_large: bool) -> Outcome {
        let mut step = self.exchange.start();
        loop {
            let messages = match step {
                Step::Done(outcome) => return outcome,
                Step::Send(message) => vec![message],
                Step::SendAll(messages) => messages,
                Step::Wait => Vec::new(),
                Step::Run(_) | Step::Reconnect => {
                    return Err(impossible("datagrams have no connection, and run no program"));
                }
            };
            for message in messages {
                match socket.send(&message).await {
                    Err(error) if may_be_too_large && is_too_large(&error) => {}
                    sent => sent.map_err(|error| datagram_failed(&error))?,
                }
            }
            let message = socket.receive().await.map_err(|error| datagram_failed(&error))?;
            step = self.received(&message)?;
        }
    }

    fn received(&mut self, bytes: &[u8]) -> Result<Step, Failure> {
        self.read = self.read.saturating_add(bytes.len());
        match self.exchange.receive(bytes) {
            // A check may be content with the beginning.
            Step::Wait | Step::Send(_) | Step::SendAll(_)
                if self.read > ANSWER_MAX && self.exchange.is_limited() =>
            {
                let text = format!("the answer is longer than {} KiB", ANSWER_MAX >> 10);
                Err(Failure::new(FailureClass::Garbage, text))
            }
            step => Ok(step),
        }
    }

    /// Silence is an answer only for what has been sent.
    fn on_timeout(&mut self, timeout: Duration) -> Outcome {
        let said = if self.stage == Stage::Answer { self.exchange.on_timeout() } else { None };
        said.unwrap_or_else(|| Err(failure::of_timeout(self.stage, timeout)))
    }

    async fn command<S>(
        &mut self,
        target: &Target,
        tools: &Tools<S>,
        deadline: Instant,
        timeout: Duration,
    ) -> Outcome {
        let command = match self.exchange.start() {
            Step::Run(command) => command,
            Step::Done(outcome) => return outcome,
            _ => return Err(impossible("a check that runs a program has no socket")),
        };
        let program = program(command, target);
        match program.run(&tools.starter, tokio::time::sleep_until(deadline)).await {
            Err(NotStarted(why)) => Err(Failure::new(FailureClass::Local, why)),
            Ok(Ended { is_interrupted: true, .. }) => {
                let said = self.exchange.on_timeout();
                let text = format!("the command did not end within {}", humantime::format_duration(timeout));
                said.unwrap_or_else(|| Err(Failure::new(FailureClass::Timeout, text)))
            }
            Ok(Ended { code, output, .. }) => self.exchange.on_exit(code, &output),
        }
    }
}

/// The environment is described at [`Command`].
fn program(command: Command, target: &Target) -> Program {
    let environment = vec![
        ("LVS_TUND_VIP", target.vip.to_string()),
        ("LVS_TUND_RIP", target.rip.to_string()),
        ("LVS_TUND_PORT", target.port.to_string()),
        ("LVS_TUND_VIRTUAL_SERVICE", target.virtual_service.clone()),
        ("LVS_TUND_REAL_SERVER", target.real_server.clone()),
    ];
    let Command { arguments, user, group } = command;
    Program { arguments, user, group, environment, input: Vec::new() }
}

fn impossible(text: &str) -> Failure {
    Failure::new(FailureClass::Local, text)
}

fn not_opened(error: io::Error) -> Failure {
    failure::of_error(&error, Stage::Connect)
}

/// EMSGSIZE of a packet with DF that is larger than a device on the path takes.
fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// As [`failure::of_error`], in the words of datagrams.
fn datagram_failed(error: &io::Error) -> Failure {
    match failure::of_error(error, Stage::Answer) {
        Failure { class: FailureClass::Refused, .. } => {
            Failure::new(FailureClass::Refused, "port unreachable: no program receives datagrams there")
        }
        failure => failure,
    }
}

#[cfg(test)]
pub(super) mod tests;
