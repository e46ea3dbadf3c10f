//! What cannot be converted changes no check silently: the check below it is stated.

use lvs_tund::convert::Kind;

use super::{assert_valid, losses_of, toml_of};

fn of_keepalived(server: &str) -> (String, Vec<String>) {
    let text = format!(
        "virtual_server 172.25.3.100 80 {{\nlb_kind TUN\nprotocol TCP\nreal_server 172.25.3.2 80 {{\n{server}\n}}\n}}\n"
    );
    let toml = toml_of(Kind::Keepalived, &text);
    assert_valid(&toml);
    (toml, losses_of(Kind::Keepalived, &text))
}

fn of_ldirectord(head: &str, lines: &str) -> (String, Vec<String>) {
    let lines: String = lines.lines().map(|line| format!("\t{line}\n")).collect();
    let text = format!("virtual=172.25.3.100:{head}\n{lines}");
    let toml = toml_of(Kind::Ldirectord, &text);
    assert_valid(&toml);
    (toml, losses_of(Kind::Ldirectord, &text))
}

#[track_caller]
fn assert_has(toml: &str, parts: &[&str]) {
    for part in parts {
        assert!(toml.contains(part), "no {part} in\n{toml}");
    }
}

#[test]
fn a_check_of_keepalived_that_cannot_be_made_is_replaced_and_named() {
    let table = [
        ("HTTP_GET {\nurl {\npath health\n}\n}", "6: url { path health }: path: ", "{ type = \"tcp\""),
        (
            "HTTP_GET {\nurl {\npath /\nvirtualhost \"a b\"\n}\n}",
            "virtualhost \"a b\" }: host: ",
            "{ type = \"tcp\"",
        ),
        ("DNS_CHECK {\nname a..b\n}", "DNS_CHECK { name a..b }: name: ", "{ type = \"icmp\""),
        (
            "SMTP_CHECK {\nhelo_name \"a b\"\n}",
            "SMTP_CHECK { helo_name \"a b\" }: helo: ",
            "{ type = \"tcp\"",
        ),
        ("TCP_CHECK {\nconnect_ip 2001:db8::1\n}", "2001:db8::1 is an IPv6 address", "{ type = \"tcp\""),
    ];
    for (server, loss, check) in table {
        let (toml, losses) = of_keepalived(server);
        assert_has(&toml, &[check]);
        assert!(
            losses.iter().any(|found| found.contains(loss) && found.contains("the check below")),
            "{losses:?}"
        );
    }
}

#[test]
fn a_condition_that_cannot_be_met_leaves_the_request() {
    for (inside, loss) in [
        ("regex (?=a)b", "regex: look-around"),
        ("regex a\nregex_min_offset 5", "regex: there is no regex_min_offset"),
        ("regex a\nregex_options utf", "regex: there is no option for utf"),
        ("regex (a", "regex: a parenthesis has no end"),
        ("regex \"a{1,1000}{1}\"", "regex: a possessive or a second quantifier"),
    ] {
        let (toml, losses) = of_keepalived(&format!("HTTP_GET {{\nurl {{\npath /a\n{inside}\n}}\n}}"));
        assert_has(&toml, &["type = \"http\", path = \"/a\""]);
        assert!(!toml.contains("body_regex ="), "{toml}");
        let stated = losses.iter().find(|found| found.contains(loss));
        assert!(stated.is_some_and(|found| found.contains("does not search the body")), "{losses:?}");
    }
}

#[test]
fn a_pattern_means_what_it_meant_to_keepalived() {
    let check = |inside: &str| of_keepalived(&format!("HTTP_GET {{\nurl {{\npath /\n{inside}\n}}\n}}")).0;
    assert_has(&check("regex ^OK$"), &[r#"body_regex = "\\AOK(?:\\n?\\z)""#]);
    assert_has(&check("regex a.b"), &[r#"body_regex = "(?-u)a.b""#]);
    assert_has(&check("regex \"it works\""), &[r#"body_regex = "it works""#]);
    assert_has(
        &check("regex ^a\nregex_options multiline caseless\nregex_no_match"),
        &[r#"body_not = "(?i-u)(?m:^)a""#],
    );
    let part = "only the first 256 KiB of the body are searched";
    assert_has(&check("regex a\nregex_no_match"), &[part]);
    assert!(!check("digest 9b3a0c85a887a256d6939da88aabd8cd").contains(part));
    assert!(!check("regex a").contains(part));
}

#[test]
fn a_blank_in_a_path_is_encoded_and_stated() {
    let (toml, losses) = of_keepalived("HTTP_GET {\nurl {\npath \"/a b\"\n}\n}");
    assert_has(&toml, &["path = \"/a%20b\"", "keepalived sends `/a b` as it is"]);
    assert_eq!(losses, [""; 0]);
    let (toml, _) = of_ldirectord("80", "real=172.25.3.2:80 ipip\nrequest=\"a b|c\"");
    assert_has(&toml, &["path = \"/a%20b%7Cc\""]);
}

#[test]
fn a_program_of_a_group_runs_for_each_member_with_a_remark() {
    let text = "virtual_server_group G {\n172.25.3.100-101 80\n}\nvirtual_server group G {\nlb_kind TUN\nprotocol TCP\n\
                real_server 172.25.3.2 80 {\nMISC_CHECK {\nmisc_path /a\n}\n}\n}\n";
    let toml = toml_of(Kind::Keepalived, text);
    assert_eq!(
        toml.matches("here it runs for each of the 2 virtual services of the group").count(),
        1,
        "{toml}"
    );
    let alone = of_keepalived("MISC_CHECK {\nmisc_path /a\n}").0;
    assert!(!alone.contains("of the group"), "{alone}");
}

/// Of two lines the last counts, unless keepalived refuses it.
#[test]
fn a_wrong_line_does_not_replace_a_right_one() {
    let (toml, losses) = of_keepalived(
        "TCP_CHECK {\nretry 3\nretry x\n}\nuthreshold 5\nuthreshold 6\nlthreshold 2\nlthreshold y",
    );
    assert_has(&toml, &["fall = 4", "upper_threshold = 6", "lower_threshold = 2"]);
    let expected = [
        "retry x: expected a number",
        "uthreshold 5: line 10 replaces it",
        "lthreshold y: expected a number",
    ];
    for part in expected {
        assert!(losses.iter().any(|loss| loss.contains(part)), "no {part} in {losses:?}");
    }
    assert_eq!(losses.len(), 3, "{losses:?}");
}

#[test]
fn a_setting_that_no_check_uses_has_a_remark() {
    let (toml, losses) = of_keepalived("retry 3\nvirtualhost x\nPING_CHECK {\nconnect_timeout 2\n}");
    assert_has(&toml, &["fall = 4", "timeout = \"2s\"", "virtualhost x: no check uses it"]);
    assert!(!toml.contains("retry 3: no check"), "{toml}");
    assert_eq!(losses, [""; 0]);
}

#[test]
fn a_check_of_ldirectord_that_cannot_be_made_is_replaced_and_named() {
    let real = "real=172.25.3.2:80 ipip\n";
    let table = [
        ("request=\"/a#b\"", "request=\"/a#b\": # cuts the line, even within quotes", "type = \"tcp\""),
        ("request=/a", "request=/a: expected a text in double quotes", "type = \"tcp\""),
        ("service=nonsense", "service=nonsense: unknown", "type = \"icmp\""),
        ("checktype=nonsense", "checktype=nonsense: unknown", "type = \"icmp\""),
        ("checktype=external-perl", "there is no Perl here", "type = \"icmp\""),
        ("checkport=99999", "expected a port", "type = \"icmp\""),
        ("receive=\"(?=a)\"", "receive: look-around", "type = \"http\", path = \"/\", redirects"),
        (
            "httpmethod=HEAD\nreceive=\"a\"",
            "has no body",
            "type = \"http\", path = \"/\", method = \"HEAD\", redirects",
        ),
    ];
    for (line, loss, check) in table {
        let (toml, losses) = of_ldirectord("80", &format!("{real}{line}"));
        assert_has(&toml, &[check]);
        assert!(losses.iter().any(|found| found.contains(loss)), "{line}: {losses:?}");
        assert!(
            losses.iter().any(|found| found.contains("the check below") || found.contains("The check below")),
            "{line}: {losses:?}"
        );
    }
}

/// Only the request of a real server may be a URL; that of a virtual service is a path of the real server.
#[test]
fn a_url_as_a_request_is_what_ldirectord_makes_of_it() {
    let (toml, _) = of_ldirectord("80", "real=172.25.3.2:80 ipip\nrequest=\"http://172.25.3.7/x\"");
    assert_has(
        &toml,
        &[
            "type = \"http\", path = \"/http://172.25.3.7/x\", redirects",
            "ldirectord requests the path /http://172.25.3.7/x from the real server",
        ],
    );
    let own = |url: &str| of_ldirectord("80", &format!("real=172.25.3.2:80 ipip 1 \"{url}\", \"x\""));
    assert_has(
        &own("http://172.25.3.7:81/x").0,
        &["type = \"http\", path = \"/x\", redirects", "address = \"172.25.3.7\", port = 81"],
    );
    assert_has(
        &own("http://172.25.3.2").0,
        &[
            "type = \"http\", path = \"/\", redirects = 7, status = \"200-299\", body_regex = \"x\", via = \"direct\", interval",
        ],
    );
    let (toml, losses) = own("http://nowhere/x");
    assert_has(&toml, &["type = \"tcp\""]);
    assert!(
        losses.iter().any(|loss| loss.contains("nowhere cannot be looked up; the check below")),
        "{losses:?}"
    );
}

#[test]
fn an_answer_of_dns_is_compared_only_if_it_is_a_whole_address() {
    let check = |receive: &str| {
        of_ldirectord("53", &format!("real=172.25.3.2:53 ipip\nrequest=\"a.example\"\nreceive=\"{receive}\""))
    };
    assert_has(&check(r"^192\.0\.2\.1$").0, &["expect = \"192.0.2.1\""]);
    let (toml, losses) = check(r"192\.0\.2\.");
    assert!(!toml.contains("expect = \"192"), "{toml}");
    assert!(losses.iter().any(|loss| loss.contains("the check below accepts any answer")), "{losses:?}");
}

#[test]
fn values_that_ldirectord_refuses_are_named_and_the_default_counts() {
    let (toml, losses) =
        of_ldirectord("80", "real=172.25.3.2:80 ipip\nquiescent=maybe\nfailurecount=0\nops=x");
    assert_has(&toml, &["on_down = \"remove\"", "fall = 1"]);
    for part in [
        "quiescent=maybe: expected yes or no",
        "failurecount=0: expected a number above 0",
        "ops=x: expected",
    ] {
        assert!(losses.iter().any(|loss| loss.contains(part)), "no {part} in {losses:?}");
    }
}

#[test]
fn a_global_key_without_a_virtual_service_has_a_remark() {
    let toml = toml_of(Kind::Ldirectord, "checktimeout=3\nfallback=127.0.0.1:80\n");
    assert_has(
        &toml,
        &["checktimeout=3: no virtual service uses it", "fallback=127.0.0.1:80: no virtual service"],
    );
}

/// The port of a check is `checkport`, else that of the real server, else that of the service; a program gets the port as
/// written.
#[test]
fn the_port_of_a_check_of_ldirectord() {
    let check = |lines: &str| of_ldirectord("8080", lines).0;
    assert_has(&check("real=172.25.3.2 ipip\nservice=http"), &["port = 80, interval"]);
    assert_has(&check("real=172.25.3.2:81 ipip\nservice=http"), &["port = 81, interval"]);
    assert_has(&check("real=172.25.3.2:81 ipip\nservice=http\ncheckport=82"), &["port = 82, interval"]);
    let external = "real=172.25.3.2 ipip\nchecktype=external\ncheckport=82\ncheckcommand=/c";
    assert_has(&check(external), &[r#"["/c", "172.25.3.100", "8080", "172.25.3.2", "0"]"#]);
}

#[test]
fn a_fallback_command_runs_as_ldirectord_runs_it() {
    let hook = |line: &str| of_ldirectord("80", &format!("real=172.25.3.2:80 ipip\n{line}")).0;
    assert_has(
        &hook("fallbackcommand=\"/f x\""),
        &[r#"command = ["/f", "x", "start", "172.25.3.100:80", "tcp"]"#],
    );
    assert_has(
        &hook("fallbackcommand=\"/f 'a b'\""),
        &[r#"command = ["/bin/sh", "-c", "/f 'a b' start 172.25.3.100:80 tcp"]"#],
    );
}

#[test]
fn an_interval_of_a_virtual_service_counts_only_with_fork() {
    let of = |global: &str| {
        let text =
            format!("{global}\nvirtual=172.25.3.100:80\n\treal=172.25.3.2:80 ipip\n\tcheckinterval=7\n");
        toml_of(Kind::Ldirectord, &text)
    };
    assert_has(&of("fork=yes"), &["interval = \"7s\""]);
    assert_has(
        &of("fork=no\ncheckinterval=3"),
        &["interval = \"3s\"", "checkinterval=7: ldirectord ignores it here"],
    );
}

#[test]
fn an_include_has_one_pattern() {
    let include = |_: &str, pattern: &str| {
        let text = format!("virtual_server {pattern} 80 {{\nreal_server 172.25.3.2 80 {{\n}}\n}}\n");
        Ok(vec![("included".to_owned(), text)])
    };
    let input = lvs_tund::convert::Input {
        name: "file",
        text: "include 172.25.3.100 172.25.3.101\n",
        include: &include,
        names: &lvs_tund::control::ipvsadm::names::Numeric,
        config_id: "",
    };
    let toml = lvs_tund::convert::convert(Kind::Keepalived, &input).toml;
    assert_has(&toml, &["vip = \"172.25.3.100\"", "`172.25.3.101` is not read; an include has one pattern"]);
}
