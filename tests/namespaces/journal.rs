//! What killed daemons leave, and who undoes it.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use lvs_tund::lab::{self, Cluster, Host, Lab};

use crate::fixture::{
    Outcome, PATIENCE, ask_times, assert_round_robin, poll_until, same_subnet, start_real_servers, stop, web,
};
use crate::host_state::{State, add_address, assert_same, delete_address, state};

fn set(host: &Host, key: &str, value: &str) {
    let (path, value) = (format!("/proc/sys/net/ipv4/{key}"), value.to_owned());
    host.run(move || fs::write(&path, value).expect("a setting that can be written"));
}

fn value(host: &Host, key: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/{key}");
    host.run(move || fs::read_to_string(&path).expect("a setting").trim().to_owned())
}

/// The files in which the lab's daemons keep their changes.
fn journals(lab: &Lab) -> Vec<PathBuf> {
    let files =
        fs::read_dir(lab.directory()).expect("the lab's directory").flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "changes")).collect()
}

fn until_without(host: &Host, device: &str) {
    poll_until("the end of the device", || {
        (!host.interfaces().expect("interfaces").contains(&device.into())).then_some(())
    });
}

/// With the VIP on the director's loopback, so that a policy rule is part of it; three times, so that the journal of one
/// that was killed passes through another.
pub fn killed() -> Outcome {
    let lab = same_subnet(1).build()?;
    let server = &lab.real_servers[0];
    add_address(&lab.director, "lo", lab.vip);
    let before = (state(&lab.director), state(server));
    for _ in 0..3 {
        let mut cluster = Cluster::start(&lab)?;
        assert_round_robin(&ask_times(&lab, 2)?, 1);
        cluster.director.kill()?;
        cluster.real_servers[0].kill()?;
        until_without(&lab.director, "lvsd0");
        until_without(server, "lvsr0");
        assert!(state(&lab.director) != before.0 && state(server) != before.1, "a kill that leaves nothing");
    }
    let mut cluster = Cluster::start(&lab)?;
    assert_round_robin(&ask_times(&lab, 2)?, 1);
    stop(&mut cluster.director)?;
    stop(&mut cluster.real_servers[0])?;
    assert_same(&before.0, &state(&lab.director), "the director's host");
    assert_same(&before.1, &state(server), "the real server's host");
    assert!(journals(&lab).is_empty(), "a journal without a daemon");
    Ok(())
}

pub fn killed_while_starting() -> Outcome {
    let lab = same_subnet(1).build()?;
    let server = &lab.real_servers[0];
    add_address(&lab.director, "lo", lab.vip);
    let before = (state(&lab.director), state(server));
    let file = lab.director.write_file("director.toml", &web(&lab, ""))?;
    let (file, vip) = (file.to_str().expect("UTF-8").to_owned(), lab.vip.to_string());
    let director_address = lab.director.address.to_string();
    for pause in (0..24).map(|step| Duration::from_millis(2 * step)) {
        let mut director = lab.director.spawn_daemon(&["director", "--config", &file])?;
        let mut real_server =
            server.spawn_daemon(&["realserver", "--vip", &vip, "--director", &director_address])?;
        thread::sleep(pause);
        director.kill()?;
        real_server.kill()?;
        until_without(&lab.director, "lvsd0");
        until_without(server, "lvsr0");
    }
    // Neither is its VIP local any more when the next one starts, so that it needs no rule.
    delete_address(&lab.director, lab.vip);
    let mut cluster = Cluster::start(&lab)?;
    stop(&mut cluster.director)?;
    stop(&mut cluster.real_servers[0])?;
    add_address(&lab.director, "lo", lab.vip);
    assert_same(&before.0, &state(&lab.director), "the director's host");
    assert_same(&before.1, &state(server), "the real server's host");
    Ok(())
}

pub fn set_after_a_kill() -> Outcome {
    let lab = same_subnet(1).build()?;
    let server = &lab.real_servers[0];
    let before = (state(&lab.director), state(server));
    let mut cluster = Cluster::start(&lab)?;
    cluster.director.kill()?;
    cluster.real_servers[0].kill()?;
    set(&lab.director, "conf/eth0/rp_filter", "0");
    set(&lab.director, "neigh/eth0/proxy_delay", "40");
    set(server, "conf/all/arp_ignore", "2");
    set(server, "conf/all/arp_announce", "1");
    drop(cluster);
    let mut cluster = Cluster::start(&lab)?;
    assert_eq!(value(&lab.director, "neigh/eth0/proxy_delay"), "0", "what the director needs");
    assert_eq!(value(server, "conf/all/arp_announce"), "2");
    stop(&mut cluster.director)?;
    stop(&mut cluster.real_servers[0])?;
    let kept = |host: &Host, keys: [&str; 2]| keys.map(|key| value(host, key));
    assert_eq!(kept(&lab.director, ["conf/eth0/rp_filter", "neigh/eth0/proxy_delay"]), ["0", "40"]);
    assert_eq!(kept(server, ["conf/all/arp_ignore", "conf/all/arp_announce"]), ["2", "1"]);
    // All else is as it was.
    let changed = |now: State, before: &State| now.difference(before).count();
    assert_eq!((changed(state(&lab.director), &before.0), changed(state(server), &before.1)), (2, 2));
    Ok(())
}

/// Docker writes `ip_forward`. While it runs, and after it was killed.
pub fn routing_turned_on() -> Outcome {
    let lab = same_subnet(1).build()?;
    for is_killed in [false, true] {
        set(&lab.director, "ip_forward", "0");
        let mut director = lab::start_director(&lab, &web(&lab, ""))?;
        if is_killed {
            director.kill()?;
            until_without(&lab.director, "lvsd0");
        }
        set(&lab.director, "ip_forward", "1");
        if is_killed {
            director = lab::start_director(&lab, &web(&lab, ""))?;
        }
        stop(&mut director)?;
        assert_eq!(value(&lab.director, "conf/eth0/forwarding"), "1", "killed: {is_killed}");
    }
    // Where the whole host routed from the beginning and this interface did not, it does not again.
    set(&lab.director, "conf/eth0/forwarding", "0");
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    stop(&mut director)?;
    assert_eq!(value(&lab.director, "conf/eth0/forwarding"), "0");
    Ok(())
}

pub fn set_while_running() -> Outcome {
    let lab = same_subnet(1).build()?;
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    set(&lab.director, "neigh/eth0/proxy_delay", "44");
    director
        .wait_for_log("proxy_delay=0 was undone by the kernel or another program (found 44)", PATIENCE)?;
    director.kill()?;
    until_without(&lab.director, "lvsd0");
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    stop(&mut director)?;
    assert_eq!(value(&lab.director, "neigh/eth0/proxy_delay"), "44");
    Ok(())
}

/// The killed one had another device and another VIP.
pub fn another_device() -> Outcome {
    let lab = same_subnet(1).build()?;
    let before = state(&lab.director);
    let first =
        web(&lab, "tun = \"lvsd7\"\ncapture = \"rule\"").replace(&lab.vip.to_string(), "172.25.3.177");
    let mut director = lab::start_director(&lab, &first)?;
    assert!(director.log().contains("172.25.3.177 is captured by rule"), "{}", director.log());
    director.kill()?;
    until_without(&lab.director, "lvsd7");
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    assert!(
        director.log().contains("proxy neighbour 172.25.3.177 dev eth0 was left by a killed daemon"),
        "{}",
        director.log()
    );
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

/// A damaged file, and a directory where none can be written.
pub fn unusable() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    let own = journals(&lab).into_iter().find(|path| path.to_string_lossy().contains("director-lvsd0"));
    let own = own.expect("the director's journal");
    director.kill()?;
    until_without(&lab.director, "lvsd0");
    let text = fs::read_to_string(&own)?;
    fs::write(&own, text.replace("previous", "\u{0}"))?;
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    assert!(director.log().contains("cannot be read"), "{}", director.log());
    assert_round_robin(&ask_times(&lab, 2)?, 1);
    stop(&mut director)?;
    for key in ["conf/eth0/rp_filter", "conf/eth0/send_redirects", "conf/all/send_redirects"] {
        set(&lab.director, key, "1");
    }
    set(&lab.director, "conf/eth0/forwarding", "0");
    set(&lab.director, "neigh/eth0/proxy_delay", "80");

    fs::create_dir(&own)?;
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    assert!(director.log().contains("no journal of changes in"), "{}", director.log());
    assert_round_robin(&ask_times(&lab, 2)?, 1);
    stop(&mut director)?;
    fs::remove_dir(&own)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}
