//! Drives a check as the daemon does, with a peer that has its bytes ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use lvs_tund::health::check::{CHECKS, Check, Exchange, Step, Target};
use lvs_tund::health::{Failure, FailureClass, Options, Outcome, Row, Success, Value};

/// What comes after the bytes of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    Silence,
}

pub use End::{Close, Silence};

/// The identifier that a probe gets instead of a random one.
pub const CHANCE: u64 = 0x0102_0304_0506_0708;

pub fn target() -> Target {
    Target {
        vip: "172.25.3.100".parse().expect("an address"),
        rip: "172.25.3.2".parse().expect("an address"),
        address: "172.25.3.100".parse().expect("an address"),
        port: 8080,
        virtual_service: "web".to_owned(),
        real_server: "server2".to_owned(),
        path_mtu: 1500,
        overhead: 20,
    }
}

pub fn row(kind: &str) -> &'static Row {
    CHECKS.iter().find(|row| row.name == kind).unwrap_or_else(|| panic!("no check {kind}"))
}

pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub fn texts(texts: &[&str]) -> Value {
    Value::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
}

pub fn table(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Options under the names that the row has.
pub fn options(kind: &str, given: &[(&str, Value)]) -> Options {
    let name = |name: &str| {
        let found = row(kind).options.iter().find(|option| option.name == name);
        found.unwrap_or_else(|| panic!("{kind} has no option {name}")).name
    };
    given.iter().map(|(given, value)| (name(given), value.clone())).collect()
}

pub fn build(kind: &str, given: &[(&str, Value)]) -> Arc<dyn Check> {
    (row(kind).build)(&options(kind, given)).expect("a check")
}

/// The option that is wrong, and why.
pub fn refused(kind: &str, given: &[(&str, Value)]) -> (&'static str, String) {
    (row(kind).build)(&options(kind, given)).err().unwrap_or_else(|| panic!("{kind} accepts {given:?}"))
}

pub fn failure(class: FailureClass, text: &str) -> Outcome {
    Err(Failure::new(class, text))
}

pub fn good() -> Outcome {
    Ok(Success::default())
}

/// What was sent on each connection, and the outcome.
pub type Run = (Vec<Vec<u8>>, Outcome);

/// One probe. Connection after connection, the peer sends its bytes in packets of `sizes`, over and over.
pub fn run(check: &dyn Check, target: &Target, connections: &[&[u8]], sizes: &[usize], end: End) -> Run {
    let mut exchange = check.begin(target, CHANCE);
    let mut sent = Vec::new();
    for bytes in connections {
        let mut written = Vec::new();
        let done = connection(exchange.as_mut(), bytes, sizes, end, &mut written);
        sent.push(written);
        if let Some(outcome) = done {
            return (sent, outcome);
        }
    }
    panic!("more connections than {}", connections.len())
}

/// `None`: the check reconnects.
fn connection(
    exchange: &mut dyn Exchange,
    bytes: &[u8],
    sizes: &[usize],
    end: End,
    written: &mut Vec<u8>,
) -> Option<Outcome> {
    let mut step = exchange.start();
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    loop {
        match step {
            Step::Send(bytes) => written.extend(bytes),
            Step::Wait => {}
            Step::Reconnect => return None,
            Step::Done(outcome) => return Some(outcome),
            other => panic!("{other:?} on a connection"),
        }
        if rest.is_empty() {
            break;
        }
        let (packet, after) = rest.split_at((*sizes.next().expect("a size")).clamp(1, rest.len()));
        rest = after;
        step = exchange.receive(packet);
    }
    match end {
        Close => match exchange.on_close() {
            Step::Reconnect => None,
            Step::Done(outcome) => Some(outcome),
            other => panic!("{other:?} after the close"),
        },
        Silence => {
            Some(exchange.on_timeout().unwrap_or_else(|| failure(FailureClass::Timeout, "no answer in time")))
        }
    }
}

/// The same probe with packets that end anywhere: the outcome is the same. The bytes sent are those for packets of one byte.
pub fn run_cut_anywhere(check: &dyn Check, connections: &[&[u8]], end: End) -> Run {
    let whole = run(check, &target(), connections, &[usize::MAX], end);
    let longest = connections.iter().map(|bytes| bytes.len()).max().unwrap_or(0);
    // Every place in a short answer, fewer in a long one.
    let step = if longest < 2_000 { 1 } else { longest / 20 };
    for cut in (1..longest).step_by(step) {
        let run = run(check, &target(), connections, &[cut, usize::MAX], end);
        assert_eq!(run.1, whole.1, "cut after {cut} bytes");
    }
    for sizes in [&[2, 1][..], &[7, 3, 1]] {
        let run = run(check, &target(), connections, sizes, end);
        assert_eq!(run.1, whole.1, "packets of {sizes:?} bytes");
    }
    let single = run(check, &target(), connections, &[1], end);
    assert_eq!(single.1, whole.1, "packets of one byte");
    single
}

/// The outcome of a probe over one connection, which is the same wherever packets end.
pub fn outcome(kind: &str, given: &[(&str, Value)], bytes: &[u8], end: End) -> Outcome {
    run_cut_anywhere(build(kind, given).as_ref(), &[bytes], end).1
}

/// What a probe sends over one connection, as text.
pub fn sent(kind: &str, given: &[(&str, Value)], bytes: &[u8]) -> String {
    let (sent, _) = run_cut_anywhere(build(kind, given).as_ref(), &[bytes], Silence);
    String::from_utf8(sent.concat()).expect("text")
}

/// One probe with datagrams: what was sent, and the outcome when no more come.
pub fn datagrams(check: &dyn Check, target: &Target, answers: &[Vec<u8>]) -> (Vec<Vec<u8>>, Outcome) {
    let mut exchange = check.begin(target, CHANCE);
    let (mut sent, mut step, mut answers) = (Vec::new(), exchange.start(), answers.iter());
    loop {
        match step {
            Step::Send(bytes) => sent.push(bytes),
            Step::SendAll(all) => sent.extend(all),
            Step::Wait => {}
            Step::Done(outcome) => return (sent, outcome),
            other => panic!("{other:?} with datagrams"),
        }
        match answers.next() {
            Some(answer) => step = exchange.receive(answer),
            None => break,
        }
    }
    let silence = exchange.on_timeout();
    (sent, silence.unwrap_or_else(|| failure(FailureClass::Timeout, "no answer in time")))
}
