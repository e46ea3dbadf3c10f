//! Screens of a director as an operator sees them.

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

#[test]
fn numbers_of_four_places() {
    let cases = [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0k"),
        (12_345, "12.3k"),
        (123_456, "123k"),
        (999_999, "999k"),
        (1_000_000, "1.0M"),
        (u64::MAX, "18.4E"),
    ];
    for (value, expected) in cases {
        assert_eq!(scaled(value), expected, "{value}");
    }
}

fn model<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn server(rip: &str, more: serde_json::Value) -> serde_json::Value {
    let mut server = serde_json::json!({
        "name": rip, "rip": rip, "weight": 1, "weight_now": 1, "upper_threshold": 0, "lower_threshold": 0, "path_mtu": null,
        "path_mtu_now": 1500, "local": false, "encapsulation": "ipip", "active_connections": 12, "inactive_connections": 3,
        "persistent_connections": 0, "overloaded": false, "drain": null, "enabled": true, "health": null, "sorry": false, "check": null,
        "troubles": [], "transmit_errors": [],
        "statistics": {"connections": 5, "packets": 50, "bytes": 5000},
        "rates": {"connections": 2, "packets": 1500, "bytes": 1_000_000}
    });
    server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server
}

fn services() -> VirtualServices {
    let nothing = serde_json::json!({"connections": 0, "packets": 0, "bytes": 0});
    let service = |name: &str, port: u16, servers: Vec<serde_json::Value>| {
        serde_json::json!({
            "name": name, "match": [{"protocol": "tcp", "vip": "172.25.3.100", "port": port}], "scheduler": "sh",
            "scheduler_flags": ["sh-port"], "persistence": {"timeout": 600, "prefix": 24}, "one_packet": false,
            "unknown_tcp": "schedule", "on_removed": "reschedule", "check": "none", "check_agreement": "all",
            "on_down": "quiesce", "quorum": 0, "hysteresis": 0, "min_healthy": 0, "slow_start": 0,
            "timeouts": {"tcp": 900, "tcp_fin": 120, "udp": 300}, "statistics": nothing, "rates": nothing,
            "real_servers": servers
        })
    };
    let drain = |then: &str, done: bool| {
        let drain = serde_json::json!({"deadline_in": 250, "then": then, "done": done});
        serde_json::json!({"weight": 5, "weight_now": 0, "drain": drain})
    };
    let overloaded = serde_json::json!({"name": "server4", "overloaded": true, "upper_threshold": 15});
    let servers = vec![
        server("172.25.3.2", serde_json::json!({})),
        server("172.25.3.3", drain("keep", false)),
        server("172.25.3.5", drain("keep", true)),
        server("172.25.3.6", drain("remove", true)),
        server("172.25.3.4", overloaded),
        server("172.25.3.1", serde_json::json!({"local": true})),
        server("127.0.0.1", serde_json::json!({"local": true, "weight_now": 0})),
    ];
    let idle = vec![server("172.25.3.2", serde_json::json!({"weight": 0, "weight_now": 0}))];
    model(serde_json::json!({
        "generation": 7,
        "virtual_services": [service("web", 80, servers), service("tcp-172.25.3.100-443", 443, idle)]
    }))
}

fn status() -> Status {
    model(serde_json::json!({
        "role": "director", "ready": true, "troubles": [], "dropped": [], "losses": [],
        "version": "0.1.0", "generation": 7, "uptime": 3_720, "interfaces": ["eth0"], "tun": "lvsd0",
        "config_file": null, "virtual_services": 2, "real_servers": 4, "draining": 1, "connections": 60,
        "connections_max": 1_048_576, "templates": 4, "timeouts": {"tcp": 900, "tcp_fin": 120, "udp": 300},
        "statistics": {"connections": 0, "packets": 0, "bytes": 0},
        "rates": {"connections": 6, "packets": 12_345, "bytes": 125_000}
    }))
}

#[test]
fn what_is_wrong_stands_where_it_belongs() {
    let trouble = |kind: &str, message: &str, stops_packets: bool| {
        serde_json::json!({"kind": kind, "subject": "172.25.3.2", "message": message, "age": 12,
                           "stops_packets": stops_packets})
    };
    let suspect = trouble("protocol_unreachable", "it answers; start it", false);
    let mut status = status();
    status.troubles = model(serde_json::json!([
        trouble("device_down", "lvsd0 is down", true),
        suspect,
        trouble("setting_missing", "a setting is missing", false)
    ]));
    status.dropped = model(serde_json::json!([{"reason": "no_service", "packets": 3, "age": 5}]));
    let mut services = services();
    let server = &mut services.virtual_services[0].real_servers[0];
    server.troubles = vec![model(suspect)];
    server.transmit_errors = model(serde_json::json!([{"cause": "no_buffer", "packets": 2}]));
    let text = render(&status, &services, false, NOW);
    let head: Vec<&str> = text.lines().skip(2).take(4).collect();
    let expected = [
        "not ready: lvsd0 is down (for 12s)",
        "warning: a setting is missing (for 12s)",
        "dropped: 3 no_service (5s ago)",
        "",
    ];
    assert_eq!(head, expected);
    let below: Vec<&str> = text.lines().skip(8).take(3).collect();
    assert!(below[0].starts_with("  172.25.3.2  "), "{text}");
    assert_eq!(below[1], "    warning: it answers; start it (for 12s)");
    assert_eq!(below[2], "    2 packets not sent so far (no_buffer)");
    assert!(render(&status, &services, true, NOW).contains("\x1b[31mnot ready: lvsd0 is down"));
}

#[test]
fn the_screen() {
    let expected = "\
lvs-tund 0.1.0, up 1h 2m, on eth0 by lvsd0, generation 7
60 of 1048576 connections, 6 new/s, 12.3k packets/s, 1.0M bits/s, 4 persistent clients, 1 draining

                         weight    active  inactive    new/s packets/s    bits/s  state
web: tcp 172.25.3.100:80               84        21        0         0         0  sh, sh-port, persistent 10m by /24
  172.25.3.2                  1        12         3        2      1.5k      8.0M
  172.25.3.3                  0        12         3        2      1.5k      8.0M  draining, 4m 10s left, then kept; configured weight 5
  172.25.3.5                  0        12         3        2      1.5k      8.0M  quiesced by a drain; `undrain` gives it weight 5
  172.25.3.6                  0        12         3        2      1.5k      8.0M  removed by a drain; `undrain` brings it back with weight 5
  server4 172.25.3.4          1        12         3        2      1.5k      8.0M  overloaded: its limit is 15 connections
  172.25.3.1                  1        12         3        2      1.5k      8.0M  this host
  127.0.0.1                   0        12         3        2      1.5k      8.0M  this host, which does not have the VIP
tcp 172.25.3.100:443                   12         3        0         0         0  sh, sh-port, persistent 10m by /24, no real server accepts new connections
  172.25.3.2                  0        12         3        2      1.5k      8.0M  quiesced
";
    assert_eq!(render(&status(), &services(), false, NOW), expected);
    let coloured = render(&status(), &services(), true, NOW);
    assert!(coloured.contains("\x1b[31mtcp 172.25.3.100:443"), "{coloured}");
    let empty = VirtualServices { generation: 1, virtual_services: Vec::new() };
    assert!(render(&status(), &empty, false, NOW).ends_with("`lvs-tund ipvsadm -A -t VIP:PORT -s rr`\n"));
}

#[test]
fn health_stands_in_the_state_column_and_a_down_real_server_is_not_listed_twice() {
    let health = |state: &str, age: u64, more: serde_json::Value| -> Option<ServerState> {
        let mut health = serde_json::json!({"state": state, "age": age, "why": null, "weight_from_check": null, "share": 1000,
                                            "checks": []});
        health.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Some(model(health))
    };
    let mut services = services();
    let web = &mut services.virtual_services[0];
    let refused = serde_json::json!({"why": "connection refused by 172.25.3.2 through the tunnel, 3 of 3"});
    web.real_servers[0].health = health("down", 50, refused);
    web.real_servers[0].troubles = vec![model(serde_json::json!({
        "kind": "real_server_down", "subject": "172.25.3.2", "message": "it is down", "age": 50, "stops_packets": false
    }))];
    web.real_servers[1].health = health("down", 86_400, serde_json::json!({}));
    web.real_servers[2].drain = None;
    web.real_servers[2].enabled = false;
    web.real_servers[5].health = health("up", 5, serde_json::json!({"share": 255, "weight_from_check": 9}));
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2 * 86_400 + 12 * 3600 + 5 * 60);
    let text = render(&status(), &services, false, at);
    let state =
        |line: &str| text.lines().find(|found| found.starts_with(line)).map(|found| found[82..].to_owned());
    let states =
        ["  172.25.3.2 ", "  172.25.3.3 ", "  172.25.3.5 ", "  172.25.3.1 "].map(|line| state(line).unwrap());
    assert_eq!(
        states,
        [
            "down: connection refused by 172.25.3.2 through the tunnel, 3 of 3, since 12:04:10Z",
            "draining, 4m 10s left, then kept; configured weight 5, down: no probe has succeeded yet, since \
             1970-01-02T12:05:00Z",
            "disabled; `enable` gives it new connections",
            "this host, weight 9 by its check, configured 1, slow start: 25 % of its weight",
        ]
    );
    assert!(!text.contains("it is down"), "{text}");
}

#[test]
fn a_virtual_service_shows_what_its_checks_mean() {
    for (has_quorum, fails_open, uses_sorry, down, expected) in [
        (true, false, false, 0, None),
        (true, false, false, 1, Some("2 of 3 up")),
        (false, false, false, 1, Some("2 of 3 up, quorum lost")),
        (false, false, true, 1, Some("2 of 3 up, quorum lost: sorry servers serve")),
        (true, true, false, 1, Some("2 of 3 up: too few, so that all count as up")),
    ] {
        let found = quorum(&ServiceState { has_quorum, fails_open, uses_sorry, up: 2, down });
        assert_eq!(found.as_deref(), expected);
        let mut services = services();
        services.virtual_services[0].health =
            Some(ServiceState { has_quorum, fails_open, uses_sorry, up: 2, down });
        let text = render(&status(), &services, false, NOW);
        assert!(
            expected.is_none_or(|expected| text.contains(&format!("persistent 10m by /24, {expected}\n"))),
            "{text}"
        );
    }
}
