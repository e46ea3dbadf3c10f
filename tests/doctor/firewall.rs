//! Packet filters that lose packets, and the command that the doctor names: it cures them.

use lvs_tund::lab::{Host, Lab};

use crate::fixture::{Findings, Outcome, Running, director, realserver, request, same_subnet, shell};

/// With these rules on `host` the doctor finds exactly this, and nothing after its remedy was typed; then a request is
/// answered.
fn cures(
    lab: &Lab,
    host: &Host,
    rules: &str,
    expected: (&str, &str),
    examine: impl Fn() -> Findings,
) -> Outcome {
    shell(host, rules);
    let found = examine();
    found.are(&[expected]);
    shell(host, &found.remedy(expected.0));
    examine().are(&[]);
    assert!(request(lab)?.starts_with("server"));
    Ok(())
}

pub fn forward_policy() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = Running::start(&lab)?;
    let rules = "nft 'table inet filter { chain forward { type filter hook forward priority 0; policy drop; \
                 ct state established,related accept; iifname \"docker0\" accept; }; }'";
    let expected =
        ("firewall", "nftables chain inet filter forward (its policy) drops packets from eth0 to lvsd0");
    cures(&lab, &lab.director, rules, expected, || director(&lab))
}

pub fn conntrack() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = Running::start(&lab)?;
    let rules = "nft 'table inet filter { chain forward { type filter hook forward priority 0; policy accept; \
                 ct state vmap { established : accept, related : accept, invalid : drop }; }; }'";
    let expected = ("conntrack", "of a client after the first as invalid: connections open and then hang");
    cures(&lab, &lab.director, rules, expected, || director(&lab))
}

pub fn output() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = Running::start(&lab)?;
    let rules = "nft 'table inet filter { chain out { type filter hook output priority 0; policy accept; \
                 ip protocol { 4, 47 } counter drop; }; }'";
    let expected = ("tunnel", "drops encapsulated packets (IP protocol 4) to 172.25.3.2");
    cures(&lab, &lab.director, rules, expected, || director(&lab))
}

const INPUT: &str = "iif lo accept; ct state established,related accept; ct state invalid drop;";

pub fn input_protocol_4() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = Running::start(&lab)?;
    let host = &lab.real_servers[0];
    let rules = format!(
        "nft 'table inet filter {{ chain input {{ type filter hook input priority 0; policy drop; {INPUT} \
         icmp type echo-request accept; tcp dport 80 accept; }}; }}'"
    );
    let expected = ("tunnel", "(its policy) drops encapsulated packets (IP protocol 4) from 172.25.3.1");
    cures(&lab, host, &rules, expected, || realserver(&lab, host, "services = [\"tcp/80\"]"))
}

pub fn input_service() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = Running::start(&lab)?;
    let host = &lab.real_servers[0];
    let rules = format!(
        "nft 'table inet filter {{ set ours {{ type ipv4_addr; elements = {{ 172.25.3.1 }}; }}; \
         chain input {{ type filter hook input priority 0; policy drop; {INPUT} \
         ip saddr @ours ip protocol 4 accept; }}; }}'"
    );
    let expected =
        ("firewall", "(its policy) drops packets for 172.25.3.100, tcp port 80, that arrive on lvsr0");
    cures(&lab, host, &rules, expected, || realserver(&lab, host, "services = [\"tcp/80\"]"))
}

/// Rules that nft cannot show as its own.
pub fn iptables() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = Running::start(&lab)?;
    let rules = "iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT && \
                 iptables-nft -A FORWARD -m conntrack --ctstate INVALID -j DROP";
    let expected = (
        "conntrack",
        "iptables chain FORWARD of table filter (-A FORWARD -m conntrack --ctstate INVALID -j DROP)",
    );
    cures(&lab, &lab.director, rules, expected, || director(&lab))
}
