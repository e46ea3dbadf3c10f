//! `nq`, never queue: the first real server without an active connection; if all have some, as `sed`
//! (ip_vs_nq.c).

use std::sync::Arc;

use super::common::least_loaded;
use super::sed::expected_delay;
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s nq`.
pub const ROW: Row = Row {
    name: "nq",
    summary: "one without active connections if there is one, otherwise as sed",
    flags: &[],
    is_stateless: false,
    build,
};

struct NeverQueue;

fn build(_: &[Arc<RealServer>], _: &Options, _: Memory) -> Box<dyn Scheduler> {
    Box::new(NeverQueue)
}

impl Scheduler for NeverQueue {
    fn choose(&self, real_servers: &[Arc<RealServer>], _: &Request) -> Option<usize> {
        let idle = real_servers.iter().position(|server| server.is_eligible() && server.active() == 0);
        idle.or_else(|| least_loaded(real_servers.iter().enumerate(), expected_delay))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_first_idle_one_is_taken_whatever_its_weight() {
        let choice = |given: &[(u32, u32, u32)]| {
            let servers = testing::servers(given);
            testing::choice(&*testing::build(&ROW, &servers), &servers)
        };
        assert_eq!(choice(&[(100, 1, 0), (1, 0, 50), (9, 0, 0)]), Some(1));
        assert_eq!(choice(&[(0, 0, 0), (4, 3, 0), (1, 1, 0)]), Some(1));
    }
}
