//! Schedulers: each chooses the real server of a new connection. One file each, one row in [`SCHEDULERS`];
//! configuration, help, `ipvsadm -s` and the tests read the table.
//!
//! A scheduler sees the real servers in canonical order (by address), so that ties and hash tables do not
//! depend on the order of the configuration: two directors with the same real servers agree. Chance and time
//! are parameters. The code that only some need (comparing loads, buckets, the record of destinations) is in
//! `common`.

mod common;
pub mod dh;
pub mod fo;
pub mod lblc;
pub mod lblcr;
pub mod lc;
pub mod mh;
pub mod nq;
pub mod ovf;
pub mod rr;
pub mod sed;
pub mod sh;
pub mod twos;
pub mod wlc;
pub mod wrr;

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::real_server::RealServer;
use crate::packet::Flow;
use crate::time::Moment;

/// What a choice may depend on in addition to the real servers.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Client and VIP of the packet that needs a real server.
    pub flow: &'a Flow,
    /// By which `lblc` and `lblcr` forget old destinations.
    pub now: Moment,
    /// 64 random bits, fresh for each request.
    pub chance: u64,
    /// False for a packet of a connection that began elsewhere: a hash scheduler gives it to the real server
    /// that got its first packet, even if that one accepts no new connections currently.
    pub is_new: bool,
}

/// Chooses for a new connection.
pub trait Scheduler: Send + Sync {
    /// Index into `real_servers` (those the scheduler was built with), or `None` if none may accept the
    /// connection.
    fn choose(&self, real_servers: &[Arc<RealServer>], request: &Request) -> Option<usize>;

    /// What the successor needs, so that a change of the cluster does not restart a round.
    fn memory(&self) -> Memory {
        Memory::default()
    }

    /// A number that is equal on two directors exactly if they choose alike; `None` if the choice depends on
    /// what each director has seen.
    fn fingerprint(&self) -> Option<u64> {
        None
    }
}

/// What a scheduler passes to its successor.
#[derive(Clone, Default)]
pub struct Memory {
    /// RIP of the last choice.
    pub last: Option<Ipv4Addr>,
    /// `wrr`'s current weight.
    pub current_weight: u32,
    /// The destinations of `lblc` and `lblcr`.
    destinations: Option<Arc<common::Destinations>>,
}

/// The options of schedulers; each reads those that concern it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Key of the hash schedulers; equal on all directors that are to agree.
    pub hash_key: [u8; 16],
    /// `sh-port`, `mh-port`: hash the client's port too, not only its address.
    pub has_port: bool,
    /// `sh-fallback`, `mh-fallback`: use another real server if the hashed one may accept nothing.
    pub has_fallback: bool,
    /// Entries of `mh`'s table, one of [`mh::TABLE_SIZES`].
    pub mh_table_size: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            hash_key: [0; 16],
            has_port: false,
            has_fallback: false,
            mh_table_size: mh::TABLE_SIZE_DEFAULT,
        }
    }
}

/// Makes a scheduler over real servers in canonical order.
pub type Build = fn(&[Arc<RealServer>], &Options, Memory) -> Box<dyn Scheduler>;

/// A member of the family.
pub struct Row {
    /// The word in configuration files and in `ipvsadm -s`.
    pub name: &'static str,
    /// The rule of choice, in one line.
    pub summary: &'static str,
    /// The words of `scheduler_flags` and `ipvsadm -b` that it supports.
    pub flags: &'static [&'static str],
    /// Chooses by hash alone: any director with the same key and configuration chooses alike, so that a
    /// packet can be forwarded without an entry.
    pub is_stateless: bool,
    /// Called when real servers, weights or options change.
    pub build: Build,
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.name == other.name
    }
}

impl Eq for Row {}

impl fmt::Debug for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// All schedulers of IPVS in Linux, by name.
pub const SCHEDULERS: &[Row] = &[
    dh::ROW,
    fo::ROW,
    lblc::ROW,
    lblcr::ROW,
    lc::ROW,
    mh::ROW,
    nq::ROW,
    ovf::ROW,
    rr::ROW,
    sed::ROW,
    sh::ROW,
    twos::ROW,
    wlc::ROW,
    wrr::ROW,
];

/// ipvsadm's default (ipvsadm(8), `--scheduler`).
pub const DEFAULT: &Row = &wlc::ROW;

/// The row with this name.
pub fn find(name: &str) -> Option<&'static Row> {
    SCHEDULERS.iter().find(|row| row.name == name)
}

/// How many real servers, from the first on, come before or at `last` in canonical order: a round continues
/// after them.
fn position_behind(real_servers: &[Arc<RealServer>], last: Option<Ipv4Addr>) -> usize {
    last.map_or(0, |last| real_servers.partition_point(|server| server.rip <= last))
}

#[cfg(test)]
pub(crate) mod testing {
    //! Real servers for the schedulers' own tests.

    use super::*;
    use crate::director::real_server::{Live, Path, RealServerConfig, Slot};

    /// One real server: weight, active, inactive connections; RIPs count up from 10.0.0.1.
    pub(crate) fn servers(given: &[(u32, u32, u32)]) -> Vec<Arc<RealServer>> {
        (0u8..)
            .zip(given)
            .map(|(index, &(weight, active, inactive))| {
                let rip = Ipv4Addr::new(10, 0, 0, index + 1);
                Arc::new(RealServer {
                    slot: Slot::new(index.into(), 0),
                    virtual_service: 0,
                    config: RealServerConfig::new(rip.into(), weight),
                    weight,
                    on_down: None,
                    rip,
                    path: Path { source: Ipv4Addr::UNSPECIFIED, mtu: 1500 },
                    is_local: false,
                    presence: crate::director::real_server::Presence::Present,
                    live: Arc::new(Live::of(active, inactive)),
                    soft: Default::default(),
                })
            })
            .collect()
    }

    pub(crate) fn flow() -> Flow {
        Flow {
            protocol: 6,
            client: "203.0.113.7".parse().unwrap(),
            client_port: 40000,
            vip: "172.25.3.100".parse().unwrap(),
            vip_port: 80,
        }
    }

    /// A request of the client in [`flow`], with chance 0.
    pub(crate) fn request(flow: &Flow) -> Request<'_> {
        Request { flow, now: Moment::ZERO, chance: 0, is_new: true }
    }

    /// The choice for one connection.
    pub(crate) fn choice(scheduler: &dyn Scheduler, servers: &[Arc<RealServer>]) -> Option<usize> {
        scheduler.choose(servers, &request(&flow()))
    }

    /// A scheduler of the row over these real servers, with default options.
    pub(crate) fn build(row: &Row, servers: &[Arc<RealServer>]) -> Box<dyn Scheduler> {
        (row.build)(servers, &Options::default(), Memory::default())
    }

    /// The choices of `count` connections in a row, from clients that count up.
    pub(crate) fn sequence(
        scheduler: &dyn Scheduler,
        servers: &[Arc<RealServer>],
        count: usize,
    ) -> Vec<Option<usize>> {
        let choose = |client| {
            let client = Ipv4Addr::from_bits(client).into();
            scheduler.choose(servers, &request(&Flow { client, ..flow() }))
        };
        (0xcb00_7100..).take(count).map(choose).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::testing::{build, choice, flow, request, sequence, servers};
    use super::*;

    #[test]
    fn names_are_unique_and_the_default_is_in_the_table() {
        for row in SCHEDULERS {
            assert_eq!(SCHEDULERS.iter().filter(|other| other.name == row.name).count(), 1);
        }
        assert!(find(DEFAULT.name).is_some());
    }

    /// The largest weights that a configuration allows, and more connections than fit any table.
    #[test]
    fn no_scheduler_overflows() {
        let max = i32::MAX.unsigned_abs();
        for row in SCHEDULERS {
            for weights in [[max, max, max, max], [max, 1, 65_536, 7]] {
                let servers = servers(&weights.map(|weight| (weight, 1 << 28, 1 << 28)));
                let scheduler = build(row, &servers);
                for chance in [0, u64::MAX] {
                    let flow = flow();
                    let chosen = scheduler.choose(&servers, &Request { chance, ..request(&flow) });
                    assert!(row.name == "fo" || chosen.is_some(), "{} {weights:?}", row.name);
                }
            }
        }
    }

    #[test]
    fn no_scheduler_gives_new_work_to_a_quiesced_or_overloaded_server() {
        for row in SCHEDULERS {
            let servers = servers(&[(0, 0, 0), (1, 0, 0), (9, 5, 5)]);
            servers[1].live.is_overloaded.store(true, Ordering::Relaxed);
            let scheduler = build(row, &servers);
            let allowed = [None, Some(2)];
            let choices = sequence(&*scheduler, &servers, 50);
            assert!(choices.iter().all(|choice| allowed.contains(choice)), "{}: {choices:?}", row.name);
            let must_choose = !row.is_stateless && row.name != "dh";
            assert!(!must_choose || choices.iter().all(Option::is_some), "{}: {choices:?}", row.name);
            servers[2].live.is_overloaded.store(true, Ordering::Relaxed);
            assert_eq!(choice(&*scheduler, &servers), None, "{}", row.name);
            assert_eq!(choice(&*build(row, &[]), &[]), None, "{}", row.name);
        }
    }

    #[test]
    fn only_stateless_schedulers_have_a_fingerprint() {
        for row in SCHEDULERS {
            let scheduler = build(row, &servers(&[(1, 0, 0), (1, 0, 0)]));
            assert_eq!(scheduler.fingerprint().is_some(), row.is_stateless, "{}", row.name);
        }
    }
}
