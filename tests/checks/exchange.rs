//! Check `exchange`, and the checks that are such steps with a name.

use std::collections::BTreeMap;

use lvs_tund::health::check::Step;
use lvs_tund::health::{FailureClass, Outcome, Transport, Value};

use super::harness::{
    CHANCE, Close, Silence, build, failure, good, options, outcome, refused, row, run, sent, table, target,
    text,
};

fn steps(steps: &[&[(&str, &str)]]) -> [(&'static str, Value); 1] {
    let steps: Vec<BTreeMap<String, String>> = steps.iter().map(|fields| table(fields)).collect();
    [("steps", Value::Tables(steps))]
}

fn unexpected(text: &str) -> Outcome {
    failure(FailureClass::Unexpected, text)
}

fn timeout(text: &str) -> Outcome {
    failure(FailureClass::Timeout, text)
}

#[test]
fn each_step_sends_and_waits_for_what_it_expects() {
    let given = steps(&[
        &[("expect", "^220 "), ("until", "\\n")],
        &[("send", "HELO a\\r\\n"), ("expect", "^250"), ("until", "\\n")],
        &[("send", "QUIT\r\n"), ("expect_text", "bye")],
    ]);
    let bytes = b"220 hello\r\n250 ok\r\n221 bye";
    assert_eq!(outcome("exchange", &given, &bytes[..], Silence), good());
    assert_eq!(sent("exchange", &given, bytes), "HELO a\r\nQUIT\r\n");
    for (bytes, end, expected) in [
        (&b""[..], Silence, timeout("no answer in time in step 1 of 3")),
        (b"", Close, failure(FailureClass::Closed, "connection closed without an answer in step 1 of 3")),
        (b"554 no", Silence, timeout("no expected answer in time, only \"554 no\" in step 1 of 3")),
        (
            b"554 no",
            Close,
            failure(FailureClass::Closed, "connection closed after \"554 no\" in step 1 of 3"),
        ),
        (b"220 x\r\n250 ok", Silence, timeout("no expected answer in time, only \"250 ok\" in step 2 of 3")),
        (b"220 \r\nno 250\r\n", Silence, unexpected("the answer \"no 250\" is not expected in step 2 of 3")),
        (b"220 \r\n250\r\nby", Silence, timeout("no expected answer in time, only \"by\" in step 3 of 3")),
    ] {
        assert_eq!(outcome("exchange", &given, bytes, end), expected, "{bytes:?}");
    }
}

/// After `{ expect = "^220" }` the rest of the line counts for the next step, whose expression needs `(?m)`.
#[test]
fn without_an_end_an_answer_ends_where_it_matches() {
    let given = steps(&[&[("expect", "^220")], &[("send", "HELO a\\r\\n"), ("expect", "(?m)^250")]]);
    assert_eq!(outcome("exchange", &given, b"220 hello\r\n250-ok\r\n", Silence), good());
    let waiting = timeout("no expected answer in time, only \" 250 hello\" in step 2 of 2");
    assert_eq!(outcome("exchange", &given, b"220 250 hello\r\n", Silence), waiting);
}

#[test]
fn an_answer_with_an_end_is_judged_there() {
    let given = steps(&[&[("expect", "(?m)^(OK|FINE)\r$"), ("until", "\\.\\r\\n")]]);
    assert_eq!(outcome("exchange", &given, b"OK\r\n.\r\n", Silence), good());
    assert_eq!(outcome("exchange", &given, b"x\r\nFINE\r\n.\r\n", Silence), good());
    let wrong = unexpected("the answer \"BAD\" is not expected");
    assert_eq!(outcome("exchange", &given, b"BAD\r\n.\r\nOK\r\n", Silence), wrong);
    let open = timeout("no expected answer in time, only \"OK\"");
    assert_eq!(outcome("exchange", &given, b"OK\r\n", Silence), open);
    let only_end = steps(&[&[("until", "\\n")]]);
    assert_eq!(outcome("exchange", &only_end, b"anything\n", Silence), good());
    let both = steps(&[&[("expect", "a"), ("expect_text", "hex:6x 63")]]);
    assert_eq!(outcome("exchange", &both, b"abc", Silence), good());
    assert!(outcome("exchange", &both, b"bc", Silence).is_err());
    assert!(outcome("exchange", &both, b"ab", Silence).is_err());
}

#[test]
fn an_expression_of_a_step_binds_to_the_ends_of_what_has_arrived_in_it() {
    for (expect, bytes, is_good) in [
        ("^b", "a\nb\n.", false),
        ("(?m)^b", "a\nb\n.", true),
        ("a$", "a\nb\n.", false),
        ("(?m)a$", "a\nb\n.", true),
        ("a.b", "a\rb.", true),
        ("a.b", "a\nb.", false),
        ("(?s)a.b", "a\nb.", true),
    ] {
        let given = steps(&[&[("expect", expect), ("until", "[.]")]]);
        assert_eq!(
            outcome("exchange", &given, bytes.as_bytes(), Silence).is_ok(),
            is_good,
            "{expect} in {bytes:?}"
        );
    }
}

#[test]
fn steps_that_only_send_are_sent_together_with_the_next() {
    let given = steps(&[
        &[("send", "a")],
        &[("send", "b")],
        &[("send", "c"), ("expect", "x")],
        &[("send", "hex:64")],
        &[("expect", "y")],
    ]);
    assert_eq!(sent("exchange", &given, b"xy"), "abcd");
    assert_eq!(outcome("exchange", &given, b"xy", Silence), good());
    assert_eq!(outcome("exchange", &given, b"x", Silence), timeout("no answer in time in step 5 of 5"));
}

#[test]
fn a_step_with_any_expectation_waits_and_sends_only_what_it_has() {
    for field in ["expect", "expect_text", "until"] {
        let given = steps(&[&[("send", "a")], &[(field, "x")], &[("send", "b"), ("expect", "y")]]);
        assert_eq!(sent("exchange", &given, b"-"), "a", "{field}");
        assert_eq!(sent("exchange", &given, b"x"), "ab", "{field}");
        let mut exchange = build("exchange", &steps(&[&[(field, "x")]])).begin(&target(), CHANCE);
        assert_eq!((exchange.start(), exchange.receive(b"-")), (Step::Wait, Step::Wait), "{field}");
    }
}

#[test]
fn an_answer_that_never_matches_is_cut_off() {
    let check = build("exchange", &steps(&[&[("expect", "z")]]));
    let text = format!("4096 bytes, beginning with \"{}…\", are not expected", "a".repeat(80));
    let garbage = failure(FailureClass::Garbage, &text);
    let filled = |count: usize, end: &str| [&b"a".repeat(count)[..], end.as_bytes()].concat();
    let table =
        [(filled(4096, ""), garbage.clone()), (filled(4095, "z"), good()), (filled(4096, "z"), garbage)];
    for (bytes, expected) in table {
        for sizes in [[usize::MAX], [1], [1460]] {
            let (_, outcome) = run(check.as_ref(), &target(), &[&bytes], &sizes, Silence);
            assert_eq!(outcome, expected, "{} bytes in packets of {sizes:?}", bytes.len());
        }
    }
}

#[test]
fn steps_without_sense_are_refused() {
    let nothing = "a step has nothing to send and nothing to expect";
    for (given, reason) in [
        (steps(&[]), "at least one step is required"),
        (steps(&[&[]]), nothing),
        (steps(&[&[("send", "")]]), nothing),
        (steps(&[&[("send", "a")]]), "the last step expects nothing"),
        (steps(&[&[("expect", "a")], &[("send", "a")]]), "the last step expects nothing"),
        (steps(&[&[("expect", "(")]]), "\"(\" is no regular expression: unclosed group"),
        (steps(&[&[("until", "[")]]), "\"[\" is no regular expression: unclosed character class"),
        (steps(&[&[("send", "\\q"), ("expect", "a")]]), "\\q has no meaning; \\\\ stands for a backslash"),
        (steps(&[&[("expect_text", "hex:1")]]), "1 hexadecimal digits, expected an even number"),
    ] {
        assert_eq!(refused("exchange", &given), ("steps", reason.to_owned()));
    }
    assert_eq!(refused("exchange", &[]).0, "steps");
}

#[test]
fn an_exchange_may_run_over_tls() {
    for (kind, port) in [
        ("smtp", 25),
        ("imap", 143),
        ("pop3", 110),
        ("ftp", 21),
        ("nntp", 119),
        ("redis", 6379),
        ("memcached", 11211),
    ] {
        assert_eq!(row(kind).port, Some(port));
        let with = [("tls", Value::Flag(true)), ("server_name", text("mail.example.org"))];
        let tls = build(kind, &with).tls().expect("TLS");
        assert_eq!((tls.server_name.as_deref(), tls.protocols), (Some("mail.example.org"), Vec::new()));
        assert_eq!((row(kind).transport)(&options(kind, &with)), Transport::Tls);
        assert_eq!((row(kind).transport)(&options(kind, &[])), Transport::Tcp);
        assert_eq!(build(kind, &[]).tls(), None);
    }
    assert_eq!(
        (row("exchange").port, row("mysql").port, row("postgres").port),
        (None, Some(3306), Some(5432))
    );
}

/// Kind, what the server sends, whether it is good, and what the check has sent by then.
const DIALOGUES: &[(&str, &str, bool, &str)] = &[
    ("smtp", "220 mx ESMTP\r\n250 mx\r\n221 bye\r\n", true, "HELO localhost\r\nQUIT\r\n"),
    (
        "smtp",
        "220-mx\r\n220-no spam\r\n220 mx\r\n250-mx\r\n250 HELP\r\n221\r\n",
        true,
        "HELO localhost\r\nQUIT\r\n",
    ),
    ("smtp", "220-mx\r\n", false, ""),
    ("smtp", "554 no\r\n", false, ""),
    ("smtp", "220 mx\r\n502 what\r\n", false, "HELO localhost\r\n"),
    ("smtp", "220 mx\r\n250 mx\r\n421 busy\r\n", false, "HELO localhost\r\nQUIT\r\n"),
    ("imap", "* OK [CAPABILITY IMAP4rev1] ready\r\n* BYE\r\na1 OK\r\n", true, "a1 LOGOUT\r\n"),
    ("imap", "* PREAUTH ready\r\na1 OK\r\n", true, "a1 LOGOUT\r\n"),
    ("imap", "* BYE busy\r\n", false, ""),
    ("imap", "* OKAY\r\n", false, ""),
    ("imap", "* OK\r\na1 BAD\r\n", false, "a1 LOGOUT\r\n"),
    ("pop3", "+OK <1@a>\r\n+OK\r\n", true, "QUIT\r\n"),
    ("pop3", "-ERR busy\r\n", false, ""),
    ("pop3", "+OK\r\n-ERR\r\n", false, "QUIT\r\n"),
    ("ftp", "220-a\r\nb\r\n220 c\r\n221 bye\r\n", true, "QUIT\r\n"),
    ("ftp", "220 a\r\n221-b\r\n221 c\r\n", true, "QUIT\r\n"),
    ("ftp", "421 busy\r\n", false, ""),
    ("ftp", "120 later\r\n", false, ""),
    ("ftp", "220 a\r\n500 what\r\n", false, "QUIT\r\n"),
    ("nntp", "200 posting\r\n205 bye\r\n", true, "QUIT\r\n"),
    ("nntp", "201 reading\r\n205\r\n", true, "QUIT\r\n"),
    ("nntp", "2010\r\n", false, ""),
    ("nntp", "400 busy\r\n", false, ""),
    ("nntp", "200\r\n500 what\r\n", false, "QUIT\r\n"),
    ("redis", "+PONG\r\n", true, "PING\r\n"),
    ("redis", "-NOAUTH Authentication required.\r\n", true, "PING\r\n"),
    ("redis", "-NOPERM no\r\n", true, "PING\r\n"),
    ("redis", "-LOADING Redis is loading the dataset in memory\r\n", false, "PING\r\n"),
    ("redis", "-DENIED Redis is running in protected mode\r\n", false, "PING\r\n"),
    ("memcached", "VERSION 1.6.29\r\n", true, "version\r\n"),
    ("memcached", "ERROR\r\n", false, "version\r\n"),
];

#[test]
fn common_protocols_are_known_by_name() {
    for (kind, bytes, is_good, written) in DIALOGUES {
        let outcome = outcome(kind, &[], bytes.as_bytes(), Silence);
        assert_eq!(outcome.is_ok(), *is_good, "{kind} {bytes:?}: {outcome:?}");
        assert_eq!(sent(kind, &[], bytes.as_bytes()), *written, "{kind} {bytes:?}");
    }
}

#[test]
fn helo_gives_the_name_of_the_option() {
    let bytes = b"220 a\r\n250 b\r\n221 c\r\n";
    assert_eq!(sent("smtp", &[("helo", text("lb.example.org"))], bytes), "HELO lb.example.org\r\nQUIT\r\n");
    for helo in ["", "a b", "a\r\nDATA", "a\\n"] {
        assert_eq!(
            refused("smtp", &[("helo", text(helo))]),
            ("helo", format!("{helo:?} is no name of a host"))
        );
    }
}

fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&length[..3], &[number], payload].concat()
}

#[test]
fn mysql_begins_with_its_handshake() {
    let garbage = failure(FailureClass::Garbage, "the first packet is not one of MySQL");
    let mysql = |bytes: &[u8]| outcome("mysql", &[], bytes, Silence);
    let hello = packet(0, b"\x0a8.4.3\0\x01\0\0\0salt");
    assert_eq!(mysql(&hello), good());
    assert_eq!(mysql(&[&hello[..], b"more"].concat()), good());
    assert_eq!(mysql(&hello[..hello.len() - 1]), timeout("no answer in time"));
    let many = packet(0, b"\xff\x10\x04#08004Too many connections");
    assert_eq!(mysql(&many), unexpected("error 1040: \"Too many connections\""));
    let stopping = packet(0, b"\xff\x1d\x04#08S01Server shutdown in progress");
    assert_eq!(mysql(&stopping), unexpected("error 1053: \"Server shutdown in progress\""));
    let short = packet(0, b"\xff\x10\x04");
    assert_eq!(mysql(&short), unexpected("error 1040: \"\""));
    for (code, low) in [(1129, 0x69), (1130, 0x6a)] {
        let packet = packet(0, &[&[0xff, low, 4][..], b"Host '172.25.3.1' is not allowed"].concat());
        let success = mysql(&packet).expect("a server that works");
        let warning = format!("error {code}: \"Host '172.25.3.1' is not allowed\"");
        assert_eq!(success.warning, Some(warning));
    }
    for bytes in [
        packet(1, b"\x0a8.4.3\0"),
        packet(0, b"\x098.4.3\0"),
        packet(0, b"\x0a8.4.3"),
        packet(0, b"\x0a8.4\x01"),
        [&[2, 0, 1, 0][..], b"\x0a\0"].concat(),
        packet(0, b"\xff\x10"),
        packet(0, b""),
        vec![1, 16, 0, 0],
        vec![0, 0, 1, 0],
        b"SSH-2.0-OpenSSH".to_vec(),
    ] {
        assert_eq!(mysql(&bytes), garbage, "{bytes:?}");
    }
    assert_eq!(mysql(&[0, 16, 0, 0]), timeout("no answer in time"), "the largest length");
    let closed = failure(FailureClass::Closed, "connection closed without a handshake");
    assert_eq!(outcome("mysql", &[], b"\x05", Close), closed);
    assert_eq!(sent("mysql", &[], &hello), "");
}

fn postgres_error(fields: &str) -> Vec<u8> {
    [b"E", &(fields.len() as u32 + 4).to_be_bytes()[..], fields.as_bytes()].concat()
}

#[test]
fn postgres_is_up_if_it_begins_to_authenticate() {
    let postgres = |bytes: &[u8]| outcome("postgres", &[], bytes, Silence);
    // SCRAM, MD5 with its salt, and a user who needs no password.
    for answer in
        [&b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"[..], b"R\0\0\0\x0c\0\0\0\x05salt", b"R\0\0\0\x08\0\0\0\0"]
    {
        assert_eq!(postgres(answer), good());
    }
    assert_eq!(postgres(b"R\0\0\0"), timeout("no answer in time"));
    let garbage = failure(FailureClass::Garbage, "the answer is not one of PostgreSQL");
    for bytes in
        [&b"HTTP/1.1 400"[..], b"N", b"s", b"E\0\0\0\x03", b"E\0\0\x20\x01", b"R\0\0\0\x07", b"R\0\0\x20\x01"]
    {
        assert_eq!(postgres(bytes), garbage, "{bytes:?}");
    }
    assert_eq!(postgres(b"R\0\0\x20\0"), good(), "the largest length");
    assert_eq!(postgres(b"E\0\0\x20\0"), timeout("no answer in time"), "the largest length");
    let mut exchange = build("postgres", &[]).begin(&target(), CHANCE);
    assert_eq!(exchange.receive(b""), Step::Wait, "nothing is no answer");
    let closed = failure(FailureClass::Closed, "connection closed without an answer");
    assert_eq!(outcome("postgres", &[], b"", Close), closed);
    assert_eq!(outcome("postgres", &[], b"R\0", Close), closed);
}

#[test]
fn an_error_of_postgres_about_the_server_is_a_failure_and_one_about_the_user_is_not() {
    let postgres = |bytes: &[u8]| outcome("postgres", &[], bytes, Silence);
    for (code, message) in [
        ("57P03", "the database system is starting up"),
        ("57P03", "the database system is not yet accepting connections"),
        ("57P03", "the database system is shutting down"),
        ("57P01", "terminating connection due to administrator command"),
        ("53300", "sorry, too many clients already"),
        ("58000", "could not open file"),
        ("XX000", "internal"),
    ] {
        let error = postgres_error(&format!("SFATAL\0VFATAL\0C{code}\0M{message}\0Fpostmaster.c\0\0"));
        assert_eq!(postgres(&error), unexpected(&format!("error: \"{message}\"")), "{code}");
        assert_eq!(postgres(&error[..error.len() - 1]), timeout("no answer in time"), "{code}");
    }
    for (code, message) in [
        ("28000", "no pg_hba.conf entry for host \"172.25.3.1\", user \"lvs-tund\", no encryption"),
        ("28P01", "password authentication failed"),
        ("3D000", "database \"lvs-tund\" does not exist"),
        ("08P01", "SSL required"),
    ] {
        let error = postgres_error(&format!("SFATAL\0C{code}\0M{message}\0\0"));
        assert_eq!(postgres(&error), good(), "{code}");
    }
    // A server before PostgreSQL 7.4 sends no code.
    assert_eq!(postgres(&postgres_error("Mbusy\0\0")), unexpected("error: \"busy\""));
    assert_eq!(postgres(&postgres_error("")), unexpected("error: \"\""));
}

#[test]
fn the_probe_of_postgres_names_the_user_of_the_option() {
    let expected = "\0\0\0\x29\0\x03\0\0user\0lvs-tund\0database\0lvs-tund\0\0";
    assert_eq!(sent("postgres", &[], b""), expected);
    let expected = "\0\0\0\x1b\0\x03\0\0user\0a\0database\0a\0\0";
    assert_eq!(sent("postgres", &[("user", text("a"))], b""), expected);
    for user in ["", "a\0b", "a\nb"] {
        assert_eq!(
            refused("postgres", &[("user", text(user))]),
            ("user", format!("{user:?} is no name of a user"))
        );
    }
}
