//! Schedulers: each chooses the real server of a new connection. One file each, one row in
//! [`SCHEDULERS`]; configuration, help, `ipvsadm -s` and the tests read the table.
//!
//! A scheduler sees the real servers in canonical order (by address), so that a tie does not depend on
//! the order of the configuration (decisions.md C19). Chance and time are handed in, never taken.

pub mod rr;
pub mod wlc;
pub mod wrr;

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::cluster::RealServer;
use crate::packet::Flow;

/// Chooses for a new connection.
pub trait Scheduler: Send + Sync {
    /// Index into `real_servers` (those the scheduler was built with), or `None` if none may take it.
    fn choose(&self, real_servers: &[Arc<RealServer>], flow: &Flow) -> Option<usize>;

    /// What the successor must know so that a change of the cluster does not start a round anew.
    fn memory(&self) -> Memory {
        Memory::default()
    }
}

/// What a round-robin scheduler hands to its successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// RIP of the last choice.
    pub last: Option<Ipv4Addr>,
    /// `wrr`'s current weight.
    pub current_weight: u32,
}

/// A member of the family.
pub struct Row {
    /// The word in configuration files and in `ipvsadm -s`.
    pub name: &'static str,
    pub summary: &'static str,
    pub build: fn(&[Arc<RealServer>], Memory) -> Box<dyn Scheduler>,
}

pub const SCHEDULERS: &[Row] = &[rr::ROW, wlc::ROW, wrr::ROW];

/// ipvsadm's default (ipvs.md §3.1).
pub const DEFAULT: &Row = &wlc::ROW;

/// The row called `name`.
pub fn find(name: &str) -> Option<&'static Row> {
    SCHEDULERS.iter().find(|row| row.name == name)
}

/// How many real servers, from the first on, come before or at `last` in canonical order: a round
/// goes on behind them.
fn position_behind(real_servers: &[Arc<RealServer>], last: Option<Ipv4Addr>) -> usize {
    last.map_or(0, |last| real_servers.partition_point(|server| server.rip <= last))
}

#[cfg(test)]
pub(crate) mod testing {
    //! Real servers for the schedulers' own tests.

    use std::sync::atomic::Ordering;

    use super::*;
    use crate::director::cluster::{Live, Path, RealServerConfig};
    use crate::encapsulation;

    /// One real server: weight, active, inactive connections; RIPs count up from 10.0.0.1.
    pub fn servers(given: &[(u32, u32, u32)]) -> Vec<Arc<RealServer>> {
        given
            .iter()
            .enumerate()
            .map(|(index, &(weight, active, inactive))| {
                let rip = Ipv4Addr::new(10, 0, 0, index as u8 + 1);
                let live = Live::default();
                live.active.store(active, Ordering::Relaxed);
                live.inactive.store(inactive, Ordering::Relaxed);
                Arc::new(RealServer {
                    slot: index as u32,
                    virtual_service: 0,
                    config: RealServerConfig {
                        name: rip.to_string(),
                        rip: rip.into(),
                        weight,
                        path_mtu: None,
                    },
                    rip,
                    path: Path { source: Ipv4Addr::UNSPECIFIED, mtu: 1500 },
                    encapsulation: &encapsulation::ipip::ROW,
                    is_present: true,
                    live: Arc::new(live),
                })
            })
            .collect()
    }

    pub fn flow() -> Flow {
        Flow {
            protocol: 6,
            client: "203.0.113.7".parse().unwrap(),
            client_port: 40000,
            vip: "172.25.3.100".parse().unwrap(),
            vip_port: 80,
        }
    }

    /// The choices of `count` connections in a row.
    pub fn sequence(
        scheduler: &dyn Scheduler,
        servers: &[Arc<RealServer>],
        count: usize,
    ) -> Vec<Option<usize>> {
        (0..count).map(|_| scheduler.choose(servers, &flow())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::servers;
    use super::*;

    #[test]
    fn names_are_unique_and_the_default_is_in_the_table() {
        for row in SCHEDULERS {
            assert_eq!(SCHEDULERS.iter().filter(|other| other.name == row.name).count(), 1);
        }
        assert!(find(DEFAULT.name).is_some());
    }

    #[test]
    fn no_scheduler_gives_new_work_to_a_quiesced_or_overloaded_server() {
        use std::sync::atomic::Ordering;
        for row in SCHEDULERS {
            let servers = servers(&[(0, 0, 0), (1, 0, 0), (1, 5, 5)]);
            servers[1].live.is_overloaded.store(true, Ordering::Relaxed);
            let scheduler = (row.build)(&servers, Memory::default());
            assert_eq!(testing::sequence(&*scheduler, &servers, 5), vec![Some(2); 5], "{}", row.name);
            servers[2].live.is_overloaded.store(true, Ordering::Relaxed);
            assert_eq!(scheduler.choose(&servers, &testing::flow()), None, "{}", row.name);
            let nobody = (row.build)(&[], Memory::default());
            assert_eq!(nobody.choose(&[], &testing::flow()), None, "{}", row.name);
        }
    }
}
