//! Every key of a director's file, and what changes it in a running director.

/// The file that the rows change: two services, so that no two rows are in each other's way.
pub const BASE: &str = r#"
interface = "eth0"
connections_per_client_max = 1000
quorum = 5
hysteresis = 1
hash_key = "000102030405060708090a0b0c0d0e0f"

[[virtual_service]]
name = "web"
protocol = "tcp"
vip = "192.0.2.1"
port = 80
scheduler = "mh"
persistence.timeout = "6m"
unknown_tcp = "drop"
on_removed = "drop"
timeouts.tcp = "20m"
timeouts.tcp_fin = "3m"
timeouts.udp = "6m"
check = { type = "tcp", interval = "9s" }
check_agreement = "any"
on_down = "drain"
quorum = 10
hysteresis = 2
min_healthy = 2
slow_start = "20s"
[[virtual_service.real_server]]
name = "server1"
rip = "10.0.0.1"
upper_threshold = 100
lower_threshold = 50
[[virtual_service.real_server]]
name = "server2"
rip = "10.0.0.2"

[[virtual_service]]
name = "dns"
match = ["udp 192.0.2.2:53", "tcp 192.0.2.2:53"]
[[virtual_service.real_server]]
name = "server1"
rip = "10.0.0.1"
[[virtual_service.real_server]]
name = "server2"
rip = "10.0.0.2"
"#;

/// Where a key stands: the section of the manual, and the block of [`BASE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Top,
    /// Service by index.
    Service(usize),
    /// Service and real server by index.
    Server(usize, usize),
}

#[derive(Debug)]
pub enum Live {
    Restart,
    /// A reload changes it; no operation does.
    ReloadOnly,
    /// Operations change it as well.
    ByHand(Hand),
}

/// What an operator does, and which file has the same effect.
#[derive(Debug)]
pub struct Hand {
    pub operations: &'static [&'static str],
    /// The key's value then.
    pub value: &'static str,
    /// Further keys that the operations change.
    pub also: &'static [(Place, &'static str, &'static str)],
}

#[derive(Debug)]
pub struct Row {
    pub place: Place,
    /// As it is written in a file.
    pub key: &'static str,
    /// A value, as TOML, that is not the one in [`BASE`].
    pub other: &'static str,
    pub live: Live,
}

const WEB: Place = Place::Service(0);
const DNS: Place = Place::Service(1);
const SERVER: Place = Place::Server(0, 0);

const fn restart(key: &'static str, other: &'static str) -> Row {
    Row { place: Place::Top, key, other, live: Live::Restart }
}

const fn reload_only(key: &'static str, other: &'static str) -> Row {
    Row { place: Place::Top, key, other, live: Live::ReloadOnly }
}

const fn by_hand(
    place: Place,
    key: &'static str,
    other: &'static str,
    value: &'static str,
    operations: &'static [&'static str],
) -> Row {
    with_others(place, key, other, Hand { operations, value, also: &[] })
}

const fn with_others(place: Place, key: &'static str, other: &'static str, hand: Hand) -> Row {
    Row { place, key, other, live: Live::ByHand(hand) }
}

/// `edit_virtual_service` of "web".
macro_rules! web {
    ($set:literal) => {
        &[concat!(r#"{"operation": "edit_virtual_service", "virtual_service": "web", "set": "#, $set, "}")]
    };
}

/// `edit_virtual_service` of "dns".
macro_rules! dns {
    ($set:literal) => {
        &[concat!(r#"{"operation": "edit_virtual_service", "virtual_service": "dns", "set": "#, $set, "}")]
    };
}

/// `edit_real_server` of 10.0.0.1 in "web".
macro_rules! server {
    ($set:literal) => {
        &[concat!(
            r#"{"operation": "edit_real_server", "virtual_service": "web", "real_server": "10.0.0.1", "set": "#,
            $set,
            "}"
        )]
    };
}

pub const ROWS: &[Row] = &[
    restart("interface", r#""eth1""#),
    restart("tun", r#""tun9""#),
    restart("queues", "3"),
    restart("metrics", r#""127.0.0.1:1""#),
    restart("control", r#""/run/other.sock""#),
    restart("control_group", r#""adm""#),
    restart("api", r#""127.0.0.1:2""#),
    restart("http_names", r#"["director1.example.com"]"#),
    restart("capture", r#""rule""#),
    restart("announce", r#""never""#),
    restart("notrack", "false"),
    restart("outer_source", r#""198.51.100.1""#),
    restart("connections_max", "5000"),
    restart("connections_per_client_max", "999"),
    reload_only("outer_ttl", r#""inherit""#),
    reload_only("ignore_df", "true"),
    reload_only("decrement_ttl", "true"),
    reload_only("new_connections_per_second_max", "1000"),
    reload_only("hash_key", r#""ff0102030405060708090a0b0c0d0e0f""#),
    reload_only("unknown_tcp", r#""drop""#),
    reload_only("on_removed", r#""keep""#),
    reload_only("no_service", r#""drop""#),
    reload_only(
        "on_change",
        r#"[{ when = "quorum_lost", command = ["/bin/true", "a b"], user = "nobody" }]"#,
    ),
    reload_only("check", r#"[{ type = "tcp", port = 82 }, { type = "tcp", port = 81 }]"#),
    reload_only("check_agreement", r#""any""#),
    reload_only("on_down", r#""remove""#),
    reload_only("quorum", "6"),
    reload_only("hysteresis", "3"),
    reload_only("min_healthy", "1"),
    reload_only("slow_start", r#""1500ms""#),
    with_others(
        Place::Top,
        "timeouts.tcp",
        r#""1h""#,
        Hand {
            operations: &[r#"{"operation": "set_timeouts", "timeouts": {"tcp": 61}}"#],
            value: r#""61s""#,
            also: &[(WEB, "timeouts.tcp", r#""61s""#)],
        },
    ),
    with_others(
        Place::Top,
        "timeouts.tcp_fin",
        r#""1h""#,
        Hand {
            operations: &[r#"{"operation": "set_timeouts", "timeouts": {"tcp_fin": 62}}"#],
            value: r#""62s""#,
            also: &[(WEB, "timeouts.tcp_fin", r#""62s""#)],
        },
    ),
    with_others(
        Place::Top,
        "timeouts.udp",
        r#""1h""#,
        Hand {
            operations: &[r#"{"operation": "set_timeouts", "timeouts": {"udp": 63}}"#],
            value: r#""63s""#,
            also: &[(WEB, "timeouts.udp", r#""63s""#)],
        },
    ),
    by_hand(WEB, "name", r#""www""#, r#""site""#, web!(r#"{"name": "site"}"#)),
    by_hand(
        WEB,
        "protocol",
        r#""udp""#,
        r#""udp""#,
        web!(r#"{"match": [{"protocol": "udp", "vip": "192.0.2.1", "port": 80}]}"#),
    ),
    by_hand(
        WEB,
        "vip",
        r#""192.0.2.7""#,
        r#""192.0.2.8""#,
        web!(r#"{"match": [{"protocol": "tcp", "vip": "192.0.2.8", "port": 80}]}"#),
    ),
    by_hand(
        WEB,
        "port",
        r#""8000-8099""#,
        "81",
        web!(r#"{"match": [{"protocol": "tcp", "vip": "192.0.2.1", "port": 81}]}"#),
    ),
    by_hand(
        DNS,
        "match",
        r#"["udp 192.0.2.2:53"]"#,
        r#"["tcp 192.0.2.3:all", "udp 192.0.2.2:53"]"#,
        dns!(
            r#"{"match": [{"protocol": "tcp", "vip": "192.0.2.3", "port": "all"},
                          {"protocol": "udp", "vip": "192.0.2.2", "port": 53}]}"#
        ),
    ),
    by_hand(DNS, "scheduler", r#""rr""#, r#""sed""#, dns!(r#"{"scheduler": "sed"}"#)),
    by_hand(
        WEB,
        "scheduler_flags",
        r#"["mh-port"]"#,
        r#"["mh-fallback"]"#,
        web!(r#"{"scheduler_flags": ["mh-fallback"]}"#),
    ),
    by_hand(WEB, "mh_table_size", "251", "509", web!(r#"{"mh_table_size": 509}"#)),
    by_hand(WEB, "persistence.timeout", r#""1h""#, r#""10m""#, web!(r#"{"persistence": {"timeout": 600}}"#)),
    by_hand(
        WEB,
        "persistence.prefix",
        "16",
        "24",
        web!(r#"{"persistence": {"timeout": 360, "prefix": 24}}"#),
    ),
    by_hand(
        WEB,
        "persistence.expire_quiesced",
        "true",
        "true",
        web!(r#"{"persistence": {"timeout": 360, "expire_quiesced": true}}"#),
    ),
    by_hand(DNS, "one_packet", "true", "true", dns!(r#"{"one_packet": true}"#)),
    by_hand(WEB, "unknown_tcp", r#""rst""#, r#""schedule""#, web!(r#"{"unknown_tcp": "schedule"}"#)),
    by_hand(WEB, "on_removed", r#""keep""#, r#""reschedule""#, web!(r#"{"on_removed": "reschedule"}"#)),
    by_hand(WEB, "timeouts.tcp", r#""2h""#, r#""71s""#, web!(r#"{"timeouts": {"tcp": 71}}"#)),
    by_hand(WEB, "timeouts.tcp_fin", r#""2h""#, r#""72s""#, web!(r#"{"timeouts": {"tcp_fin": 72}}"#)),
    by_hand(WEB, "timeouts.udp", r#""2h""#, r#""73s""#, web!(r#"{"timeouts": {"udp": 73}}"#)),
    by_hand(
        WEB,
        "check",
        r#""none""#,
        r#"{ type = "tcp", interval = "8s", rise = 1 }"#,
        web!(r#"{"check": {"type": "tcp", "interval": "8s", "rise": 1}}"#),
    ),
    by_hand(WEB, "check_agreement", r#""all""#, r#""all""#, web!(r#"{"check_agreement": "all"}"#)),
    by_hand(WEB, "on_down", r#""quiesce""#, r#""remove""#, web!(r#"{"on_down": "remove"}"#)),
    by_hand(WEB, "quorum", "11", "12", web!(r#"{"quorum": 12}"#)),
    by_hand(WEB, "hysteresis", "3", "0", web!(r#"{"hysteresis": 0}"#)),
    by_hand(WEB, "min_healthy", "3", "0", web!(r#"{"min_healthy": 0}"#)),
    by_hand(WEB, "slow_start", r#""1m""#, r#""2500ms""#, web!(r#"{"slow_start": 2.5}"#)),
    by_hand(SERVER, "check", r#""tcp""#, r#""none""#, server!(r#"{"check": []}"#)),
    by_hand(SERVER, "sorry", "true", "true", server!(r#"{"sorry": true}"#)),
    by_hand(SERVER, "name", r#""first""#, r#""one""#, server!(r#"{"name": "one"}"#)),
    // The address is what a real server is known by: another one is another real server.
    by_hand(
        Place::Server(1, 1),
        "rip",
        r#""10.0.0.7""#,
        r#""10.0.0.8""#,
        &[
            r#"{"operation": "remove_real_server", "virtual_service": "dns", "real_server": "10.0.0.2"}"#,
            r#"{"operation": "add_real_server", "virtual_service": "dns",
                "real_server": {"rip": "10.0.0.8", "name": "server2"}}"#,
        ],
    ),
    by_hand(
        SERVER,
        "weight",
        "5",
        "0",
        &[r#"{"operation": "set_weight", "virtual_service": "web", "real_server": "server1", "weight": 0}"#],
    ),
    by_hand(SERVER, "upper_threshold", "200", "300", server!(r#"{"upper_threshold": 300}"#)),
    by_hand(SERVER, "lower_threshold", "40", "30", server!(r#"{"lower_threshold": 30}"#)),
    by_hand(SERVER, "path_mtu", "1400", "1300", server!(r#"{"path_mtu": 1300}"#)),
];

/// Keys that together set one thing: which packets a service is for.
pub const MATCHER: [&str; 3] = ["protocol", "vip", "port"];

/// [`BASE`] with other values.
pub fn file(values: &[(Place, &str, &str)]) -> String {
    let mut file: toml::Table = BASE.parse().expect("because BASE is TOML");
    for (place, key, value) in values {
        let mut table = match *place {
            Place::Top => &mut file,
            Place::Service(at) => block(&mut file, "virtual_service", at),
            Place::Server(at, server) => {
                block(block(&mut file, "virtual_service", at), "real_server", server)
            }
        };
        let (above, key) = key.rsplit_once('.').unwrap_or(("", key));
        if !above.is_empty() {
            let entry = table.entry(above).or_insert_with(|| toml::Table::new().into());
            table = entry.as_table_mut().expect("because it is a table in a file");
        }
        let value: toml::Table = format!("x = {value}").parse().unwrap_or_else(|e| panic!("{value}: {e}"));
        table.insert(key.to_owned(), value["x"].clone());
    }
    toml::to_string(&file).expect("because a table is TOML")
}

fn block<'a>(table: &'a mut toml::Table, key: &str, at: usize) -> &'a mut toml::Table {
    let blocks = table.get_mut(key).and_then(toml::Value::as_array_mut).expect("because BASE has blocks");
    blocks[at].as_table_mut().expect("because a block is a table")
}
