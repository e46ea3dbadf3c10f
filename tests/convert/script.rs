//! Shell scripts that call ipvsadm: what is certain is applied, everything else has a reason.

use lvs_tund::convert::Kind;

use super::{assert_valid, losses_of, toml_of};

const RULES: [&str; 2] = ["-A -t 172.25.3.100:80 -s rr", "-a -t 172.25.3.100:80 -r 172.25.3.2 -i -w 2"];

#[track_caller]
fn assert_converted(script: &str) {
    let toml = toml_of(Kind::Ipvsadm, script);
    assert_valid(&toml);
    for part in ["vip = \"172.25.3.100\"", "scheduler = \"rr\"", "rip = \"172.25.3.2\"", "weight = 2"] {
        assert!(toml.contains(part), "no {part} in\n{toml}\nfrom\n{script}");
    }
}

#[test]
fn a_command_is_understood_however_it_is_called() {
    let [add, server] = RULES;
    for script in [
        format!("sudo ipvsadm {add}\nsudo -n -u root /sbin/ipvsadm {server}\n"),
        format!("/usr/sbin/ipvsadm {add} && exec /sbin/ipvsadm {server} || exit 1\n"),
        format!("IPVSADM=/sbin/ipvsadm\n$IPVSADM {add}; ${{IPVSADM}} {server} # the server; ipvsadm -C\n"),
        format!("IPVSADM=\"sudo ipvsadm\"; $IPVSADM {add}\n$IPVSADM {server} 2>/dev/null\n"),
        format!("LC_ALL=C ipvsadm {add}\nipvsadm \\\n  {server}\n"),
        "VIP=172.25.3.100 PORT=80\nR='172.25.3.2'; export W=2\nS=\"$VIP:$PORT\"\nipvsadm -A -t $S -s ${SCHED:-rr}\nipvsadm -a -t \"${VIP}:${PORT}\" -r $R -i -w $W\n".to_owned(),
        "for R in 2 3; do\n  ipvsadm -a -t 172.25.3.100:80 -r 172.25.3.$R -i -w 2\ndone\n".replacen("for", &format!("ipvsadm {add}\nfor"), 1),
        format!("RIPS=\"172.25.3.2 172.25.3.3\"\nipvsadm {add}\nfor R in $RIPS\ndo ipvsadm -a -t 172.25.3.100:80 -r $R -i -w 2; done\n"),
        format!("start() {{\n  ipvsadm {add}\n  if true; then ipvsadm {server}; fi\n}}\ncase \"$1\" in\nstart) start;;\nesac\n"),
        format!("ipvsadm-restore <<EOF\n{add}\n{server}\nEOF\n"),
    ] {
        assert_converted(&script);
    }
}

#[test]
fn loops_over_constants_are_repeated_also_within_each_other() {
    let script = "for P in 80 443; do\nipvsadm -A -t 172.25.3.100:$P -s rr\nfor R in 2 3; do ipvsadm -a -t 172.25.3.100:$P -r 172.25.3.$R -i; done\ndone\nipvsadm --set 5 6 7\n";
    let toml = toml_of(Kind::Ipvsadm, script);
    assert_valid(&toml);
    assert_eq!(toml.matches("\n[[virtual_service]]").count(), 2, "{toml}");
    assert_eq!(toml.matches("rip = \"172.25.3.3\"").count(), 2, "{toml}");
    assert!(toml.contains("timeouts.tcp = \"5s\""), "{toml}");
    assert_eq!(losses_of(Kind::Ipvsadm, script), [""; 0]);
}

/// Line, the beginning of the loss, and a part of its reason.
#[test]
fn a_line_that_is_not_of_ipvsadm_has_a_plain_reason() {
    let shell = "a shell command; only lines that call ipvsadm are read";
    let table = [
        ("#!/bin/sh\nset -e", "2: set -e", shell),
        ("echo 1 > /proc/sys/net/ipv4/ip_forward", "1: echo 1 > /proc/sys/net/ipv4/ip_forward", shell),
        ("a | b", "1: b", shell),
        ("modprobe ip_vs", "1: modprobe ip_vs", "needs no kernel module"),
        ("ip addr add 172.25.3.100/32 dev lo", "1: ip addr", "captures and announces the VIP itself"),
        ("sysctl -w x=1", "1: sysctl", "the director sets what it needs"),
        (
            "ipvsadm-restore < /etc/rules",
            "1: ipvsadm-restore < /etc/rules",
            "convert the rules that it reads",
        ),
        ("ipvsadm -R < /etc/rules", "1: ipvsadm -R < /etc/rules", "convert the rules that it reads"),
        ("ipvsadm -A -t $1:80", "1: ipvsadm -A -t $1:80", "the value of $1 is known only when"),
        ("ipvsadm -A -t `hostname`:80", "1: ipvsadm", "the output of a command is known only when"),
        ("VIP=$(hostname -i)\nipvsadm -A -t $VIP:80", "2: ipvsadm -A -t $VIP:80", "the value of $VIP"),
        (
            "VIP=1.1.1.1\nif true; then VIP=2.2.2.2; fi\nipvsadm -A -t $VIP:80",
            "3: ipvsadm -A -t $VIP:80",
            "the value of $VIP",
        ),
        (
            "for R in $(seq 3); do ipvsadm -a -t 172.25.3.100:80 -r 172.25.3.$R; done",
            "1: do ipvsadm",
            "the value of $R",
        ),
        ("for R in *; do true; done", "1: for R in *", "a list that the shell expands"),
        ("if ping -c 1 x; then true; fi", "1: if ping -c 1 x", "as if it were met"),
        ("if a; then b; else c; fi", "1: else c", "all branches are read"),
        ("case $1 in\nstop) ipvsadm -C;;\nesac", "2: stop) ipvsadm -C", "all cases are read"),
        ("stop() {\nipvsadm -C\n}", "1: stop() {", "the body of a function is read"),
        ("ipvsadm -Z -z", "1: ipvsadm -Z -z", ""),
        ("ipvsadm", "1: ipvsadm", ""),
    ];
    for (script, begin, reason) in table {
        let losses = losses_of(Kind::Ipvsadm, script);
        let found = losses.iter().find(|loss| loss.starts_with(begin));
        assert!(found.is_some_and(|loss| loss.contains(reason)), "{script}: {losses:?}");
        for loss in losses {
            assert!(!loss.contains("Usage") && loss.len() < 250, "{loss}");
        }
    }
}

#[test]
fn loops_without_end_end() {
    let mut script = String::new();
    for name in ["A", "B", "C", "D", "E", "F", "G"] {
        script.push_str(&format!("for {name} in 1 2 3 4 5 6 7 8 9 10; do "));
    }
    script.push_str("true; ");
    script.push_str(&"done; ".repeat(7));
    let toml = toml_of(Kind::Ipvsadm, &script);
    assert!(toml.contains("loops make more than 100000 commands"), "{}", &toml[..2_000.min(toml.len())]);
    assert!(toml.len() < 1_000_000, "{}", toml.len());
}
