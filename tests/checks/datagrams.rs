//! Checks `udp`, `icmp` and `mtu`.

use lvs_tund::health::check::{Step, Target};
use lvs_tund::health::{Failure, FailureClass, Outcome, Success, Transport, Value};

use super::harness::{CHANCE, build, datagrams, failure, good, refused, row, target, text};

fn silence() -> Outcome {
    failure(FailureClass::Timeout, "no answer in time")
}

/// Options, the reply if one comes, and the outcome.
type Case = (&'static [(&'static str, &'static str)], Option<&'static [u8]>, Outcome);

#[test]
fn a_datagram_is_answered_as_expected_or_at_least_not_refused() {
    let wrong = |shown: &str| {
        failure(FailureClass::Unexpected, &format!("the reply begins with {shown}, which is not expected"))
    };
    let table: &[Case] = &[
        (&[], None, good()),
        (&[], Some(b"anything"), good()),
        (&[], Some(b""), good()),
        (&[("reply", "no-error")], None, good()),
        (&[("reply", "required")], None, silence()),
        (&[("reply", "required")], Some(b"anything"), good()),
        (&[("expect", "pong")], None, silence()),
        (&[("expect", "pong")], Some(b"pong 1"), good()),
        (&[("expect", "pong")], Some(b"pon"), wrong("\"pon\"")),
        (&[("expect", "pong"), ("reply", "no-error")], None, good()),
        (&[("expect", "pong"), ("reply", "no-error")], Some(b"ping\r\n"), wrong("\"ping\"")),
        (&[("expect", "hex:01 xf x0")], Some(b"\x01\xaf\x50!"), good()),
        (&[("expect", "hex:01 xf x0")], Some(b"\x01\xa0\x50!"), wrong("\"\\x01\\xa0P!\"")),
    ];
    for (given, answer, expected) in table {
        let given: Vec<_> = given.iter().map(|(name, value)| (*name, text(value))).collect();
        let answers: Vec<Vec<u8>> = answer.iter().map(|answer| answer.to_vec()).collect();
        let (sent, outcome) = datagrams(build("udp", &given).as_ref(), &target(), &answers);
        assert_eq!((sent, &outcome), (vec![Vec::new()], expected), "{given:?} {answer:?}");
    }
}

#[test]
fn a_peer_of_datagrams_that_closes_has_not_answered() {
    for (kind, text) in [("udp", "no reply"), ("icmp", "no echo reply"), ("mtu", "no echo reply")] {
        let mut exchange = build(kind, &[]).begin(&target(), CHANCE);
        exchange.start();
        assert_eq!(exchange.on_close(), Step::Done(failure(FailureClass::Closed, text)), "{kind}");
    }
}

#[test]
fn a_datagram_is_what_the_option_has() {
    for (written, sent) in [("PING\\r\\n", &b"PING\r\n"[..]), ("hex:00ff", b"\x00\xff")] {
        let (datagrams, _) = datagrams(build("udp", &[("send", text(written))]).as_ref(), &target(), &[]);
        assert_eq!(datagrams, [sent]);
    }
    let bytes = |count: usize| [("send", text(&"a".repeat(count)))];
    assert_eq!(refused("udp", &bytes(65_508)).1, "65508 bytes are more than a datagram carries");
    build("udp", &bytes(65_507));
    assert_eq!(refused("udp", &[("send", text("hex:0x"))]).0, "send");
    assert_eq!(refused("udp", &[("expect", text("hex:0"))]).0, "expect");
    assert_eq!((row("udp").transport)(&Default::default()), Transport::Udp);
}

#[test]
fn a_long_reply_is_shown_in_part() {
    let (_, outcome) =
        datagrams(build("udp", &[("expect", text("a"))]).as_ref(), &target(), &[vec![b'b'; 1000]]);
    let shown = format!("the reply begins with \"{}…\", which is not expected", "b".repeat(80));
    assert_eq!(outcome, failure(FailureClass::Unexpected, &shown));
}

#[test]
fn an_echo_is_its_own_payload() {
    for (given, size) in
        [(vec![], 56), (vec![("size", Value::Number(8))], 8), (vec![("size", Value::Number(1400))], 1400)]
    {
        let check = build("icmp", &given);
        let (sent, outcome) = datagrams(check.as_ref(), &target(), &[]);
        assert_eq!((sent.len(), sent[0].len(), &outcome), (1, size, &silence()));
        assert_eq!(sent[0][..8], CHANCE.to_be_bytes());
        let request = sent[0].clone();
        let mut other = request.clone();
        other[size - 1] ^= 1;
        let short = request[..size - 1].to_vec();
        let (_, outcome) = datagrams(check.as_ref(), &target(), &[other.clone(), short.clone(), Vec::new()]);
        assert_eq!(outcome, silence(), "replies to other requests");
        let (_, outcome) = datagrams(check.as_ref(), &target(), &[other, short, request]);
        assert_eq!(outcome, good());
    }
    assert_eq!((row("icmp").transport)(&Default::default()), Transport::Icmp);
}

/// What a path that carries inner packets up to this size does to a probe: the size of each request, and the outcome.
fn probe(given: &[(&str, Value)], target: &Target, path: usize) -> (Vec<usize>, Outcome) {
    let headers = if target.address.is_ipv6() { 48 } else { 28 };
    let mut exchange = build("mtu", given).begin(target, CHANCE);
    let (mut sizes, mut flight, mut step) = (Vec::new(), Vec::new(), exchange.start());
    loop {
        match step {
            Step::SendAll(payloads) => {
                sizes.extend(payloads.iter().map(|payload| payload.len() + headers));
                flight.extend(payloads.into_iter().filter(|payload| payload.len() + headers <= path));
            }
            Step::Wait => {}
            Step::Done(outcome) => return (sizes, outcome),
            other => panic!("{other:?}"),
        }
        // The smallest overtakes the others.
        match flight.pop() {
            Some(reply) => step = exchange.receive(&reply),
            None => break,
        }
    }
    (sizes, exchange.on_timeout().unwrap_or_else(silence))
}

fn found(path_mtu: u16) -> Success {
    Success { path_mtu: Some(path_mtu), ..Success::default() }
}

#[test]
fn a_path_of_the_full_size_costs_few_packets() {
    let (sizes, outcome) = probe(&[], &target(), 1480);
    assert_eq!(outcome, Ok(found(1500)));
    assert_eq!(sizes[..2], [1480, 576]);
    let mut exchange = build("mtu", &[]).begin(&target(), CHANCE);
    let Step::SendAll(payloads) = exchange.start() else { panic!("no packets") };
    assert_eq!(
        exchange.receive(&payloads[0]),
        Step::Done(Ok(found(1500))),
        "the reply to the large one alone"
    );
}

#[test]
fn a_path_that_is_too_small_fails_with_the_largest_size_that_passes() {
    let text = |inner: usize, outer: usize| {
        format!(
            "packets of 1480 bytes do not pass; the largest that passed has {inner}, {outer} with the encapsulation"
        )
    };
    for (path, inner) in [
        (1479, 1472),
        (1472, 1472),
        (1460, 1460),
        (1400, 1400),
        (1399, 1380),
        (1000, 986),
        (600, 576),
        (576, 576),
    ] {
        let (sizes, outcome) = probe(&[], &target(), path);
        let text = text(inner, inner + 20);
        let path_mtu = u16::try_from(inner + 20).ok();
        let expected = Failure { path_mtu, ..Failure::new(FailureClass::Mtu, text) };
        assert_eq!(outcome, Err(expected), "{path}");
        assert!(sizes.iter().all(|size| (576..=1480).contains(size)), "{sizes:?}");
        assert!(sizes[2..].is_sorted_by(|a, b| a > b), "{sizes:?}");
    }
    let warn = [("smaller", super::harness::text("warn"))];
    let expected = Success { warning: Some(text(1400, 1420)), ..found(1420) };
    assert_eq!(probe(&warn, &target(), 1400).1, Ok(expected));
    assert_eq!(probe(&warn, &target(), 1480).1, Ok(found(1500)));
    let fail = [("smaller", super::harness::text("fail"))];
    assert!(probe(&fail, &target(), 1400).1.is_err());
}

#[test]
fn a_path_that_carries_nothing_is_silent() {
    assert_eq!(probe(&[], &target(), 575), (vec![1480, 576], silence()));
}

#[test]
fn the_size_is_that_of_the_option_or_of_the_path() {
    let given = |size: i64| [("size", Value::Number(size))];
    assert_eq!(probe(&given(1400), &target(), 1400).1, Ok(found(1420)));
    assert_eq!(probe(&given(576), &target(), 576), (vec![576], Ok(found(596))));
    assert_eq!(
        probe(&given(1500), &target(), 1480).1.map_err(|failure| failure.class),
        Err(FailureClass::Mtu)
    );
    let direct = Target { overhead: 0, path_mtu: 9000, ..target() };
    assert_eq!(probe(&[], &direct, 9000).1, Ok(found(9000)));
    let small = Target { path_mtu: 68, ..target() };
    assert_eq!(probe(&[], &small, 1480), (vec![576], Ok(found(596))), "every host accepts 576 bytes");
    let ipv6 = Target { address: "2001:db8::1".parse().expect("an address"), ..target() };
    let (sizes, outcome) = probe(&[], &ipv6, 1480);
    assert_eq!((&sizes[..2], outcome), (&[1480, 576][..], Ok(found(1500))), "the header has 40 bytes");
}

#[test]
fn the_small_size_is_not_sent_again() {
    // The smallest plateau has 1006 bytes, the next one 1280.
    for (overhead, last) in [(429, 577), (430, 850)] {
        let (sizes, _) = probe(&[], &Target { overhead, ..target() }, 576);
        assert_eq!(sizes.last(), Some(&last), "{sizes:?}");
    }
}

#[test]
fn a_reply_to_another_request_shows_nothing_about_the_path() {
    let mut exchange = build("mtu", &[]).begin(&target(), CHANCE);
    let Step::SendAll(payloads) = exchange.start() else { panic!("no packets") };
    let mut other = build("mtu", &[]).begin(&target(), CHANCE + 1);
    let Step::SendAll(others) = other.start() else { panic!("no packets") };
    for reply in [&others[0][..], &others[1], &payloads[0][..1000], b"", &[0; 70_000]] {
        assert_eq!(exchange.receive(reply), Step::Wait);
    }
    assert_eq!(exchange.on_timeout(), None);
}

#[test]
fn a_small_reply_that_comes_twice_is_counted_once() {
    let mut exchange = build("mtu", &[]).begin(&target(), CHANCE);
    let Step::SendAll(payloads) = exchange.start() else { panic!("no packets") };
    assert!(matches!(exchange.receive(&payloads[1]), Step::SendAll(more) if more.len() > 5));
    assert_eq!(exchange.receive(&payloads[1]), Step::Wait);
}
