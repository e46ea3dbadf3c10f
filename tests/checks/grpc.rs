//! Check `grpc`.

use lvs_tund::health::check::{ANSWER_MAX, Step};
use lvs_tund::health::{FailureClass, Outcome, Transport, Value};

use super::harness::{
    CHANCE, Close, Silence, build, failure, good, options, outcome, refused, row, run, run_cut_anywhere,
    target, text,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// `:status: 200`, by its index.
const OK: &[u8] = &[0x88];

fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

fn head() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, OK)
}

fn message(protobuf: &[u8]) -> Vec<u8> {
    [&[0][..], &(protobuf.len() as u32).to_be_bytes(), protobuf].concat()
}

fn data(protobuf: &[u8]) -> Vec<u8> {
    frame(DATA, 0, 1, &message(protobuf))
}

fn trailer(code: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &literal("grpc-status", code))
}

fn answered(frames: &[Vec<u8>]) -> Outcome {
    outcome("grpc", &[], &[&[settings()], frames].concat().concat(), Silence)
}

fn unexpected(text: &str) -> Outcome {
    failure(FailureClass::Unexpected, text)
}

fn garbage(text: &str) -> Outcome {
    failure(FailureClass::Garbage, text)
}

fn waiting() -> Outcome {
    failure(FailureClass::Timeout, "no answer in time")
}

#[test]
fn only_a_frame_that_calls_for_an_answer_gets_one() {
    const ACK: u8 = 1;
    let mut call = build("grpc", &[]).begin(&target(), 0);
    assert!(matches!(call.start(), Step::Send(bytes) if !bytes.is_empty()));
    assert_eq!(call.receive(&settings()), Step::Send(frame(SETTINGS, ACK, 0, &[])));
    assert_eq!(call.receive(&frame(SETTINGS, ACK, 0, &[])), Step::Wait);
    assert_eq!(call.receive(&frame(PING, 0, 0, b"12345678")), Step::Send(frame(PING, ACK, 0, b"12345678")));
    assert_eq!(call.receive(&head()), Step::Wait);
}

#[test]
fn the_request_is_one_call_of_the_health_protocol() {
    let request = |given: &[(&str, Value)]| {
        let (sent, _) = run_cut_anywhere(build("grpc", given).as_ref(), &[b""], Silence);
        sent.concat()
    };
    let expected = |scheme: &str, host: &str, protobuf: &[u8]| {
        let fields = [
            literal(":method", "POST"),
            literal(":scheme", scheme),
            literal(":path", "/grpc.health.v1.Health/Check"),
            literal(":authority", host),
            literal("content-type", "application/grpc"),
            literal("te", "trailers"),
            literal("user-agent", "lvs-tund"),
        ];
        let frames = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0]),
            frame(HEADERS, END_HEADERS, 1, &fields.concat()),
            frame(DATA, END_STREAM, 1, &message(protobuf)),
        ];
        frames.concat()
    };
    assert_eq!(request(&[]), expected("http", "172.25.3.100:8080", b""));
    let given = [("service", text("a.B")), ("host", text("a.example")), ("tls", Value::Flag(true))];
    assert_eq!(request(&given), expected("https", "a.example", b"\x0a\x03a.B"));
    for (count, length) in
        [(127, &[0x7f][..]), (128, &[0x80, 0x01]), (300, &[0xac, 0x02]), (1024, &[0x80, 0x08])]
    {
        let long = "s".repeat(count);
        let sent = request(&[("service", text(&long))]);
        let protobuf = [&[0x0a], length, long.as_bytes()].concat();
        assert!(sent.ends_with(&message(&protobuf)), "{count}");
    }
}

#[test]
fn serving_is_a_success_and_nothing_else() {
    for (protobuf, expected) in [
        (&b"\x08\x01"[..], good()),
        (b"\x08\x81\x00", good()),
        (b"\x12\x02hi\x08\x01\x18\x05\x21\0\0\0\0\0\0\0\0\x2d\0\0\0\0", good()),
        (b"\x08\x02\x08\x01", good()),
        (b"", unexpected("the service is UNKNOWN")),
        (b"\x08\x00", unexpected("the service is UNKNOWN")),
        (b"\x08\x02", unexpected("the service is NOT_SERVING")),
        (b"\x08\x03", unexpected("the service is SERVICE_UNKNOWN")),
        (b"\x08\x07", unexpected("the service has status 7")),
        (b"\x08\xac\x02", unexpected("the service has status 300")),
        (b"\x12\x01\x0b\x08\x01", good()),
        (b"\x21\0\0\0\0\0\0\0\0\x08\x01", good()),
        (b"\x10\x01", unexpected("the service is UNKNOWN")),
        (b"\x08", garbage("the message of the answer cannot be read")),
        (b"\x08\xff", garbage("the message of the answer cannot be read")),
        (
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            garbage("the message of the answer cannot be read"),
        ),
        (b"\x12\x05a", garbage("the message of the answer cannot be read")),
        (b"\x0b", garbage("the message of the answer cannot be read")),
        (b"\x21\0", garbage("the message of the answer cannot be read")),
        (b"\x2d\0", garbage("the message of the answer cannot be read")),
    ] {
        assert_eq!(answered(&[head(), data(protobuf), trailer("0")]), expected, "{protobuf:02x?}");
    }
}

#[test]
fn a_message_is_whole_and_not_compressed() {
    let broken = garbage("the message of the answer cannot be read");
    for bytes in [
        &b"\x01\0\0\0\x02\x08\x01"[..],
        b"\0\0\0\0\x03\x08\x01",
        b"\0\0\0\0\x02\x08\x01\0",
        b"\0\0\0\x01\x02\x08\x01",
        b"\0\x01\0\0\x02\x08\x01",
        b"\0\0\0\0",
        b"",
    ] {
        assert_eq!(answered(&[head(), frame(DATA, 0, 1, bytes), trailer("0")]), broken, "{bytes:?}");
    }
    let (first, second) = (frame(DATA, 0, 1, b"\0\0\0"), frame(DATA, 0, 1, b"\0\x02\x08\x01"));
    assert_eq!(answered(&[head(), first, second, trailer("0")]), good(), "in two frames");
    let long = [&[0x12, 0xac, 0x02][..], &[b'a'; 300], b"\x08\x01"].concat();
    assert_eq!(answered(&[head(), data(&long), trailer("0")]), good(), "a length of two bytes");
}

#[test]
fn a_status_of_grpc_or_http_is_shown() {
    let only = |section: &[u8]| answered(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, section)]);
    let with = |code: &str, message: &str| {
        only(&[OK, &literal("grpc-status", code), &literal("grpc-message", message)].concat())
    };
    let serving = data(b"\x08\x01");
    for (outcome, expected) in [
        (
            with("5", "unknown service"),
            unexpected("gRPC status 5, the server has no such service, \"unknown service\""),
        ),
        (with("12", ""), unexpected("gRPC status 12, the server has no health protocol")),
        (with("14", ""), unexpected("gRPC status 14, unavailable")),
        (with("16", ""), unexpected("gRPC status 16, not authenticated")),
        (with("13", "a\nb"), unexpected("gRPC status 13, \"a\"")),
        (with("\u{8}", ""), unexpected("gRPC status \\x08")),
        (only(&[0x8d]), unexpected("HTTP status \"404\"")),
        (only(&literal(":status", "503")), unexpected("HTTP status \"503\"")),
        (only(OK), garbage("the answer has no gRPC status")),
        (only(&[]), garbage("the answer has no status")),
        (answered(&[head(), serving.clone(), trailer("2")]), unexpected("gRPC status 2")),
        (
            answered(&[head(), frame(DATA, END_STREAM, 1, &message(b"\x08\x01"))]),
            garbage("the answer has no gRPC status"),
        ),
        (answered(&[head(), serving]), waiting()),
    ] {
        assert_eq!(outcome, expected);
    }
}

#[test]
fn header_fields_may_be_coded_in_every_way() {
    let end = END_HEADERS | END_STREAM;
    let serving = || data(b"\x08\x01");
    // `:status: 200` with Huffman code, then as an entry of the dynamic table.
    // The first bit of a stream's number is reserved.
    let mut reserved = head();
    reserved[5] = 0x80;
    let huffman = [0x48, 0x82, 0x10, 0x01];
    let status = literal("grpc-status", "0");
    let interim = frame(HEADERS, END_HEADERS, 1, &literal(":status", "103"));
    for frames in [
        vec![frame(HEADERS, END_HEADERS, 1, &huffman), serving(), trailer("0")],
        vec![interim, head(), serving(), trailer("0")],
        vec![reserved, serving(), trailer("0")],
        // The name of an indexed field, and a value that never enters the table.
        vec![frame(HEADERS, END_HEADERS, 1, b"\x18\x03200"), serving(), trailer("0")],
        // A flag that DATA does not have.
        vec![head(), frame(DATA, PRIORITY, 1, &message(b"\x08\x01")), trailer("0")],
        vec![
            frame(HEADERS, 0, 1, &OK[..0]),
            frame(CONTINUATION, 0, 1, OK),
            frame(CONTINUATION, END_HEADERS, 1, &literal("server", "x")),
            serving(),
            frame(HEADERS, END_STREAM, 1, &status[..5]),
            frame(CONTINUATION, END_HEADERS, 1, &status[5..]),
        ],
        vec![
            frame(
                HEADERS,
                END_HEADERS | PADDED | PRIORITY,
                1,
                &[&[2, 0, 0, 0, 0, 16][..], OK, &[0, 0]].concat(),
            ),
            frame(DATA, PADDED, 1, &[&[3][..], &message(b"\x08\x01"), &[0; 3]].concat()),
            frame(HEADERS, end, 1, &status),
        ],
    ] {
        assert_eq!(answered(&frames), good(), "{frames:02x?}");
    }
}

#[test]
fn other_frames_of_a_connection_are_tolerated() {
    let others = [
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
        frame(WINDOW_UPDATE, 0, 1, &[0, 0, 1, 0]),
        frame(SETTINGS, 1, 0, &[]),
        frame(PING, 1, 0, &[0; 8]),
        frame(77, 255, 1, b"unknown"),
        frame(DATA, END_STREAM, 3, b"another stream"),
        frame(HEADERS, 0, 3, b"another stream"),
        frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]),
        frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
    ];
    let rest = [head(), data(b"\x08\x01"), trailer("0")];
    for other in &others {
        for at in 0..rest.len() {
            let mut frames = rest.to_vec();
            frames.insert(at, other.clone());
            assert_eq!(answered(&frames), good(), "{other:02x?} before frame {at}");
        }
    }
}

#[test]
fn settings_and_pings_are_acknowledged() {
    let bytes =
        [frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]), frame(PING, 0, 0, b"12345678"), head()].concat();
    let check = build("grpc", &[]);
    let (request, _) = run(check.as_ref(), &target(), &[b""], &[1], Silence);
    let expected = [request.concat(), frame(SETTINGS, 1, 0, &[]), frame(PING, 1, 0, b"12345678")].concat();
    for sizes in [1, usize::MAX] {
        let (sent, outcome) = run(check.as_ref(), &target(), &[&bytes], &[sizes], Silence);
        assert_eq!((sent.concat(), outcome), (expected.clone(), waiting()));
    }
    let mut exchange = check.begin(&target(), CHANCE);
    exchange.start();
    assert_eq!(exchange.receive(&settings()), Step::Send(frame(SETTINGS, 1, 0, &[])));
    for acknowledgement in [frame(SETTINGS, 1, 0, &[]), frame(PING, 1, 0, b"12345678")] {
        assert_eq!(exchange.receive(&acknowledgement), Step::Wait, "{acknowledgement:02x?}");
    }
}

#[test]
fn a_connection_or_a_stream_that_ends_early_fails() {
    let ended = |what: &str, code: u8| {
        failure(FailureClass::Closed, &format!("the server ended {what} with error {code} of HTTP/2"))
    };
    let goaway = frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]);
    assert_eq!(answered(&[goaway]), ended("the connection", 11));
    let reserved = frame(GOAWAY, 0, 0, &[0x80, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(answered(&[reserved]), ended("the connection", 2), "the first bit is reserved");
    let large = frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 1, 0, 0, 0]);
    let text = "the server ended the connection with error 16777216 of HTTP/2";
    assert_eq!(answered(&[large]), failure(FailureClass::Closed, text));
    assert_eq!(answered(&[frame(RST_STREAM, 0, 1, &[0, 0, 0, 7])]), ended("the stream", 7));
    let closed = failure(FailureClass::Closed, "connection closed before the end of the answer");
    let bytes = [settings(), head(), data(b"\x08\x01")].concat();
    assert_eq!(outcome("grpc", &[], &bytes, Close), closed);
    assert_eq!(outcome("grpc", &[], b"", Close), closed);
}

#[test]
fn what_is_not_http2_is_garbage() {
    let unreadable = garbage("a frame of HTTP/2 cannot be read");
    let interrupted = garbage("a header section is interrupted");
    let undecodable = garbage("header fields cannot be decoded");
    let open = frame(HEADERS, 0, 1, OK);
    for (frames, expected) in [
        (vec![frame(PING, 0, 0, &[0; 7])], unreadable.clone()),
        (vec![frame(GOAWAY, 0, 0, &[0; 7])], unreadable.clone()),
        (vec![frame(GOAWAY, 0, 0, &[0; 3])], unreadable.clone()),
        (vec![frame(RST_STREAM, 0, 1, &[0; 3])], unreadable.clone()),
        (vec![frame(DATA, PADDED, 1, &[])], unreadable.clone()),
        (vec![frame(DATA, PADDED, 1, &[3, 0, 0])], unreadable.clone()),
        (vec![frame(HEADERS, PRIORITY | END_HEADERS, 1, &[0; 4])], unreadable.clone()),
        (vec![frame(CONTINUATION, END_HEADERS, 1, OK)], unreadable),
        (vec![open.clone(), head()], interrupted.clone()),
        (vec![open.clone(), frame(PING, 0, 0, &[0; 8])], interrupted.clone()),
        (vec![open, frame(CONTINUATION, END_HEADERS, 3, OK)], interrupted),
        (vec![frame(HEADERS, END_HEADERS, 1, &[0x80])], undecodable),
        (vec![frame(5, 0, 1, &[0; 8])], garbage("a push although it is disabled")),
        (vec![vec![0, 0x40, 1, 0, 0]], garbage("a frame of HTTP/2 is too large")),
        (vec![vec![1, 0, 0, 0, 0]], garbage("a frame of HTTP/2 is too large")),
    ] {
        assert_eq!(answered(&frames), expected, "{frames:02x?}");
    }
    assert_eq!(answered(&[vec![0, 0x40, 0, 0, 0]]), waiting(), "the largest frame");
    let not = garbage("the answer does not begin with SETTINGS of HTTP/2");
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        head(),
        frame(SETTINGS, 1, 0, &[]),
    ] {
        assert_eq!(outcome("grpc", &[], &bytes, Silence), not, "{bytes:?}");
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let chatter = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    let mut bytes = settings();
    while bytes.len() < ANSWER_MAX {
        bytes.extend(&chatter);
    }
    let check = build("grpc", &[]);
    for size in [usize::MAX, 1460, 13] {
        let (_, outcome) = run(check.as_ref(), &target(), &[&bytes], &[size], Silence);
        assert_eq!(outcome, garbage("the answer does not end"));
        let (_, outcome) = run(check.as_ref(), &target(), &[&bytes[..ANSWER_MAX - 1]], &[size], Silence);
        assert_eq!(outcome, waiting(), "a byte less");
    }
}

#[test]
fn options_of_grpc_are_checked() {
    build("grpc", &[("service", text(&"s".repeat(1024)))]);
    let refusal = refused("grpc", &[("service", text(&"s".repeat(1025)))]);
    assert_eq!(refusal, ("service", "the name is longer than 1024 bytes".to_owned()));
    let host = |count: usize| [("host", text(&"h".repeat(count)))];
    for count in [1, 1024] {
        build("grpc", &host(count));
    }
    assert_eq!(refused("grpc", &host(1025)).0, "host");
    for host in ["", "a b", "ä"] {
        assert_eq!(
            refused("grpc", &[("host", text(host))]),
            ("host", format!("{host:?} is no name of a host"))
        );
    }
    let with = [("tls", Value::Flag(true)), ("host", text("a.example:50051"))];
    let tls = build("grpc", &with).tls().expect("TLS");
    assert_eq!((tls.server_name.as_deref(), &tls.protocols[..]), (Some("a.example"), &["h2".to_owned()][..]));
    assert_eq!((row("grpc").transport)(&options("grpc", &with)), Transport::Tls);
    assert_eq!((row("grpc").transport)(&Default::default()), Transport::Tcp);
    assert_eq!(row("grpc").port, None);
}
