//! `--via`: packets through the tunnel, and how far they come.

use lvs_tund::lab::{self, Cluster, Daemon, Filter, Lab};

use crate::fixture::{Outcome, director_via, same_subnet, shell};

/// A web server and a daemon that serves its metrics on all addresses, then the director.
fn start(lab: &Lab, keys: &str) -> Result<(lab::http::Server, Daemon, Daemon), libtest_mimic::Failed> {
    let host = &lab.real_servers[0];
    let web = host.serve_http(80)?;
    let file = host.write_file("realserver.toml", keys)?;
    let mut daemon = host.spawn_daemon(&["realserver".as_ref(), "--config".as_ref(), file.as_os_str()])?;
    daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
    let director = lab::start_director(lab, &lab::director_configuration(lab, "rr"))?;
    Ok((web, daemon, director))
}

const KEYS: &str = "vips = [\"172.25.3.100\"]\ndirectors = [\"172.25.3.1\"]\nmetrics = \"0.0.0.0:9691\"\n";

pub fn delivered() -> Outcome {
    for services in ["", "services = [\"tcp/80\"]\n"] {
        let lab = same_subnet(1).build()?;
        let _running = start(&lab, &format!("{KEYS}{services}"))?;
        let answers = lab.real_servers[0].capture(Filter { source: Some(lab.vip), destination: None })?;
        let found = director_via(&lab);
        found.are(&[]);
        assert_eq!(found.found("via"), "real server server2 delivers packets through the tunnel");
        let answers = answers.stop();
        assert!(answers.is_empty(), "the VIP answered: {answers:?}");
    }
    Ok(())
}

pub fn no_daemon() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _director = lab::start_director(&lab, &lab::director_configuration(&lab, "rr"))?;
    let found = director_via(&lab);
    found.are(&[(
        "via",
        "real server server2 refuses packets through the tunnel: no program there receives IP protocol 4",
    )]);
    Ok(())
}

pub fn dropped() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = start(&lab, &KEYS.replace("172.25.3.1\"", "172.25.3.50\""))?;
    let expected = "real server server2 receives packets through the tunnel and drops them: unknown_peer";
    director_via(&lab).are(&[("via", expected)]);
    Ok(())
}

/// The daemon serves its metrics to its own host only.
pub fn unknown() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = start(&lab, &KEYS.replace("0.0.0.0", "127.0.0.1"))?;
    let found = director_via(&lab);
    found.are_with_warnings(&[], &[("via", "nothing answers on 172.25.3.2:9691")]);
    assert_eq!(found.remedy("via"), "metrics = \"0.0.0.0:9691\"   # in the file of server2");
    Ok(())
}

pub fn filtered() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = start(&lab, KEYS)?;
    let rules = "nft 'table inet filter { chain input { type filter hook input priority 0; policy accept; \
                 ip protocol 4 drop; }; }'";
    shell(&lab.real_servers[0], rules);
    director_via(&lab).are(&[("via", "packets through the tunnel do not reach real server server2")]);
    Ok(())
}
