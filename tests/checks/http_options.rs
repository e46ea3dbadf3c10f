//! Checks `http` and `https`: requests and options.

use lvs_tund::health::{FailureClass, Transport, Value};

use super::harness::{Close, build, failure, outcome, refused, row, run, sent, table, target, text, texts};

fn request(kind: &str, given: &[(&str, Value)]) -> String {
    sent(kind, given, b"")
}

#[test]
fn a_request_closes_its_connection_and_names_the_host() {
    let expected = "GET / HTTP/1.1\r\nHost: 172.25.3.100:8080\r\nUser-Agent: lvs-tund\r\nAccept: */*\r\nConnection: close\r\n\r\n";
    assert_eq!(request("http", &[]), expected);
    assert_eq!(request("https", &[]), expected);
    let given = [
        ("path", text("/health?a=b")),
        ("method", text("OPTIONS")),
        ("host", text("www.example.org:81")),
        ("version", text("1.0")),
        ("headers", Value::Table(table(&[("x-check", "1"), ("user-agent", "KeepAliveClient")]))),
    ];
    let expected = "OPTIONS /health?a=b HTTP/1.0\r\nHost: www.example.org:81\r\nAccept: */*\r\nuser-agent: KeepAliveClient\r\nx-check: 1\r\n\r\n";
    assert_eq!(request("http", &given), expected);
    let headers = Value::Table(table(&[("Host", "a"), ("Connection", "b"), ("Accept", "c")]));
    let expected = "GET / HTTP/1.1\r\nUser-Agent: lvs-tund\r\nAccept: c\r\nConnection: b\r\nHost: a\r\n\r\n";
    assert_eq!(request("http", &[("headers", headers)]), expected);
}

#[test]
fn a_request_with_a_method_for_content_states_that_it_has_none() {
    for (method, has_length) in
        [("POST", true), ("PUT", true), ("PATCH", true), ("GET", false), ("DELETE", false)]
    {
        let request = request("http", &[("method", text(method))]);
        assert!(request.starts_with(&format!("{method} / HTTP/1.1\r\n")), "{request}");
        assert_eq!(request.contains("\r\nContent-Length: 0\r\n"), has_length, "{method}");
    }
}

#[test]
fn the_port_of_the_scheme_is_not_part_of_the_host() {
    for (kind, port, host) in [
        ("http", 80, "172.25.3.100"),
        ("http", 443, "172.25.3.100:443"),
        ("https", 443, "172.25.3.100"),
        ("https", 80, "172.25.3.100:80"),
    ] {
        let target = lvs_tund::health::check::Target { port, ..target() };
        let (sent, _) = run(build(kind, &[]).as_ref(), &target, &[b""], &[1], Close);
        assert!(
            String::from_utf8_lossy(&sent[0]).contains(&format!("\r\nHost: {host}\r\n")),
            "{kind} {port}"
        );
    }
    let address = "2001:db8::1".parse().expect("an address");
    let target = lvs_tund::health::check::Target { address, ..target() };
    let (sent, _) = run(build("http", &[]).as_ref(), &target, &[b""], &[1], Close);
    assert!(String::from_utf8_lossy(&sent[0]).contains("\r\nHost: [2001:db8::1]:8080\r\n"));
}

#[test]
fn an_asterisk_is_a_path_of_options_alone() {
    let given = [("method", text("OPTIONS")), ("path", text("*"))];
    assert!(request("http", &given).starts_with("OPTIONS * HTTP/1.1\r\n"));
    assert_eq!(refused("http", &[("path", text("*"))]).0, "path");
}

#[test]
fn options_that_make_no_request_are_refused_with_a_reason() {
    let header = |name: &str, value: &str| Value::Table(table(&[(name, value)]));
    let table: &[(&str, Value, &str)] = &[
        ("path", text("health"), "\"health\" is no path: it begins with / and contains no spaces"),
        ("path", text("/a b"), "\"/a b\" is no path: it begins with / and contains no spaces"),
        ("path", text("/a\r\nX: y"), "\"/a\\r\\nX: y\" is no path: it begins with / and contains no spaces"),
        ("path", text(""), "\"\" is no path: it begins with / and contains no spaces"),
        ("paths", texts(&["/a", "b"]), "\"b\" is no path: it begins with / and contains no spaces"),
        ("method", text("GET /"), "\"GET /\" is no method of a check"),
        ("method", text(""), "\"\" is no method of a check"),
        ("method", text("CONNECT"), "\"CONNECT\" is no method of a check"),
        ("host", text("a b"), "\"a b\" is no name of a host"),
        ("host", text(""), "\"\" is no name of a host"),
        ("headers", header("a b", "c"), "\"a b\" = \"c\" is no header field"),
        ("headers", header("a", "c\nd: e"), "\"a\" = \"c\\nd: e\" is no header field"),
        ("status", text("2xx"), "\"2xx\" is no status code and no range such as 200-299"),
        ("body", text("\\q"), "\\q has no meaning; \\\\ stands for a backslash"),
        ("body_regex", text("("), "\"(\" is no regular expression: unclosed group"),
        ("body_not", text("a{"), "\"a{\" is no regular expression: unclosed counted repetition"),
        ("body_md5", text("12"), "\"12\" is no MD5: expected 32 hexadecimal digits"),
        (
            "body_md5",
            text("+00150983cd24fb0d6963f7d28e17f72"),
            "\"+00150983cd24fb0d6963f7d28e17f72\" is no MD5: expected 32 hexadecimal digits",
        ),
        ("weight_header", text("a b"), "\"a b\" is no name of a header field"),
    ];
    for (option, value, reason) in table {
        let expected = (*option, (*reason).to_owned());
        assert_eq!(refused("http", &[(option, value.clone())]), expected);
        assert_eq!(refused("https", &[(option, value.clone())]), expected);
    }
    for name in ["body", "body_regex", "body_md5"] {
        let md5 = text("900150983cd24fb0d6963f7d28e17f72");
        let given = [("method", text("HEAD")), (name, md5.clone())];
        assert_eq!(refused("http", &given), (name, "the answer to HEAD has no body".to_owned()));
        build("http", &[("method", text("GET")), (name, md5)]);
    }
    build("http", &[("method", text("HEAD")), ("body_not", text("a"))]);
    let both = [("path", text("/a")), ("paths", texts(&["/b"]))];
    assert_eq!(refused("http", &both), ("paths", "path is given too; put it into this list".to_owned()));
}

#[test]
fn https_verifies_the_certificate_for_the_name_of_the_host() {
    for (given, expected) in [
        (vec![], None),
        (vec![("host", text("www.example.org"))], Some("www.example.org")),
        (vec![("host", text("www.example.org:8443"))], Some("www.example.org")),
        (vec![("host", text("[2001:db8::1]:8443"))], None),
        (vec![("host", text(":8443"))], None),
        (vec![("host", text("a")), ("server_name", text("b"))], Some("b")),
    ] {
        let tls = build("https", &given).tls().expect("TLS");
        assert_eq!(tls.server_name.as_deref(), expected, "{given:?}");
        assert!(tls.verify);
        assert_eq!(tls.protocols, ["http/1.1"]);
    }
    assert_eq!(build("http", &[]).tls(), None);
    assert_eq!((row("http").transport)(&Default::default()), Transport::Tcp);
    assert_eq!((row("https").transport)(&Default::default()), Transport::Tls);
    assert_eq!((row("http").port, row("https").port), (Some(80), Some(443)));
}

#[test]
fn https_reads_answers_as_http_does() {
    let answer = b"HTTP/1.1 503 X\r\n\r\n";
    let expected = failure(FailureClass::Unexpected, "status 503, expected 200-299");
    assert_eq!(outcome("https", &[], answer, Close), expected);
}
