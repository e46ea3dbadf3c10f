//! The protocols of the health checks: no answer makes one panic, one that ends ends with the same outcome however its
//! bytes are cut, and no failure has a text that hides something or fills a log.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use lvs_tund::health::check::{CHECKS, Check, Step, Target};
use lvs_tund::health::{Options, Outcome, Row, Transport, Value};

use super::input::Input;

type Subject = (Transport, Arc<dyn Check>);

/// Every row with its defaults, and with options that look at more of an answer.
static SUBJECTS: LazyLock<Vec<Vec<Subject>>> = LazyLock::new(|| {
    let text = |value: &str| Value::Text(value.to_owned());
    let steps = [[("send", "a"), ("expect", "b")], [("until", "\\n"), ("expect", "^c")]];
    let steps =
        steps.iter().map(|step| step.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
    let given: Vec<Vec<(&str, Value)>> = vec![
        vec![],
        vec![
            ("command", text("/bin/true")),
            ("steps", Value::Tables(steps.collect::<Vec<BTreeMap<_, _>>>())),
        ],
        vec![
            ("body_regex", text("a+b")),
            ("body_not", text("c$")),
            ("weight_header", text("a")),
            ("paths", text("/")),
        ],
        vec![("body", text("hex:6x")), ("status", text("100-599"))],
        vec![("method", text("HEAD"))],
        vec![("body_md5", text("900150983cd24fb0d6963f7d28e17f72")), ("version", text("1.0"))],
        vec![
            ("expect", text("a")),
            ("record", text("TXT")),
            ("rcode", text("3")),
            ("reply", text("required")),
        ],
        vec![
            ("record", text("SOA")),
            ("name", text("a.b")),
            ("transport", text("tcp")),
            ("smaller", text("warn")),
        ],
        vec![("record", text("MX")), ("expect", text("hex:6x"))],
        vec![("service", text("a")), ("tls", Value::Flag(true)), ("weight_from_exit", Value::Flag(true))],
    ];
    let subjects = |row: &&Row| {
        let has = |name: &str| row.options.iter().find(|option| option.name == name);
        let options = |given: &Vec<(&str, Value)>| -> Options {
            given.iter().filter_map(|(name, value)| Some((has(name)?.name, value.clone()))).collect()
        };
        let mut sets: Vec<Options> = given.iter().map(options).collect();
        sets.dedup();
        let built = |options: Options| Some(((row.transport)(&options), (row.build)(&options).ok()?));
        let subjects: Vec<Subject> = sets.into_iter().filter_map(built).collect();
        assert!(!subjects.is_empty(), "{} needs options", row.name);
        subjects
    };
    CHECKS.iter().map(subjects).collect()
});

/// A byte chooses the kind, one its options, one the way it ends, one the size of packets; the rest is the answer.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, options) = (usize::from(input.byte()), usize::from(input.byte()));
    let (end, size) = (input.byte(), usize::from(input.byte()));
    let subjects = &SUBJECTS[kind % SUBJECTS.len()];
    let (transport, check) = &subjects[options % subjects.len()];
    let answer = input.rest();
    let outcome = probe(check.as_ref(), answer, end, size.max(1));
    shown(&outcome);
    // A datagram is an answer of its own.
    if matches!(transport, Transport::Tcp | Transport::Tls) {
        for size in [1, 7, usize::MAX] {
            assert_eq!(probe(check.as_ref(), answer, end, size), outcome, "packets of {size} bytes");
        }
    }
}

fn probe(check: &dyn Check, answer: &[u8], end: u8, size: usize) -> Option<Outcome> {
    let address = "172.25.3.100".parse().expect("an address");
    let target = Target {
        vip: address,
        rip: address,
        address,
        port: 80,
        virtual_service: "web".to_owned(),
        real_server: "server2".to_owned(),
        path_mtu: 1500,
        overhead: 20,
    };
    let mut exchange = check.begin(&target, 0);
    let mut step = exchange.start();
    let mut packets = answer.chunks(size.min(answer.len().max(1)));
    loop {
        match step {
            Step::Done(outcome) => return Some(outcome),
            Step::Reconnect => step = exchange.start(),
            Step::Run(_) => return Some(exchange.on_exit(Some(i32::from(end)), answer)),
            Step::Send(_) | Step::SendAll(_) | Step::Wait => match packets.next() {
                Some(packet) => step = exchange.receive(packet),
                None => break,
            },
        }
    }
    if end.is_multiple_of(2) {
        return exchange.on_timeout();
    }
    match exchange.on_close() {
        Step::Done(outcome) => Some(outcome),
        other => {
            assert_eq!(other, Step::Reconnect);
            None
        }
    }
}

fn shown(outcome: &Option<Outcome>) {
    let text = match outcome {
        Some(Err(failure)) => failure.text.clone(),
        Some(Ok(success)) => success.warning.clone().unwrap_or_default(),
        None => return,
    };
    assert!(!text.contains(lvs_tund::config::kinds::is_misleading), "{text:?}");
    assert!(text.len() < 2_000, "{} bytes", text.len());
}
