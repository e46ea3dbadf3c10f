//! Check `dns`.

use lvs_tund::health::check::Step;
use lvs_tund::health::{FailureClass, Outcome, Transport, Value};

use super::harness::{
    CHANCE, Close, Silence, build, datagrams, failure, good, outcome, refused, row, target, text, texts,
};

/// The last two bytes of what is random.
const ID: [u8; 2] = [7, 8];

fn unexpected(text: &str) -> Outcome {
    failure(FailureClass::Unexpected, text)
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn word(word: u16) -> [u8; 2] {
    word.to_be_bytes()
}

/// A message with one question and these records.
fn message(flags: u16, question: &[u8], kind: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let counts = [word(1), word(records.len() as u16), word(0), word(0)].concat();
    [&ID[..], &word(flags), &counts, question, &word(kind), &word(1), &records.concat()].concat()
}

/// A record whose name is that of the question.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    [&[0xc0, 12][..], &word(kind), &word(1), &[0, 0, 0, 60], &word(data.len() as u16), data].concat()
}

const NOERROR: u16 = 0x8180;

fn asked(given: &[(&str, Value)], answers: &[Vec<u8>]) -> Outcome {
    let mut given = given.to_vec();
    given.push(("name", text("www.example.org")));
    datagrams(build("dns", &given).as_ref(), &target(), answers).1
}

fn www() -> Vec<u8> {
    name("www.example.org")
}

#[test]
fn a_question_has_the_name_and_the_type() {
    let question =
        |given: &[(&str, Value)]| datagrams(build("dns", given).as_ref(), &target(), &[]).0.concat();
    let header = [7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(question(&[]), [&header[..], &[0, 0, 1, 0, 1]].concat());
    for (record, number) in [
        ("A", 1),
        ("ns", 2),
        ("CNAME", 5),
        ("SOA", 6),
        ("PTR", 12),
        ("MX", 15),
        ("TXT", 16),
        ("AAAA", 28),
        ("SRV", 33),
        ("257", 257),
        ("TYPE65", 65),
    ] {
        for written in ["www.Example.org", "www.Example.org."] {
            let expected = [&header[..], b"\x03www\x07Example\x03org\x00", &word(number), &[0, 1]].concat();
            assert_eq!(question(&[("name", text(written)), ("record", text(record))]), expected, "{record}");
        }
    }
    let tcp = [("transport", text("tcp"))];
    let (sent, _) = super::harness::run(build("dns", &tcp).as_ref(), &target(), &[b""], &[1], Close);
    assert_eq!(sent.concat(), [&[0, 17][..], &header, &[0, 0, 1, 0, 1]].concat());
    assert_eq!((row("dns").transport)(&super::harness::options("dns", &tcp)), Transport::Tcp);
    assert_eq!((row("dns").transport)(&Default::default()), Transport::Udp);
}

#[test]
fn options_that_make_no_question_are_refused() {
    let long = format!("{}.", "a".repeat(63)).repeat(4);
    let table: &[(&str, &str, String)] = &[
        ("name", "", "\"\": the name is empty; \".\" is the root".to_owned()),
        ("name", "a..b", "\"a..b\": a label has 1 to 63 bytes".to_owned()),
        ("name", ".a", "\".a\": a label has 1 to 63 bytes".to_owned()),
        ("name", "a b", "\"a b\": write a name in ASCII, without spaces".to_owned()),
        ("name", "bücher.example", "\"bücher.example\": write a name in ASCII, without spaces".to_owned()),
        ("name", &long, format!("{long:?}: a name has at most 255 bytes")),
        ("record", "B", "\"B\" is no type of a record; a number stands for any".to_owned()),
        ("record", "0", "\"0\" is no type of a record; a number stands for any".to_owned()),
        ("record", "+1", "\"+1\" is no type of a record; a number stands for any".to_owned()),
        ("record", "65536", "\"65536\" is no type of a record; a number stands for any".to_owned()),
        ("rcode", "OK", "\"OK\" is no response code".to_owned()),
        ("rcode", "16", "\"16\" is no response code".to_owned()),
    ];
    for (option, value, reason) in table {
        assert_eq!(refused("dns", &[(option, text(value))]), (*option, reason.clone()));
    }
    build("dns", &[("name", text("a.b"))]);
    let label = format!("{}.example", "a".repeat(63));
    build("dns", &[("name", text(&label))]);
    assert_eq!(refused("dns", &[("name", text(&format!("a{label}")))]).0, "name");
    let fits = format!("{}{}", format!("{}.", "a".repeat(63)).repeat(3), "a".repeat(61));
    build("dns", &[("name", text(&fits))]);
    assert_eq!(refused("dns", &[("name", text(&format!("{fits}a")))]).0, "name");
}

#[test]
fn the_response_code_decides() {
    let answer = |code: u16| message(0x8180 | code, &www(), 1, &[]);
    for (given, code, expected) in [
        (vec![], 0, good()),
        (vec![], 3, unexpected("NXDOMAIN, expected NOERROR")),
        (vec![], 2, unexpected("SERVFAIL, expected NOERROR")),
        (vec![], 15, unexpected("response code 15, expected NOERROR")),
        (vec![("rcode", texts(&["noerror", "3"]))], 3, good()),
        (vec![("rcode", texts(&["noerror", "3"]))], 5, unexpected("REFUSED, expected NOERROR or NXDOMAIN")),
        (vec![("rcode", text("REFUSED"))], 0, unexpected("NOERROR, expected REFUSED")),
    ] {
        assert_eq!(asked(&given, &[answer(code)]), expected, "{given:?} {code}");
    }
}

#[test]
fn an_error_may_come_without_the_question() {
    let bare = |code: u16| [&ID[..], &word(0x8180 | code), &[0; 8]].concat();
    assert_eq!(asked(&[], &[bare(1)]), unexpected("FORMERR, expected NOERROR"));
    let ignored = failure(
        FailureClass::Timeout,
        "no answer in time; 1 messages with another id or question were ignored",
    );
    assert_eq!(asked(&[], &[bare(0)]), ignored);
}

#[test]
fn the_answer_to_another_question_is_ignored() {
    let right = message(NOERROR, &www(), 1, &[]);
    let with = |at: usize, byte: u8| {
        let mut bytes = right.clone();
        bytes[at] ^= byte;
        bytes
    };
    let class = right.len() - 1;
    let others = [
        ("another id", with(0, 1)),
        ("another id", with(1, 1)),
        ("a question", with(2, 0x80)),
        ("another operation", with(2, 0x08)),
        ("no question", with(5, 1)),
        ("two questions", with(5, 3)),
        ("another name", with(14, 1)),
        ("another type", with(class - 2, 3)),
        ("another class", with(class, 2)),
        ("a header that is cut", right[..11].to_vec()),
        ("a question that is cut", right[..class].to_vec()),
        ("nothing", Vec::new()),
        ("an error to another id", [&[9, 9][..], &word(0x8182), &[0; 8]].concat()),
        ("an error whose header is cut", [&ID[..], &word(0x8182), &[0; 7]].concat()),
        ("an error to another name", message(0x8183, &name("other"), 1, &[])),
        ("a question with a response code", message(0x0101, &www(), 1, &[])),
    ];
    for (name, other) in &others {
        let text = "no answer in time; 1 messages with another id or question were ignored";
        assert_eq!(asked(&[], std::slice::from_ref(other)), failure(FailureClass::Timeout, text), "{name}");
    }
    let mut answers: Vec<Vec<u8>> = others.iter().map(|(_, other)| other.clone()).collect();
    answers.push(right);
    assert_eq!(asked(&[], &answers), good());
    assert_eq!(asked(&[], &[]), failure(FailureClass::Timeout, "no answer in time"));
    let capitals = message(NOERROR, &name("WWW.example.ORG"), 1, &[]);
    assert_eq!(asked(&[], &[capitals]), good(), "names have no case");
}

#[test]
fn expected_records_must_be_among_the_answers() {
    let soa = [
        &[0xc0, 16][..],
        b"\x04mail\xc0\x10",
        &[0, 0, 0, 1, 0, 0, 14, 16, 0, 0, 0, 3, 0, 0, 0, 4, 255, 255, 255, 255],
    ];
    let mx = [&word(10)[..], b"\x04mail\xc0\x10"].concat();
    let srv = [&word(0)[..], &word(5), &word(5060), b"\x03sip\xc0\x10"].concat();
    let table: &[(&str, u16, Vec<u8>, &str)] = &[
        ("A", 1, vec![192, 0, 2, 1], "192.0.2.1"),
        ("AAAA", 28, [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1]].concat(), "2001:DB8:0::1"),
        ("NS", 2, b"\x02ns\xc0\x10".to_vec(), "ns.Example.org"),
        ("PTR", 12, name("a.example"), "A.example"),
        ("NS", 2, vec![0], "."),
        ("CNAME", 5, b"\xc0\x10".to_vec(), "example.org"),
        ("MX", 15, mx, "10 mail.example.org"),
        ("SRV", 33, srv, "0 5 5060 sip.example.org."),
        ("SOA", 6, soa.concat(), "example.org mail.example.org 1 3600 3 4 4294967295"),
        ("TXT", 16, b"\x05v=spf\x051 -al\x01l".to_vec(), "v=spf1 -all"),
        ("257", 257, vec![0, 5, 0xab], "0005AB"),
    ];
    for (kind, number, data, expected) in table {
        let given = |expect: &[&str]| [("record", text(kind)), ("expect", texts(expect))];
        let cname = record(if *number == 5 { 6 } else { 5 }, b"\xc0\x10");
        let answer = message(NOERROR, &www(), *number, &[cname.clone(), record(*number, data)]);
        assert_eq!(asked(&given(&[expected]), std::slice::from_ref(&answer)), good(), "{kind}");
        let outcome = asked(&given(&[expected, "other"]), &[answer]);
        assert!(outcome.is_err_and(|failure| failure.class == FailureClass::Unexpected), "{kind}");
        let other = message(NOERROR, &www(), *number, &[cname]);
        assert!(
            asked(&given(&[expected]), std::slice::from_ref(&other)).is_err(),
            "{kind}: a record of another type"
        );
        assert_eq!(asked(&given(&[]), &[other]), good(), "{kind}");
        let short = message(NOERROR, &www(), *number, &[record(*number, &data[..data.len() - 1])]);
        let outcome = asked(&given(&[expected]), &[short]);
        assert!(outcome.is_err(), "{kind}: data that is cut");
    }
}

#[test]
fn a_record_of_another_class_is_no_answer() {
    let given = [("expect", texts(&["192.0.2.1"]))];
    let mut chaos = record(1, &[192, 0, 2, 1]);
    chaos[5] = 3;
    let expected = unexpected("192.0.2.1 is not in the answer, which has no such record");
    assert_eq!(asked(&given, &[message(NOERROR, &www(), 1, &[chaos])]), expected);
}

#[test]
fn a_record_that_is_cut_is_garbage_whatever_its_type() {
    let mut cut = message(NOERROR, &www(), 1, &[record(5, b"\xc0\x10")]);
    cut.pop();
    let garbage = failure(FailureClass::Garbage, "the records of the answer cannot be read");
    assert_eq!(asked(&[], &[cut]), garbage);
}

/// RFC 1035 §4.1.4: a pointer has fourteen bits.
#[test]
fn a_name_may_stand_anywhere_before_the_pointer_to_it() {
    let given = [("record", text("NS")), ("expect", text("ns.example"))];
    let filler = record(16, &[0; 300]);
    let place = 12 + www().len() + 4 + filler.len() + 12;
    let records = [filler, record(2, &name("ns.example")), record(2, &word(0xc000 | place as u16))];
    assert_eq!(asked(&given, &[message(NOERROR, &www(), 2, &records[..2])]), good());
    let other = [("record", text("NS")), ("expect", text("other"))];
    let twice = unexpected("other. is not in the answer, which has ns.example., ns.example.");
    assert_eq!(asked(&other, &[message(NOERROR, &www(), 2, &records)]), twice);
}

#[test]
fn an_expected_text_that_names_no_record_is_shown_as_it_was_written() {
    let given = [("expect", text("Web 1"))];
    let expected = unexpected("Web 1 is not in the answer, which has no such record");
    assert_eq!(asked(&given, &[message(NOERROR, &www(), 1, &[])]), expected);
}

#[test]
fn a_missing_record_is_shown_with_what_came_instead() {
    let given = [("expect", texts(&["192.0.2.9"]))];
    let addresses = |count: u8| {
        let records: Vec<_> = (1..=count).map(|last| record(1, &[192, 0, 2, last])).collect();
        message(NOERROR, &www(), 1, &records)
    };
    for (answer, expected) in [
        (addresses(0), "192.0.2.9 is not in the answer, which has no such record"),
        (addresses(2), "192.0.2.9 is not in the answer, which has 192.0.2.1, 192.0.2.2"),
        (
            addresses(6),
            "192.0.2.9 is not in the answer, which has 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4",
        ),
    ] {
        assert_eq!(asked(&given, &[answer]), unexpected(expected));
    }
}

#[test]
fn a_record_that_is_shown_hides_nothing_and_is_short() {
    let given = [("record", text("TXT")), ("expect", text("a"))];
    let data = ["\u{202e}b\n".as_bytes(), &[b'c'; 200]].concat();
    let txt = [&[data.len() as u8][..], &data].concat();
    let outcome = asked(&given, &[message(NOERROR, &www(), 16, &[record(16, &txt)])]);
    let shown = format!("a is not in the answer, which has \\xe2\\x80\\xaeb\\n{}…", "c".repeat(75));
    assert_eq!(outcome, unexpected(&shown));
}

#[test]
fn a_truncated_answer_counts_as_far_as_it_goes() {
    let records = [record(1, &[192, 0, 2, 1]), record(1, &[192, 0, 2, 2])];
    let whole = message(NOERROR | 0x0200, &www(), 1, &records);
    let cut = whole[..whole.len() - 3].to_vec();
    let given = |address: &str| [("expect", texts(&[address]))];
    for answer in [whole.clone(), cut.clone()] {
        assert_eq!(asked(&[], std::slice::from_ref(&answer)), good());
        assert_eq!(asked(&given("192.0.2.1"), std::slice::from_ref(&answer)), good());
        let text = "192.0.2.9 is not in the answer, which is truncated; transport = \"tcp\" gets all of it";
        assert_eq!(asked(&given("192.0.2.9"), &[answer]), unexpected(text));
    }
    let error = message(0x8181, &www(), 1, &[]);
    let given = [("rcode", text("FORMERR")), ("expect", texts(&["192.0.2.1"]))];
    let whole = unexpected("192.0.2.1 is not in the answer, which has no such record");
    assert_eq!(asked(&given, &[error]), whole, "a response code does not cut it");
    let broken = [&cut[..2], &word(NOERROR), &cut[4..]].concat();
    assert_eq!(
        asked(&[], &[broken]),
        failure(FailureClass::Garbage, "the records of the answer cannot be read")
    );
}

#[test]
fn names_that_cannot_be_read_are_garbage_and_end() {
    let garbage = failure(FailureClass::Garbage, "the records of the answer cannot be read");
    let start = 12 + www().len() + 4;
    let here = (0xc000 | start as u16).to_be_bytes();
    let label = [&[1, b'a'][..], &here].concat();
    let fields = [&word(1)[..], &word(1), &[0, 0, 0, 60], &word(4), &[192, 0, 2, 1]].concat();
    for (case, owner) in [
        ("a pointer to itself", here.to_vec()),
        ("a pointer to a label before it", label),
        ("a pointer ahead", vec![0xff, 0xff]),
        ("a pointer that is cut", vec![0xc0]),
        ("a label of a reserved kind", vec![0x80, 0]),
        ("a label past the end", vec![63]),
    ] {
        let bytes = message(NOERROR, &www(), 1, &[[&owner[..], &fields].concat()]);
        let bytes = if case.ends_with("cut") { bytes[..start + 1].to_vec() } else { bytes };
        assert_eq!(asked(&[], &[bytes]), garbage, "{case}");
    }
    let labels = [&[63; 64][..]; 3].concat();
    for (last, expected) in [(61, good()), (62, garbage.clone())] {
        let owner = [&labels[..], &[last], &vec![b'a'; usize::from(last)], &[0]].concat();
        let bytes = message(NOERROR, &www(), 1, &[[&owner[..], &fields].concat()]);
        assert_eq!(asked(&[], &[bytes]), expected, "a name of {} bytes", owner.len());
    }
    let long = [&[63; 64][..]; 4].concat();
    let bytes = message(NOERROR, &www(), 1, &[[&long[..], &[0], &fields].concat()]);
    assert_eq!(asked(&[], &[bytes]), garbage, "a name that is too long");
}

#[test]
fn odd_bytes_in_a_name_are_shown_as_in_a_zone_file() {
    let given = [("record", text("NS")), ("expect", text("a\\.b\\007c.example"))];
    let answer = message(NOERROR, &www(), 2, &[record(2, b"\x05a.b\x07C\x07example\x00")]);
    let outcome = asked(&given, &[answer]);
    let shown = "a\\.b\\007c.example. is not in the answer, which has a\\\\046b\\\\007c.example.";
    assert_eq!(outcome, unexpected(shown));
    let given = [("record", text("NS")), ("expect", text("a\\046b\\007c.example"))];
    let answer = message(NOERROR, &www(), 2, &[record(2, b"\x05a.b\x07C\x07example\x00")]);
    assert_eq!(asked(&given, &[answer]), good());
}

#[test]
fn over_tcp_a_message_stands_behind_its_length() {
    let tcp = [("transport", text("tcp")), ("name", text("www.example.org"))];
    let framed = |message: &[u8]| [&word(message.len() as u16)[..], message].concat();
    let answer = framed(&message(NOERROR, &www(), 1, &[]));
    let other = framed(&message(NOERROR, &name("other"), 1, &[]));
    assert_eq!(outcome("dns", &tcp, &answer, Silence), good());
    assert_eq!(outcome("dns", &tcp, &[&other[..], &answer].concat(), Close), good());
    let closed = failure(FailureClass::Closed, "connection closed without an answer");
    assert_eq!(outcome("dns", &tcp, &answer[..answer.len() - 1], Close), closed);
    assert_eq!(outcome("dns", &tcp, b"", Close), closed);
    let ignored = "no answer in time; 2 messages with another id or question were ignored";
    let bytes = [&other[..], &[0, 0]].concat();
    assert_eq!(outcome("dns", &tcp, &bytes, Silence), failure(FailureClass::Timeout, ignored));
}

#[test]
fn garbage_over_udp_is_waited_out() {
    let mut exchange = build("dns", &[]).begin(&target(), CHANCE);
    exchange.start();
    for length in 0..64 {
        assert_eq!(exchange.receive(&vec![0xff; length]), Step::Wait);
    }
}
