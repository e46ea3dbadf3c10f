//! Packet filters that lose packets, and the command that the doctor names: it cures them.

use std::process::Command;
use std::time::{Duration, Instant};

use lvs_tund::lab::{self, Host, Lab, LabError};

use crate::fixture::{Findings, Outcome, Running, director, realserver, request, same_subnet, shell};

const PATIENCE: Duration = Duration::from_secs(5);

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

/// The most common rule set there is. Connection tracking never sees the SYN-ACK, so it would lose every packet of a
/// client after the first.
pub fn stateful() -> Outcome {
    const RULES: &str = "policy accept; ct state established,related accept; ct state invalid drop;";
    let lab = same_subnet(2).build()?;
    let mut running = Running::start(&lab)?;
    let chain = |hook: &str| format!("chain {hook} {{ type filter hook {hook} priority 0; {RULES} }};");
    let chains = ["input", "forward", "output"].map(chain).concat();
    shell(&lab.director, &format!("nft 'table inet filter {{ {chains} }}'"));
    let mut kept = lab.client().connect((lab.vip, 80))?;
    let server = kept.get("/")?.text();
    for is_local in [false, true] {
        if is_local {
            // What is not for a virtual service stays tracked.
            lab.director.add_address(lab.vip, 32)?;
            running.director.wait_for_log("is now captured by rule", PATIENCE)?;
        }
        assert_eq!(kept.get("/")?.text(), server);
        assert_eq!(kept.post("/", &vec![7; 200_000])?.status, 200, "an upload");
        assert!(request(&lab)?.starts_with("server"));
        director(&lab).are(&[]);
    }
    // Reloading a firewall begins with this.
    shell(&lab.director, "nft flush ruleset");
    shell(&lab.director, &format!("nft 'table inet filter {{ {chains} }}'"));
    poll_until("the table", || rules_of(&lab.director).contains("table ip lvs-tund-lvsd0").then_some(()));
    assert_eq!(kept.get("/")?.text(), server);
    assert!(request(&lab)?.starts_with("server"));
    shell(&lab.director, "nft delete table inet filter");
    running.director.stop()?;
    assert_eq!(rules_of(&lab.director), "", "the director leaves nothing");
    Ok(())
}

/// The table goes with a killed director, and with it the last rule of its own.
pub fn exemption_of_a_killed_director() -> Outcome {
    let lab = same_subnet(1).build()?;
    let mut running = Running::start(&lab)?;
    assert!(rules_of(&lab.director).contains("tcp . 80"), "{}", rules_of(&lab.director));
    running.director.kill()?;
    poll_until("its end", || rules_of(&lab.director).is_empty().then_some(()));
    Ok(())
}

fn rules_of(host: &Host) -> String {
    let list = || Command::new("nft").args(["list", "ruleset"]).output().expect("nft");
    String::from_utf8(host.run(list).stdout).expect("UTF-8")
}

fn poll_until(what: &str, mut is_so: impl FnMut() -> Option<()>) {
    let since = Instant::now();
    while is_so().is_none() {
        assert!(since.elapsed() < PATIENCE, "{what} did not come within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The exemption is off, as an operator with rules for it may want.
fn start_tracked(lab: &Lab) -> Result<Running, LabError> {
    Running::start_with(lab, &format!("notrack = false\n{}", lab::director_configuration(lab, "rr")))
}

pub fn conntrack() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = start_tracked(&lab)?;
    let rules = "nft 'table inet filter { chain forward { type filter hook forward priority 0; policy accept; \
                 ct state vmap { established : accept, related : accept, invalid : drop }; }; }'";
    let expected = ("conntrack", "of a client after the first as invalid: connections open and then hang");
    cures(&lab, &lab.director, rules, expected, || director(&lab))
}

/// The director's own address is a VIP: ssh, as an example, arrives on its device.
pub fn passed() -> Outcome {
    let lab = same_subnet(1).build()?;
    lab.director.add_address(lab.vip, 32)?;
    let _running = Running::start(&lab)?;
    let _ssh = lab.director.serve_http(22)?;
    let login = || lab.client().get((lab.vip, 22), "/");
    assert_eq!(login()?.status, 200);
    director(&lab).are(&[]);
    let rules = "nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; iif lo accept; \
                 ct state established,related accept; icmp type echo-request accept; \
                 iifname \"eth0\" tcp dport 22 accept; }; }'";
    let expected =
        ("firewall", "(its policy) drops packets for 172.25.3.100, tcp port 22, that lvsd0 hands back");
    cures(&lab, &lab.director, rules, expected, || director(&lab))?;
    assert_eq!(login()?.status, 200, "with its remedy");
    Ok(())
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
    let _running = start_tracked(&lab)?;
    let rules = "iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT && \
                 iptables-nft -A FORWARD -m conntrack --ctstate INVALID -j DROP";
    let expected = (
        "conntrack",
        "iptables chain FORWARD of table filter (-A FORWARD -m conntrack --ctstate INVALID -j DROP)",
    );
    cures(&lab, &lab.director, rules, expected, || director(&lab))
}
