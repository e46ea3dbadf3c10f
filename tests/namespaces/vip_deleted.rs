//! Another program deletes the VIP from a real server's device while the daemon runs: what the director's check, the
//! daemon's `/healthz` and clients see, and how the daemon restores it.

use std::time::{Duration, Instant};

use lvs_tund::lab::{Cluster, Host};

use crate::failing::{FALL, INTERVAL, Site, await_state, check, health_of};
use crate::fixture::{
    Outcome, PATIENCE, ask_times, assert_conserved, assert_round_robin, poll_until, poll_within, same_subnet,
};
use crate::health::{await_reason, probe};
use crate::host_state::delete_address;

/// docs/operating.md: a change that is undone a second time is restored after ten seconds; the daemon looks every two.
const SECOND_REPAIR: Duration = Duration::from_secs(12);

/// The timeout of `check`, and what a busy machine may add to the times in the configuration.
const TIMEOUT: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(1);

fn await_health(host: &Host, within: Duration, is_bound: bool) {
    let (status, word) = if is_bound { (200, "bound") } else { (503, "not bound") };
    let expected = (status, format!("alive\nunwraps: yes\n172.25.3.100: {word}"));
    poll_within(within, &expected.1, || {
        (probe(host, Cluster::REAL_SERVER_METRICS, "/healthz") == expected).then_some(())
    });
}

/// The first deletion is repaired at once, the second one after a pause; meanwhile the check and `/healthz` report it.
pub fn told_and_restored() -> Outcome {
    let lab = same_subnet(2).build()?;
    let mut site = Site::start(&lab, &check("tcp", ""))?;
    let host = &lab.real_servers[0];
    await_health(host, PATIENCE, true);

    delete_address(host, lab.vip);
    let restored = "address 172.25.3.100/32 dev lvsr0 was undone by the kernel or another program; restored";
    site.real_servers[0].wait_for_log(restored, PATIENCE).map_err(|_| site.real_servers[0].log())?;
    await_health(host, PATIENCE, true);
    assert_eq!(health_of(&lab, "server2")["state"], "up");

    delete_address(host, lab.vip);
    let deleted_at = Instant::now();
    await_health(host, PATIENCE, false);
    await_reason(host, Cluster::REAL_SERVER_METRICS, "172.25.3.100");
    await_state(&lab, "server2", "down");
    let took = deleted_at.elapsed();
    assert!(took <= INTERVAL * FALL + TIMEOUT + SLACK, "down after {took:?}");
    let health = health_of(&lab, "server2");
    let why = health["why"].as_str().unwrap_or_default();
    assert!(why.starts_with("no answer in time from 172.25.3.2 through the tunnel"), "{why}");
    assert_eq!(ask_times(&lab, 4)?, ["server3"; 4]);

    await_health(host, SECOND_REPAIR + SLACK, true);
    assert!(deleted_at.elapsed() > Duration::from_secs(5), "a second repair without a pause");
    assert_eq!(site.real_servers[0].log().matches(restored).count(), 2, "{}", site.real_servers[0].log());
    await_state(&lab, "server2", "up");
    poll_until("both", || {
        let answers = ask_times(&lab, 4).ok()?;
        answers.contains(&"server2".to_owned()).then_some(())
    });
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_conserved(&lab)
}
