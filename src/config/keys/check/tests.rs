//! The key `check` with kinds that have options of every shape.

use std::time::Duration;

use super::*;
use crate::health::Value;
use crate::health::check::{Check, Exchange, Step, Target};
use crate::health::spec::{OptionRow, Shape};
use crate::health::verdict::Success;

#[derive(Debug)]
struct Nothing;

impl Check for Nothing {
    fn begin(&self, _: &Target, _: u64) -> Box<dyn Exchange> {
        Box::new(Nothing)
    }
}

impl Exchange for Nothing {
    fn start(&mut self) -> Step {
        Step::Wait
    }

    fn receive(&mut self, _: &[u8]) -> Step {
        Step::Wait
    }

    fn on_close(&mut self) -> Step {
        Step::Done(Ok(Success::default()))
    }
}

const fn option(name: &'static str, shape: Shape) -> OptionRow {
    OptionRow { name, help: "An option.", shape }
}

/// A kind with an option of every shape; option `path` has to begin with "/".
static PAGE: Row = Row {
    name: "page",
    summary: "",
    transport: |options| if options.contains_key("tls") { Transport::Tls } else { Transport::Tcp },
    port: Some(8080),
    options: &[
        option("path", Shape::Text),
        option("method", Shape::Words(&["GET", "HEAD"])),
        option("status", Shape::Texts),
        option("depth", Shape::Number(0, 9)),
        option("tls", Shape::Flag),
        option("expiry", Shape::Duration),
        option("headers", Shape::Table),
        option("steps", Shape::Tables(&["send", "expect"])),
    ],
    build: |options| match options.get("path") {
        Some(Value::Text(path)) if !path.starts_with('/') => {
            Err(("path", "expected a path from \"/\" on".to_owned()))
        }
        _ => Ok(Arc::new(Nothing)),
    },
};

/// A kind that needs an option, and no port.
static RUN: Row = Row {
    name: "run",
    summary: "",
    transport: |_| Transport::Command,
    port: None,
    options: &[option("command", Shape::Texts)],
    build: |options| match options.contains_key("command") {
        true => Ok(Arc::new(Nothing)),
        false => Err(("command", "is missing".to_owned())),
    },
};

/// A kind with nothing of its own.
static OPEN: Row = Row {
    name: "open",
    summary: "",
    transport: |_| Transport::Tcp,
    port: None,
    options: &[],
    build: |_| Ok(Arc::new(Nothing)),
};

static ROWS: [&Row; 3] = [&PAGE, &RUN, &OPEN];

fn read(value: &str) -> Result<Checked, String> {
    let text = format!("\ncheck = {value}\n");
    let source = Source { name: "f", text: &text };
    let block = Block::parse(&source).map_err(|error| error.to_string())?;
    let value = block.get("check").expect("the key");
    read_all(&ROWS, "check", &block, value).map_err(|error| error.to_string())
}

fn good(value: &str) -> Checked {
    read(value).unwrap_or_else(|error| panic!("{value}: {error}"))
}

#[test]
fn a_check_is_a_word_a_table_or_a_list_and_none_is_no_check() {
    assert!(good("\"none\"").is_empty() && good("[]").is_empty());
    assert_eq!(*good("\"open\""), [CheckConfig::new(&OPEN)]);
    assert_eq!(good("{ type = \"open\" }"), good("\"open\""));
    assert_eq!(good("[\"open\"]"), good("\"open\""));
    let two = good("[\"open\", { type = \"page\", path = \"/a\" }]");
    assert_eq!(two.iter().map(|check| check.row.name).collect::<Vec<_>>(), ["open", "page"]);
}

#[test]
fn every_option_that_all_checks_have_is_read() {
    let value = r#"{ type = "open", via = "direct", address = "10.0.0.9", port = 81, interval = "10ms", fast_interval = "20ms",
        down_interval = "1days", timeout = "1ms", rise = 1, fall = 1000, start = "down", grace = "1h" }"#;
    let read = good(value);
    let expected = CheckConfig {
        row: &OPEN,
        options: Options::new(),
        via: Some(Via::Direct),
        address: Some([10, 0, 0, 9].into()),
        port: Some(81),
        interval: Duration::from_millis(10),
        fast_interval: Some(Duration::from_millis(20)),
        down_interval: Some(Duration::from_secs(86_400)),
        timeout: Duration::from_millis(1),
        rise: 1,
        fall: 1000,
        start: Start::Down,
        grace: Duration::from_secs(3600),
    };
    assert_eq!(*read, [expected]);
}

#[test]
fn options_of_every_shape_are_read() {
    let value = r#"{ type = "page", path = "/", method = "HEAD", status = "200-299", depth = 9, tls = true, expiry = "30days",
        headers = { Host = "a", "x y" = "" }, steps = [{ send = "a\r\n" }, { send = "b", expect = "c" }] }"#;
    let texts = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let expected = Options::from([
        ("path", Value::Text("/".to_owned())),
        ("method", Value::Text("HEAD".to_owned())),
        ("status", Value::Texts(vec!["200-299".to_owned()])),
        ("depth", Value::Number(9)),
        ("tls", Value::Flag(true)),
        ("expiry", Value::Duration(Duration::from_secs(30 * 86_400))),
        ("headers", Value::Table(texts(&[("Host", "a"), ("x y", "")]))),
        ("steps", Value::Tables(vec![texts(&[("send", "a\r\n")]), texts(&[("send", "b"), ("expect", "c")])])),
    ]);
    assert_eq!(good(value)[0].options, expected);
    let listed = good(r#"{ type = "page", status = ["200", "404"] }"#);
    assert_eq!(listed[0].options["status"], Value::Texts(vec!["200".to_owned(), "404".to_owned()]));
}

#[test]
fn what_is_written_reads_back_to_the_same_checks() {
    for value in [
        "\"none\"",
        "\"open\"",
        "[\"open\", \"page\"]",
        r#"{ type = "page", via = "tunnel", interval = "1500ms", rise = 1, start = "down", timeout = "3s", grace = "1ms" }"#,
        r#"{ type = "page", headers = { "" = "", "a\"b" = "c\\d", "é\u0007" = "\n" }, steps = [{}, { send = "\u0000\u001b" }] }"#,
        r#"{ type = "page", path = "/a\"'''b", headers = {}, steps = [], status = [], tls = false, depth = 0, expiry = "1ns" }"#,
        r#"{ type = "run", command = ["/bin/a b", "", "\"\"\""] }"#,
    ] {
        let checks = good(value);
        let written = text_of_all(&checks);
        assert_eq!(read(&written), Ok(checks.clone()), "{value}: {written}");
        let json = serde_json::to_string(&Written::of(&checks)).expect("JSON");
        let back: Written = serde_json::from_str(&json).expect("what was written");
        assert_eq!(back.read(&ROWS, "check"), Ok(checks), "{value}: {json}");
    }
    assert_eq!(
        text_of_all(&good("{ type = \"page\", rise = 2, interval = \"2s\" }")),
        "\"page\"",
        "defaults are omitted"
    );
    assert_eq!(text_of_all(&good("{ type = \"page\", depth = 3 }")), "{ type = \"page\", depth = 3 }");
}

#[test]
fn an_error_names_file_line_and_key_and_what_was_expected() {
    let cases = [
        ("1", "check = 1: expected a check: \"tcp\", a table such as"),
        ("\"opne\"", "check = \"opne\": did you mean \"open\"?"),
        ("\"xyz\"", "check = \"xyz\": expected one of page, run, open"),
        ("[\"none\"]", "check = \"none\": expected one of"),
        ("[\"open\", 3]", "check = 3: expected a check"),
        ("[\"open\", \"open\"]", "check: the same check is listed twice; remove one"),
        ("[\"open\", { type = \"open\", rise = 2 }]", "listed twice"),
        ("{}", "the key `check.type` is missing; add it, such as type = \"tcp\""),
        ("{ type = 1 }", "expected text in quotes, not 1"),
        ("\"ping\"", "check = \"ping\": did you mean \"icmp\"?"),
        ("\"pign\"", "check = \"pign\": did you mean \"icmp\"?"),
        ("\"SSL_GET\"", "check = \"SSL_GET\": did you mean \"https\"?"),
        ("{ type = \"scritp\" }", "check.type = \"scritp\": did you mean \"exec\"?"),
        ("{ type = \"opem\" }", "check.type = \"opem\": did you mean \"open\"?"),
        ("{ type = \"page\", pth = \"/\" }", "unknown key `pth`; did you mean `path`?"),
        ("{ type = \"open\", path = \"/\" }", "unknown key `path`; known here: type, via, address"),
        ("{ type = \"open\", interval = 2 }", "expected text in quotes, not 2; did you mean \"2s\"?"),
        ("{ type = \"open\", interval = \"9ms\" }", "check.interval = \"9ms\": expected 10ms to 1days"),
        ("{ type = \"open\", interval = \"25h\" }", "expected 10ms to 1days"),
        ("{ type = \"open\", timeout = \"0s\" }", "check.timeout = \"0s\": expected 1ms to 1h"),
        ("{ type = \"open\", timeout = \"1\" }", "expected a duration with its unit"),
        ("{ type = \"open\", rise = 0 }", "check.rise = 0: expected 1 to 1000"),
        ("{ type = \"open\", fall = 0 }", "check.fall = 0: expected 1 to 1000"),
        ("{ type = \"open\", fall = 1001 }", "expected 1 to 1000"),
        ("{ type = \"open\", port = 0 }", "check.port = 0: expected 1 to 65535"),
        ("{ type = \"open\", via = \"tunel\" }", "check.via = \"tunel\": did you mean \"tunnel\"?"),
        ("{ type = \"open\", start = \"left\" }", "check.start = \"left\": expected one of up, down"),
        ("{ type = \"open\", address = \"224.0.0.1\" }", "no host can have this address"),
        (
            "{ type = \"open\", via = \"tunnel\", address = \"10.0.0.1\" }",
            "check.via: only packets for the VIP take the tunnel",
        ),
        (
            "{ type = \"run\", command = \"/x\", via = \"tunnel\" }",
            "check.via: a command is run on this host",
        ),
        ("\"run\"", "check = \"run\": command: is missing"),
        ("{ type = \"run\" }", "check.command: is missing"),
        ("{ type = \"page\", path = \"a\" }", "check.path: expected a path from \"/\" on"),
        ("{ type = \"page\", path = 1 }", "expected text in quotes, not 1"),
        ("{ type = \"page\", method = \"GTE\" }", "check.method = \"GTE\": expected one of GET, HEAD"),
        (
            "{ type = \"page\", status = 200 }",
            "check.status = 200: expected text in quotes, or a list of such texts",
        ),
        ("{ type = \"page\", depth = 10 }", "check.depth = 10: expected 0 to 9"),
        ("{ type = \"page\", tls = 1 }", "expected a boolean, not 1"),
        ("{ type = \"page\", headers = \"a\" }", "check.headers = \"a\": expected a table of texts"),
        ("{ type = \"page\", headers = { a = 1 } }", "expected text in quotes, not 1"),
        ("{ type = \"page\", steps = {} }", "expected a list in [ ], not a table"),
        ("{ type = \"page\", steps = [1] }", "expected a table of texts"),
        ("{ type = \"page\", steps = [{ sned = \"\" }] }", "unknown key `sned`; did you mean `send`?"),
    ];
    for (value, expected) in cases {
        let message = read(value).expect_err(value);
        assert!(message.starts_with("f:2: ") && message.contains(expected), "{value}\n{message}");
    }
    let list = |count: usize| {
        let checks: Vec<String> =
            (1..=count).map(|port| format!("{{ type = \"open\", port = {port} }}")).collect();
        read(&format!("[{}]", checks.join(", ")))
    };
    assert_eq!(list(16).expect("so many").len(), 16);
    assert!(list(17).unwrap_err().contains("at most 16 checks"));
}

#[test]
fn an_error_points_at_the_line_of_a_table_of_several_lines() {
    let text = "a = 1\n[check]\ntype = \"open\"\nrise = 0\n";
    let source = Source { name: "f", text };
    let block = Block::parse(&source).expect("TOML");
    let error = read_all(&ROWS, "check", &block, block.get("check").expect("the key")).unwrap_err();
    assert_eq!(error.to_string(), "f:4: check.rise = 0: expected 1 to 1000");
}

#[test]
fn json_is_checked_as_a_file_is_and_anything_but_a_check_is_refused() {
    let read = |json: &str| {
        serde_json::from_str::<Written>(json).map_err(|error| error.to_string())?.read(&ROWS, "check")
    };
    assert_eq!(read(r#""none""#), Ok(Checked::default()));
    assert_eq!(read(r#"[{"type": "open"}]"#), Ok(good("\"open\"")));
    for (json, expected) in [
        ("1", "expected the name of a check"),
        ("null", "expected the name of a check"),
        (r#"{"type": "open", "rise": 0}"#, "check.rise = 0: expected 1 to 1000"),
        (r#"{"type": "open", "rise": null}"#, "check: "),
        (r#""nosuch""#, "check = \"nosuch\": expected one of"),
        (r#"{"type": "open", "interval": 2}"#, "did you mean \"2s\"?"),
    ] {
        let message = read(json).expect_err(json);
        assert!(message.contains(expected), "{json}: {message}");
    }
}

#[test]
fn a_check_needs_a_port_if_its_transport_has_ports() {
    let check = |value: &str| good(value)[0].clone();
    let (open, run, page) =
        (check("\"open\""), check("{ type = \"run\", command = \"/x\" }"), check("\"page\""));
    assert!(has_port(&open, Some(80)) && !has_port(&open, None));
    assert!(has_port(&run, None) && has_port(&page, None));
    assert!(has_port(&check("{ type = \"open\", port = 81 }"), None));
}

#[test]
fn every_word_of_another_program_stands_for_a_kind() {
    for (other, name) in OTHER_WORDS {
        let is_kind = |word: &str| CHECKS.iter().any(|row| row.name == word);
        assert!(is_kind(name) && !is_kind(other), "{other}");
    }
}
