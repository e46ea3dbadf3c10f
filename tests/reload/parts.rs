//! What a reload means for services and real servers that come, go or change places, for drains, and for values
//! that the file and an operator together make impossible.

use lvs_tund::config::write;
use proptest::prelude::*;
use serde_json::json;

use super::director::{Director, Refusal, differences, read};
use super::generated::operations;

/// A file of these services.
fn services(services: &[&str]) -> String {
    format!("interface = \"eth0\"\n{}", services.concat())
}

/// A service for TCP with further keys.
fn service(name: &str, port: u16, keys: &str, servers: &[&str]) -> String {
    let head = format!("[[virtual_service]]\nname = \"{name}\"\nprotocol = \"tcp\"\nvip = \"192.0.2.1\"\n");
    format!("{head}port = {port}\n{keys}\n{}", servers.concat())
}

/// Real server "server1" is 10.0.0.1.
fn server(n: u8, keys: &str) -> String {
    format!("[[virtual_service.real_server]]\nname = \"server{n}\"\nrip = \"10.0.0.{n}\"\n{keys}\n")
}

const ADD_API: &str = r#"{"operation": "add_virtual_service", "virtual_service": {"name": "api",
    "match": [{"protocol": "tcp", "vip": "192.0.2.1", "port": 81}], "scheduler": "rr"}}"#;
const ADD_SERVER3: &str = r#"{"operation": "add_real_server", "virtual_service": "web",
    "real_server": {"rip": "10.0.0.3", "name": "server3", "weight": 3}}"#;
const REMOVE_SERVER1: &str =
    r#"{"operation": "remove_real_server", "virtual_service": "web", "real_server": "server1"}"#;
const REMOVE_WEB: &str = r#"{"operation": "remove_virtual_service", "virtual_service": "web"}"#;
const WEIGH_SERVER1: &str =
    r#"{"operation": "set_weight", "virtual_service": "web", "real_server": "server1", "weight": 7}"#;

/// Edits service "web".
fn edit(set: &str) -> String {
    format!(r#"{{"operation": "edit_virtual_service", "virtual_service": "web", "set": {set}}}"#)
}

/// Edits "server1" in service "web".
fn edit_server1(set: &str) -> String {
    format!(
        r#"{{"operation": "edit_real_server", "virtual_service": "web", "real_server": "server1", "set": {set}}}"#
    )
}

/// A file, what is done by hand, the file read again, and a file with what runs then.
type Row<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, &'a str);

fn check(rows: &[Row]) {
    for (what, base, by_hand, file, expected) in rows {
        let mut director = Director::start(base);
        director.told(by_hand);
        director.reload(file).unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
        assert_eq!(director.in_force(), read(expected), "{what}");
    }
}

#[test]
fn services_come_and_go_with_the_file_and_those_of_an_operator_stay() {
    let (s1, s2) = (&server(1, ""), &server(2, ""));
    let (web, api) = (&service("web", 80, "", &[s1]), &service("api", 81, "", &[s2]));
    let by_hand = &service("api", 81, "scheduler = \"rr\"", &[]);
    let only_web = &services(&[web]);
    let weighed = &service("web", 80, "", &[&server(1, "weight = 7")]);
    let persistent = &service("web", 80, "persistence.prefix = 24", &[s1]);
    check(&[
        ("added", only_web, &[WEIGH_SERVER1], &services(&[api, web]), &services(&[weighed, api])),
        (
            "removed, though changed",
            &services(&[web, api]),
            &[WEIGH_SERVER1],
            &services(&[api]),
            &services(&[api]),
        ),
        ("added by hand", only_web, &[ADD_API], &services(&[persistent]), &services(&[persistent, by_hand])),
        ("added by hand, others removed", only_web, &[ADD_API], &services(&[]), &services(&[by_hand])),
        (
            "added by hand, then in the file",
            only_web,
            &[ADD_API],
            &services(&[api, web]),
            &services(&[web, api]),
        ),
        (
            "added by hand, then the same in the file",
            only_web,
            &[ADD_API],
            &services(&[web, by_hand]),
            &services(&[web, by_hand]),
        ),
        ("removed by hand", &services(&[web, api]), &[REMOVE_WEB], &services(&[web, api]), &services(&[api])),
        (
            "removed by hand, then changed",
            &services(&[web, api]),
            &[REMOVE_WEB],
            &services(&[persistent, api]),
            &services(&[api, persistent]),
        ),
    ]);
}

#[test]
fn real_servers_come_and_go_with_the_file_and_those_of_an_operator_stay() {
    let (s1, s2) = (&server(1, ""), &server(2, ""));
    let web = |servers: &[&str]| services(&[&service("web", 80, "", servers)]);
    let (base, s3) = (&web(&[s1, s2]), &server(3, "weight = 3"));
    let (w1, w2, w3) = (&server(1, "weight = 7"), &server(2, "weight = 5"), &server(3, "weight = 5"));
    check(&[
        ("added", base, &[WEIGH_SERVER1], &web(&[w3, s1, s2]), &web(&[w1, s2, w3])),
        ("removed, though changed", base, &[WEIGH_SERVER1], &web(&[s2]), &web(&[s2])),
        ("added by hand", base, &[ADD_SERVER3], &web(&[s1, w2]), &web(&[s1, w2, s3])),
        ("added by hand, another removed", base, &[ADD_SERVER3], &web(&[s1]), &web(&[s1, s3])),
        ("added by hand, then in the file", base, &[ADD_SERVER3], &web(&[s1, s2, w3]), &web(&[s1, s2, w3])),
        ("removed by hand", base, &[REMOVE_SERVER1], &web(&[s1, w2]), &web(&[w2])),
        ("removed by hand, then changed", base, &[REMOVE_SERVER1], &web(&[w1, s2]), &web(&[s2, w1])),
    ]);
}

#[test]
fn a_service_continues_under_another_name_or_another_port_and_none_continues_twice() {
    let (s, w) = (&server(1, ""), &server(1, "weight = 7"));
    let of = |name: &str, port, server: &str| service(name, port, "", &[server]);
    let base = &services(&[&of("web", 80, s), &of("api", 81, s)]);
    let weighed = &[WEIGH_SERVER1][..];
    let file = |first: (&str, u16), second: (&str, u16)| {
        services(&[&of(first.0, first.1, s), &of(second.0, second.1, s)])
    };
    let in_force = |first: (&str, u16), second: (&str, u16)| {
        services(&[&of(first.0, first.1, w), &of(second.0, second.1, s)])
    };
    check(&[
        ("renamed", base, weighed, &file(("www", 80), ("api", 81)), &in_force(("www", 80), ("api", 81))),
        ("moved", base, weighed, &file(("web", 82), ("api", 81)), &in_force(("web", 82), ("api", 81))),
        ("other order", base, weighed, &file(("api", 81), ("web", 80)), &in_force(("web", 80), ("api", 81))),
        (
            "names swapped",
            base,
            weighed,
            &file(("api", 80), ("web", 81)),
            &in_force(("api", 80), ("web", 81)),
        ),
        (
            "name given on",
            base,
            weighed,
            &file(("www", 80), ("web", 82)),
            &in_force(("www", 80), ("web", 82)),
        ),
        (
            "both given on",
            base,
            weighed,
            &file(("api", 80), ("web", 82)),
            &in_force(("api", 80), ("web", 82)),
        ),
        ("replaced", base, weighed, &file(("a", 84), ("b", 85)), &file(("a", 84), ("b", 85))),
    ]);
}

/// By hand a service was given the matcher that the file now gives to a new one: who is in the way is for an
/// operator to decide.
#[test]
fn a_new_service_does_not_take_the_place_of_one_that_the_file_continues() {
    let web = &service("web", 80, "", &[]);
    let mut director = Director::start(&services(&[web]));
    director.told(&[&edit(r#"{"match": [{"protocol": "tcp", "vip": "192.0.2.1", "port": 81}]}"#)]);
    let before = director.in_force();
    let file = services(&[web, &service("new", 81, "", &[])]);
    assert_eq!(director.reload(&file), Err(Refusal::Inconsistent));
    assert_eq!(director.in_force(), before);
}

#[test]
fn what_the_file_and_an_operator_make_impossible_together_is_as_in_the_file() {
    let limits = |upper: u32, lower: u32| {
        let keys = format!("upper_threshold = {upper}\nlower_threshold = {lower}\nweight = 7");
        services(&[&service("web", 80, "", &[&server(1, &keys)])])
    };
    let narrow = &edit_server1(r#"{"upper_threshold": 20, "lower_threshold": 10}"#)[..];
    let high = &edit_server1(r#"{"lower_threshold": 100}"#)[..];
    let equal = &edit_server1(r#"{"lower_threshold": 60}"#)[..];
    check(&[
        ("lower above upper", &limits(100, 50), &[narrow], &limits(100, 40), &limits(100, 40)),
        ("upper below lower", &limits(100, 50), &[high], &limits(90, 50), &limits(90, 50)),
        ("the same", &limits(100, 50), &[equal], &limits(60, 50), &limits(60, 60)),
    ]);
    let group = |matchers: &str, keys: &str| {
        services(&[&format!("[[virtual_service]]\nname = \"web\"\nmatch = [{matchers}]\n{keys}\n")])
    };
    let (both, tcp) = (r#""udp 192.0.2.1:80", "tcp 192.0.2.1:80""#, r#""tcp 192.0.2.1:80""#);
    let only_tcp = &edit(r#"{"match": [{"protocol": "tcp", "vip": "192.0.2.1", "port": 80}]}"#)[..];
    let one_packet = &edit(r#"{"one_packet": true}"#)[..];
    let on = "one_packet = true";
    check(&[
        ("one packet, of TCP by hand", &group(both, ""), &[only_tcp], &group(both, on), &group(tcp, "")),
        ("TCP, of one packet by hand", &group(both, ""), &[one_packet], &group(tcp, ""), &group(tcp, "")),
    ]);
}

#[test]
fn options_of_a_scheduler_stay_with_it() {
    let web = |keys: &str| services(&[&service("web", 80, keys, &[])]);
    let mh = "scheduler = \"mh\"\nunknown_tcp = \"drop\"\n";
    let mh = |keys: &str| web(&format!("{mh}{keys}"));
    let (rr, sh) = (&web("scheduler = \"rr\"\nunknown_tcp = \"drop\""), |keys: &str| {
        web(&format!("scheduler = \"sh\"\nunknown_tcp = \"drop\"\n{keys}"))
    });
    let to_rr = &edit(r#"{"scheduler": "rr"}"#)[..];
    let to_sh = &edit(r#"{"scheduler": "sh", "scheduler_flags": ["sh-port"]}"#)[..];
    let port = &edit(r#"{"scheduler_flags": ["mh-port"], "mh_table_size": 509}"#)[..];
    let (fallback, size) = ("scheduler_flags = [\"mh-fallback\"]", "mh_table_size = 251");
    check(&[
        ("another by hand, size", &mh(""), &[to_rr], &mh(size), rr),
        ("another by hand, flags", &mh(""), &[to_sh], &mh(fallback), &sh("scheduler_flags = [\"sh-port\"]")),
        ("another in the file", &mh(""), &[port], rr, rr),
        ("another in the file, with flags", &mh(""), &[port], &sh(""), &sh("")),
        ("another in both", rr, &[to_sh], &mh(size), &mh(size)),
    ]);
}

/// What a scheduler suggests goes with it, what an operator set stays.
#[test]
fn another_scheduler_by_hand_begins_without_options_and_the_same_one_keeps_them() {
    let web = |keys: &str| services(&[&service("web", 80, keys, &[])]);
    let mh = &web("scheduler = \"mh\"\nscheduler_flags = [\"mh-port\"]\nmh_table_size = 251");
    let said = &web("scheduler = \"mh\"\nmh_table_size = 251\nunknown_tcp = \"drop\"");
    let bare = |scheduler: &str| web(&format!("scheduler = \"{scheduler}\""));
    let to = |scheduler: &str| edit(&format!(r#"{{"scheduler": "{scheduler}"}}"#));
    let back = &[&to("sh")[..], &to("mh")];
    check(&[
        ("the same", mh, &[&to("mh")], mh, mh),
        ("another", mh, &[&to("rr")], mh, &bare("rr")),
        ("of the same kind", mh, &[&to("sh")], mh, &bare("sh")),
        ("there and back", mh, back, mh, &bare("mh")),
        ("set otherwise", said, &[&to("rr")], said, &web("scheduler = \"rr\"\nunknown_tcp = \"drop\"")),
    ]);
}

#[test]
fn persistence_goes_comes_and_comes_back_as_a_whole() {
    let web = |keys: &str| services(&[&service("web", 80, keys, &[])]);
    let (none, hour) = (&web(""), &web("persistence.timeout = \"1h\"\npersistence.prefix = 16"));
    let wider = &web("persistence.timeout = \"1h\"\npersistence.prefix = 8");
    let off = &edit(r#"{"persistence": null}"#)[..];
    let minutes = &edit(r#"{"persistence": {"timeout": 600, "prefix": 24}}"#)[..];
    check(&[
        ("on", none, &[], hour, hour),
        ("on in both", none, &[minutes], hour, hour),
        ("off, though changed", hour, &[minutes], none, none),
        ("off by hand", hour, &[off], hour, none),
        ("off by hand, then changed", hour, &[off], wider, wider),
    ]);
}

#[test]
fn a_service_added_by_hand_begins_with_the_defaults_of_the_file_read_last() {
    let keys = "unknown_tcp = \"drop\"\non_removed = \"keep\"\ntimeouts.tcp = \"1h\"\ntimeouts.tcp_fin = \"2h\"\ntimeouts.udp = \"3h\"\n";
    let mut director = Director::start(&services(&[]));
    director.reload(&services(&[keys])).unwrap();
    director.told(&[ADD_API]);
    let file = services(&[keys, &service("api", 81, "scheduler = \"rr\"", &[])]);
    assert_eq!(director.in_force(), read(&file));
    assert_ne!(
        read(&file).cluster,
        read(&services(&[&service("api", 81, "scheduler = \"rr\"", &[])])).cluster
    );
}

#[test]
fn a_drain_outlives_a_reload_and_its_real_server_gets_the_weight_of_the_file_back() {
    let of = |name, port, weight: u32| {
        let servers = [server(1, &format!("weight = {weight}")), server(2, "weight = 4")];
        service(name, port, "", &[&servers[0], &servers[1]])
    };
    let drain = |service: &str, server: &str| {
        format!(
            r#"{{"operation": "drain", "virtual_service": "{service}", "real_server": "{server}", "then": "keep"}}"#
        )
    };
    let base = &services(&[&of("web", 80, 3), &of("api", 81, 5)]);
    let started = || {
        let mut director = Director::start(base);
        director.told(&[&drain("web", "server1"), &drain("api", "server2")]);
        director
    };
    let both = |web: &str, api: &str| vec![format!("{api} 10.0.0.2 4"), format!("{web} 10.0.0.1 3")];
    let cases = [
        ("the same", services(&[&of("web", 80, 3), &of("api", 81, 5)]), both("web", "api")),
        (
            "weighed",
            services(&[&of("web", 80, 9), &of("api", 81, 5)]),
            vec!["api 10.0.0.2 4".into(), "web 10.0.0.1 9".into()],
        ),
        (
            "quiesced",
            services(&[&of("web", 80, 0), &of("api", 81, 5)]),
            vec!["api 10.0.0.2 4".into(), "web 10.0.0.1 0".into()],
        ),
        ("renamed", services(&[&of("www", 80, 3), &of("api", 81, 5)]), both("www", "api")),
        ("moved", services(&[&of("web", 82, 3), &of("api", 81, 5)]), both("web", "api")),
        (
            "swapped",
            services(&[&of("api", 80, 3), &of("web", 81, 5)]),
            vec!["api 10.0.0.1 3".into(), "web 10.0.0.2 4".into()],
        ),
        ("service gone", services(&[&of("api", 81, 5)]), vec!["api 10.0.0.2 4".into()]),
        (
            "real server gone",
            services(&[&service("web", 80, "", &[]), &of("api", 81, 5)]),
            vec!["api 10.0.0.2 4".into()],
        ),
    ];
    for (what, file, drains) in cases {
        let mut director = started();
        director.reload(&file).unwrap();
        assert_eq!(director.drains(), drains, "{what}");
        let quiesced = director.weights().iter().filter(|weight| weight.ends_with(" 0")).count();
        assert_eq!(quiesced, drains.len(), "{what}: {:?}", director.weights());
        for drain in drains {
            let words: Vec<&str> = drain.split(' ').collect();
            director.told(&[&format!(
                r#"{{"operation": "undrain", "virtual_service": "{}", "real_server": "{}"}}"#,
                words[0], words[1]
            )]);
            let server = words[1].replace("10.0.0.", "server");
            let weight = format!("{} {server} {}", words[0], words[2]);
            assert!(director.weights().contains(&weight), "{what}: {weight} in {:?}", director.weights());
        }
        assert!(director.drains().is_empty(), "{what}");
    }
}

#[test]
fn additions_and_removals_are_reported_with_their_kind() {
    let (s1, s2, s3) = (&server(1, ""), &server(2, ""), &server(3, ""));
    let (api, web) = (&service("api", 81, "", &[s1]), |servers: &[&str]| service("web", 80, "", servers));
    let old = read(&services(&[api, &web(&[s1, s2]), &service("same", 83, "", &[])]));
    let new = read(&services(&[
        &web(&[s2, s3]),
        &service("new", 82, "scheduler = \"rr\"", &[s1, s2]),
        &service("same", 83, "", &[]),
    ]));
    let told = differences(&old, &new);
    let (gone, come) = ("tcp 192.0.2.1:81 wlc, 1 real server", "tcp 192.0.2.1:82 rr, 2 real servers");
    let expected = json!([
        {"virtual_service": "api", "from": gone},
        {"virtual_service": "web", "real_server": "server1", "from": "10.0.0.1"},
        {"virtual_service": "web", "real_server": "server3", "to": "10.0.0.3"},
        {"virtual_service": "new", "to": come},
    ]);
    assert_eq!(serde_json::to_value(&told).unwrap(), expected);
    let words: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["api: removed", "web server1: removed", "web server3: added", "new: added"]);
    assert_eq!(differences(&new, &new), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_configuration_survives_its_text(operations in operations(60)) {
        let mut director = Director::start("interface = \"eth0\"");
        director.carry_out(&operations);
        director.in_force();
    }

    #[test]
    fn a_reload_applies_what_the_file_changes_and_what_runs_can_be_saved(
        before in operations(40), by_hand in operations(20), edited in operations(20),
    ) {
        let after = |text: &str, operations: &[_]| {
            let mut director = Director::start(text);
            director.carry_out(operations);
            write::director(&director.in_force())
        };
        let base = after("interface = \"eth0\"", &before);
        let file = after(&base, &edited);
        // Nothing was done by hand: the file it is, if in another order.
        let mut director = Director::start(&base);
        prop_assert!(director.reload(&file).is_ok());
        prop_assert_eq!(differences(&read(&file), &director.in_force()), vec![]);
        // The file changes nothing.
        let mut director = Director::start(&base);
        director.carry_out(&by_hand);
        let in_force = director.in_force();
        prop_assert_eq!(director.reload(&base), Ok(vec![]));
        prop_assert_eq!(&director.in_force(), &in_force);
        // Both.
        match director.reload(&file) {
            Ok(_) => _ = director.in_force(),
            Err(refusal) => {
                prop_assert_eq!(refusal, Refusal::Inconsistent);
                prop_assert_eq!(&director.in_force(), &in_force);
            }
        }
    }
}
