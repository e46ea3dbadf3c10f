//! Where people are surprised: what a file means to the program that it was written for.

use lvs_tund::convert::Kind;

use super::{assert_valid, losses_of, toml_of};

/// A virtual server with these lines, and a real server with those.
fn keepalived(service: &str, server: &str) -> String {
    format!(
        "virtual_server 172.25.3.100 80 {{\nlb_kind TUN\nprotocol TCP\n{service}\nreal_server 172.25.3.2 80 {{\n{server}\n}}\n}}\n"
    )
}

fn of_keepalived(service: &str, server: &str) -> (String, Vec<String>) {
    let text = keepalived(service, server);
    let toml = toml_of(Kind::Keepalived, &text);
    assert_valid(&toml);
    (toml, losses_of(Kind::Keepalived, &text))
}

#[track_caller]
fn assert_has(toml: &str, parts: &[&str]) {
    for part in parts {
        assert!(toml.contains(part), "no {part} in\n{toml}");
    }
}

/// keepalived counts further attempts: an up server is down after one more failure than that.
#[test]
fn retry_is_one_less_than_fall_and_its_default_depends_on_the_checker() {
    let checkers = [
        ("TCP_CHECK", "", [2, 1, 2, 4]),
        ("HTTP_GET", "url {\npath /\n}\n", [2, 1, 2, 4]),
        ("DNS_CHECK", "", [4, 1, 2, 4]),
        ("MISC_CHECK", "misc_path /a\n", [1, 1, 2, 4]),
    ];
    let retries = ["", "retry 0", "retry 1", "retry 3"];
    for (checker, inside, expected) in checkers {
        for (retry, fall) in retries.into_iter().zip(expected) {
            let (toml, losses) = of_keepalived("", &format!("{checker} {{\n{inside}{retry}\n}}"));
            assert_has(&toml, &[&format!("rise = 1, fall = {fall}")]);
            assert_eq!(losses, [""; 0], "{checker} {retry}");
        }
    }
}

#[test]
fn nb_get_retry_counts_in_http_get_only() {
    let (toml, losses) = of_keepalived("", "HTTP_GET {\nurl {\npath /\n}\nnb_get_retry 3\n}");
    assert_has(&toml, &["fall = 4"]);
    assert_eq!(losses, [""; 0]);
    let (toml, losses) = of_keepalived("", "TCP_CHECK {\nnb_get_retry 3\n}");
    assert_has(&toml, &["fall = 2"]);
    assert!(losses[0].contains("nb_get_retry 3: keepalived accepts it only in HTTP_GET"), "{losses:?}");
}

#[test]
fn the_nearest_setting_counts() {
    let (toml, losses) = of_keepalived(
        "delay_loop 10\nretry 5\nconnect_timeout 4\nalpha",
        "retry 2\nTCP_CHECK {\nconnect_timeout 0.2\ndelay_before_retry 1.5\n}",
    );
    let check = "interval = \"10s\", fast_interval = \"1500ms\", timeout = \"200ms\", rise = 1, fall = 3, start = \"down\"";
    assert_has(&toml, &[check]);
    assert_eq!(losses, [""; 0]);
}

#[test]
fn the_check_keeps_the_port_that_packets_lose() {
    let text = keepalived("", "")
        .replace("172.25.3.2 80", "172.25.3.2 8080")
        .replace("8080 {", "8080 {\nTCP_CHECK {\n}");
    let toml = toml_of(Kind::Keepalived, &text);
    assert_has(&toml, &["port = 8080, interval", "keepalived resets 8080 to 80; only checks use 8080"]);
    let masquerading = text.replace("lb_kind TUN", "lb_kind NAT");
    let toml = toml_of(Kind::Keepalived, &masquerading);
    assert_has(&toml, &["# rip = \"172.25.3.2\"", "the port is not translated"]);
    assert_valid(&toml);
    let portless = keepalived("", "TCP_CHECK {\n}").replace("172.25.3.2 80", "172.25.3.2");
    let toml = toml_of(Kind::Keepalived, &portless);
    assert_has(&toml, &["check = { type = \"tcp\", via = \"direct\", interval"]);
}

#[test]
fn the_result_is_what_keepalived_does_and_not_what_was_meant() {
    let text = keepalived("lb_algo WRR", "").replace("lb_kind TUN", "lb_kind dr");
    let toml = toml_of(Kind::Keepalived, &text);
    assert_has(
        &toml,
        &["scheduler = \"wlc\"", "masquerades (NAT)", "keepalived accepts NAT, DR and TUN in upper case"],
    );
    let (toml, losses) = of_keepalived("lb_algo mh\nsh-port\nmh-port", "");
    assert_has(&toml, &["scheduler_flags = [\"mh-port\"]"]);
    assert!(losses[0].contains("sh-port"), "{losses:?}");
}

#[test]
fn persistence_has_three_ways_to_surprise() {
    let (toml, losses) = of_keepalived("persistence_timeout 0", "");
    assert!(!toml.contains("\npersistence."), "{toml}");
    assert_eq!(losses, [""; 0]);
    assert_has(&toml, &["keepalived refuses 0, so persistence is off"]);
    let (toml, _) = of_keepalived("persistence_granularity 255.255.255.0", "");
    assert_has(&toml, &["persistence.timeout = \"360s\"", "persistence.prefix = 24"]);
    let all = keepalived("", "").replace("172.25.3.100 80", "172.25.3.100");
    assert_has(&toml_of(Kind::Keepalived, &all), &["port = \"all\"", "persistence.timeout = \"360s\""]);
    let (toml, _) = of_keepalived("persistence_timeout", "");
    assert_has(&toml, &["persistence.timeout = \"360s\""]);
}

#[test]
fn words_behind_a_command_are_user_and_group() {
    let (toml, losses) = of_keepalived(
        "quorum_up \"/a b\" www-data\nquorum_down \"/c 'd e'\" www-data staff",
        "notify_up /a\nnotify_down /a b",
    );
    assert_has(
        &toml,
        &[
            "{ when = \"quorum_gained\", command = [\"/a\", \"b\"], user = \"www-data\", virtual_service",
            "{ when = \"quorum_lost\", command = [\"/c\", \"d e\"], user = \"www-data\", virtual_service",
            "{ when = \"real_server_up\", command = [\"/a\"], virtual_service = \"tcp-172.25.3.100-80\", real_server = \"172.25.3.2\" }",
            "{ when = \"real_server_down\", command = [\"/a\"], user = \"b\", virtual_service",
        ],
    );
    assert_eq!(losses.len(), 1);
    assert!(losses[0].contains("group staff"), "{losses:?}");
}

#[test]
fn omega_is_at_stop_of_the_commands_for_what_goes_down() {
    let (toml, losses) = of_keepalived("omega\nquorum_up /a\nquorum_down /b", "notify_up /c\nnotify_down /d");
    assert_has(
        &toml,
        &[
            "{ when = \"quorum_gained\", command = [\"/a\"], virtual_service",
            "{ when = \"quorum_lost\", command = [\"/b\"], at_stop = true, virtual_service",
            "{ when = \"real_server_up\", command = [\"/c\"], virtual_service",
            "{ when = \"real_server_down\", command = [\"/d\"], at_stop = true, virtual_service",
            "omega: quorum_down and notify_down run at the end, too (at_stop)",
        ],
    );
    assert_eq!(losses, [""; 0]);
    let (toml, losses) = of_keepalived("omega\nquorum_up /a", "");
    assert_has(&toml, &["omega: it runs quorum_down and notify_down at the end, but there are none"]);
    assert!(!toml.contains("at_stop = true"), "{toml}");
    assert_eq!(losses, [""; 0]);
}

#[test]
fn a_check_goes_through_the_tunnel_where_the_user_has_tunnelled_it() {
    let via = |inside: &str| of_keepalived("", &format!("TCP_CHECK {{\n{inside}\n}}")).0;
    assert_has(&via("fwmark 3"), &["via = \"tunnel\""]);
    assert_has(&via("connect_ip 172.25.3.100"), &["via = \"tunnel\""]);
    assert_has(&via("connect_ip 172.25.3.7"), &["via = \"direct\", address = \"172.25.3.7\""]);
    assert_has(&via("connect_ip 172.25.3.2"), &["{ type = \"tcp\", via = \"direct\", interval"]);
}

#[test]
fn a_down_server_leaves_unless_it_is_inhibited() {
    let check = "TCP_CHECK {\n}";
    assert_has(&of_keepalived("", check).0, &["on_down = \"remove\""]);
    assert_has(&of_keepalived("inhibit_on_failure", check).0, &["on_down = \"quiesce\""]);
    let (toml, losses) = of_keepalived("inhibit_on_failure", &format!("inhibit_on_failure no\n{check}"));
    assert_has(&toml, &["on_down = \"remove\""]);
    assert_eq!(losses, [""; 0]);
}

#[test]
fn a_quorum_stays_within_the_sum_of_the_weights() {
    let (toml, _) = of_keepalived("quorum 9\nhysteresis 7", "weight 5");
    assert_has(&toml, &["quorum = 5", "hysteresis = 4"]);
    let (toml, _) = of_keepalived("hysteresis 1", "weight 5");
    assert_has(&toml, &["hysteresis = 0"]);
}

/// Defaults that the manual of ldirectord has otherwise: quiescent is no, the scheduler wrr; a service follows from the port,
/// and an unknown port has no check; udp follows from the port 53; a udp connect is a ping.
#[test]
fn ldirectord_without_optional_keys() {
    let of = |text: &str| {
        let toml = toml_of(Kind::Ldirectord, text);
        assert_valid(&toml);
        toml
    };
    let web = of("virtual=172.25.3.100:80\n\treal=172.25.3.2:80 ipip\n");
    assert_has(
        &web,
        &[
            "scheduler = \"wrr\"",
            "on_down = \"remove\"",
            "type = \"http\", path = \"/\"",
            "interval = \"10s\", timeout = \"30s\", rise = 1, fall = 1, start = \"down\"",
        ],
    );
    let unknown = of("virtual=172.25.3.100:1234\n\treal=172.25.3.2:1234 ipip\n");
    assert!(!unknown.contains("\ncheck = "), "{unknown}");
    let dns = of(
        "virtual=172.25.3.100:53\n\treal=172.25.3.2:53 ipip\n\trequest=\"a.example\"\n\treceive=\"192\\.0\\.2\\.1\"\n",
    );
    assert_has(&dns, &["protocol = \"udp\"", "expect = \"192.0.2.1\""]);
    let udp = of("virtual=172.25.3.100:99\n\tprotocol=udp\n\tchecktype=connect\n\treal=172.25.3.2:99 ipip\n");
    assert_has(&udp, &["type = \"icmp\""]);
}

#[test]
fn timeouts_of_ldirectord_are_defaults_of_each_other() {
    let timeout = |keys: &str, kind: &str| {
        let text =
            format!("{keys}\nvirtual=172.25.3.100:80\n\treal=172.25.3.2:80 ipip\n\tchecktype={kind}\n");
        let toml = toml_of(Kind::Ldirectord, &text);
        toml.split("timeout = \"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned)
    };
    assert_eq!(timeout("", "connect").as_deref(), Some("5s"));
    assert_eq!(timeout("", "negotiate").as_deref(), Some("30s"));
    assert_eq!(timeout("checktimeout=3", "negotiate").as_deref(), Some("3s"));
    assert_eq!(timeout("negotiatetimeout=7", "connect").as_deref(), Some("7s"));
    assert_eq!(timeout("checktimeout=3\nnegotiatetimeout=7", "negotiate").as_deref(), Some("7s"));
}

/// A blank line ends a block of ldirectord, a line that is only a comment does not, and `#` cuts a line within quotes, too.
#[test]
fn the_blocks_of_ldirectord() {
    let text = "virtual=172.25.3.100:80\n\treal=172.25.3.2:80 ipip\n# comment\n\treal=172.25.3.3:80 ipip # two\n   \n\treal=172.25.3.4:80 ipip\ncheckinterval=3\n";
    let toml = toml_of(Kind::Ldirectord, text);
    assert_has(&toml, &["rip = \"172.25.3.2\"", "rip = \"172.25.3.3\"", "interval = \"3s\""]);
    assert!(!toml.contains("rip = \"172.25.3.4\""));
    assert_has(
        &toml,
        &["file:6: real=172.25.3.4:80 ipip: an indented line that belongs to no virtual service"],
    );
}

#[test]
fn ipvsadm_commands_are_applied_in_their_order() {
    let text = "-A -t 172.25.3.9:1 -s rr\n-C\n-A -t 172.25.3.100:80 -s rr\n-E -t 172.25.3.100:80 -s wrr -p\n\
                -a -t 172.25.3.100:80 -r 172.25.3.2 -i\n-a -t 172.25.3.100:80 -r 172.25.3.3 -i\n\
                -e -t 172.25.3.100:80 -r 172.25.3.2 -i -w 9\n-d -t 172.25.3.100:80 -r 172.25.3.3\n--set 1 0 3\n";
    let toml = toml_of(Kind::Ipvsadm, text);
    assert_valid(&toml);
    assert_has(
        &toml,
        &["scheduler = \"wrr\"", "persistence.timeout = \"360s\"", "weight = 9", "timeouts.udp = \"3s\""],
    );
    for absent in ["172.25.3.9", "172.25.3.3", "tcp_fin"] {
        assert!(!toml.contains(absent), "{toml}");
    }
    assert_eq!(losses_of(Kind::Ipvsadm, text), [""; 0]);
}

/// The table between `start)` and `stop)` is the one to convert.
#[test]
fn a_script_that_also_stops_is_not_converted_to_an_empty_table() {
    let add = "ipvsadm -A -t 172.25.3.100:80 -s rr\nipvsadm -a -t 172.25.3.100:80 -r 172.25.3.2 -i\n";
    let reason = "it would leave nothing to convert, as where a script stops";
    for (text, lines) in [
        (format!("ipvsadm -C\n{add}ipvsadm -C\n"), 1),
        (format!("{add}ipvsadm -D -t 172.25.3.100:80\n"), 1),
        (format!("{add}ipvsadm -C\n{add}ipvsadm -D -t 172.25.3.100:80\nipvsadm -C\n"), 1),
    ] {
        let toml = toml_of(Kind::Ipvsadm, &text);
        assert_valid(&toml);
        assert_eq!(toml.matches("\n[[virtual_service]]").count(), 1, "{text}{toml}");
        assert_has(&toml, &["rip = \"172.25.3.2\"", reason]);
        let losses = losses_of(Kind::Ipvsadm, &text);
        assert_eq!(losses.iter().filter(|loss| loss.contains(reason)).count(), lines, "{losses:?}");
    }
    let replaced = format!("{add}ipvsadm -C\nipvsadm -A -t 172.25.3.100:81 -s rr\n");
    let toml = toml_of(Kind::Ipvsadm, &replaced);
    assert!(toml.contains("port = 81") && !toml.contains("port = 80"), "{toml}");
}

/// Each rule of the grammar of keepalived as a small file, with a part of its result.
#[test]
fn the_corners_of_keepalived_grammar() {
    let cases: &[(&str, &str)] = &[
        (
            "virtual_server 172.25.3.100 80{lb_algo rr\nlb_kind TUN\nprotocol TCP\nreal_server 172.25.3.2 80 {weight 3\n}}",
            "weight = 3",
        ),
        (
            "virtual_server 172.25.3.100 80\n\n\n{\nlb_kind TUN\nprotocol tcp\nreal_server 172.25.3.2 80 {\n}\n}",
            "protocol = \"tcp\"",
        ),
        (
            "virtual_server 172.25.3.100 80 junk {\nlb_kind TUN\nreal_server 172.25.3.2 80 {\n}\n}",
            "protocol = \"udp\"",
        ),
        (
            "virtual_server 172.25.3.100 80 {\nlb_algo\u{a0}rr\nreal_server 172.25.3.2 80 {\n}\n}",
            "lb_algo\u{a0}rr: unknown",
        ),
        (
            "virtual_server 172.25.3.100 80 {\ndelay_loop '7'\nreal_server 172.25.3.2 80 {\n}\n}",
            "delay_loop '7': expected a number",
        ),
        ("virtual_server 172.25.3.100 80 {\nquorum \"1\"\nreal_server 172.25.3.2 80 {\n}\n}", "quorum = 1"),
        (
            "virtual_server 172.25.3.100 80 {\nlb_algo rr \\\nlc\nreal_server 172.25.3.2 80 {\n}\n}",
            "lc: unknown",
        ),
        (
            "@there virtual_server 172.25.3.100 80 {\n@here virtual_server 172.25.3.101 80 {\n@here\nreal_server 172.25.3.2 80 {\n}\n}",
            "vip = \"172.25.3.101\"",
        ),
        (
            "$V=172.25.3.100\n$W=${V}\nvirtual_server $W 80 {\nreal_server 172.25.3.2 80 {\n}\n}",
            "vip = \"172.25.3.100\"",
        ),
        (
            "$A=rr\nvirtual_server 172.25.3.100 80 {\nlb_algo $A\n$A=lc\nreal_server 172.25.3.2 80 {\n}\n}",
            "scheduler = \"rr\"",
        ),
        (
            "virtual_server 172.25.3.100 80 {\nlb_algo rr ${_HASH}x\nreal_server 172.25.3.2 80 {\n}\n}",
            "scheduler = \"rr\"",
        ),
        (
            "virtual_server 172.25.3.100 80 {\n~SEQ(I, 2, 4) real_server 172.25.3.${I} 80 { }\n}",
            "rip = \"172.25.3.4\"",
        ),
        (
            "virtual_server 172.25.3.100 80 {\n~SEQ(I, 2, 3) ~LST(W, 5, 6) real_server 172.25.3.${I}${W} 80 { }\n}",
            "rip = \"172.25.3.36\"",
        ),
        (
            "virtual_server ${NO} 80 {\nreal_server 172.25.3.2 80 {\n}\n}",
            "virtual_server ${NO} 80: keepalived accepts only numeric",
        ),
        (
            "virtual_server 172.25.3.100 80 {\nbad {\nworse {\nx\n}\n}\nquorum 1\nreal_server 172.25.3.2 80 {\n}\n}",
            "quorum = 1",
        ),
        ("virtual_server 172.25.3.100 80 {\nreal_server 172.25.3.2 80 {\nweight 7", "weight = 7"),
        ("}\nvirtual_server 172.25.3.100 80 {\nreal_server 172.25.3.2 80 {\n}\n}", "rip = \"172.25.3.2\""),
        ("virtual_server 172.25.3.100 80 {\nweight 4\nreal_server 172.25.3.2 80 {\n}\n}", "weight = 4"),
    ];
    for (text, expected) in cases {
        let toml = toml_of(Kind::Keepalived, text);
        assert_valid(&toml);
        assert!(toml.contains(expected), "no {expected} in\n{toml}\nfrom\n{text}");
    }
}

#[test]
fn thousands_of_services_are_converted() {
    let text = "virtual_server_group all {\n10.0.0.0/19 80\n}\nvirtual_server group all {\nlb_kind TUN\nprotocol TCP\n\
                real_server 172.25.3.2 80 {\n}\n}\n";
    let toml = toml_of(Kind::Keepalived, text);
    assert_eq!(toml.matches("[[virtual_service]]").count(), 8_192);
    let too_many = text.replace("/19", "/8");
    assert_has(&toml_of(Kind::Keepalived, &too_many), &["at most 16000 of them"]);
}
