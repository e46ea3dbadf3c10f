//! The examples in `config/` are the manual, so they must not rot: they are valid, they name every key, and every
//! line they show commented out is accepted. Their broken twins (tables in `tests/config/`) are refused with
//! one line that names the place, the mistake and the remedy.

use std::collections::BTreeSet;

use lvs_tund::config::key::Keys;
use lvs_tund::config::keys::cluster::{CLUSTER_KEYS, DEFAULT_KEYS};
use lvs_tund::config::keys::host::HOST_KEYS;
use lvs_tund::config::keys::persistence::PERSISTENCE_KEYS;
use lvs_tund::config::keys::real_server::REAL_SERVER_KEYS;
use lvs_tund::config::keys::realserver::REALSERVER_KEYS;
use lvs_tund::config::keys::service::SERVICE_KEYS;
use lvs_tund::config::keys::timeouts::TIMEOUT_KEYS;
use lvs_tund::config::plan::{self, DirectorPlan, RealserverPlan};
use lvs_tund::config::{ConfigError, Source};
use lvs_tund::encapsulation::Ttl;
use lvs_tund::packet::Protocol;

#[path = "config/pages.rs"]
mod pages;
mod support;

const DIRECTOR: &str = include_str!("../config/director.toml");
const REALSERVER: &str = include_str!("../config/realserver.toml");

fn director(text: &str) -> Result<DirectorPlan, ConfigError> {
    plan::director(&Source { name: "director.toml", text }, None)
}

fn realserver(text: &str) -> Result<RealserverPlan, ConfigError> {
    plan::realserver(&Source { name: "realserver.toml", text }, &[], &[], false)
}

/// What is left of an example without its comments: the twins' lines are counted in it.
fn essence(example: &str) -> String {
    let lines = example.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// True for `#key = value`, as opposed to the prose of `# words`.
fn is_commented_key(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()))
}

/// The keys that an example shows between two of its headers, commented out or not.
fn shown(section: &str) -> BTreeSet<&str> {
    let lines = section.lines().filter(|line| !line.starts_with("# "));
    lines.filter_map(|line| line.trim_start_matches('#').split_once(" = ")).map(|(key, _)| key).collect()
}

#[test]
fn the_examples_are_valid_and_mean_what_their_comments_state() {
    let plan = director(DIRECTOR).unwrap();
    assert_eq!(plan.interfaces, ["eth0"]);
    let [web] = &plan.cluster.virtual_services[..] else { panic!("one virtual service: {plan:?}") };
    let [matcher] = web.matchers[..] else { panic!("one matcher: {web:?}") };
    let shown = (matcher.protocol, matcher.vip.to_string(), matcher.ports.to_string());
    assert_eq!(shown, (Protocol::Tcp, "172.25.3.100".to_owned(), "80".to_owned()));
    assert_eq!(web.scheduler.name, "rr");
    let rips: Vec<String> = web.real_servers.iter().map(|server| server.rip.to_string()).collect();
    assert_eq!(rips, ["172.25.3.2", "172.25.3.3"]);
    let plan = realserver(REALSERVER).unwrap();
    assert_eq!(plan.guard.vips, ["172.25.3.100".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(plan.guard.directors, ["172.25.3.1/32".parse().unwrap()]);
}

#[test]
fn an_interface_is_one_name_or_a_list_of_names() {
    let read = |value: &str| director(&format!("interface = {value}\n")).map(|plan| plan.interfaces);
    assert_eq!(read("\"eth0\"").unwrap(), ["eth0"]);
    assert_eq!(read("[\"eth1\", \"eth0\"]").unwrap(), ["eth1", "eth0"]);
    let cases = [
        ("[]", "interface = []: name at least one"),
        ("7", "interface = 7: expected text in quotes, or a list of such texts"),
        ("[\"eth0\", \"eth0\"]", "is listed twice; remove one"),
        ("[\"eth0\", \"lo\"]", "interface = \"lo\": clients' packets do not arrive on the loopback"),
        ("[\"eth0\", 7]", "expected text in quotes"),
        ("[\"eth0\", \"lvsd0\"]", "tun and interface are both \"lvsd0\""),
    ];
    for (value, expected) in cases {
        let message = read(value).unwrap_err().to_string();
        assert!(message.contains(expected), "{value}: {message}");
    }
    let empty = Source { name: "command line", text: "interface = \"eth9\"" };
    assert_eq!(plan::director(&empty, Some("eth0,eth1,eth0")).unwrap().interfaces, ["eth0", "eth1"]);
}

#[test]
fn the_examples_name_every_key_in_its_place() {
    let (top, rest) = DIRECTOR.split_once("\n[[virtual_service]]\n").unwrap();
    let (service, rest) = rest.split_once("\n[[virtual_service.real_server]]\n").unwrap();
    let (server, _) = rest.split_once("\n[[virtual_service.real_server]]\n").unwrap();

    fn explained<C>(keys: &Keys<C>) -> Vec<String> {
        let mut found = Vec::new();
        keys.iter().for_each(|key| key.explained(&mut found));
        found
    }
    let cases = [
        (top, [explained(HOST_KEYS), explained(CLUSTER_KEYS), explained(DEFAULT_KEYS)].concat()),
        (service, explained(SERVICE_KEYS)),
        (server, explained(REAL_SERVER_KEYS)),
        (REALSERVER, explained(REALSERVER_KEYS)),
    ];
    for (section, keys) in cases {
        let shown = shown(section);
        assert!(keys.len() >= 4, "{keys:?}");
        for key in &keys {
            assert!(shown.contains(key.as_str()), "the example does not show `{key}`");
        }
        let others: Vec<_> = shown.iter().filter(|key| !keys.iter().any(|known| known == *key)).collect();
        assert!(others.is_empty(), "the example shows {others:?}");
    }
}

#[test]
fn every_row_has_a_line_of_help() {
    fn check<C>(keys: &Keys<C>) {
        for key in keys {
            let help = key.help();
            let first = help.chars().next().expect("a line of help");
            assert!(
                help.len() > 10 && help.ends_with('.') && first.is_uppercase(),
                "{}: {help:?}",
                key.name()
            );
        }
    }
    check(HOST_KEYS);
    check(CLUSTER_KEYS);
    check(DEFAULT_KEYS);
    check(SERVICE_KEYS);
    check(TIMEOUT_KEYS);
    check(PERSISTENCE_KEYS);
    check(REAL_SERVER_KEYS);
    check(REALSERVER_KEYS);
}

/// Keys whose line shows an example: the default is to be absent, or, with another line, another one.
const EXAMPLES: &[&str] = &[
    "queues",
    "control",
    "control_group",
    "api",
    "name",
    "rips",
    "services",
    "match",
    "mh_table_size",
    "hash_key",
    "check",
    "on_change",
    "new_connections_per_second_max",
];

#[test]
fn every_line_shown_commented_out_is_accepted_and_the_default() {
    fn check<T: PartialEq + std::fmt::Debug>(
        example: &str,
        count: usize,
        read: impl Fn(&str) -> Result<T, ConfigError>,
    ) {
        let lines: Vec<&str> = example.lines().collect();
        let commented: Vec<usize> = (0..lines.len()).filter(|line| is_commented_key(lines[*line])).collect();
        assert!(commented.len() >= count, "{} lines", commented.len());
        let key_of = |number: usize| lines[number][1..].split(' ').next().unwrap_or_default();
        let with = |is_chosen: &dyn Fn(usize) -> bool| {
            let chosen =
                |key: &str| commented.iter().any(|number| is_chosen(*number) && key_of(*number) == key);
            let uncomment = |(number, line): (usize, &&str)| match is_chosen(number) {
                true => format!("{}\n", &line[1..]),
                // These need another line to change with them.
                false
                    if chosen("match")
                        && ["protocol", "vip", "port"].iter().any(|key| line.starts_with(key)) =>
                {
                    String::new()
                }
                false if chosen("mh_table_size") => format!("{}\n", line.replace("r = \"rr\"", "r = \"mh\"")),
                false => format!("{line}\n"),
            };
            lines.iter().enumerate().map(uncomment).collect::<String>()
        };
        for number in &commented {
            let text = with(&|other| other == *number);
            let key = key_of(*number);
            match read(&text) {
                Err(error) => panic!("{error}"),
                // These show an example, for their default is to be absent.
                Ok(_) if EXAMPLES.contains(&key) || key.starts_with("persistence.") => {}
                Ok(plan) => {
                    assert_eq!(Ok(plan), read(example), "{key}: what the example shows is not the default")
                }
            }
        }
        let text = with(&|number| commented.contains(&number) && key_of(number) != "match");
        assert!(read(&text).is_ok(), "all of them: {}", read(&text).err().unwrap());
    }
    // A missing unknown_tcp matters to services added later only: the scheduler then decides.
    let without_later = |mut plan: DirectorPlan| {
        plan.defaults.unknown_tcp = None;
        plan
    };
    check(DIRECTOR, 18, |text| director(text).map(without_later));
    check(REALSERVER, 5, realserver);
}

/// A broken twin of an example: in its essence `this` becomes `that`, and `message` is the answer.
struct Twin {
    what: String,
    this: String,
    that: String,
    message: String,
}

/// Reads a table of twins; its first paragraph explains the form.
fn twins(table: &str) -> Vec<Twin> {
    let unescape = |word: &str| {
        let word = word.replace("\\\\", "\u{1}").replace("\\n", "\n").replace("\\0", "\0");
        word.replace('\u{1}', "\\")
    };
    let blocks = table.split("\n\n").skip(1).map(|block| block.trim_end_matches('\n'));
    let read = |block: &str| {
        let lines: Vec<&str> = block.lines().collect();
        let [what, this, that, message] = lines[..] else { panic!("a twin has four lines: {block}") };
        let field = |line: &str, mark| {
            let rest =
                line.strip_prefix(mark).unwrap_or_else(|| panic!("{mark} begins the line in: {block}"));
            unescape(rest.strip_prefix(' ').unwrap_or(rest))
        };
        Twin {
            what: what.to_owned(),
            this: field(this, '-'),
            that: field(that, '+'),
            message: field(message, '!'),
        }
    };
    blocks.map(read).collect()
}

fn assert_twins<T>(essence: &str, table: &str, read: impl Fn(&str) -> Result<T, ConfigError>) {
    let (mut count, mut wrong) = (0, String::new());
    for Twin { what, this, that, message: expected } in twins(table) {
        assert!(essence.contains(&this), "{what}: the example has no {this:?}");
        let message = match read(&essence.replacen(&this, &that, 1)) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        if message != expected {
            wrong.push_str(&format!("{what}\n  expected {expected}\n  got      {message}\n"));
        }
        count += 1;
    }
    assert!(wrong.is_empty() && count > 30, "{count} twins, of which\n{wrong}");
}

#[test]
fn broken_twins_of_the_directors_file_are_refused_in_one_clear_line() {
    assert_twins(&essence(DIRECTOR), include_str!("config/director.twins"), director);
}

#[test]
fn broken_twins_of_the_real_servers_file_are_refused_in_one_clear_line() {
    assert_twins(&essence(REALSERVER), include_str!("config/realserver.twins"), realserver);
}

/// Each error needs a walk through the file: without a limit, a file of a million errors would take hours.
#[test]
fn a_file_shows_a_hundred_errors_and_the_rest_later() {
    let (service, server) = ("[[virtual_service]]\nx = 1\n", "[[virtual_service.real_server]]\nx = 1\n");
    let many: String = (0..20_000).map(|number| format!("x{number} = 1\n")).collect();
    for text in [many, service.repeat(5_000), format!("{service}{}", server.repeat(5_000))] {
        let errors = plan::check_director(&Source { name: "f", text: &text }, Some("eth0")).unwrap_err();
        assert!((100..120).contains(&errors.len()), "{} errors", errors.len());
    }
}

#[test]
fn every_error_of_a_file_is_found_at_once_and_the_first_one_stops_a_daemon() {
    let text = "queues = 0\nqeues = 1\ninterface = \"eth0\"\n[[virtual_service]]\nprotocol = \"tcp\"\n\
                vip = \"172.25.3.100\"\nport = 0\nscheduler = \"best\"\n[[virtual_service.real_server]]\n\
                rip = \"172.25.3.2:80\"\nweight = -1\n[[virtual_service]]\nprotocol = \"tcp\"\n\
                vip = \"172.25.3.100\"\nport = 81\none_packet = true\n";
    let errors = plan::check_director(&Source { name: "f", text }, Some("a/b")).unwrap_err();
    let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "f:2: `qeues = 1`: unknown key `qeues`; did you mean `queues`?",
        "f:7: port = 0: expected 1 to 65535; did you mean \"all\"?",
        "f:8: scheduler = \"best\": expected one of",
        "f:10: rip = \"172.25.3.2:80\": expected an address without a port",
        "f:11: weight = -1: expected 0 to",
        "f:16: one_packet = true: one-packet scheduling is only for UDP; remove it",
        "f:1: queues = 0: expected 1 to 256",
        "command line: --interface = \"a/b\": expected the name of an interface",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    let is_expected = |(found, expected): (&String, &&str)| found.starts_with(expected);
    assert!(found.iter().zip(&expected).all(is_expected), "{found:#?}");
    let first = plan::director(&Source { name: "f", text }, Some("a/b")).unwrap_err();
    assert_eq!(Some(&first), errors.first());

    // All of it in one line: the key that is missing is the misspelt one, the wrong value is another error.
    let text = "interface = \"eth0\"\nvirtual_service = [{ protokol = \"tcp\", vip = \"172.25.3.100\", port = 80, \
                scheduler = \"best\" }]\n";
    let errors = plan::check_director(&Source { name: "f", text }, None).unwrap_err();
    let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].contains("unknown key `protokol`") && found[1].contains("scheduler = \"best\""),
        "{found:#?}"
    );

    let text = "tun = \"lo\"\nvips = [\"10.0.0.300\"]\nmss = 1\n";
    let errors = plan::check_realserver(&Source { name: "f", text }, &["x".into()], &[], false).unwrap_err();
    let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [Some(2), Some(3), Some(1), None], "{errors:?}");
    let first = plan::realserver(&Source { name: "f", text }, &["x".into()], &[], false).unwrap_err();
    assert_eq!(Some(&first), errors.first());
}

#[test]
fn a_value_that_is_allowed_is_taken() {
    let twin = |this: &str, that: &str| director(&essence(DIRECTOR).replacen(this, that, 1)).unwrap();
    let top = |key: &str| twin("interface", &format!("{key}\ninterface"));
    assert_eq!(top("outer_ttl = \"inherit\"").cluster.ttl, Ttl::Inherit);
    assert_eq!(top("outer_ttl = 255").cluster.ttl, Ttl::Fixed(255));
    assert_eq!(top("queues = 256").queues, Some(256));
    assert_eq!(top("outer_source = \"172.25.3.1\"").outer_source, "172.25.3.1".parse().ok());
    assert_eq!(top("announce = \"local\"").announce, plan::AnnounceSetting::Local);
    let of =
        |key: &str| twin("rip", &format!("{key}\nrip")).cluster.virtual_services[0].real_servers[0].clone();
    assert_eq!((of("weight = 0").weight, of("weight = 2147483647").weight), (0, 2_147_483_647));
    assert_eq!((of("path_mtu = 88").path_mtu, of("path_mtu = \"auto\"").path_mtu), (Some(88), None));
    let real_server = |key: &str| realserver(&format!("{key}\n{}", essence(REALSERVER))).unwrap().mss;
    let mss = ["mss = 88", "mss = 65495", "mss = \"off\"", "mss = \"auto\"", ""].map(real_server);
    assert_eq!(
        mss,
        [
            plan::MssSetting::Fixed(88),
            plan::MssSetting::Fixed(65_495),
            plan::MssSetting::Off,
            plan::MssSetting::Auto,
            plan::MssSetting::Auto
        ]
    );
    // A key at the top holds for a virtual service without that key, which may override a part.
    let text =
        essence(DIRECTOR).replacen("interface", "timeouts.tcp = \"1h\"\ntimeouts.udp = \"1m\"\ninterface", 1);
    let text = text.replacen("port", "timeouts.udp = \"30s\"\nport", 1);
    let timeouts = director(&text).unwrap().cluster.virtual_services[0].timeouts;
    let seconds = [timeouts.established, timeouts.fin_wait, timeouts.udp].map(|timeout| timeout.as_secs());
    assert_eq!(seconds, [3600, 120, 30]);
}

#[test]
fn a_file_with_another_systems_line_ends_or_a_byte_order_mark_is_the_same_file() {
    for example in [DIRECTOR.replace('\n', "\r\n"), format!("\u{feff}{DIRECTOR}")] {
        assert_eq!(director(&example), director(DIRECTOR));
    }
    assert_eq!(realserver(&REALSERVER.replace('\n', "\r\n")), realserver(REALSERVER));
    let broken = essence(DIRECTOR).replace("port = 80", "port = 0").replace('\n', "\r\n");
    assert_eq!(
        director(&broken).unwrap_err().to_string(),
        "director.toml:5: port = 0: expected 1 to 65535; did you mean \"all\"?"
    );
}

#[test]
fn a_line_of_a_mebibyte_makes_a_short_message() {
    let long = "a".repeat(1 << 20);
    let lines = [
        ("tun = \"LONG\"", 1),
        ("LONG = 1", 1),
        ("LONG", 1),
        ("queues = \"LONG\"", 1),
        ("outer_ttl = \"LONG\"", 1),
        ("[[LONG", 1),
        ("tun = \"LONG", 1),
    ];
    for (line, number) in lines {
        let text = format!("{}\n{}", line.replace("LONG", &long), essence(DIRECTOR));
        let message = director(&text).unwrap_err().to_string();
        assert!(message.starts_with(&format!("director.toml:{number}: ")), "{line}: {message:.200}");
        assert!(message.len() < 800 && message.lines().count() == 1, "{line}: {message:.200}");
    }
    assert!(director(&format!("# {long}\n{DIRECTOR}")).is_ok());
}

/// Wherever a file is cut off, it is refused with one line, unless what is left is complete: it ends with a whole key,
/// and no key is missing. No reader can notice a number that is cut off.
#[test]
fn a_file_cut_off_anywhere_is_no_surprise() {
    fn accepted<T>(text: &str, read: impl Fn(&str) -> Result<T, ConfigError>) -> Vec<&str> {
        let mut last_lines = Vec::new();
        for length in 0..text.len() {
            match read(&text[..length]) {
                Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{length}: {error}"),
                Ok(_) => last_lines.extend(text[..length].lines().last()),
            }
        }
        last_lines.dedup();
        last_lines
    }
    let (director_text, realserver_text) = (essence(DIRECTOR), essence(REALSERVER));
    assert_eq!(
        accepted(&director_text, director),
        [
            "interface = \"eth0\"",
            "port = 8",
            "port = 80",
            "scheduler = \"rr\"",
            "rip = \"172.25.3.2\"",
            "rip = \"172.25.3.3\""
        ]
    );
    assert_eq!(accepted(&realserver_text, realserver), ["directors = [\"172.25.3.1\"]"]);
}

#[test]
fn what_the_command_line_adds_is_checked_alike() {
    let source = Source { name: "realserver.toml", text: REALSERVER };
    let read = |vips: &[&str], directors: &[&str], is_insecure| {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        plan::realserver(&source, &owned(vips), &owned(directors), is_insecure)
            .map_err(|error| error.to_string())
    };
    let plan = read(&["172.25.3.100", "172.25.3.101"], &["172.25.3.1", "10.0.0.0/24"], false).unwrap();
    assert_eq!((plan.guard.vips.len(), plan.guard.directors.len()), (2, 2));
    assert_eq!(
        read(&["172.25.3"], &[], false).unwrap_err(),
        "command line: --vip = \"172.25.3\": expected an IPv4 address, such as \"172.25.3.100\"; names are not looked up"
    );
    assert!(read(&[], &["0.0.0.0/0"], false).unwrap_err().contains("lets anyone inject packets"));
    assert!(read(&[], &["0.0.0.0/0"], true).is_ok());
    let empty = Source { name: "command line", text: "" };
    let given = plan::director(&empty, Some("eth0")).unwrap();
    assert_eq!(
        (given.interfaces.as_slice(), given.cluster.virtual_services.len()),
        (&["eth0".to_owned()][..], 0)
    );
    assert_eq!(
        plan::director(&empty, Some("eth0/1")).unwrap_err().to_string(),
        "command line: --interface = \"eth0/1\": expected the name of an interface: 1 to 15 characters without blanks, \
         \"/\" and \":\", and not \"all\" or \"default\""
    );
}
