//! Checks `http` and `https`: responses.

use lvs_tund::health::check::ANSWER_MAX;
use lvs_tund::health::{FailureClass, Outcome, Value};

use super::harness::{Close, End, Silence, build, failure, good, outcome, run_cut_anywhere, text, texts};

fn unexpected(text: &str) -> Outcome {
    failure(FailureClass::Unexpected, text)
}

fn garbage(text: &str) -> Outcome {
    failure(FailureClass::Garbage, text)
}

fn closed(text: &str) -> Outcome {
    failure(FailureClass::Closed, text)
}

fn timeout(text: &str) -> Outcome {
    failure(FailureClass::Timeout, text)
}

/// The body must be "ok", and nothing more: a byte too few or too many shows.
const OK: &[(&str, &str)] = &[("body_md5", "444bcb3a3fcf8389296c49467f27e1d6")];

fn given(options: &[(&'static str, &str)]) -> Vec<(&'static str, Value)> {
    options.iter().map(|(name, value)| (*name, text(value))).collect()
}

#[test]
fn an_answer_ends_at_its_last_byte_however_it_is_framed() {
    let table: &[(&str, &str, End)] = &[
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Silence),
        (
            "a length and more",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 X\r\n\r\n",
            Silence,
        ),
        (
            "the same length twice",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\ncontent-length:2\r\n\r\nok",
            Silence,
        ),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            Silence,
        ),
        (
            "a chunk's extension",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n02 ;a=\"b\"\r\nok\r\n000\r\n\r\n",
            Silence,
        ),
        (
            "a trailer",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\nC: d\r\n\r\n",
            Silence,
        ),
        (
            "chunks in spite of a length",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Silence,
        ),
        ("the close", "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nok", Close),
        ("the close, another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", Close),
        ("no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", Silence),
        ("an empty reason", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", Silence),
        ("lines that end with LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Silence),
        ("a folded field", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length:\r\n\t2\r\n\r\nok", Silence),
        (
            "interim responses",
            "HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Silence,
        ),
    ];
    for (name, answer, end) in table {
        assert_eq!(outcome("http", &given(OK), answer.as_bytes(), *end), good(), "{name}");
    }
}

#[test]
fn an_answer_without_a_body_ends_with_its_header_fields() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let method = [("method", text(method))];
        assert_eq!(outcome("http", &method, answer.as_bytes(), Silence), good(), "{answer}");
    }
    let options = [("status", text("101, 304"))];
    for status in [101, 304] {
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(outcome("http", &options, answer.as_bytes(), Silence), good());
    }
}

#[test]
fn the_status_decides_as_soon_as_it_is_complete() {
    let table: &[(Option<&[&str]>, u16, Outcome)] = &[
        (None, 200, good()),
        (None, 299, good()),
        (None, 301, unexpected("status 301, expected 200-299")),
        (None, 503, unexpected("status 503, expected 200-299")),
        (Some(&["200, 301-399"]), 301, good()),
        (Some(&["200", "301-399"]), 300, unexpected("status 300, expected 200, 301-399")),
        (Some(&["404"]), 404, good()),
    ];
    for (status, code, expected) in table {
        let options: Vec<_> = status.iter().map(|status| ("status", texts(status))).collect();
        let answer = format!("HTTP/1.1 {code} Words\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(outcome("http", &options, answer.as_bytes(), Silence), *expected, "{code}");
    }
    let answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 1000\r\n\r\n";
    assert_eq!(outcome("http", &[], answer, Silence), unexpected("status 503, expected 200-299"));
}

#[test]
fn an_answer_that_stops_early_fails_and_the_text_shows_where() {
    let table: &[(&str, End, Outcome)] = &[
        ("", Close, closed("connection closed without an answer")),
        ("", Silence, timeout("no answer in time")),
        ("HTTP", Close, closed("connection closed before the end of the header fields")),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\n",
            Close,
            closed("connection closed before the end of the header fields"),
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\n",
            Close,
            closed("connection closed before the end of the header fields"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
            Close,
            closed("connection closed 3 bytes before the end of the body"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
            Silence,
            timeout("status 200, but no end of the answer in time"),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
            Close,
            closed("connection closed before the end of the body, after 2 bytes of it"),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nok", Silence, timeout("status 200, but no end of the answer in time")),
    ];
    for (answer, end, expected) in table {
        assert_eq!(outcome("http", &[], answer.as_bytes(), *end), *expected, "{answer:?}");
    }
}

#[test]
fn what_is_not_http_is_garbage() {
    let not_http = "the answer does not begin with HTTP/1";
    let status = "the status line is not one of HTTP/1";
    let length = "the header field Content-Length is not one number";
    let chunk = "the size of a chunk is not a hexadecimal number";
    let answer = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}");
    for (bytes, reason) in [
        ("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), not_http),
        ("HTTP/2 200\r\n".to_owned(), not_http),
        ("HTTQ".to_owned(), not_http),
        ("\r\n".to_owned(), not_http),
        ("HTTP/1.1\r\n".to_owned(), status),
        ("HTTP\r\n".to_owned(), not_http),
        ("HTTP/1.12 200 OK\r\n".to_owned(), status),
        ("HTTP/1.x 200 OK\r\n".to_owned(), status),
        ("HTTP/1.1 20 OK\r\n".to_owned(), status),
        ("HTTP/1.1 +20 OK\r\n".to_owned(), status),
        ("HTTP/1.1 099 OK\r\n".to_owned(), status),
        ("HTTP/1.1 2000 OK\r\n".to_owned(), status),
        ("HTTP/1.1  200 OK\r\n".to_owned(), status),
        (answer("no colon", ""), "a header field without a colon"),
        (answer("Content-Length: -1", ""), length),
        (answer("Content-Length: +1", ""), length),
        (answer("Content-Length:", ""), length),
        (answer("Content-Length: 1, 2", ""), length),
        (answer("Content-Length: 1\r\nContent-Length: 2", ""), length),
        (answer("Content-Length: 99999999999999999999", ""), length),
        (answer("Transfer-Encoding: chunked", "x\r\n"), chunk),
        (answer("Transfer-Encoding: chunked", "\r\n"), chunk),
        (answer("Transfer-Encoding: chunked", "-1\r\n"), chunk),
        (answer("Transfer-Encoding: chunked", "+1\r\n"), chunk),
        (answer("Transfer-Encoding: chunked", "fffffffffffffffff\r\n"), chunk),
        (answer("Transfer-Encoding: chunked", "2\r\nokay\r\n"), "a chunk is longer than its size"),
    ] {
        assert_eq!(outcome("http", &[], bytes.as_bytes(), Silence), garbage(reason), "{bytes:?}");
    }
}

#[test]
fn the_body_must_be_as_each_option_requires() {
    let answer = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let lacks = "status 200, but the body does not contain the expected text";
    let differs = "status 200, but the body does not match body_regex";
    let matches = "status 200, but the body matches body_not";
    for (option, value, body, expected) in [
        ("body", "ready", "I am ready.", None),
        ("body", "ready", "I am not read", Some(lacks)),
        ("body", "hex:72 65 xx 64", "I am ready.", None),
        ("body", "a\\r\\nb", "a\r\nb", None),
        ("body", "", "", None),
        ("body_regex", "^OK$", "x\nOK\ny", Some(differs)),
        ("body_regex", "(?m)^OK$", "x\nOK\ny", None),
        ("body_regex", "^OK$", "OK\n", None),
        ("body_regex", "a.b", "a\nb", Some(differs)),
        ("body_regex", "a.b", "a\rb", None),
        ("body_not", "^OK$", "x\nOK\ny", None),
        ("body_regex", "^OK$", "OK", None),
        ("body_regex", "^OK$", "NOK", Some(differs)),
        ("body_regex", "(?i)status: *up", "Status:   UP", None),
        ("body_not", "fatal|error", "all is well", None),
        ("body_not", "fatal|error", "an error", Some(matches)),
        ("body_md5", "900150983CD24FB0d6963f7d28e17f72", "abc", None),
        (
            "body_md5",
            "900150983cd24fb0d6963f7d28e17f72",
            "abd",
            Some("status 200, but the MD5 of the body is 4911e516e5aa21d327512e0c8b197616"),
        ),
    ] {
        let expected = expected.map_or(good(), unexpected);
        assert_eq!(
            outcome("http", &[(option, text(value))], answer(body).as_bytes(), Silence),
            expected,
            "{value}"
        );
    }
}

/// A body of `a`, with this at its end, as long as a driver reads, without an end.
fn endless(head: &str, end: &str) -> Vec<u8> {
    let mut bytes = head.as_bytes().to_vec();
    bytes.resize(ANSWER_MAX - end.len(), b'a');
    bytes.extend(end.as_bytes());
    bytes
}

#[test]
fn a_body_without_end_counts_as_far_as_it_cannot_change_the_outcome() {
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    let size = ANSWER_MAX - head.len();
    let missing = format!("in its first {size} bytes");
    let too_long = format!("status 200, but the body is longer than {size} bytes");
    let lacks = format!("status 200, but the body does not contain the expected text {missing}");
    let differs = format!("status 200, but the body does not match body_regex {missing}");
    for (options, end, expected) in [
        (&[][..], "", good()),
        (&[("body", "b")], "b", good()),
        (&[("body", "c")], "b", unexpected(&lacks)),
        (&[("body_regex", "b")], "bc", good()),
        (&[("body_regex", "b$")], "b", unexpected(&differs)),
        (&[("body_not", "b")], "bc", unexpected("status 200, but the body matches body_not")),
        (&[("body_not", "c")], "b", unexpected(&too_long)),
    ] {
        let bytes = endless(head, end);
        let more = [&bytes[..], b"more"].concat();
        for bytes in [bytes, more] {
            let check = build("http", &given(options));
            for sizes in [usize::MAX, 1460] {
                let target = super::harness::target();
                let run = super::harness::run(check.as_ref(), &target, &[&bytes], &[sizes], Silence);
                assert_eq!(run.1, expected, "{options:?}");
            }
        }
    }
    let length = ANSWER_MAX - "HTTP/1.1 200 OK\r\nContent-Length: 262103\r\n\r\n".len();
    let complete = endless(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"), "b");
    let check = build("http", &given(&[("body_regex", "b$"), ("body_not", "c")]));
    let run =
        super::harness::run(check.as_ref(), &super::harness::target(), &[&complete], &[usize::MAX], Silence);
    assert_eq!(run.1, good(), "a body that ends with the last byte that is read");
    let endless_error = endless("HTTP/1.1 500 X\r\n\r\n", "");
    assert_eq!(
        outcome("http", &[], &endless_error[..2000], Silence),
        unexpected("status 500, expected 200-299")
    );
}

/// An answer whose body is this many bytes of `a`, and the MD5 of that.
fn large(length: usize, end: &str) -> (Vec<u8>, String) {
    use md5::{Digest, Md5};
    let body = [&vec![b'a'; length - end.len()][..], end.as_bytes()].concat();
    let digest = Md5::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    ([head.as_bytes(), &body].concat(), digest)
}

#[test]
fn the_md5_is_that_of_the_whole_body_however_long_it_is() {
    let (answer, digest) = large(3 * ANSWER_MAX, "b");
    let run = |options: &[(&'static str, &str)], answer: &[u8], end: End| {
        let check = build("http", &given(options));
        let (target, sizes) = (super::harness::target(), [1460]);
        super::harness::run(check.as_ref(), &target, &[answer], &sizes, end).1
    };
    assert_eq!(run(&[("body_md5", &digest)], &answer, Silence), good());
    let other = "900150983cd24fb0d6963f7d28e17f72";
    let differs = unexpected(&format!("status 200, but the MD5 of the body is {digest}"));
    assert_eq!(run(&[("body_md5", other)], &answer, Silence), differs);
    let (head, body) = (b"HTTP/1.0 200 OK\r\n\r\n", &answer[answer.len() - 3 * ANSWER_MAX..]);
    let until_close = [&head[..], body].concat();
    assert_eq!(run(&[("body_md5", &digest)], &until_close, Close), good());
    let slow = timeout("status 200, but no end of the answer in time");
    assert_eq!(run(&[("body_md5", &digest)], &until_close, Silence), slow);
    let first = format!("in its first {ANSWER_MAX} bytes");
    let differs = unexpected(&format!("status 200, but the body does not match body_regex {first}"));
    assert_eq!(run(&[("body_md5", &digest), ("body_regex", "b")], &answer, Silence), differs);
    assert_eq!(run(&[("body_md5", &digest), ("body_regex", "a")], &answer, Silence), good());
    let too_long = unexpected(&format!("status 200, but the body is longer than {ANSWER_MAX} bytes"));
    assert_eq!(run(&[("body_md5", &digest), ("body_not", "c")], &answer, Silence), too_long);
    assert_eq!(
        run(&[("body_md5", other), ("status", "404")], &answer, Silence),
        unexpected("status 200, expected 404")
    );
}

#[test]
fn a_check_keeps_a_bounded_part_of_an_answer_that_the_driver_does_not_limit() {
    let limited = |options: &[(&'static str, &str)]| {
        build("http", &given(options)).begin(&super::harness::target(), 0).is_limited()
    };
    assert!(limited(&[]) && limited(&[("body_regex", "a")]) && !limited(OK));
    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &"1".repeat(65_537);
    assert_eq!(
        outcome("http", &given(OK), endless.as_bytes(), Silence),
        garbage("the size of a chunk is not a hexadecimal number")
    );
}

#[test]
fn a_header_field_of_the_answer_may_set_the_weight() {
    let options = [("weight_header", text("X-Weight"))];
    let answer = |field: &str| format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 0\r\n\r\n");
    for (field, weight, warning) in [
        ("x-weight: 7", Some(7), None),
        ("X-Weight:0", Some(0), None),
        ("X-Weight: 2147483647", Some(2_147_483_647), None),
        ("X-Weight: 2147483648", None, Some("header field X-Weight: \"2147483648\" is no weight")),
        ("X-Weight: 50%", None, Some("header field X-Weight: \"50%\" is no weight")),
        ("X-Other: 5", None, None),
        ("X-Weight: 5\r\nX-Weight: 6", Some(5), None),
    ] {
        let success = outcome("http", &options, answer(field).as_bytes(), Silence).expect("a success");
        assert_eq!((success.weight, success.warning.as_deref()), (weight, warning), "{field}");
    }
    let ignored = outcome("http", &[], answer("X-Weight: 7").as_bytes(), Silence);
    assert_eq!(ignored, good(), "only if it is configured");
}

#[test]
fn several_paths_are_requested_one_connection_after_the_other_until_one_fails() {
    let check = build("http", &[("paths", texts(&["/a", "/b", "/c"])), ("weight_header", text("W"))]);
    let answer =
        |status: u16, weight: u8| format!("HTTP/1.1 {status} X\r\nW: {weight}\r\nContent-Length: 0\r\n\r\n");
    let (a, b, c, bad) = (answer(200, 1), answer(200, 2), answer(200, 3), answer(500, 9));
    let (sent, outcome) =
        run_cut_anywhere(check.as_ref(), &[a.as_bytes(), b.as_bytes(), c.as_bytes()], Silence);
    let lines: Vec<String> = sent
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(lines, ["GET /a HTTP/1.1", "GET /b HTTP/1.1", "GET /c HTTP/1.1"]);
    assert_eq!(outcome.map(|success| success.weight), Ok(Some(3)), "the last one counts");
    let (sent, outcome) = run_cut_anywhere(check.as_ref(), &[a.as_bytes(), bad.as_bytes()], Silence);
    assert_eq!((sent.len(), outcome), (2, unexpected("/b: status 500, expected 200-299")));
    let (_, outcome) = run_cut_anywhere(check.as_ref(), &[a.as_bytes(), b""], Close);
    assert_eq!(outcome, closed("/b: connection closed without an answer"));
    let (_, outcome) = run_cut_anywhere(check.as_ref(), &[a.as_bytes(), b"!"], Silence);
    assert_eq!(outcome, garbage("/b: the answer does not begin with HTTP/1"));
    let (_, outcome) = run_cut_anywhere(check.as_ref(), &[a.as_bytes(), b""], Silence);
    assert_eq!(outcome, timeout("/b: no answer in time"));
}

#[test]
fn an_answer_up_to_the_close_is_followed_by_the_next_path() {
    let check = build("http", &[("paths", texts(&["/a", "/b"]))]);
    let (sent, outcome) = run_cut_anywhere(
        check.as_ref(),
        &[b"HTTP/1.0 200 OK\r\n\r\nok", b"HTTP/1.0 500 OK\r\n\r\nok"],
        Close,
    );
    assert_eq!((sent.len(), outcome), (2, unexpected("/b: status 500, expected 200-299")));
}
