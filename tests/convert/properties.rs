//! What holds for any file: nothing is dropped silently, the result is valid, and hostile text neither panics nor grows
//! without end.

use lvs_tund::convert::Kind;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::{assert_valid, converted, names, toml_of};

const KINDS: [Kind; 3] = [Kind::Keepalived, Kind::Ldirectord, Kind::Ipvsadm];

/// Lines of a virtual server of keepalived, each with a value that is not the default.
const SERVICE: &[&str] = &[
    "lb_algo mh",
    "mh-port",
    "mh-fallback",
    "persistence_timeout 77",
    "persistence_granularity 255.255.0.0",
    "persistence_engine sip",
    "ops",
    "hashed",
    "delay_loop 7",
    "alpha",
    "omega",
    "quorum 2",
    "hysteresis 1",
    "quorum_up \"/up 1\" u1",
    "quorum_down \"/down 2\" u2",
    "sorry_server 172.25.3.9 80",
    "sorry_server_inhibit",
    "inhibit_on_failure",
    "weight 6",
    "virtualhost v.example",
    "ha_suspend",
    "smtp_alert",
    "snmp_name web",
    "ip_family inet",
    "warmup 3",
    "syn_proxy",
    "nonsense 1 2",
    "unknown { a b }",
    "retry 4",
];
const SERVER: &[&str] = &[
    "uthreshold 40",
    "lthreshold 30",
    "notify_up \"/up 3\"",
    "notify_down \"/down 4\" u4",
    "smtp_alert",
    "snmp_name s2",
    "connect_timeout 4",
    "delay_before_retry 2",
    "lb_kind DR",
    "nonsense",
    "MISC_CHECK { misc_path /check\n misc_dynamic\n user u5 g5\n misc_timeout 9\n }",
    "FILE_CHECK { track_file f\n }",
    "PING_CHECK { }",
    "DNS_CHECK { type AAAA\n name d.example\n }",
    "UDP_CHECK { payload 0a0b\n require_reply 0cxx\n min_reply_length 3\n }",
    "SMTP_CHECK { helo_name h.example\n }",
    "SSL_GET { url { path /tls\n digest 9b3a0c85a887a256d6939da88aabd8cd\n status_code 201\n }\n enable_sni\n virtualhost x.example\n }",
];

fn file(service: &[&str], server: &[&str]) -> Vec<String> {
    let mut lines: Vec<&str> = vec!["virtual_server 172.25.3.100 80 {", "lb_kind TUN"];
    lines.push(if service.contains(&"ops") { "protocol UDP" } else { "protocol TCP" });
    lines.extend(service);
    lines.extend(["real_server 172.25.3.3 80 {", "weight 3", "}", "real_server 172.25.3.2 80 {"]);
    lines.extend(server);
    lines.extend([
        "HTTP_GET {",
        "url {",
        "path /health",
        "regex abc",
        "}",
        "}",
        "TCP_CHECK {",
        "connect_port 99",
        "}",
        "}",
        "}",
    ]);
    lines.iter().flat_map(|line| line.lines()).map(|line| line.trim().to_owned()).collect()
}

/// Without line numbers, which change with every line that is removed.
fn without_numbers(toml: &str) -> String {
    toml.lines()
        .map(|line| match line.split_once("file:") {
            Some((before, behind)) => {
                let text = behind.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{before}{text}\n")
            }
            None => format!("{line}\n"),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// If a line could be removed without a trace in the result, it was dropped silently.
    #[test]
    fn every_line_of_a_valid_file_leaves_a_trace(
        service in subsequence(SERVICE, 0..SERVICE.len()),
        server in subsequence(SERVER, 0..SERVER.len()),
    ) {
        let lines = file(&service, &server);
        let whole = toml_of(Kind::Keepalived, &lines.join("\n"));
        assert_valid(&whole);
        let whole = without_numbers(&whole);
        for (index, line) in lines.iter().enumerate() {
            if line.ends_with('{') || *line == "}" || line.ends_with("{ }") && line.starts_with("PING") {
                continue;
            }
            if line.contains('{') && !line.contains('}') {
                continue;
            }
            let mut shorter = lines.clone();
            shorter.remove(index);
            let without = without_numbers(&toml_of(Kind::Keepalived, &shorter.join("\n")));
            prop_assert_ne!(&whole, &without, "{} has no trace in\n{}", line, whole);
        }
    }

    #[test]
    fn no_bytes_cause_a_panic_or_an_invalid_result(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        for kind in KINDS {
            assert_valid(&converted(kind, &text).toml);
        }
    }

    /// A real file with a part removed and another inserted.
    #[test]
    fn a_damaged_file_causes_no_panic_and_no_invalid_result(
        which in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        length in 0_usize..60,
        inserted in r#"[{}"'!#@$~\\ \t\n=a-z0-9.,()-]{0,12}"#,
    ) {
        let names = names();
        let name = &names[which.index(names.len())];
        let bytes = std::fs::read(format!("{}/{name}", super::FILES)).expect("a file");
        let at = cut.index(bytes.len());
        let end = (at + length).min(bytes.len());
        let damaged = [&bytes[..at], inserted.as_bytes(), &bytes[end..]].concat();
        let text = String::from_utf8_lossy(&damaged);
        for kind in KINDS {
            assert_valid(&converted(kind, &text).toml);
        }
    }
}

#[test]
fn expansions_end_and_are_reported() {
    let cases = [
        ("$A=${B}${B}\n$B=${A}${A}\n${A}x\n", "definitions that contain each other have no end"),
        ("$L=\\\n$L \\\n$L\n$L\n", "nested too deeply"),
        ("~SEQ(I, 1, 4000000000) x\n", "more than 200000 lines"),
        ("~SEQ(I, 1, 4000000000) ~SEQ(J, 1, 4000000000)\n", "more than 200000 lines"),
    ];
    for (text, expected) in cases {
        let toml = toml_of(Kind::Keepalived, text);
        assert!(toml.contains(expected), "{}", toml.chars().take(2_000).collect::<String>());
        assert!(toml.len() < 10_000, "{} bytes for\n{text}", toml.len());
    }
    let deep = "a {\n".repeat(100_000);
    assert!(toml_of(Kind::Keepalived, &deep).contains("blocks are nested too deeply"));
    let braces = format!("virtual_server 172.25.3.100 80 {{\n{}\n", "{ }".repeat(10_000));
    assert_valid(&toml_of(Kind::Keepalived, &braces));
}

#[test]
fn a_file_that_includes_itself_ends() {
    let include = |_: &str, pattern: &str| {
        Ok(vec![(pattern.to_owned(), format!("include {pattern}\ninclude {pattern}\n"))])
    };
    let input = lvs_tund::convert::Input {
        name: "file",
        text: "include x\n",
        include: &include,
        names: &lvs_tund::control::ipvsadm::names::Numeric,
        config_id: "",
    };
    let converted = lvs_tund::convert::convert(Kind::Keepalived, &input);
    assert!(converted.toml.contains("include each other without end"));
    assert!(converted.losses.len() < 3_000, "{}", converted.losses.len());
}
