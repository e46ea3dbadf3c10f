//! The VIP as an address of the director's own host, as VRRP puts it there and takes it away.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lvs_tund::lab::{self, Daemon, Lab};

use crate::fixture::{
    Outcome, PATIENCE, ask, ask_times, assert_nothing_lost, assert_round_robin, capture_replies_at_director,
    poll_until, same_subnet, start_real_servers, stop, web,
};
use crate::host_state::{add_address, add_neighbour, assert_same, delete_address, mac_of, state};

pub fn captured_by_rule(interface: &str) -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    add_address(&lab.director, interface, lab.vip);
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    assert!(director.log().contains("VIP 172.25.3.100 is captured by rule"), "{}", director.log());
    let through_director = capture_replies_at_director(&lab)?;
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    assert!(through_director.stop().is_empty());
    assert_nothing_lost(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

/// The rule is there before the VIP becomes a local address, and after it has left.
pub fn change_over() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    let mut kept = (0..6).map(|_| lab.client().connect((lab.vip, 80))).collect::<Result<Vec<_>, _>>()?;
    let servers = pages(&mut kept)?;
    let failures = under_traffic(&lab, || {
        for _ in 0..10 {
            come_and_go(&lab, &mut director);
        }
    });
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(pages(&mut kept)?, servers, "a connection has moved");
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    assert_nothing_lost(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

/// A VRRP backup: silent while the VIP is elsewhere, and no reset when it comes, since the rule is there first. The client
/// has the director's Ethernet address by then, so that its requests arrive even during the change.
pub fn backup() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, "announce = \"local\""))?;
    let silent =
        lab.client().run(|| TcpStream::connect_timeout(&(lab.vip, 80).into(), Duration::from_millis(200)));
    assert_eq!(silent.unwrap_err().kind(), ErrorKind::TimedOut, "a backup does not answer for the VIP");
    add_neighbour(lab.client(), "eth0", lab.vip, &mac_of(&lab.director, "eth0"));
    let failures = under_traffic(&lab, || {
        for _ in 0..5 {
            add_address(&lab.director, "eth0", lab.vip);
            await_news(&director, "is now a local address");
            ask_times(&lab, 3).expect("answers after the VIP came");
            delete_address(&lab.director, lab.vip);
            await_news(&director, "is no longer a local address");
        }
    });
    assert!(failures.is_empty(), "{failures:?}");
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    assert_nothing_lost(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

fn pages(connections: &mut [lab::http::Connection]) -> io::Result<Vec<String>> {
    connections.iter_mut().map(|connection| Ok(connection.get("/")?.text())).collect()
}

pub fn forced_rule() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, "capture = \"rule\""))?;
    let mut kept = lab.client().connect((lab.vip, 80))?;
    let server = kept.get("/")?.text();
    let failures = under_traffic(&lab, || come_and_go(&lab, &mut director));
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(kept.get("/")?.text(), server, "a connection has moved");
    assert_nothing_lost(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

pub fn forced_route() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &web(&lab, "capture = \"route\""))?;
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    // a route cannot capture a local address: the log has it, and the host answers itself
    add_address(&lab.director, "lo", lab.vip);
    director.wait_for_log("which a route cannot capture; set capture = \"auto\"", PATIENCE)?;
    assert_eq!(ask(&lab).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    delete_address(&lab.director, lab.vip);
    poll_until("a request that is answered", || ask(&lab).ok());
    assert_nothing_lost(&lab)
}

/// The VIP comes to the director's interface, goes, comes to its loopback, goes.
fn come_and_go(lab: &Lab, director: &mut Daemon) {
    for interface in ["eth0", "lo"] {
        add_address(&lab.director, interface, lab.vip);
        await_news(director, "is now a local address");
        poll_until("a request after the VIP came", || ask(lab).ok());
        delete_address(&lab.director, lab.vip);
        await_news(director, "is no longer a local address");
        poll_until("a request after the VIP left", || ask(lab).ok());
    }
}

/// Waits until the director has announced it once more than it left.
fn await_news(director: &Daemon, news: &str) {
    let (came, went) = ("is now a local address", "is no longer a local address");
    poll_until(news, || {
        let log = director.log();
        let (came, went) = (log.matches(came).count(), log.matches(went).count());
        let is_said = if news.starts_with("is now") { came == went + 1 } else { came == went };
        is_said.then_some(())
    });
}

/// Does `work` while requests follow each other; returns which failed.
fn under_traffic(lab: &Lab, work: impl FnOnce()) -> Vec<io::Error> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut failures = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                failures.extend(ask(lab).err());
            }
            failures
        });
        // also when the work panics, or the traffic would never end
        let over = Raise(&is_over);
        work();
        drop(over);
        traffic.join().expect("the traffic")
    })
}

struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
