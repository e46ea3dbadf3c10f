//! Programs that others wrote, against the real binary in the lab: nginx on the real servers, curl and wrk on the
//! client, promtool on the metrics, `sh` on the commands a daemon prints, keepalived on two directors, dnsmasq, redis, PostgreSQL, MariaDB, memcached and others under their checks, ping and traceroute to the VIP, nft for
//! connection tracking and DNAT. Ignored by default, since they need those programs: `.ci/run` installs them and runs `cargo test --release --test interop -- --ignored`.

#[path = "interop/applications.rs"]
mod applications;
#[path = "interop/bpf.rs"]
mod bpf;
#[path = "interop/checked.rs"]
mod checked;
#[path = "interop/container.rs"]
mod container;
#[path = "interop/failover.rs"]
mod failover;
#[path = "namespaces/fixture.rs"]
mod fixture;
#[path = "interop/ldirectord.rs"]
mod ldirectord;
#[path = "interop/pair.rs"]
mod pair;
#[path = "interop/peers.rs"]
mod peers;
#[path = "interop/programs.rs"]
mod programs;
#[path = "interop/tshark.rs"]
mod tshark;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use lvs_tund::lab::{self, Cluster, Daemon, Filter, Host, Lab, Topology};
use nix::sys::signal::Signal;

use bpf::Family::{V4, V6};
use fixture::{
    Outcome, assert_conserved, assert_nothing_lost, assert_round_robin, capture_replies_at_director,
    configuration, director_count, poll_until, replied, routed, same_subnet, service, web,
};
use programs::{Nginx, run, run_with_input};

type Test = fn() -> Outcome;

const TESTS: &[(&str, Test)] = &[
    ("curl_sees_nginx_servers_take_turns", || take_turns(same_subnet(3))),
    ("curl_sees_nginx_servers_in_other_subnets_take_turns", || take_turns(routed(3))),
    ("wrk_sees_no_error_and_the_director_no_reply", load),
    ("wrk_sees_no_error_in_a_hundred_reloads", reloads),
    ("curl_uploads_ten_megabytes_in_one_subnet", || upload(same_subnet(2))),
    ("curl_uploads_ten_megabytes_through_a_router", || upload(routed(2))),
    ("fragments_arrive_whole_as_they_come", || pieces(false)),
    ("fragments_arrive_whole_where_the_kernel_puts_them_together", || pieces(true)),
    ("a_real_server_whose_application_is_in_a_container_serves", container::published_port),
    ("traceroute_ends_at_the_vip", traceroute),
    ("promtool_finds_nothing_wrong_with_the_metrics", metrics),
    ("keepalived_moves_the_vip_when_packets_no_longer_flow", failover::failover),
    ("the_printed_commands_are_all_that_is_needed", || printed_commands(false)),
    ("the_printed_commands_capture_a_local_vip", || printed_commands(true)),
    ("ldirectord_takes_real_servers_out_and_in_through_the_name_ipvsadm", ldirectord::drives),
    ("ldirectord_sends_clients_to_its_fallback_while_no_real_server_answers", ldirectord::falls_back),
    ("ldirectord_quiesces_a_real_server_and_its_connections_continue", ldirectord::quiesces),
    ("each_check_finds_its_application_and_says_what_is_wrong", checked::applications),
    ("each_application_that_runs_and_does_not_serve_is_down_in_words", applications::explained),
    ("keepalived_moves_the_vip_between_two_hosts_that_direct_and_serve", pair::fails_over),
    ("bpf_peers_carry_every_format_4_in_4", || peers::alone(V4, V4)),
    ("bpf_peers_carry_every_format_6_in_4", || peers::alone(V4, V6)),
    ("bpf_peers_carry_every_format_4_in_6", || peers::alone(V6, V4)),
    ("bpf_peers_carry_every_format_6_in_6", || peers::alone(V6, V6)),
    ("a_bpf_peer_refuses_what_is_wrapped_in_another_format", peers::strict),
    ("a_bpf_peer_unwraps_what_the_director_wraps_and_tshark_finds_nothing_wrong", peers::director),
    ("a_real_server_unwraps_what_a_bpf_peer_wraps", peers::real_server),
    ("tshark_finds_one_wrong_bit", peers::oracle),
];

fn main() -> ExitCode {
    let missing = programs::missing()
        .or_else(|| lab::enter().and_then(|_| lab::require_tun()).err().map(|error| error.to_string()));
    let trials = TESTS.iter().map(|&(name, test)| {
        let missing = missing.clone();
        let test = move || missing.map_or_else(test, |missing| Err(missing.into()));
        Trial::test(name, test).with_ignored_flag(true)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// nginx and `realserver` on each real server, and a director; it ends in the order of the fields.
struct Site {
    director: Daemon,
    _real_servers: Vec<Daemon>,
    _nginx: Vec<Nginx>,
}

impl Site {
    fn start(lab: &Lab) -> Result<Site, libtest_mimic::Failed> {
        let nginx = lab.real_servers.iter().map(|host| Nginx::start(lab, host)).collect::<Result<_, _>>()?;
        let start = |host| lab::start_real_server(lab, host);
        let real_servers = lab.real_servers.iter().map(start).collect::<Result<_, _>>()?;
        let director = lab::start_director(lab, &web(lab, ""))?;
        Ok(Site { director, _real_servers: real_servers, _nginx: nginx })
    }
}

fn url(lab: &Lab, path: &str) -> String {
    format!("http://{}{path}", lab.vip)
}

fn curl(lab: &Lab) -> Result<String, libtest_mimic::Failed> {
    let answer = run(lab.client(), "curl", &["-sS", "--max-time", "5", &url(lab, "/")])?;
    Ok(answer.trim().to_owned())
}

fn take_turns(topology: Topology) -> Outcome {
    let lab = topology.build()?;
    let _site = Site::start(&lab)?;
    let through_director = capture_replies_at_director(&lab)?;
    let answers = (0..9).map(|_| curl(&lab)).collect::<Result<Vec<_>, _>>()?;
    assert_round_robin(&answers, 3);
    assert!(through_director.stop().is_empty());
    // one connection, several requests: all of them at one server
    let page = url(&lab, "/");
    let kept = run(lab.client(), "curl", &["-sS", "--max-time", "5", &page, &page, &page])?;
    let answers: Vec<_> = kept.lines().collect();
    assert!(answers.len() == 3 && answers.iter().all(|answer| *answer == answers[0]), "{kept}");
    assert_nothing_lost(&lab)
}

/// `ping -s 4000 -M dont` and datagrams of 8000 bytes to the VIP. One nft rule that names connection tracking has the
/// director's kernel put fragments together before they are routed (and cut them again on their way to the device).
fn pieces(with_conntrack: bool) -> Outcome {
    let lab = same_subnet(2).build()?;
    if with_conntrack {
        let rules = "table ip test { chain input { type filter hook prerouting priority 0; ct state invalid drop; }; }";
        run(&lab.director, "nft", &[rules])?;
    }
    let _real_servers: Vec<Daemon> =
        lab.real_servers.iter().map(|host| lab::start_real_server(&lab, host)).collect::<Result<_, _>>()?;
    let address = SocketAddrV4::new(lab.vip, 53);
    let _dns = lab.real_servers.iter().map(|host| host.serve_udp(address)).collect::<Result<Vec<_>, _>>()?;
    let services = [service(&lab, "dns", "udp", 53, 1)];
    let _director = lab::start_director(&lab, &configuration(&lab, "", &services))?;
    let vip = lab.vip.to_string();
    let said =
        run(lab.client(), "ping", &["-c", "3", "-i", "0.2", "-W", "2", "-s", "4000", "-M", "dont", &vip])?;
    assert!(said.contains("3 packets transmitted, 3 received, 0% packet loss"), "{said}");
    for round in 0..4 {
        let words = "x".repeat(8000);
        let answer = lab::udp::ask(&lab.client().udp_socket()?, address, &words)?;
        let (server, echoed) = answer.split_once(' ').expect("a name and the words");
        assert_eq!((server, echoed.len()), (lab.real_servers[round % 2].name.as_str(), 8000));
    }
    let reassembled =
        run(&lab.director, "sh", &["-c", "grep ^Ip: /proc/net/snmp | tail -1 | cut -d' ' -f16"])?;
    let reassembled: u64 = reassembled.trim().parse()?;
    assert_eq!(reassembled >= 7, with_conntrack, "{reassembled} packets were reassembled by the kernel");
    assert_eq!(director_count(&lab, "packets_dropped_total", &[]), 0);
    assert_conserved(&lab)
}

/// Two hops: the director's host, and the VIP.
fn traceroute() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _site = Site::start(&lab)?;
    let vip = lab.vip.to_string();
    for method in [&["-U"][..], &["-T", "-p", "80"], &["-I"]] {
        let arguments = [method, &["-n", "-q", "1", "-w", "2", &vip]].concat();
        let said = run(lab.client(), "traceroute", &arguments)?;
        let hops: Vec<_> = said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops, [lab.director.address.to_string(), vip.clone()], "{method:?}: {said}");
    }
    assert_nothing_lost(&lab)
}

/// SIGHUP a hundred times while wrk sends requests; each time another real server's weight is another one.
fn reloads() -> Outcome {
    const RELOADS: usize = 100;
    let lab = same_subnet(2).build()?;
    let mut site = Site::start(&lab)?;
    let file = lab.directory().join("director-director.toml");
    let text = std::fs::read_to_string(&file)?;
    let page = url(&lab, "/");
    let report = std::thread::scope(|scope| -> Result<String, libtest_mimic::Failed> {
        let wrk = scope.spawn(|| run(lab.client(), "wrk", &["-t2", "-c", "20", "-d10s", &page]));
        for round in 0..RELOADS {
            let weight = format!("weight = {}", 1 + round % 5);
            std::fs::write(&file, text.replacen("weight = 1", &weight, 1))?;
            site.director.signal(Signal::SIGHUP)?;
            std::thread::sleep(Duration::from_millis(80));
        }
        wrk.join().map_err(|_| "wrk's thread panicked")?
    })?;
    println!("{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    let reloaded = site.director.log().matches("director: reloaded").count();
    assert!(reloaded > RELOADS / 2, "{reloaded} reloads; signals that meet each other count once");
    // wrk connects once to see whether it can, and its connections never move: none is made again.
    let made = director_count(&lab, "connections_created_total", &[]);
    assert!((20..=22).contains(&made), "{made} connections");
    assert_nothing_lost(&lab)
}

fn load() -> Outcome {
    const CONNECTIONS: u64 = 50;
    let lab = same_subnet(2).build()?;
    let _site = Site::start(&lab)?;
    let through_director = capture_replies_at_director(&lab)?;
    let connections = CONNECTIONS.to_string();
    let report = run(lab.client(), "wrk", &["-t2", "-c", &connections, "-d5s", &url(&lab, "/")])?;
    println!("{report}");
    assert!(!report.contains("Socket errors"), "{report}");
    assert!(!report.contains("Non-2xx"), "{report}");
    let requests =
        report.lines().find_map(|line| line.trim().split_once(" requests in")?.0.parse::<u64>().ok());
    assert!(requests.is_some_and(|requests| requests > 1000), "{report}");
    let of_server = |name: &str, host: &Host| {
        let labels = [("virtual_service", "web"), ("real_server", host.name.as_str())];
        director_count(&lab, name, &labels)
    };
    let shares: BTreeMap<_, _> = lab
        .real_servers
        .iter()
        .map(|host| (&host.name, of_server("real_server_packets_total", host)))
        .collect();
    let made: Vec<_> =
        lab.real_servers.iter().map(|host| of_server("real_server_connections_total", host)).collect();
    println!("packets by real server: {shares:?}, connections: {made:?}");
    // wrk connects once to see whether it can
    assert!((CONNECTIONS..=CONNECTIONS + 2).contains(&made.iter().sum()), "{made:?}");
    assert!(made[0].abs_diff(made[1]) <= 1, "{made:?}");
    let all: u64 = shares.values().sum();
    // equal connections of equal servers; the machine's scheduling is the rest
    assert!(shares.values().all(|share| share * 100 > all * 30), "{shares:?}");
    let replies = through_director.stop();
    assert!(replies.is_empty(), "{} replies passed the director", replies.len());
    assert_nothing_lost(&lab)
}

/// Full segments must not be fragmented and have to fit behind the outer header: the real server has announced what
/// does, and no host needs ICMP.
fn upload(topology: Topology) -> Outcome {
    let lab = topology.build()?;
    let _site = Site::start(&lab)?;
    let file = lab.client().write_file("upload", &"0123456789".repeat(1_000_000))?;
    let body = format!("@{}", file.display());
    let form = "%{http_code} %{time_total} %{size_upload}\n";
    let errors = lab.client().capture(Filter { source: Some(lab.vip), destination: None })?;
    for _ in 0..2 {
        let arguments = ["-sS", "--max-time", "20", "--data-binary", &body, "-o", "/dev/null", "-w", form];
        let said = run(lab.client(), "curl", &[&arguments[..], &[&url(&lab, "/upload")]].concat())?;
        let words: Vec<_> = said.split_whitespace().collect();
        println!("curl: status, seconds, bytes: {}", words.join(" "));
        assert_eq!((words[0], words[2]), ("200", "10000000"), "{said}");
        let took = Duration::from_secs_f64(words[1].parse()?);
        // one lost flight costs a retransmission timeout at most: 10 MB on a virtual link are otherwise a moment
        assert!(took < Duration::from_secs(3), "10 MB took {took:?}");
    }
    let told: Vec<_> = errors.stop().into_iter().filter(|packet| packet.protocol() == 1).collect();
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(replied(&lab, "too_big"), 0);
    assert_nothing_lost(&lab)
}

fn metrics() -> Outcome {
    let lab = same_subnet(2).build()?;
    let _site = Site::start(&lab)?;
    for _ in 0..4 {
        curl(&lab)?;
    }
    assert_nothing_lost(&lab)?;
    let ports =
        [(&lab.director, Cluster::DIRECTOR_METRICS), (&lab.real_servers[0], Cluster::REAL_SERVER_METRICS)];
    for (host, port) in ports {
        let address = format!("http://127.0.0.1:{port}/metrics");
        let text = run(host, "curl", &["-sSf", &address])?;
        let said = run_with_input(host, "promtool", &["check", "metrics"], &text)?;
        assert!(said.is_empty(), "{}: {said}", host.name);
    }
    Ok(())
}

/// `--no-host-changes` leaves its host alone and prints what to do; the test does it with the usual tools.
fn printed_commands(has_local_vip: bool) -> Outcome {
    let lab = same_subnet(2).build()?;
    if has_local_vip {
        lab.director.add_address(lab.vip, 32)?;
    }
    let _nginx =
        lab.real_servers.iter().map(|host| Nginx::start(&lab, host)).collect::<Result<Vec<_>, _>>()?;
    let mut daemons = Vec::new();
    for host in &lab.real_servers {
        let director = lab.director.address.to_string();
        let vip = lab.vip.to_string();
        let arguments = ["realserver", "--no-host-changes", "--vip", &vip, "--director", &director];
        daemons.push(obeyed(host, &arguments, Cluster::REAL_SERVER_METRICS)?);
    }
    // Until the commands have been typed, probes of a local VIP fail.
    let check = "check = { type = \"tcp\", interval = \"200ms\", grace = \"10s\" }";
    let text = configuration(&lab, check, &[service(&lab, "web", "tcp", 80, 1)]);
    let file = lab.director.write_file("director.toml", &text)?;
    let arguments = ["director", "--no-host-changes", "--config", file.to_str().expect("UTF-8")];
    daemons.push(obeyed(&lab.director, &arguments, Cluster::DIRECTOR_METRICS)?);
    let answers = (0..6).map(|_| curl(&lab)).collect::<Result<Vec<_>, _>>()?;
    assert_round_robin(&answers, 2);
    poll_until("probes of both", || {
        let succeeded = |host: &Host| {
            let labels = [("real_server", host.name.as_str()), ("outcome", "success")];
            director_count(&lab, "real_server_probes_total", &labels) > 2
        };
        lab.real_servers.iter().all(succeeded).then_some(())
    });
    assert_conserved(&lab)
}

/// Starts a daemon and does what it prints.
fn obeyed(host: &Host, arguments: &[&str], port: u16) -> Result<Daemon, libtest_mimic::Failed> {
    let mut daemon = host.spawn_daemon(arguments)?;
    daemon.wait_until_ready(host, port)?;
    let is_command = |line: &&str| line.starts_with("ip ") || line.starts_with("sysctl ");
    let script = poll_until("the commands", || {
        let script: Vec<_> = daemon.log().lines().filter(is_command).map(str::to_owned).collect();
        (!script.is_empty()).then(|| script.join("\n"))
    });
    println!("on {}:\n{script}", host.name);
    run(host, "sh", &["-e", "-c", &script])?;
    Ok(daemon)
}
