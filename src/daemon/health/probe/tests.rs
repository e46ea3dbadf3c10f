//! Tests with real sockets on loopback and real processes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use md5::{Digest, Md5};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::daemon::health::direct::DirectSockets;
use crate::health::check::Command;
use crate::health::spec::Row;
use crate::health::{CHECKS, Options, Success, Value, Via};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Queries, and waits until the answer contains some bytes.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon::health) struct Ask {
    pub question: Vec<Vec<u8>>,
    pub expected: Vec<u8>,
    pub silence_is_good: bool,
    pub command: Option<Command>,
    pub tls: Option<crate::health::check::Tls>,
}

impl Check for Ask {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(Asked { ask: self.clone(), answer: Vec::new() })
    }

    fn tls(&self) -> Option<crate::health::check::Tls> {
        self.tls.clone()
    }
}

struct Asked {
    ask: Ask,
    answer: Vec<u8>,
}

impl Exchange for Asked {
    fn start(&mut self) -> Step {
        if let Some(command) = &self.ask.command {
            return Step::Run(command.clone());
        }
        match self.ask.question.as_slice() {
            [] if self.ask.expected.is_empty() && !self.ask.silence_is_good => {
                Step::Done(Ok(Success::default()))
            }
            [] => Step::Wait,
            [one] => Step::Send(one.clone()),
            all => Step::SendAll(all.to_vec()),
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Step {
        self.answer.extend_from_slice(bytes);
        let (answer, expected) = (&self.answer, &self.ask.expected);
        let is_there = !expected.is_empty() && answer.windows(expected.len()).any(|part| part == expected);
        if is_there { Step::Done(Ok(Success::default())) } else { Step::Wait }
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Err(Failure::new(
            FailureClass::Closed,
            format!("closed after {} bytes", self.answer.len()),
        )))
    }

    fn on_timeout(&mut self) -> Option<Outcome> {
        self.ask.silence_is_good.then(|| Ok(Success::default()))
    }

    fn on_exit(&mut self, code: Option<i32>, output: &[u8]) -> Outcome {
        let text = format!("{code:?} {}", String::from_utf8_lossy(output));
        if code == Some(0) {
            Ok(Success { warning: Some(text), ..Success::default() })
        } else {
            Err(Failure::new(FailureClass::Command, text))
        }
    }
}

macro_rules! row {
    ($name:ident, $transport:expr) => {
        static $name: Row = Row {
            name: stringify!($name),
            summary: "a check of a test",
            transport: |_| $transport,
            port: None,
            options: &[],
            build: |_| Ok(Arc::new(Ask::default())),
        };
    };
}

row!(TCP, Transport::Tcp);
row!(TLS, Transport::Tls);
row!(UDP, Transport::Udp);
row!(ICMP, Transport::Icmp);
row!(COMMAND, Transport::Command);

pub(in crate::daemon::health) fn row_of(transport: Transport) -> &'static Row {
    match transport {
        Transport::Tcp => &TCP,
        Transport::Tls => &TLS,
        Transport::Udp => &UDP,
        Transport::Icmp => &ICMP,
        Transport::Command => &COMMAND,
    }
}

fn target(port: u16) -> Target {
    Target {
        vip: [192, 0, 2, 1].into(),
        rip: LOOPBACK,
        address: LOOPBACK,
        port,
        virtual_service: "web".to_owned(),
        real_server: "server2".to_owned(),
        path_mtu: 1500,
        overhead: 0,
    }
}

async fn probe_for(transport: Transport, ask: &Ask, port: u16, timeout: Duration) -> (Outcome, Duration) {
    let config = CheckConfig { timeout, via: Some(Via::Direct), ..CheckConfig::new(row_of(transport)) };
    let tools = Tools::new(DirectSockets, Starter::new().unwrap());
    run(&config, ask, (&target(port), false), 1, &tools).await
}

pub(in crate::daemon::health) async fn probe(transport: Transport, ask: &Ask, port: u16) -> Outcome {
    probe_for(transport, ask, port, Duration::from_secs(5)).await.0
}

fn class(outcome: &Outcome) -> Option<FailureClass> {
    outcome.as_ref().err().map(|failure| failure.class)
}

fn text(outcome: Outcome) -> String {
    outcome.unwrap_err().text
}

fn ask(question: &str, expected: &str) -> Ask {
    Ask {
        question: vec![question.as_bytes().to_vec()],
        expected: expected.as_bytes().to_vec(),
        ..Ask::default()
    }
}

/// A server that serves one connection; its port.
async fn server<F: Future<Output = ()> + Send>(
    serve: impl FnOnce(tokio::net::TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    });
    port
}

async fn free_port() -> u16 {
    TcpListener::bind((LOOPBACK, 0)).await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_connection_that_is_refused_fails_at_once() {
    let (outcome, took) =
        probe_for(Transport::Tcp, &Ask::default(), free_port().await, Duration::from_secs(5)).await;
    assert_eq!(outcome, Err(Failure::new(FailureClass::Refused, "connection refused")));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn an_established_connection_and_an_expected_answer_are_successes() {
    let port = server(|_stream| async {}).await;
    assert_eq!(probe(Transport::Tcp, &Ask::default(), port).await, Ok(Success::default()));
    let port = server(|mut stream| async move {
        let mut question = [0; 4];
        stream.read_exact(&mut question).await.unwrap();
        for part in [b"PO", b"NG"] {
            stream.write_all(part).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(probe(Transport::Tcp, &ask("PING", "PONG"), port.await).await, Ok(Success::default()));
}

#[tokio::test]
async fn a_connection_closed_early_is_judged_by_the_check() {
    let port = server(|mut stream| async move { stream.write_all(b"PO").await.unwrap() }).await;
    assert_eq!(text(probe(Transport::Tcp, &ask("", "PONG"), port).await), "closed after 2 bytes");
}

#[tokio::test]
async fn a_reset_is_told_apart_from_a_close() {
    let port = server(|mut stream| async move {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let outcome = probe(Transport::Tcp, &ask("PING", "PONG"), port.await).await;
    assert_eq!(class(&outcome), Some(FailureClass::Reset), "{outcome:?}");
}

#[tokio::test]
async fn the_timeout_is_for_the_whole_probe_however_slowly_the_answer_comes() {
    let port = server(|mut stream| async move {
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let limit = Duration::from_millis(400);
    let (outcome, took) = probe_for(Transport::Tcp, &ask("x", "PONG"), port.await, limit).await;
    assert_eq!(outcome, Err(Failure::new(FailureClass::Timeout, "no complete answer within 400ms")));
    assert!((limit..5 * limit).contains(&took), "{took:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let port =
        server(|mut stream| async move { while stream.write_all(&[0; 65_536]).await.is_ok() {} }).await;
    let outcome = probe(Transport::Tcp, &ask("x", "PONG"), port).await;
    assert_eq!(outcome, Err(Failure::new(FailureClass::Garbage, "the answer is longer than 256 KiB")));
}

#[tokio::test]
async fn the_md5_of_a_page_that_is_longer_than_other_answers_may_be_is_compared() {
    let page = vec![b'a'; 3 * ANSWER_MAX];
    let digest: String = Md5::digest(&page).iter().map(|byte| format!("{byte:02x}")).collect();
    let port = server(|mut stream| async move {
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
        stream.write_all(&page).await.unwrap();
    })
    .await;
    let row = CHECKS.iter().find(|row| row.name == "http").unwrap();
    let options = Options::from([("body_md5", Value::Text(digest))]);
    let check = (row.build)(&options).unwrap();
    let timeout = Duration::from_secs(5);
    let config = CheckConfig { options, timeout, via: Some(Via::Direct), ..CheckConfig::new(row) };
    let tools = Tools::new(DirectSockets, Starter::new().unwrap());
    let (outcome, _) = run(&config, check.as_ref(), (&target(port), false), 1, &tools).await;
    assert_eq!(outcome, Ok(Success::default()));
}

#[tokio::test]
async fn a_datagram_is_answered_and_a_closed_port_is_reported_by_icmp() {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 64];
        for _ in 0..3 {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let question = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()].to_vec();
    let ask = Ask { question, expected: b"three".to_vec(), ..Ask::default() };
    assert_eq!(probe(Transport::Udp, &ask, port).await, Ok(Success::default()));
    echo.await.unwrap();
    let outcome = probe(Transport::Udp, &ask, port).await;
    assert_eq!(class(&outcome), Some(FailureClass::Refused), "{outcome:?}");
    assert_eq!(text(outcome), "port unreachable: no program receives datagrams there");
}

#[tokio::test]
async fn silence_is_a_success_for_a_check_that_says_so_and_a_timeout_for_others() {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let limit = Duration::from_millis(100);
    let strict = ask("x", "y");
    let outcome = probe_for(Transport::Udp, &strict, port, limit).await.0;
    assert_eq!(class(&outcome), Some(FailureClass::Timeout));
    let lenient = Ask { silence_is_good: true, ..strict };
    assert_eq!(probe_for(Transport::Udp, &lenient, port, limit).await.0, Ok(Success::default()));
}

#[tokio::test]
async fn an_answer_from_another_address_never_arrives() {
    let (asked, other) =
        (UdpSocket::bind((LOOPBACK, 0)).await.unwrap(), UdpSocket::bind("127.0.0.2:0").await.unwrap());
    let port = asked.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (length, from) = asked.recv_from(&mut [0; 64]).await.unwrap();
        other.send_to(&b"PONG"[..length.min(4)], from).await.unwrap();
        std::future::pending::<()>().await;
    });
    let outcome = probe_for(Transport::Udp, &ask("PING", "PONG"), port, Duration::from_millis(300)).await.0;
    assert_eq!(class(&outcome), Some(FailureClass::Timeout), "{outcome:?}");
}

/// Needs CAP_NET_RAW.
#[tokio::test]
async fn an_echo_request_is_answered_and_our_own_request_is_no_answer() {
    let request = |length: usize| [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], &vec![b'x'; length]].concat();
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // Type 0, code 0: an answer. Its checksum is 0x0800 more than that of the request.
    let expected = [&[0x12, 0x34, 0, 1][..], b"xxxx"].concat();
    let ask = Ask { question: vec![request(100_000), request(8)], expected, ..Ask::default() };
    let (outcome, took) = probe_for(Transport::Icmp, &ask, 0, Duration::from_secs(5)).await;
    assert_eq!(outcome, Ok(Success::default()), "one that is too large is as if lost");
    assert!(took < Duration::from_secs(2));
}

fn command(script: &str) -> Ask {
    let arguments = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Ask { command: Some(Command { arguments, user: None, group: None }), ..Ask::default() }
}

#[tokio::test]
async fn a_command_is_judged_by_its_exit_code_and_knows_the_real_server() {
    let script =
        "echo $LVS_TUND_VIP $LVS_TUND_RIP $LVS_TUND_PORT $LVS_TUND_VIRTUAL_SERVICE $LVS_TUND_REAL_SERVER";
    let success = probe(Transport::Command, &command(script), 80).await.unwrap();
    assert_eq!(success.warning.unwrap(), "Some(0) 192.0.2.1 127.0.0.1 80 web server2\n");
    let outcome = probe(Transport::Command, &command("echo no; exit 3"), 80).await;
    assert_eq!(outcome, Err(Failure::new(FailureClass::Command, "Some(3) no\n")));
    let outcome = probe(Transport::Command, &command("kill $$"), 80).await;
    assert_eq!(text(outcome), "None ");
}

#[tokio::test]
async fn a_command_that_cannot_be_started_says_nothing_about_the_real_server() {
    let arguments = vec!["/no/such".to_owned()];
    let ask = Ask { command: Some(Command { arguments, user: None, group: None }), ..Ask::default() };
    let outcome = probe(Transport::Command, &ask, 80).await;
    assert_eq!(class(&outcome), Some(FailureClass::Local));
}

#[tokio::test]
async fn a_command_without_end_is_reported_when_it_is_dead() {
    let limit = Duration::from_millis(200);
    let (outcome, took) = probe_for(Transport::Command, &command("sleep 300"), 80, limit).await;
    assert_eq!(text(outcome), "the command did not end within 200ms");
    assert!((limit..Duration::from_secs(3)).contains(&took), "{took:?}");
}
