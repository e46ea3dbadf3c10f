//! Checks `http` and `https`: limits of responses, and what stands behind them.

use lvs_tund::health::check::{ANSWER_MAX, Check};
use lvs_tund::health::{FailureClass, Outcome, Success, Value};

use super::harness::{Silence, build, failure, good, outcome, refused, run, table, target, text, texts};

/// The outcome of a probe whose answers come in packets of any size.
fn whole(check: &dyn Check, answers: &[&[u8]]) -> Outcome {
    run(check, &target(), answers, &[usize::MAX], Silence).1
}

#[test]
fn each_path_may_have_a_body_up_to_the_limit() {
    let check = build("http", &[("paths", texts(&["/a", "/b"])), ("body_not", text("b"))]);
    let length = ANSWER_MAX * 2 / 3;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "a".repeat(length));
    assert_eq!(whole(check.as_ref(), &[answer.as_bytes(); 2]), good());
}

#[test]
fn what_stands_behind_a_response_counts_for_nothing() {
    let check = build("http", &[("body_md5", text("444bcb3a3fcf8389296c49467f27e1d6"))]);
    let more = "b".repeat(70_000);
    for answer in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{more}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{more}"),
    ] {
        assert_eq!(whole(check.as_ref(), &[answer.as_bytes()]), good());
    }
}

/// RFC 9112 §7.1: the lines that frame chunks are part of the body.
#[test]
fn the_framing_of_chunks_does_not_count_as_header_fields() {
    let chunks = "1\r\nx\r\n".repeat(33_000);
    let answer = format!("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    assert!(answer.len() < ANSWER_MAX);
    assert_eq!(whole(build("http", &[]).as_ref(), &[answer.as_bytes()]), good());
}

#[test]
fn the_size_of_a_chunk_is_hexadecimal() {
    for (size, count) in [("0a", 10), ("1F", 31), ("20", 32)] {
        let body = "x".repeat(count);
        let answer =
            format!("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n{body}\r\n0\r\n\r\n");
        assert_eq!(outcome("http", &[], answer.as_bytes(), Silence), good(), "{size}");
    }
}

#[test]
fn a_trailer_ends_with_an_empty_line() {
    let waiting = failure(FailureClass::Timeout, "status 200, but no end of the answer in time");
    for trailer in ["", "A: b\r\n"] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailer}");
        assert_eq!(outcome("http", &[], answer.as_bytes(), Silence), waiting, "{trailer:?}");
    }
}

/// Of a response and of the interim ones before it together.
#[test]
fn the_header_fields_have_a_limit() {
    let too_many = failure(FailureClass::Garbage, "more than 65536 bytes of header fields");
    let exact = |count: usize| format!("HTTP/1.1 204 X\r\nA: {}\r\n\r\n", "b".repeat(count - 23));
    let field = format!("A: {}\r\n", "b".repeat(1021));
    let many = |fields: usize| format!("HTTP/1.1 204 X\r\n{}\r\n", field.repeat(fields));
    for (answer, expected) in [
        (exact(65_536), good()),
        (exact(65_537), too_many.clone()),
        (many(63), good()),
        (many(64), too_many.clone()),
        ("HTTP/1.1 100 X\r\n\r\n".repeat(4000), too_many),
    ] {
        for sizes in [usize::MAX, 1460] {
            let (_, outcome) =
                run(build("http", &[]).as_ref(), &target(), &[answer.as_bytes()], &[sizes], Silence);
            assert_eq!(outcome, expected, "{}", answer.len());
        }
    }
}

/// RFC 9112 §5.2: the lines of a folded field are joined by a space.
#[test]
fn a_folded_field_is_not_one_word() {
    let answer = b"HTTP/1.1 200 OK\r\nW: 1\r\n 2\r\nContent-Length: 0\r\n\r\n";
    let warning = Some("header field W: \"1 2\" is no weight".to_owned());
    let expected = Ok(Success { warning, ..Success::default() });
    assert_eq!(outcome("http", &[("weight_header", text("W"))], answer, Silence), expected);
}

#[test]
fn a_control_character_is_refused_except_for_a_tab_in_a_field() {
    let header = |value: &str| [("headers", Value::Table(table(&[("a", value)])))];
    build("http", &header("b\tc"));
    for control in ["\u{1}", "\u{7f}", "\u{85}"] {
        assert_eq!(refused("http", &header(control)).0, "headers", "{control:?}");
        assert_eq!(refused("http", &[("path", text(&format!("/a{control}")))]).0, "path", "{control:?}");
    }
}
