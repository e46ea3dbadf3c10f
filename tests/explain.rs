//! `lvs-tund explain`, driven: single packets, captures in and out, text for people and JSON for programs.

use std::path::PathBuf;
use std::process::Command;

use lvs_tund::datapath::pcap::{Reader, Writer};
use lvs_tund::time::Moment;
use serde_json::Value;

mod support;

use support::packets::*;

/// The text names the fate of a held packet late; it marks a cut packet, and one that is too big.
#[test]
fn the_text_explains_held_fragmented_and_too_big_packets() {
    let text = DIRECTOR_FILE.replace("\"tcp\"", "\"udp\"").replace("port = 80", "port = 53");
    let bench = Bench::new();
    std::fs::write(bench.path("director.toml"), text).unwrap();
    let first = hex(&as_fragment(&udp(53, &[0; 1000]), 0x2000));
    let later = hex(&as_fragment(&udp(53, &[1; 992]), 0x007e));
    let (_, text, _) = bench.explain("director", &["--packet", &later, &first]);
    assert!(text.contains("fragment: held until its first fragment arrives"), "{text}");
    assert!(text.contains("held packet 0: transmit"), "{text}");
    let (_, text, _) = bench.explain("director", &["--packet", &later]);
    assert!(text.ends_with("held packet 0: drop (fragment_unknown)\n"), "{text}");
    let (_, text, _) = bench.explain("director", &["--packet", &hex(&as_fragment(&udp(53, &[0; 3000]), 0))]);
    assert!(text.contains("fragmented into 3 pieces") && text.contains("path MTU 1500"), "{text}");
    let (_, text, _) =
        bench.explain("director", &["--packet", &hex(&as_fragment(&udp(53, &[0; 3000]), 0x4000))]);
    assert!(text.contains("reply: packets of up to 1480 bytes fit the path"), "{text}");
}

/// A reply and a packet that another one overtakes: the bytes of neither show which packet was held.
#[test]
fn the_late_fate_is_shown_with_the_packet_that_was_held() {
    let bench = Bench::new();
    let later = |protocol| hex(&as_fragment(&ip(CLIENT, VIP, protocol, &[7; 8]), 0x0010));
    let first = hex(&as_fragment(&icmp(8, 0, [0; 4], &[7; 64]), 0x2000));
    let (other, echo) = (later(6), later(1));
    let (_, text, _) = bench.explain("director", &["--packet", &other, &echo, &echo, &first]);
    let late: Vec<&str> = text.lines().filter(|line| line.contains("held packet")).map(str::trim).collect();
    let expected = [
        "held packet 1: reply, echo_reply",
        "held packet 2: reply, echo_reply",
        "held packet 0: drop (fragment_unknown)",
    ];
    assert_eq!(late, expected, "{text}");
}

#[test]
fn the_text_shows_what_named_the_real_server() {
    let bench = Bench::new();
    let journey = |before: &str, packets: &[Vec<u8>]| -> Vec<String> {
        std::fs::write(bench.path("director.toml"), before).unwrap();
        let packets: Vec<String> = packets.iter().map(|packet| hex(packet)).collect();
        let arguments: Vec<&str> =
            ["--packet"].into_iter().chain(packets.iter().map(String::as_str)).collect();
        let (_, text, _) = bench.explain("director", &arguments);
        text.lines()
            .filter(|line| line.contains(", real server") || line.contains(": real server"))
            .map(|line| line.trim().to_owned())
            .collect()
    };
    let from = |port, flags| tcp_between(CLIENT, port, VIP, 80, flags, b"");
    let persistent = DIRECTOR_FILE.replace("scheduler = \"rr\"", "scheduler = \"rr\"\npersistence = {}");
    assert_eq!(
        journey(&persistent, &[from(1, SYN), from(2, SYN), from(2, ACK)]),
        [
            "connection: new; scheduler rr, each real server in turn: real server server2",
            "connection: new; the client's template: real server server2",
            "connection: known, real server server2",
        ]
    );
    let limited = format!("new_connections_per_second_max = 1\n{DIRECTOR_FILE}");
    let last = &journey(&limited, &[from(1, SYN), from(2, SYN), from(3, SYN), from(3, ACK)])[2..];
    assert_eq!(
        last,
        [
            "connection: no entry, too many new connections; scheduler rr, each real server in turn: real server server2",
            "connection: new; the record of a flow without an entry: real server server2",
        ]
    );
    let whole = tcp(SYN, &[7; 64]);
    let first = as_fragment(&ip(CLIENT, VIP, 6, &whole[20..]), 0x2000);
    let later = as_fragment(&ip(CLIENT, VIP, 6, &[7; 8]), 0x0010);
    assert_eq!(
        journey(DIRECTOR_FILE, &[first, later]),
        [
            "connection: new; scheduler rr, each real server in turn: real server server2",
            "fragment: follows the first one, real server server2",
        ]
    );
}

#[test]
fn what_the_host_keeps_is_shown_if_its_addresses_are_named() {
    let bench = Bench::new();
    let (ssh, web) = (tcp_between(CLIENT, 1, VIP, 22, SYN, b""), tcp_between(CLIENT, 1, VIP, 80, SYN, b""));
    let later = as_fragment(&ip(CLIENT, VIP, 17, &[7; 8]), 0x0010);
    let first =
        changed(&as_fragment(&udp(123, &[7; 64]), 0x2000), |bytes| bytes[4..6].copy_from_slice(&later[4..6]));
    let packets = [hex(&ssh), hex(&web), hex(&later), hex(&first)];
    let packets: Vec<&str> = ["--packet"].into_iter().chain(packets.iter().map(String::as_str)).collect();
    let of = |addresses: &[&'static str]| -> Vec<&str> {
        let named = addresses.iter().flat_map(|address| ["--host-address", *address]);
        named.chain(packets.iter().copied()).collect()
    };
    let both = of(&["172.25.3.100", "172.25.3.2"]);
    let lines = bench.json("director", &both);
    let verdicts: Vec<&str> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["pass", "transmit", "hold", "pass"]);
    assert_eq!((&lines[0]["reason"], &lines[0]["virtual_service"]), (&Value::Null, &Value::Null));
    assert_eq!(lines[0]["packets"], serde_json::json!([hex(&ssh)]), "unchanged");
    assert_eq!(lines[1]["real_server"], "server2");
    assert_eq!(lines[1]["packets"], serde_json::json!([hex(&web)]), "to this host");
    assert_eq!(lines[3]["packets"], serde_json::json!([hex(&first), hex(&later)]));
    let (_, text, _) = bench.explain("director", &both);
    for step in [
        "cluster: a VIP that is an address of the host, but no virtual service for this packet",
        "pass: to the host's own stack, unchanged",
        "the real server is this host: to its own stack, unchanged",
        "held packet 2: pass",
    ] {
        assert!(text.contains(step), "{step}: {text}");
    }
    let lines = bench.json("director", &of(&["172.25.3.2"]));
    assert_eq!((&lines[0]["verdict"], &lines[0]["reason"]), (&"reply".into(), &"no_service".into()));
    let file = DIRECTOR_FILE.replace("\"172.25.3.2\"", "\"127.0.0.1\"");
    std::fs::write(bench.path("director.toml"), file).unwrap();
    let lines = bench.json("director", &of(&["172.25.3.100"]));
    assert_eq!(lines[1]["packets"], serde_json::json!([hex(&web)]), "a loopback address is this host's");
}

#[test]
fn an_outer_packet_that_is_fragmented_because_of_ignore_df_is_shown() {
    let bench = Bench::new();
    std::fs::write(bench.path("director.toml"), format!("ignore_df = true\n{DIRECTOR_FILE}")).unwrap();
    let syn = hex(&tcp(SYN, b""));
    let big = hex(&as_fragment(&tcp(ACK, &[7; 1441]), 0x4000));
    let (_, text, _) = bench.explain("director", &["--packet", &syn, &big]);
    assert!(text.contains("encapsulation: the outer packet is fragmented into 2 pieces"), "{text}");
    assert!(!text.contains("encapsulation: fragmented into"), "{text}");
}

#[test]
fn a_capture_that_cannot_be_written_is_reported() {
    let bench = Bench::new();
    let packet = hex(&tcp(SYN, b""));
    let (code, _, said) = bench.explain("director", &["--write", "/dev/full", "--packet", &packet]);
    assert_eq!((code, said.contains("/dev/full: cannot be written")), (1, true), "{said}");
}

/// An error of a router on the path, about what the director had sent, is judged as a running director would.
#[test]
fn an_error_about_an_outer_packet_is_turned_into_one_about_the_clients() {
    let bench = Bench::new();
    let segment = as_fragment(&tcp(ACK, &[7; 1436]), 0x4000);
    let mut outer = ip(DIRECTOR, SERVER2, 4, &segment);
    outer.truncate(548);
    let mut message = vec![3, 4, 0, 0, 0, 0, 5, 0x78];
    message.extend(&outer);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let error = ip(std::net::Ipv4Addr::new(10, 0, 0, 254), DIRECTOR, 1, &message);
    let mut broken = error.clone();
    broken[22] ^= 1;
    let packets = [hex(&tcp(SYN, b"")), hex(&error), hex(&segment), hex(&broken)];
    let mut arguments = vec!["--format", "json", "--packet"];
    arguments.extend(packets.iter().map(String::as_str));
    let (code, out, _) = bench.explain("director", &arguments);
    assert_eq!(code, 0);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |line: &Value| {
        let packet = line["packets"][0].as_str().expect("an answer").to_owned();
        // Type 3, code 4, next-hop MTU 1380.
        (packet[40..44].to_owned(), packet[52..56].to_owned())
    };
    assert_eq!((&lines[1]["verdict"], &lines[1]["reason"]), (&"reply".into(), &Value::Null));
    assert_eq!(told(&lines[1]), ("0304".into(), "0564".into()));
    assert_eq!((&lines[2]["verdict"], &lines[2]["reason"]), (&"reply".into(), &"too_big".into()));
    assert_eq!(told(&lines[2]), ("0304".into(), "0564".into()));
    assert_eq!((&lines[3]["verdict"], &lines[3]["reason"]), (&"drop".into(), &"malformed".into()));
    let (_, text, _) = bench.explain("director", &["--packet", &packets[0], &packets[1]]);
    assert!(text.contains("path MTU to 172.25.3.2 lowered to 1400 bytes"), "{text}");
}

const DIRECTOR_FILE: &str = r#"
outer_source = "172.25.3.1"

[[virtual_service]]
name = "web"
protocol = "tcp"
vip = "172.25.3.100"
port = 80
scheduler = "rr"

[[virtual_service.real_server]]
name = "server2"
rip = "172.25.3.2"

[[virtual_service.real_server]]
name = "server3"
rip = "172.25.3.3"
"#;

const REALSERVER_FILE: &str =
    "vips = [\"172.25.3.100\"]\ndirectors = [\"172.25.3.1\"]\nservices = [\"tcp/80\"]\n";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("director.toml"), DIRECTOR_FILE).unwrap();
        std::fs::write(directory.path().join("realserver.toml"), REALSERVER_FILE).unwrap();
        Bench { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Exit code, standard output, standard error.
    fn explain(&self, role: &str, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_lvs-tund"))
            .args(["explain", role, "--config"])
            .arg(self.path(&format!("{role}.toml")))
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn json(&self, role: &str, arguments: &[&str]) -> Vec<Value> {
        let (code, output, errors) = self.explain(role, &[arguments, &["--format", "json"]].concat());
        assert_eq!((code, errors.as_str()), (0, ""));
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn state_carries_over_from_packet_to_packet() {
    let bench = Bench::new();
    let from = |port, flags| hex(&tcp_between(CLIENT, port, VIP, 80, flags, b""));
    let packets = [from(1, SYN), from(2, SYN), from(1, ACK), from(3, SYN), from(9, ACK)];
    let arguments: Vec<&str> = ["--packet"].into_iter().chain(packets.iter().map(String::as_str)).collect();
    let lines = bench.json("director", &arguments);
    let servers: Vec<_> = lines.iter().map(|line| line["real_server"].as_str()).collect();
    assert_eq!(servers, [Some("server2"), Some("server3"), Some("server2"), Some("server2"), None]);
    assert_eq!(lines[4]["verdict"], "reply");
    assert_eq!(lines[4]["reason"], "no_connection");
    assert_eq!((&lines[3]["index"], &lines[3]["virtual_service"]), (&Value::from(3), &Value::from("web")));
    let outer = lines[0]["packets"][0].as_str().unwrap();
    assert!(outer.ends_with(&packets[0]), "the inner packet is untouched");
    assert_eq!(&outer[..24], "45000040000040004004dc84", "{outer}");
    assert_eq!(&outer[24..40], "ac190301ac190302");
}

#[test]
fn every_line_has_the_same_keys() {
    let bench = Bench::new();
    let later = as_fragment(&tcp(ACK, &[7; 100]), 0x0010);
    let packets = [tcp(SYN, b""), icmp(8, 0, [0; 4], b"ping"), later, vec![0x45]].map(|packet| hex(&packet));
    let [syn, echo, later, cut] = packets.each_ref().map(String::as_str);
    let arguments = ["--packet", syn, echo, later, cut, ""];
    let wrapped = hex(&wrapped(&tcp(SYN, b""), 4));
    let cases = [
        ("director", &arguments[..], &["transmit", "reply", "hold", "drop", "drop"][..]),
        ("realserver", &["--packet", &wrapped, syn], &["deliver", "drop"]),
    ];
    for (role, arguments, verdicts) in cases {
        let lines = bench.json(role, arguments);
        for line in &lines {
            let keys: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
            assert_eq!(
                keys,
                ["index", "packets", "real_server", "reason", "verdict", "virtual_service"],
                "{line}"
            );
            let has_packets = !["drop", "hold"].contains(&line["verdict"].as_str().unwrap());
            assert_eq!(line["packets"] != Value::Array(Vec::new()), has_packets, "{line}");
        }
        let found: Vec<_> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
        assert_eq!(found, verdicts, "{role}");
    }
    let cut = bench.json("director", &["--packet", "", "45", "60"]);
    assert!(cut.len() == 3 && cut.iter().all(|line| line["reason"] == "truncated"), "{cut:?}");
}

#[test]
fn a_real_servers_deliveries_are_shown_as_the_host_gets_them() {
    let bench = Bench::new();
    let good = tcp(SYN, b"");
    let ssh = tcp_between(CLIENT, 1, VIP, 22, SYN, b"");
    let packets =
        [wrapped(&good, 4), wrapped(&ssh, 4), ip(CLIENT, SERVER2, 4, &good)].map(|packet| hex(&packet));
    let lines = bench.json("realserver", &["--packet", &packets[0], &packets[1], "--packet", &packets[2]]);
    assert_eq!(lines[0]["verdict"], "deliver");
    assert_eq!(lines[0]["packets"], Value::from(vec![hex(&good)]));
    let reasons: Vec<_> = lines.iter().map(|line| line["reason"].as_str()).collect();
    assert_eq!(reasons, [None, Some("inner_not_served"), Some("unknown_peer")]);
}

#[test]
fn captures_go_in_and_out_with_their_times() {
    let bench = Bench::new();
    let file = std::fs::File::create(bench.path("in.pcap")).unwrap();
    let mut writer = Writer::new(file).unwrap();
    // The second packet comes a second too late for its connection.
    for (secs, packet) in [(1000, tcp(SYN, b"")), (1060, tcp(ACK, b"")), (1061, tcp(SYN, b""))] {
        writer.moment = Moment::from_secs(secs);
        writer.write_packet(&packet).unwrap();
    }
    let (input, output) = (bench.path("in.pcap"), bench.path("out.pcap"));
    let lines =
        bench.json("director", &["--pcap", input.to_str().unwrap(), "--write", output.to_str().unwrap()]);
    let verdicts: Vec<_> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["transmit", "reply", "transmit"]);
    let mut reader = Reader::new(std::fs::File::open(output).unwrap()).unwrap();
    for (line, secs) in lines.iter().zip([1000, 1060, 1061]) {
        let packet = reader.next_packet().unwrap().unwrap();
        assert_eq!(line["packets"], Value::from(vec![hex(&packet)]));
        assert_eq!(reader.moment, Moment::from_secs(secs));
    }
    assert!(reader.next_packet().unwrap().is_none());
}

#[test]
fn the_text_explains_each_step() {
    let bench = Bench::new();
    let (code, text, _) = bench.explain("director", &["--packet", &hex(&tcp(SYN, b""))]);
    assert_eq!(code, 0);
    for step in [
        "classify: tcp 203.0.113.7:40000 > 172.25.3.100:80",
        "cluster: virtual service web",
        "connection: new; scheduler rr, each real server in turn: real server server2",
        "encapsulation: ipip 172.25.3.1 > 172.25.3.2",
        "=> transmit",
    ] {
        assert!(text.contains(step), "{step} in {text}");
    }
}

#[test]
fn unreadable_input_is_refused_in_one_line() {
    let bench = Bench::new();
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--packet", "4x"], 2, "expected an even number of hexadecimal digits"),
        (&["--packet", "450"], 2, "expected an even number of hexadecimal digits"),
        (&["--pcap", "/nowhere/in.pcap"], 2, "/nowhere/in.pcap"),
        (&[], 2, "--packet"),
    ];
    for (arguments, code, message) in cases {
        let (found, output, errors) = bench.explain("director", arguments);
        assert_eq!((found, output.as_str()), (code, ""), "{arguments:?}");
        assert!(errors.contains(message), "{errors}");
    }
}
