//! Daemons that end, well or badly, and come back.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lvs_tund::lab::{self, Cluster, Lab};
use nix::sys::signal::Signal;

use crate::fixture::{
    Outcome, PATIENCE, ask, ask_times, assert_conserved, assert_nothing_lost, assert_round_robin, dropped,
    poll_until, replied, same_subnet, start_real_servers, stop, web, web_address,
};
use crate::health;
use crate::host_state::{State, add_address, assert_same, proxies, state, sysctls, ways};

pub fn real_server_killed() -> Outcome {
    let lab = same_subnet(2).build()?;
    let mut cluster = Cluster::start(&lab)?;
    let mut kept = lab.client().connect(web_address(&lab))?;
    assert_eq!(kept.get("/")?.text(), "server2");
    cluster.real_servers[0].kill()?;
    poll_until("the end of its device", || {
        let names = lab.real_servers[0].interfaces().expect("interfaces");
        (!names.contains(&"lvsr0".into())).then_some(())
    });
    // the other half of the requests is answered all the while; without health checks the rest is not
    assert_eq!(ask(&lab)?, "server3");
    let answer = thread::scope(|scope| {
        let waiting = scope.spawn(|| ask(&lab));
        cluster.real_servers[0] = lab::start_real_server(&lab, &lab.real_servers[0])?;
        Ok::<_, lab::LabError>(waiting.join().expect("a request"))
    })?;
    assert_eq!(answer?, "server2", "the client's next SYN finds it back");
    assert_eq!(kept.get("/")?.text(), "server2", "an old connection continues");
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_conserved(&lab)
}

pub fn real_server_stopped() -> Outcome {
    let lab = same_subnet(1).build()?;
    let host = &lab.real_servers[0];
    let _web = host.serve_http(80)?;
    let before = state(host);
    let mut daemon = lab::start_real_server(&lab, host)?;
    let _director = lab::start_director(&lab, &web(&lab, ""))?;
    assert_eq!(ask(&lab)?, "server2");
    assert_nothing_lost(&lab)?;
    stop(&mut daemon)?;
    assert_same(&before, &state(host), "the real server's host");
    Ok(())
}

pub fn director_stopped() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let before = state(&lab.director);
    for _ in 0..2 {
        let mut director = lab::start_director(&lab, &web(&lab, ""))?;
        assert_round_robin(&ask_times(&lab, 4)?, 2);
        assert_conserved(&lab)?;
        assert!(state(&lab.director) != before);
        stop(&mut director)?;
        assert_same(&before, &state(&lab.director), "the director's host");
    }
    Ok(())
}

/// Ctrl-C, an init system; to the real server, which has nothing to reload, a terminal that is closed too.
pub fn signals() -> Outcome {
    let lab = same_subnet(1).build()?;
    let before = (state(&lab.director), state(&lab.real_servers[0]));
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut real_server = lab::start_real_server(&lab, &lab.real_servers[0])?;
        let mut director = lab::start_director(&lab, &web(&lab, ""))?;
        if signal == Signal::SIGHUP {
            director.signal(signal)?;
            director.wait_for_log("reload", PATIENCE)?;
            stop(&mut director)?;
        }
        let both = [&mut director, &mut real_server];
        for daemon in both.into_iter().skip(usize::from(signal == Signal::SIGHUP)) {
            daemon.signal(signal)?;
            let status = daemon.wait(PATIENCE)?;
            assert!(status.success(), "{signal}: {status}: {}", daemon.log());
            assert!(daemon.log().contains(&format!("{signal}, stopping")), "{}", daemon.log());
        }
        assert_same(&before.0, &state(&lab.director), "the director's host");
        assert_same(&before.1, &state(&lab.real_servers[0]), "the real server's host");
    }
    Ok(())
}

pub fn director_stopped_under_traffic() -> Outcome {
    let lab = same_subnet(2).with_clients(2).build()?;
    let (web_servers, _real_servers) = start_real_servers(&lab)?;
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in &lab.clients {
            scope.spawn(|| flood(&lab, client, &is_over));
        }
        poll_until("traffic", || {
            (web_servers.iter().map(lab::http::Server::requests).sum::<u64>() > 50).then_some(())
        });
        let stopped = stop(&mut director);
        is_over.store(true, Ordering::Relaxed);
        stopped
    })?;
    assert!(director.log().contains("director: SIGTERM, stopping"), "{}", director.log());
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

fn flood(lab: &Lab, client: &lab::Host, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut connection) = client.run(|| {
            let patience = Duration::from_millis(300);
            lab::http::Connection::open(web_address(lab).into(), patience)
        }) else {
            continue;
        };
        let _ = connection.get("/bytes/1000");
    }
}

/// The connection table dies with its director: an established connection is reset, so that the client notices at
/// once, and a new connection is served.
pub fn director_restarted() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    let mut kept = lab.client().connect(web_address(&lab))?;
    assert_eq!(kept.get("/")?.text(), "server2");
    stop(&mut director)?;
    let _director = lab::start_director(&lab, &web(&lab, ""))?;
    assert_eq!(kept.get("/").unwrap_err().kind(), ErrorKind::ConnectionReset);
    // A packet is counted at the end of its batch, after the reply was sent.
    poll_until("the reset is counted", || (replied(&lab, "tcp_reset") == 1).then_some(()));
    assert_eq!(dropped(&lab, "no_connection"), 0, "what is answered is not dropped");
    assert_eq!(lab.client().connect(web_address(&lab))?.get("/")?.status, 200);
    assert_conserved(&lab)
}

pub fn director_killed() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let before = (ways(&lab.director), proxies(&lab.director), sysctls(&lab.director));
    // The rule stays, without effect, until the next start.
    let without_rules = |ways: &State| ways.iter().filter(|way| !way.starts_with("rule ")).cloned().collect();
    let own_ways: State = without_rules(&before.0);
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_conserved(&lab)?;
    director.kill()?;
    let are_as_before = || (without_rules(&ways(&lab.director)) == own_ways).then_some(());
    poll_until("routes and addresses as before", are_as_before);
    // what cannot live on the device stays and is known by its protocol number
    let left = proxies(&lab.director);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left.iter().all(|proxy| proxy.contains("76")), "{left:?}");

    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    assert!(director.log().contains("host: adopted"), "{}", director.log());
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_conserved(&lab)?;
    stop(&mut director)?;
    assert_same(&before.0, &ways(&lab.director), "routes, rules and addresses");
    assert_same(&before.1, &proxies(&lab.director), "proxy neighbours");
    assert_same(&before.2, &sysctls(&lab.director), "settings");
    Ok(())
}

pub fn director_with_local_vip_killed() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    add_address(&lab.director, "lo", lab.vip);
    let before = ways(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    director.kill()?;
    poll_until("its device to be gone", || {
        let names = lab.director.interfaces().expect("interfaces");
        (!names.contains(&"lvsd0".into())).then_some(())
    });
    // its rule leads to a table that died with the device: the host is reachable again
    assert_eq!(ask(&lab).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_conserved(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &ways(&lab.director), "routes, rules and addresses");
    Ok(())
}

/// The kernel takes proxy neighbours from an interface that goes down; the director gives them back.
pub fn interface_down_and_up() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    let mut kept = lab.client().connect(web_address(&lab))?;
    let server = kept.get("/")?.text();
    for flap in 1..=2 {
        lab.director.set_connected(false)?;
        // a flap that it cannot see counts as interference, which is corrected at growing intervals
        let renewed = || director.log().matches("paths to the real servers updated").count();
        poll_until("its notice of the loss", || (renewed() == 2 * flap - 1).then_some(()));
        health::await_reason(&lab.director, Cluster::DIRECTOR_METRICS, "interface eth0 is down");
        lab.director.set_connected(true)?;
        poll_until("its notice of the return", || (renewed() == 2 * flap).then_some(()));
        poll_until("the proxy neighbour", || (proxies(&lab.director).len() == 1).then_some(()));
        poll_until("an answer", || ask(&lab).ok());
        assert_round_robin(&ask_times(&lab, 4)?, 2);
        assert_eq!(kept.get("/")?.text(), server, "a connection has moved");
    }
    assert_conserved(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

pub fn second_director() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let first = lab::start_director(&lab, &web(&lab, ""))?;
    let before = state(&lab.director);
    let file = lab.director.write_file("second.toml", &web(&lab, ""))?;
    let socket = lab.directory().join("second.sock");
    let (file, control) = (file.to_str().expect("UTF-8"), socket.to_str().expect("UTF-8"));
    let message = format!("lvs-tund: a director is already running here (pid {}, for ", first.id());
    for more in [&[][..], &["--metrics", "127.0.0.1:9790", "--control", control]] {
        let arguments = [&["director", "--config", file][..], more].concat();
        let mut second = lab.director.spawn_daemon(&arguments)?;
        let status = second.wait(PATIENCE)?;
        let log = second.log();
        assert_eq!((status.code(), log.lines().count()), (Some(1), 1), "{log}");
        assert!(log.starts_with(&message), "{log}");
    }
    assert!(!socket.exists(), "a socket without a program is left behind");
    assert_same(&before, &state(&lab.director), "the director's host");
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_nothing_lost(&lab)
}

/// The first one's settings look like those of a killed predecessor, and are not.
pub fn second_director_with_its_own_device() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _first = lab::start_director(&lab, &web(&lab, ""))?;
    let before = state(&lab.director);
    let own_device = format!("tun = \"lvsd1\"\n{}", web(&lab, ""));
    let file = lab.director.write_file("second.toml", &own_device)?;
    let arguments = ["director", "--config", file.to_str().expect("UTF-8"), "--metrics", "127.0.0.1:9790"];
    let mut second = lab.director.spawn_daemon(&arguments)?;
    assert_eq!(second.wait(PATIENCE)?.code(), Some(2), "{}", second.log());
    let log = second.log();
    let last = log.lines().last().unwrap_or_default();
    let expected = "lvs-tund: VIP 172.25.3.100 is captured already (`ip route show table 7690`): ";
    assert!(last.starts_with(expected), "{log}");
    assert_same(&before, &state(&lab.director), "the first director's host");
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_nothing_lost(&lab)
}
