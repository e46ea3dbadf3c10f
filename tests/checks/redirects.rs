//! Checks `http` and `https`: redirects.

use lvs_tund::health::{FailureClass, Outcome, Value};

use super::harness::{Close, Silence, build, failure, good, refused, run_cut_anywhere, table, text, texts};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn unexpected(text: &str) -> Outcome {
    failure(FailureClass::Unexpected, text)
}

fn to(status: u16, location: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 3\r\n\r\nyes").into_bytes()
}

/// The request lines, and the outcome, which is the same wherever packets end.
fn probe(kind: &str, given: &[(&str, Value)], answers: &[&[u8]]) -> (Vec<String>, Outcome) {
    let (sent, outcome) = run_cut_anywhere(build(kind, given).as_ref(), answers, Silence);
    let line = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned();
    (sent.iter().map(line).collect(), outcome)
}

fn following(count: i64) -> Vec<(&'static str, Value)> {
    vec![("redirects", Value::Number(count))]
}

#[test]
fn a_redirect_is_judged_by_its_status_unless_it_is_to_be_followed() {
    for given in [vec![], following(0)] {
        let (sent, outcome) = probe("http", &given, &[&to(301, "/x")]);
        assert_eq!((sent.len(), outcome), (1, unexpected("status 301, expected 200-299")));
        let accepting = [&given[..], &[("status", text("301"))]].concat();
        assert_eq!(probe("http", &accepting, &[&to(301, "/x")]).1, good());
    }
}

#[test]
fn a_redirect_to_the_same_host_is_followed_on_another_connection() {
    for status in [301, 302, 303, 307, 308] {
        for (location, line) in [
            ("/x", "GET /x HTTP/1.1"),
            ("x?y#z", "GET /a/x?y HTTP/1.1"),
            ("http://172.25.3.100:8080/x", "GET /x HTTP/1.1"),
            ("HTTP://172.25.3.100:8080", "GET / HTTP/1.1"),
            ("//172.25.3.100:8080/x", "GET /x HTTP/1.1"),
        ] {
            let given = [&following(1)[..], &[("path", text("/a/b"))]].concat();
            let (sent, outcome) = probe("http", &given, &[&to(status, location), OK]);
            assert_eq!(
                (sent, outcome),
                (vec!["GET /a/b HTTP/1.1".into(), line.into()], good()),
                "{location}"
            );
        }
    }
}

#[test]
fn the_name_in_the_header_field_host_is_the_same_host() {
    let headers = Value::Table(table(&[("host", "www.example.org")]));
    for (kind, option, location) in [
        ("http", ("host", text("www.example.org")), "http://WWW.example.org:80/x"),
        ("https", ("host", text("www.example.org")), "https://www.example.org/x"),
        ("https", ("host", text("www.example.org:444")), "https://www.example.org:444/x"),
        ("http", ("host", text("www.example.org")), "http://172.25.3.100:8080/x"),
        ("http", ("headers", headers), "http://www.example.org/x"),
    ] {
        let (sent, outcome) =
            probe(kind, &[&following(1)[..], &[option]].concat(), &[&to(302, location), OK]);
        assert_eq!(
            (sent.last().map(String::as_str), outcome),
            (Some("GET /x HTTP/1.1"), good()),
            "{location}"
        );
    }
}

#[test]
fn a_redirect_to_another_place_is_not_followed_and_the_outcome_names_it() {
    let given =
        [&following(9)[..], &[("host", text("www.example.org")), ("status", text("200-399"))]].concat();
    for location in [
        "https://www.example.org/",
        "http://example.org/",
        "http://www.example.org:81/",
        "//example.org/",
        "mailto:a@b",
    ] {
        let (sent, outcome) = probe("http", &given, &[&to(301, location)]);
        let text = format!("redirected to {location}, which is not followed");
        assert_eq!((sent.len(), outcome), (1, unexpected(&text)));
    }
    let (_, outcome) = probe("https", &given, &[&to(301, "http://www.example.org/")]);
    assert_eq!(outcome, unexpected("redirected to http://www.example.org/, which is not followed"));
    let long = format!("https://{}/", "a".repeat(500));
    let (_, outcome) = probe("http", &given, &[&to(301, &long)]);
    let text = format!("redirected to {}…, which is not followed", &long[..80]);
    assert_eq!(outcome, unexpected(&text), "a text has a limit");
}

#[test]
fn redirects_are_followed_up_to_their_number() {
    let (a, b, c) = (to(302, "/a"), to(302, "/b"), to(302, "/c"));
    let (sent, outcome) = probe("http", &following(3), &[&a, &b, &c, OK]);
    assert_eq!((sent.len(), outcome), (4, good()));
    let (sent, outcome) = probe("http", &following(2), &[&a, &b, &c]);
    assert_eq!(
        (sent.len(), outcome),
        (3, unexpected("redirected to /b: more redirects in a row than 2, the next to /c"))
    );
    let circle = to(302, "/");
    let (sent, outcome) = probe("http", &following(1), &[&circle, &circle]);
    assert_eq!(
        (sent.len(), outcome),
        (2, unexpected("redirected to /: more redirects in a row than 1, the next to /"))
    );
    assert_eq!(refused("http", &[("redirects", Value::Number(0)), ("path", text("x"))]).0, "path");
}

#[test]
fn the_answer_after_a_redirect_is_judged_as_any_other() {
    let (_, outcome) = probe("http", &following(1), &[&to(302, "/x"), b"HTTP/1.1 404 X\r\n\r\n"]);
    assert_eq!(outcome, unexpected("redirected to /x: status 404, expected 200-299"));
    let check = build("http", &following(1));
    let (_, outcome) = run_cut_anywhere(check.as_ref(), &[&to(302, "/x"), b"HTTP/1.1"], Close);
    let closed = "redirected to /x: connection closed before the end of the header fields";
    assert_eq!(outcome, failure(FailureClass::Closed, closed));
    let (_, outcome) = run_cut_anywhere(check.as_ref(), &[b"HTTP/1.1 302 X\r\nLocation: /x\r\n"], Close);
    assert_eq!(
        outcome,
        failure(FailureClass::Closed, "connection closed before the end of the header fields")
    );
    let given = [&following(1)[..], &[("body", text("ok")), ("weight_header", text("W"))]].concat();
    let answers: [&[u8]; 2] = [
        b"HTTP/1.1 302 X\r\nLocation: /x\r\nW: 3\r\n\r\n",
        b"HTTP/1.1 200 X\r\nW: 5\r\nContent-Length: 2\r\n\r\nok",
    ];
    let (_, outcome) = probe("http", &given, &answers);
    assert_eq!(outcome.map(|success| success.weight), Ok(Some(5)));
}

#[test]
fn a_status_that_leads_nowhere_is_judged_as_any_other() {
    for answer in
        ["301 X\r\n", "304 X\r\nLocation: /x\r\n", "300 X\r\nLocation: /x\r\n", "200 X\r\nLocation: /x\r\n"]
    {
        let given = [&following(1)[..], &[("status", text("200-399"))]].concat();
        let bytes = format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n");
        assert_eq!(
            probe("http", &given, &[bytes.as_bytes()]),
            (vec!["GET / HTTP/1.1".to_owned()], good()),
            "{answer}"
        );
    }
}

#[test]
fn the_method_stays_except_where_a_redirect_leads_to_a_result() {
    for (method, status, line) in [
        ("HEAD", 301, "HEAD /x HTTP/1.1"),
        ("HEAD", 303, "HEAD /x HTTP/1.1"),
        ("POST", 301, "GET /x HTTP/1.1"),
        ("POST", 302, "GET /x HTTP/1.1"),
        ("POST", 303, "GET /x HTTP/1.1"),
        ("POST", 307, "POST /x HTTP/1.1"),
        ("POST", 308, "POST /x HTTP/1.1"),
        ("PUT", 301, "PUT /x HTTP/1.1"),
        ("PUT", 303, "GET /x HTTP/1.1"),
    ] {
        let given = [&following(1)[..], &[("method", text(method))]].concat();
        let done = b"HTTP/1.1 204 X\r\n\r\n";
        let (sent, outcome) = probe("http", &given, &[&to(status, "/x"), done]);
        assert_eq!((sent.last().map(String::as_str), outcome), (Some(line), good()), "{method} {status}");
    }
}

#[test]
fn each_of_several_paths_has_its_own_redirects() {
    let given = [&following(1)[..], &[("paths", texts(&["/a", "/b"]))]].concat();
    let (sent, outcome) = probe("http", &given, &[&to(302, "/c"), OK, &to(302, "/d"), OK]);
    let lines = ["GET /a HTTP/1.1", "GET /c HTTP/1.1", "GET /b HTTP/1.1", "GET /d HTTP/1.1"];
    assert_eq!((sent, outcome), (lines.map(str::to_owned).to_vec(), good()));
    let (_, outcome) =
        probe("http", &given, &[&to(302, "/c"), OK, &to(302, "/d"), b"HTTP/1.1 500 X\r\n\r\n"]);
    assert_eq!(outcome, unexpected("/b: redirected to /d: status 500, expected 200-299"));
}
