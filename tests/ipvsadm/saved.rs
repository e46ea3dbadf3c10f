//! `-S` and `-R`: what is saved is what is restored; what is wrong in one line changes nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;

use lvs_tund::control::ipvsadm::names::Numeric;
use lvs_tund::control::ipvsadm::{IpvsadmError, connections, restore, save, served};
use lvs_tund::control::model::{Connection, EntryKind, Matcher, Operation, Port, Protocol};
use lvs_tund::control::operation::{Running, apply};
use lvs_tund::director::cluster::VirtualServiceConfig;
use lvs_tund::time::Moment;
use proptest::prelude::*;

use super::desk::{Desk, HostFiles, seconds, words};

fn desk_with(lines: &[String]) -> Desk {
    let mut desk = Desk::default();
    for line in lines {
        assert_eq!(desk.enter(&words(line)), "", "{line}");
    }
    desk
}

fn saved(desk: &Desk) -> Result<save::Saved, IpvsadmError> {
    save::save(&desk.services(), &seconds(&desk.running.defaults.timeouts), &Numeric)
}

fn restored(text: &str) -> Result<Vec<VirtualServiceConfig>, IpvsadmError> {
    let lines = restore::parse(text, &HostFiles)?;
    let operations: Vec<_> = lines.into_iter().map(|line| line.operation).collect();
    let applied = apply(&Running::default(), &operations, Moment::from_secs(1)).expect("a legal change");
    Ok(applied.running.cluster.virtual_services.clone())
}

/// The order of virtual services and real servers means nothing.
fn by_address(mut services: Vec<VirtualServiceConfig>) -> Vec<VirtualServiceConfig> {
    services.sort_by_key(|service| service.matchers[0]);
    services.iter_mut().for_each(|service| service.real_servers.sort_by_key(|server| server.rip));
    services
}

/// A virtual service with its real servers, as commands; `number` keeps its VIP apart from others.
fn service(number: u8) -> impl Strategy<Value = Vec<String>> {
    let port = prop_oneof![Just(0u16), Just(80), Just(65_535), 1u16..];
    let scheduler = prop_oneof![
        Just("rr"),
        Just("wlc"),
        Just("twos"),
        Just("sh"),
        Just("sh -b sh-port"),
        Just("mh -b mh-port,mh-fallback"),
        Just("mh -b flag-1"),
    ];
    let persistence = prop_oneof![
        Just(String::new()),
        Just(" -p".to_owned()),
        (1u32..2_678_400).prop_map(|timeout| format!(" -p {timeout}")),
        (1u32..2_678_400, 1u32..=32).prop_map(|(timeout, prefix)| {
            let mask = Ipv4Addr::from(u32::MAX << (32 - prefix));
            format!(" -p {timeout} -M {mask}")
        }),
    ];
    let server = (0u32..=65_535, 0u32..=i32::MAX as u32, any::<bool>());
    let servers = proptest::collection::vec(server, 0..5);
    (any::<bool>(), port, scheduler, persistence, any::<bool>(), servers).prop_map(
        move |(is_tcp, port, scheduler, persistence, is_one_packet, servers)| {
            let persistence =
                if port == 0 && persistence.is_empty() { " -p 7".to_owned() } else { persistence };
            let ops = if is_one_packet && !is_tcp { " -o" } else { "" };
            let address = format!("{} 10.0.0.{number}:{port}", if is_tcp { "-t" } else { "-u" });
            let mut lines = vec![format!("-A {address} -s {scheduler}{persistence}{ops}")];
            for (index, (weight, upper, has_lower)) in servers.into_iter().enumerate() {
                let lower = if has_lower { upper / 2 } else { 0 };
                lines.push(format!(
                    "-a {address} -r 10.1.{number}.{index} -i -w {weight} -x {upper} -y {lower}"
                ));
            }
            lines
        },
    )
}

proptest! {
    #[test]
    fn what_is_saved_is_what_is_restored(a in service(1), b in service(2), c in service(3)) {
        let desk = desk_with(&[a, b, c].concat());
        let text = saved(&desk).expect("commands can express what commands made");
        prop_assert_eq!(&text.left_out, &Vec::<String>::new());
        let services = desk.running.cluster.virtual_services.clone();
        prop_assert_eq!(by_address(restored(&text.text).expect("legal")), by_address(services));
    }

    #[test]
    fn no_line_makes_a_restore_panic(text in "(-[A-Za-z0-9]|--[a-z]{1,9}|[0-9.:\\[\\]]{1,12}| |\n|#|é){0,40}") {
        if let Err(refusal) = restore::parse(&text, &Numeric) {
            prop_assert!(refusal.text.contains("nothing was changed"), "{}", refusal.text);
        }
    }
}

const WEB: &str = "\
-A -t 10.0.0.1:80 -s sh -p 300 -M 255.255.255.0 -b sh-fallback,sh-port
-a -t 10.0.0.1:80 -r 192.168.1.1:80 -i -w 3 --tun-type ipip -x 100 -y 50
-a -t 10.0.0.1:80 -r 192.168.1.2:80 -i -w 0 --tun-type ipip
-A -u 10.0.0.1:53 -s wlc -o
";

#[test]
fn the_text_is_ipvsadms_with_thresholds_behind_it() {
    let lines: Vec<String> = WEB.lines().map(str::to_owned).collect();
    assert_eq!(saved(&desk_with(&lines)).unwrap().text, WEB);
}

#[test]
fn names_are_saved_and_read_unless_numbers_are_requested() {
    let lines = ["-A -t web.example:http -s rr", "-a -t 172.25.3.100:80 -r twenty-three.example.org -i"];
    let desk = desk_with(&lines.map(str::to_owned));
    let timeouts = seconds(&desk.running.defaults.timeouts);
    let named = save::save(&desk.services(), &timeouts, &HostFiles).unwrap().text;
    assert_eq!(
        named,
        "-A -t web.example:http -s rr\n\
         -a -t web.example:http -r twenty-three.example.org:http -i -w 1 --tun-type ipip\n"
    );
    assert_eq!(restored(&named).unwrap(), desk.running.cluster.virtual_services);
    assert!(saved(&desk).unwrap().text.starts_with("-A -t 172.25.3.100:80 -s rr\n"));
}

#[test]
fn lists_show_names_cut_at_their_column_unless_numbers_are_requested() {
    let lines = ["-A -t web.example:http -s rr", "-a -t 172.25.3.100:80 -r twenty-three.example.org -i"];
    let mut desk = desk_with(&lines.map(str::to_owned));
    let named = desk.enter(&words("-L"));
    assert!(named.contains("\nTCP  web.example:http rr\n"), "{named}");
    assert!(named.contains("\n  -> twenty-three.example.org:htt Tunnel  1 "), "{named}");
    let numeric = desk.enter(&words("-Ln"));
    assert!(
        numeric.contains("\nTCP  172.25.3.100:80 rr\n  -> 172.25.3.2:80                Tunnel"),
        "{numeric}"
    );
}

#[test]
fn comments_blank_lines_and_the_programs_name_have_no_effect() {
    let plain = restored(WEB).unwrap();
    let dressed =
        format!("# saved\n\n  \nipvsadm\n{}", WEB.replace("-A", "\tipvsadm  -A").replace('\n', " \r\n"));
    assert_eq!(restored(&dressed).unwrap(), plain);
}

#[test]
fn a_wrong_line_is_named_and_nothing_is_changed() {
    let cases = [
        ("-A -t 10.0.0.1:80\n-A -t 10.0.0.1:8x\n", 2, "illegal virtual server address[:port] specified"),
        ("foo\n", 255, "Try `ipvsadm -h' or 'ipvsadm --help' for more information."),
        ("-A -t 10.0.0.1:80 # web\n", 2, "unexpected argument #"),
        ("-L -n\n", 2, "lvs-tund: a restore is one change;"),
        ("-R\n", 2, "lvs-tund: a restore is one change;"),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2\n", 2, "lvs-tund: without -i"),
    ];
    for (text, exit, begin) in cases {
        let refusal = restore::parse(text, &Numeric).expect_err(text);
        assert_eq!(refusal.exit, exit, "{text}");
        assert!(refusal.text.starts_with(begin), "{text}: {}", refusal.text);
        assert!(refusal.text.contains(&format!("line {} of the restore", text.lines().count())));
    }
}

#[test]
fn what_commands_cannot_express_is_refused_or_named() {
    let mut desk = desk_with(&WEB.lines().map(str::to_owned).collect::<Vec<_>>());
    let services = &mut Arc::make_mut(&mut desk.running.cluster).virtual_services;
    services[0].name = "web".to_owned();
    services[0].real_servers[0].path_mtu = Some(1400);
    assert_eq!(saved(&desk).unwrap().left_out, ["web: name", "web 192.168.1.1: path_mtu"]);
    let second = services_matcher(&desk);
    Arc::make_mut(&mut desk.running.cluster).virtual_services[0].matchers.push(second);
    let refusal = saved(&desk).unwrap_err();
    assert_eq!(refusal.exit, 1);
    assert!(refusal.text.contains("\"web\" matches several addresses or ports"), "{}", refusal.text);
    let mut operations = operations_of("-D -t 10.0.0.1:80\n");
    let refusal = served::fit(&mut operations, &desk.services()).unwrap_err();
    assert!(refusal.text.contains("\"web\" matches 2 addresses and ports"), "{}", refusal.text);
    assert_eq!(served::fit(&mut operations, &[]), Ok(()));
}

fn operations_of(text: &str) -> Vec<Operation> {
    restore::parse(text, &Numeric).unwrap().into_iter().map(|line| line.operation).collect()
}

#[test]
fn an_edit_leaves_what_ipvsadm_cannot_express() {
    let mut desk = desk_with(&WEB.lines().map(str::to_owned).collect::<Vec<_>>());
    let service = &mut Arc::make_mut(&mut desk.running.cluster).virtual_services[0];
    service.persistence.as_mut().unwrap().expires_quiesced = true;
    service.real_servers[0].path_mtu = Some(1400);
    let before = service.clone();
    let mut operations = operations_of(
        "-E -t 10.0.0.1:80 -s sh -p 300 -M 255.255.255.0 -b sh-port,sh-fallback\n\
         -e -t 10.0.0.1:80 -r 192.168.1.1 -i -w 3 -x 100 -y 50\n",
    );
    served::fit(&mut operations, &desk.services()).unwrap();
    let after = apply(&desk.running, &operations, Moment::from_secs(1)).unwrap().running;
    assert_eq!(after.cluster.virtual_services[0], before);
}

fn services_matcher(desk: &Desk) -> lvs_tund::director::cluster::Matcher {
    let first = desk.running.cluster.virtual_services[0].matchers[0];
    let https = Matcher { protocol: Protocol::Tcp, vip: first.vip, port: Port::one(443) };
    https.into()
}

#[test]
fn connections_as_rows() {
    let connection =
        |kind, protocol, client: &str, client_port, vip_port, state: &str, expires_in| Connection {
            kind,
            protocol,
            client: client.parse().unwrap(),
            client_port,
            vip: "172.25.3.100".parse().unwrap(),
            vip_port,
            virtual_service: Some("web".to_owned()),
            real_server: None,
            rip: Some("172.25.3.2".parse().unwrap()),
            state: state.to_owned(),
            expires_in,
        };
    let rows = [
        connection(EntryKind::Connection, Protocol::Tcp, "203.0.113.7", 54_321, 80, "ESTABLISHED", 899),
        connection(EntryKind::Connection, Protocol::Udp, "203.0.113.7", 54_322, 53, "UDP", 300),
        connection(EntryKind::Template, Protocol::Tcp, "203.0.113.0", 0, 80, "NONE", 359),
        connection(EntryKind::Connection, Protocol::Tcp, "203.0.113.7", 54_323, 80, "SYN_RECV", 36_000),
        Connection {
            rip: None,
            ..connection(EntryKind::Connection, Protocol::Tcp, "203.0.113.7", 1, 80, "CLOSE", 9)
        },
    ];
    let text: String = rows.iter().map(|row| connections::row(row, &Numeric)).collect();
    assert_eq!(
        connections::header(false) + &text,
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination\n\
         TCP 14:59  ESTABLISHED 203.0.113.7:54321  172.25.3.100:80    172.25.3.2:80\n\
         UDP 05:00  UDP         203.0.113.7:54322  172.25.3.100:53    172.25.3.2:53\n\
         TCP 05:59  NONE        203.0.113.0:0      172.25.3.100:80    172.25.3.2:80\n\
         TCP 600:00 SYN_RECV    203.0.113.7:54323  172.25.3.100:80    172.25.3.2:80\n\
         TCP 00:09  CLOSE       203.0.113.7:1      172.25.3.100:80    0.0.0.0:80\n"
    );
    assert!(connections::header(true).ends_with("destination        pe name          pe_data\n"));
    assert!(
        connections::row(&rows[0], &HostFiles)
            .ends_with("web.example:http   twenty-three.example.org:http\n")
    );
}
