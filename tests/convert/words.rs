//! No word of a file vanishes: each is in the result, or in a comment that names it.

use std::fmt::Write;

use lvs_tund::convert::Kind;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{assert_valid, toml_of};

/// Every keyword that the converter has, each with a good value.
const KEEPALIVED: &str = r#"
global_defs {
router_id r
lvs_timeouts tcp 11 udp 12
lvs_sync_daemon eth1
script_user u1 g1
smtp_alert
lvs_flush
notify_fifo /f
}
vrrp_instance V {
interface eth0
}
virtual_server_group G {
172.25.3.101-102 80
fwmark 7 inet
}
virtual_server 172.25.3.100 80 {
lvs_sched mh
mh-port
mh-fallback
lvs_method TUN type ipip
protocol UDP
persistence_timeout 77
persistence_granularity 255.255.0.0
persistence_engine sip
ops
hashed
delay_loop 7
connect_timeout 3
retry 4
delay_before_retry 2
warmup 5
alpha
omega
quorum 2
hysteresis 1
quorum_up "/up 1" u1 g1
quorum_down "/down 2" u2 g2
sorry_server 172.25.3.9 80
sorry_server_inhibit
sorry_server_lvs_method DR
inhibit_on_failure
weight 6
virtualhost v.example
ha_suspend
smtp_alert
snmp_name web
ip_family inet
syn_proxy
nonsense
real_server 172.25.3.2 80 {
weight 3
lvs_method DR
uthreshold 40
lthreshold 30
notify_up "/up 3" u3 g3
notify_down "/down 4" u4 g4
inhibit_on_failure no
alpha yes
virtualhost w.example
delay_loop 8
snmp_name s2
lb_kind DR
nonsense
TCP_CHECK {
connect_ip 172.25.3.7
connect_port 99
connect_timeout 2
bindto 172.25.3.1
bind_port 5
bind_if eth0
fwmark 8
retry 5
warmup 1
alpha no
log_all_failures
nb_get_retry 3
virtualhost t.example
}
HTTP_GET {
http_protocol 1.1
enable_sni on
sni_name n.example
fast_recovery
nb_get_retry 6
delay_before_retry 4
virtualhost x.example
url {
path /a
virtualhost y.example
status_code 201 301-302
digest 9b3a0c85a887a256d6939da88aabd8cd
regex "a b"
regex_options caseless dotall
regex_no_match
regex_stack 1 2
}
}
SSL_GET {
enable_sni on
sni_name m.example
url {
path /b
regex_min_offset 5
}
}
SMTP_CHECK {
helo_name h.example
host {
connect_ip 172.25.3.8
}
}
DNS_CHECK {
type AAAA
name d.example
}
UDP_CHECK {
payload 0a0b
require_reply 0cxx
min_reply_length 3
}
PING_CHECK {
connect_port 6
}
MISC_CHECK {
misc_path "/check 1"
misc_timeout 9
misc_dynamic
user u5 g5
connect_timeout 1
}
FILE_CHECK {
track_file f
weight 1 reverse
}
BFD_CHECK {
name b
}
}
real_server 172.25.3.3 80 {
}
}
virtual_server group G {
lvs_method DR
real_server 172.25.3.4 80 {
retry 3
MISC_CHECK {
misc_path /check
}
}
}
"#;

const LDIRECTORD: &str = r#"
checktimeout=3
negotiatetimeout=4
checkinterval=5
checkcount=1
failurecount=2
fallback=172.25.3.9:80 ipip
fallbackcommand=/fallback
autoreload=yes
callback="/callback"
logfile="/log"
execute=/other
fork=no
supervised=yes
quiescent=yes
readdquiescent=no
emailalert="a@example.org"
emailalertfreq=6
emailalertstatus=all
emailalertfrom=b@example.org
cleanstop=no
smtp=mail
maintenancedir=/maintenance
virtual=172.25.3.100:80
    real=172.25.3.2->172.25.3.3:80 ipip 3 "/r", "x" l:4 u:5
    real=172.25.3.4:8080 gate
    checktype=negotiate
    service=http
    checkport=81
    checkcommand="/command"
    request="/a"
    receive="b"
    httpmethod=GET
    virtualhost="v.example"
    login="l"
    passwd="p"
    database="d"
    secret="s"
    load="1"
    scheduler=rr
    schedflags=sh-port
    persistent=60
    netmask=255.255.255.0
    protocol=tcp
    ops=no
    checktimeout=7
    negotiatetimeout=8
    failurecount=3
    checkcount=2
    checkinterval=9
    fallback=172.25.3.8 gate
    fallbackcommand="/fallback x"
    quiescent=no
    cleanstop=yes
    emailalert=c@example.org
    smtp=mail2
    monitorfile="/m"
    servicename=n
    comment=c
virtual=172.25.3.101:53
    real=172.25.3.2:53 ipip
    request="d.example"
    receive="192.0.2.1"
virtual=7
    real=172.25.3.2 ipip
    checktype=external
virtual=172.25.3.102:1234
    real=172.25.3.2:1234 ipip
    service=simpletcp
    request="PING"
    receive="PONG"
"#;

const IPVSADM: &str = "
VIP=172.25.3.100
export RIP=172.25.3.2
IPVSADM='sudo /sbin/ipvsadm'
modprobe ip_vs
ipvsadm -C
ipvsadm --set 900 120 300
$IPVSADM -A -t $VIP:80 -s wrr -p 60
if true
then
sudo ipvsadm -a -t ${VIP}:80 -r $RIP -i -w 2
else
echo
fi
for R in 3 4
do
ipvsadm -a -t $VIP:80 -r 172.25.3.$R -i
done
start() {
ipvsadm -A -f 7
}
case \"$1\" in
stop) ipvsadm -D -f 7
esac
";

/// Words that the result does not show.
const SECRETS: [&str; 2] = ["passwd", "secret"];

/// Lines that only open, close or separate, and VRRP, which stays with keepalived.
fn is_structure(line: &str) -> bool {
    let bare = ["}", "interface eth0", "then", "else", "fi", "do", "done", "esac", ""].contains(&line);
    bare || line.ends_with("() {") || SECRETS.iter().any(|word| line.trim().starts_with(word))
}

/// The line with further words, in front of a brace at its end.
fn with(line: &str, words: &str) -> String {
    match line.strip_suffix('{') {
        Some(before) => format!("{before}{words} {{"),
        None => format!("{line} {words}"),
    }
}

/// Adds words of its own to some lines, and repeats some; the words that it added.
fn varied(text: &str, extended: &[Index], repeated: &[Index]) -> (String, Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    let is_in = |indices: &[Index], at: usize| indices.iter().any(|index| index.index(lines.len()) == at);
    let (mut varied, mut added) = (String::new(), Vec::new());
    let mut word = || {
        let word = format!("zq{}zq", added.len());
        added.push(word.clone());
        word
    };
    for (at, line) in lines.iter().enumerate() {
        let may_vary = !is_structure(line);
        if may_vary && is_in(repeated, at) && !line.ends_with('{') {
            let _ = writeln!(varied, "{}", with(line, &word()));
        }
        match may_vary && is_in(extended, at) {
            true => writeln!(varied, "{}", with(line, &format!("{} {} {}", word(), word(), word()))),
            false => writeln!(varied, "{line}"),
        }
        .expect("a string takes text");
    }
    (varied, added)
}

/// The lines whose words have no trace in the result.
fn untraced(kind: Kind, text: &str, words: &[String]) -> Vec<String> {
    let toml = toml_of(kind, text);
    assert_valid(&toml);
    let lost = words.iter().filter(|word| !toml.contains(word.as_str()));
    let line = |word: &String| text.lines().find(|line| line.contains(word.as_str())).unwrap_or_default();
    lost.map(|word| line(word).to_owned()).collect()
}

/// Each line alone, so that a failure names it.
#[test]
fn a_word_behind_any_line_leaves_a_trace() {
    let mut lost = Vec::new();
    for (kind, text) in
        [(Kind::Keepalived, KEEPALIVED), (Kind::Ldirectord, LDIRECTORD), (Kind::Ipvsadm, IPVSADM)]
    {
        let lines: Vec<&str> = text.lines().collect();
        for at in (0..lines.len()).filter(|at| !is_structure(lines[*at])) {
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            lines[at] = with(&lines[at], "zq1zq zq2zq");
            lost.extend(untraced(kind, &lines.join("\n"), &["zq1zq".to_owned(), "zq2zq".to_owned()]));
        }
    }
    assert_eq!(lost, [""; 0]);
}

#[test]
fn a_line_that_a_later_one_replaces_leaves_a_trace() {
    let mut lost = Vec::new();
    for (kind, text) in [(Kind::Keepalived, KEEPALIVED), (Kind::Ldirectord, LDIRECTORD)] {
        let lines: Vec<&str> = text.lines().collect();
        for at in (0..lines.len()).filter(|at| !is_structure(lines[*at]) && !lines[*at].ends_with('{')) {
            let before = lines[..at].join("\n");
            let behind = lines[at..].join("\n");
            let text = format!("{before}\n{} zq1zq\n{behind}", lines[at]);
            lost.extend(untraced(kind, &text, &["zq1zq".to_owned()]));
        }
    }
    assert_eq!(lost, [""; 0]);
}

/// The keywords themselves and their values: without the line, the result is another one.
#[test]
fn every_line_of_every_program_leaves_a_trace() {
    let without_numbers = |toml: String| {
        toml.lines()
            .map(|line| {
                let mut parts = line.split("file:");
                let first = parts.next().unwrap_or_default().to_owned();
                parts.fold(first, |text, part| text + part.trim_start_matches(|c: char| c.is_ascii_digit()))
                    + "\n"
            })
            .collect::<String>()
    };
    let mut lost = Vec::new();
    for (kind, text) in [(Kind::Keepalived, KEEPALIVED), (Kind::Ldirectord, LDIRECTORD)] {
        let lines: Vec<&str> = text.lines().collect();
        let whole = without_numbers(toml_of(kind, text));
        for at in (0..lines.len()).filter(|at| !is_structure(lines[*at]) && !lines[*at].ends_with('{')) {
            let mut shorter = lines.clone();
            shorter.remove(at);
            let without = without_numbers(toml_of(kind, &shorter.join("\n")));
            let is_default = [
                "inhibit_on_failure no",
                "alpha no",
                "ops=no",
                "quiescent=no",
                "httpmethod=GET",
                "fork=no",
                "checkcount=1",
                "checktype=negotiate",
                "protocol=tcp",
            ];
            let is_stated = is_default.contains(&lines[at].trim());
            lost.extend(Some(lines[at]).filter(|_| !is_stated && whole == without));
        }
    }
    assert_eq!(lost, [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn words_that_are_too_many_leave_a_trace(
        extended in prop::collection::vec(any::<Index>(), 0..12),
        repeated in prop::collection::vec(any::<Index>(), 0..12),
        which in 0_usize..3,
    ) {
        let (kind, text) =
            [(Kind::Keepalived, KEEPALIVED), (Kind::Ldirectord, LDIRECTORD), (Kind::Ipvsadm, IPVSADM)][which];
        let (text, words) = varied(text, &extended, &repeated);
        prop_assert_eq!(untraced(kind, &text, &words), [""; 0], "{}", text);
    }
}
