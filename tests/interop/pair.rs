//! Two hosts that are both director and real server, with keepalived, as docs/high-availability.md describes them: the
//! files are those of the page.

use std::io;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::lab::{self, Cluster, Daemon, Host, Lab};

use crate::fixture::{Outcome, assert_round_robin, same_subnet};
use crate::programs::Keepalived;

/// Longer than keepalived takes to notice that a director has ended, and to move the VIP: two checks of a second each,
/// and three advertisements.
const FAILOVER_MAX: Duration = Duration::from_secs(20);

const PAGE: &str = include_str!("../../docs/high-availability.md");

/// The block of the page that begins like this, after this heading.
fn block(heading: &str, beginning: &str) -> String {
    let section = PAGE.split(heading).nth(1).unwrap_or_else(|| panic!("{heading} is missing"));
    let blocks = section.split("```").skip(1).step_by(2);
    let found =
        blocks.filter_map(|block| block.split_once('\n')).find(|(_, text)| text.starts_with(beginning));
    found.unwrap_or_else(|| panic!("{beginning} is missing")).1.to_owned()
}

/// All programs of one host; they end in the order of the fields.
struct Member<'a> {
    host: &'a Host,
    keepalived: Option<Keepalived>,
    director: Option<Daemon>,
    _companion: Daemon,
    _web: lab::http::Server,
}

impl<'a> Member<'a> {
    fn start(lab: &Lab, host: &'a Host, priority: &str) -> Result<Member<'a>, Failed> {
        const PAIR: &str = "\n## Two hosts";
        let web = host.serve_http(80)?;
        let file = host.write_file("realserver.toml", &block(PAIR, "# realserver.toml"))?;
        let arguments = ["realserver".as_ref(), "--config".as_ref(), file.as_os_str()];
        let mut companion = host.spawn_daemon(&arguments)?;
        companion.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
        let socket = format!("control = \"{}-control.sock\"\n", lab.directory().join(&host.name).display());
        host.write_file("director.toml", &(socket + &block(PAIR, "# director.toml")))?;
        let director = Some(Member::start_director(lab, host)?);
        let keepalived = Some(Keepalived::start(lab, host, &keepalived_conf(priority))?);
        Ok(Member { host, keepalived, director, _companion: companion, _web: web })
    }

    fn start_director(lab: &Lab, host: &Host) -> Result<Daemon, Failed> {
        let file = lab.directory().join(format!("{}-director.toml", host.name));
        let mut director =
            host.spawn_daemon(&["director".as_ref(), "--config".as_ref(), file.as_os_str()])?;
        director.wait_until_ready(host, Cluster::DIRECTOR_METRICS)?;
        Ok(director)
    }

    fn count(&self, name: &str) -> u64 {
        let scrape = self.host.scrape(Cluster::DIRECTOR_METRICS).expect("the director's metrics");
        scrape.sum(&format!("lvs_tund_director_{name}"), &[]).expect("the metric") as u64
    }

    fn keepalived_log(&self) -> String {
        self.keepalived.as_ref().map(Keepalived::log).unwrap_or_default()
    }

    fn answers_arp(&self) -> bool {
        let log = self.director.as_ref().map(Daemon::log).unwrap_or_default();
        let count = |news: &str| log.matches(news).count();
        count("this host answers ARP for VIP") > count("this host no longer answers ARP for VIP")
    }
}

fn keepalived_conf(priority: &str) -> String {
    let page = block("# High availability", "global_defs");
    assert!(page.contains("priority 100 "), "{page}");
    page.replace("priority 100 ", priority)
}

/// Polls until this member is the master and clients are served.
fn wait_for_master(lab: &Lab, member: &Member, other: &Member) {
    let deadline = Instant::now() + FAILOVER_MAX;
    let is_served = || lab.client().get((lab.vip, 80), "/").is_ok();
    while !(member.answers_arp() && !other.answers_arp() && is_served()) {
        assert!(
            Instant::now() < deadline,
            "{} is not the master; keepalived there:\n{}\nthe other:\n{}",
            member.host.name,
            member.keepalived_log(),
            other.keepalived_log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ask_times(lab: &Lab, count: usize) -> io::Result<Vec<String>> {
    (0..count).map(|_| Ok(lab.client().get((lab.vip, 80), "/")?.text())).collect()
}

pub fn fails_over() -> Outcome {
    let lab = same_subnet(1).build()?;
    let mut first = Member::start(&lab, &lab.director, "priority 100 ")?;
    let second = Member::start(&lab, &lab.real_servers[0], "priority 90 ")?;
    wait_for_master(&lab, &first, &second);
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    let mut kept = lab.client().connect((lab.vip, 80))?;
    if kept.get("/")?.text() == "director" {
        kept = lab.client().connect((lab.vip, 80))?;
    }
    assert_eq!(kept.get("/")?.text(), "server2", "served by the host that becomes the master");
    assert_eq!(second.count("packets_transmitted_total"), 0, "the backup directs nothing");

    // As an operator moves the VIP: keepalived is stopped, and the director still forwards what arrives here.
    first.keepalived = None;
    wait_for_master(&lab, &second, &first);
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    assert_eq!(kept.get("/")?.text(), "server2", "the new master's own connection continues");
    assert!(second.count("packets_passed_total") > 0);

    first.keepalived = Some(Keepalived::start(&lab, first.host, &keepalived_conf("priority 100 "))?);
    wait_for_master(&lab, &first, &second);
    assert_round_robin(&ask_times(&lab, 6)?, 2);

    // The director ends, and its readiness with it.
    first.director = None;
    wait_for_master(&lab, &second, &first);
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    Ok(())
}
