//! ipvsadm's grammar, refusals and printed formats, against what ipvsadm 1.31 printed for the same commands.
//!
//! `tests/ipvsadm/*.txt` are sessions: a command behind `$`, what was printed, and the exit code if it was
//! not 0.

#[path = "ipvsadm/desk.rs"]
mod desk;
#[path = "ipvsadm/saved.rs"]
mod saved;

use std::collections::BTreeSet;
use std::fs;

use desk::{Desk, HostFiles, words};
use lvs_tund::control::ipvsadm::command::Command;
use lvs_tund::control::ipvsadm::grammar;
use lvs_tund::control::ipvsadm::legality::TunnelType;
use lvs_tund::control::ipvsadm::options::{ITEMS, Item, Verb};
use lvs_tund::control::ipvsadm::{listing, restore, served};
use lvs_tund::control::model::{Rates, Statistics};

fn file(name: &str) -> String {
    let path = format!("{}/tests/ipvsadm/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Types every command of a recording and compares what is printed, byte for byte.
fn replay(name: &str) {
    let text = file(name);
    let mut desk = Desk::default();
    let mut printed = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ipvsadm ") {
            printed.push_str(&format!("{line}\n"));
            printed.push_str(&desk.enter(&words(command)));
        } else if let Some(setting) = line.strip_prefix('@') {
            printed.push_str(&format!("{line}\n"));
            let (key, value) = setting.split_once(' ').expect("a setting and its value");
            desk.set(key, value.parse().expect("a number"));
        } else if line.starts_with('#') {
            printed.push_str(&format!("{line}\n"));
        }
    }
    for (number, (expected, found)) in text.lines().zip(printed.lines()).enumerate() {
        assert_eq!(found, expected, "{name}:{}", number + 1);
    }
    assert_eq!(printed, text, "{name}");
}

#[test]
fn the_classic_recipe() {
    replay("recipe.txt");
}

#[test]
fn the_order_of_lists() {
    replay("order.txt");
}

#[test]
fn widths_of_columns() {
    replay("columns.txt");
}

#[test]
fn kinds_of_lists() {
    replay("kinds.txt");
}

/// The recorded sessions have one number everywhere; here each one is another.
#[test]
fn every_number_stands_under_its_own_heading() {
    let mut desk = Desk::default();
    for line in ["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.1 -i -w 5 -x 7 -y 6"] {
        assert_eq!(desk.enter(&words(line)), "", "{line}");
    }
    let statistics = |connections, packets, bytes| Statistics { connections, packets, bytes };
    let rates = |connections, packets, bytes| Rates { connections, packets, bytes };
    let mut services = desk.services();
    let service = &mut services[0];
    (service.statistics, service.rates) = (statistics(11, 12, 13), rates(21, 22, 23));
    let server = &mut service.real_servers[0];
    (server.statistics, server.rates) = (statistics(31, 32, 33), rates(41, 42, 43));
    (server.active_connections, server.inactive_connections, server.persistent_connections) = (2, 3, 4);
    let cases = [
        ("", "rr", "Tunnel 5 2 3"),
        (" --stats", "11 12 0 13 0", "31 32 0 33 0"),
        (" --rate", "21 22 0 23 0", "41 42 0 43 0"),
        (" --thresholds", "rr", "7 6 2 3"),
        (" --persistent-conn", "rr", "5 4 2 3"),
        (" --tun-info", "rr", "Tunnel ipip 5 2 3"),
    ];
    for (kind, of_service, of_server) in cases {
        let Ok(Command::List(terms)) = grammar::parse(&words(&format!("-Ln{kind}")), &HostFiles) else {
            panic!("{kind} is no list")
        };
        let list = listing::services(&services, 4096, &terms, &HostFiles).expect("a list");
        let rows: Vec<_> = list.lines().skip(3).map(|row| words(row).join(" ")).collect();
        let expected = [format!("TCP 10.0.0.1:80 {of_service}"), format!("-> 10.1.0.1:80 {of_server}")];
        assert_eq!(rows, expected, "-Ln{kind}");
    }
}

#[test]
fn every_error_text_and_exit_code() {
    let mut expected = String::new();
    let mut count = 0;
    for line in file("errors.txt").lines().filter(|line| !line.starts_with('#')) {
        let Some(typed) = line.strip_prefix("$ ipvsadm ") else {
            expected = line.to_owned();
            continue;
        };
        let refusal = grammar::parse(&words(typed), &HostFiles).expect_err(typed);
        assert_eq!(format!("{} {}", refusal.exit, refusal.text.trim_end()), expected, "{typed}");
        count += 1;
    }
    assert!(count > 250, "{count} lines");
}

/// Every command with every option together with what it needs, against the table of commands and options in
/// ipvsadm.c (commands_v_options), by name.
#[test]
fn every_command_with_every_option() {
    let table = file("matrix.txt");
    let rows: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rows.len(), Verb::ALL.len());
    for row in rows {
        let (command, allowed) = row.split_once(" | ").expect("a command and its options");
        let needed = words(command);
        let allowed: BTreeSet<&str> = allowed.split_whitespace().collect();
        let verb = Verb::ALL.into_iter().find(|verb| needed[0] == first_word(*verb)).expect(command);
        for (item, name) in ITEMS {
            let is_needed = needed.iter().any(|word| typed(item).first() == Some(word));
            if is_needed {
                let without: Vec<String> = without(&needed, &typed(item)[0]);
                let refusal = grammar::parse(&without, &HostFiles).expect_err(command);
                let text =
                    format!("You need to supply the '{name}' option for the '{}' command", verb.name());
                assert_eq!((refusal.exit, refusal.text), (2, text));
                continue;
            }
            let line = [needed.clone(), typed(item)].concat();
            match grammar::parse(&line, &HostFiles) {
                Ok(_) => assert!(allowed.contains(name), "{line:?}"),
                Err(refusal) if allowed.contains(name) => {
                    let of_values = [
                        "Tunnel options conflict with forward method",
                        "One-Packet Scheduling is only for UDP virtual services",
                    ];
                    assert!(of_values.contains(&refusal.text.as_str()), "{line:?}: {}", refusal.text);
                    let line = with_fitting_values(&line, item);
                    assert!(grammar::parse(&line, &HostFiles).is_ok(), "{line:?}");
                }
                Err(refusal) => {
                    let text = format!("Illegal '{name}' option with the '{}' command", verb.name());
                    assert_eq!((refusal.exit, refusal.text), (2, text), "{line:?}");
                }
            }
        }
    }
}

fn first_word(verb: Verb) -> &'static str {
    match verb {
        Verb::AddService => "-A",
        Verb::EditService => "-E",
        Verb::DeleteService => "-D",
        Verb::Flush => "-C",
        Verb::List => "-L",
        Verb::AddServer => "-a",
        Verb::DeleteServer => "-d",
        Verb::EditServer => "-e",
        Verb::SetTimeouts => "--set",
        Verb::StartDaemon => "--start-daemon",
        Verb::StopDaemon => "--stop-daemon",
        Verb::Restore => "-R",
        Verb::Save => "-S",
        Verb::Zero => "-Z",
    }
}

/// How an option is typed.
fn typed(item: Item) -> Vec<String> {
    words(match item {
        Item::Numeric => "-n",
        Item::Connection => "-c",
        Item::ServiceAddress => "-t 10.0.0.1:80",
        Item::Scheduler => "-s rr",
        Item::Persistent => "-p",
        Item::Netmask => "-M 255.255.255.0",
        Item::RealServer => "-r 10.1.0.1",
        Item::ForwardingMethod => "-i",
        Item::Weight => "-w 1",
        Item::UpperThreshold => "-x 1",
        Item::LowerThreshold => "-y 1",
        Item::McastInterface => "--mcast-interface eth0",
        Item::Timeout => "--timeout",
        Item::Daemon => "--daemon",
        Item::Stats => "--stats",
        Item::Rate => "--rate",
        Item::Thresholds => "--thresholds",
        Item::PersistentConn => "--persistent-conn",
        Item::NoSort => "--nosort",
        Item::SyncId => "--syncid 1",
        Item::Exact => "--exact",
        Item::Ops => "-o",
        Item::Pe => "--pe sip",
        Item::SchedFlags => "-b flag-1",
        Item::McastGroup => "--mcast-group 224.0.0.81",
        Item::McastPort => "--mcast-port 1",
        Item::McastTtl => "--mcast-ttl 1",
        Item::SyncMaxlen => "--sync-maxlen 1",
        Item::TunInfo => "--tun-info",
        Item::TunType => "--tun-type ipip",
        Item::TunPort => "--tun-port 1",
        Item::TunNocsum => "--tun-nocsum",
        Item::TunCsum => "--tun-csum",
        Item::TunRemcsum => "--tun-remcsum",
    })
}

/// The line with what an option requires: one packet is for UDP, and a tunnel is one that has such a thing.
fn with_fitting_values(line: &[String], item: Item) -> Vec<String> {
    let line: Vec<String> =
        line.iter().map(|word| if word == "-t" { "-u".into() } else { word.clone() }).collect();
    let more = match item {
        Item::Ops => "",
        Item::TunType => "-i",
        Item::TunPort => "-i --tun-type gue",
        _ => "-i --tun-type gue --tun-port 6080",
    };
    [line, words(more)].concat()
}

/// The line without an option and its value.
fn without(line: &[String], option: &str) -> Vec<String> {
    let position = line.iter().position(|word| word == option).expect("the option stands in the line");
    [&line[..position], &line[position + 2..]].concat()
}

/// What is legal and not served: refused with a sentence of one line that suggests what to do.
#[test]
fn what_is_not_served_is_refused_with_a_sentence() {
    let cases = [
        ("-a -t 10.0.0.1:80 -r 10.1.0.1", "add -i"),
        ("-a -t 10.0.0.1:80 -r 10.1.0.1 -g", "use -i"),
        ("-e -t 10.0.0.1:80 -r 10.1.0.1 -m", "use -i"),
        ("-e -t 10.0.0.1:80 -r 10.1.0.1", "add -i"),
        ("-a -t 10.0.0.1:80 -r 10.1.0.1 -i --tun-type gue --tun-port 6080", "remove it to use ipip"),
        ("-a -t 10.0.0.1:80 -r 10.1.0.1 -i --tun-type gre", "remove it to use ipip"),
        ("-a -t 10.0.0.1:80 -r 2001:db8::1 -i", "IPv4 address"),
        ("-A -t [2001:db8::1]:80", "IPv4 address"),
        ("-A -f 1", "match = ["),
        ("-A -f 1 -6", "match = ["),
        ("-A --sctp-service 10.0.0.1:80", "use -t or -u"),
        ("-A -t 10.0.0.1:80 --pe sip -p", "remove it"),
        ("-A -t 10.0.0.1:80 -s rr -b flag-1", "no such flag"),
        ("-A -t 10.0.0.1:80 -s sh -b flag-3", "no such flag"),
        ("-A -t 10.0.0.1:80 -p -M 255.255.0.255", "with contiguous ones"),
        ("-A -t 10.0.0.1:80 -p -M 0.0.0.0", "with contiguous ones"),
        ("-E -t 10.0.0.1:80 -p -M 0.0.0.24", "with contiguous ones"),
        ("--start-daemon master --mcast-interface eth0", "hash_key"),
        ("--stop-daemon backup", "hash_key"),
    ];
    for (line, hint) in cases {
        let command =
            grammar::parse(&words(line), &HostFiles).unwrap_or_else(|e| panic!("{line}: {}", e.text));
        let refusal = served::operation(&command).expect_err(line);
        assert_eq!(refusal.exit, 2, "{line}");
        assert!(refusal.text.starts_with("lvs-tund: "), "{line}: {}", refusal.text);
        assert!(refusal.text.contains(hint) && !refusal.text.contains('\n'), "{line}: {}", refusal.text);
    }
}

/// What cannot be there is simply not there.
#[test]
fn services_that_cannot_exist_are_missing() {
    let cases = [
        ("-D -f 1", "No such service"),
        ("-E -t [2001:db8::1]:80", "No such service"),
        ("-Z --sctp-service 10.0.0.1:80", "No such service"),
        ("-a -f 1 -r 10.1.0.1 -i", "Service not defined"),
        ("-e -t [2001:db8::1]:80 -r 2001:db8::2 -i", "Service not defined"),
        ("-d -f 1 -6 -r 2001:db8::2", "Service not defined"),
    ];
    for (line, text) in cases {
        let command = grammar::parse(&words(line), &HostFiles).expect(line);
        let refusal = served::operation(&command).expect_err(line);
        assert_eq!((refusal.exit, refusal.text.as_str()), (255, text), "{line}");
    }
    assert_eq!(Desk::default().enter(&words("-L -n -f 1")), "No such service\n[exit 1]\n");
}

#[test]
fn thresholds_that_cross_are_out_of_range_as_in_the_kernel() {
    let command = grammar::parse(&words("-a -t 10.0.0.1:80 -r 10.1.0.1 -i -y 10"), &HostFiles).unwrap();
    let refusal = served::operation(&command).unwrap_err();
    assert_eq!(refusal.exit, 255);
    assert!(
        refusal.text.starts_with("Numerical result out of range\nlvs-tund: -y 10 is above -x 0"),
        "{}",
        refusal.text
    );
}

#[test]
fn a_port_that_a_tunnel_cannot_change_gets_a_note() {
    let note = |line: &str| served::note(&grammar::parse(&words(line), &HostFiles).unwrap());
    let told = note("-a -t 172.25.3.100:80 -r 172.25.3.2:8080 -i").unwrap();
    assert!(told.contains("port 8080 of 172.25.3.2 has no effect") && told.ends_with("on port 80"), "{told}");
    let told = note("-e -t 172.25.3.100:0 -r 172.25.3.2:8080 -i").unwrap();
    assert!(told.ends_with("on the port that the client used"), "{told}");
    for line in ["-a -t 172.25.3.100:80 -r 172.25.3.2:80 -i", "-a -t 172.25.3.100:80 -r 172.25.3.2 -i", "-Ln"]
    {
        assert_eq!(note(line), None, "{line}");
    }
    let lines = restore::parse("-a -t 172.25.3.100:80 -r 172.25.3.2:81 -i\n", &HostFiles).unwrap();
    assert!(lines[0].note.as_ref().is_some_and(|note| note.contains("port 81")), "{lines:?}");
}

#[test]
fn a_weight_is_a_number_of_31_bits() {
    let weight = |word: &str| {
        let line = format!("-a -t 172.25.3.100:80 -r 172.25.3.2 -i -w {word}");
        match grammar::parse(&words(&line), &HostFiles) {
            Ok(Command::AddServer(_, terms)) => Ok(terms.weight),
            other => Err(other.unwrap_err().text),
        }
    };
    assert_eq!((weight("65536"), weight("2147483647")), (Ok(65_536), Ok(2_147_483_647)));
    assert_eq!(weight("2147483648"), Err("illegal weight specified".to_owned()));
}

#[test]
fn defaults_are_those_of_ipvsadm() {
    let parse = |line: &str| grammar::parse(&words(line), &HostFiles).expect(line);
    let Command::AddService(service) = parse("-A -t 10.0.0.1 -p") else { panic!("no service") };
    assert_eq!((service.scheduler.as_str(), service.persistence), ("wlc", Some(360)));
    let Command::AddServer(_, server) = parse("-a -t 10.0.0.1:80 -r 10.1.0.1:8080") else {
        panic!("no server")
    };
    assert_eq!((server.weight, server.forwarding, server.tunnel), (1, None, TunnelType::Ipip));
    assert_eq!(server.place.port, 80, "without masquerading the port is the service's");
}
