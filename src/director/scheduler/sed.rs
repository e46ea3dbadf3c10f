//! `sed`, shortest expected delay: the least (active connections + 1) / weight; inactive connections do not
//! count (ip_vs_sed.c).

use std::sync::Arc;

use super::common::least_loaded;
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s sed`.
pub const ROW: Row = Row {
    name: "sed",
    summary: "the one with the shortest expected delay: active connections plus one, relative to weight",
    flags: &[],
    is_stateless: false,
    build,
};

struct ShortestExpectedDelay;

fn build(_: &[Arc<RealServer>], _: &Options, _: Memory) -> Box<dyn Scheduler> {
    Box::new(ShortestExpectedDelay)
}

impl Scheduler for ShortestExpectedDelay {
    fn choose(&self, real_servers: &[Arc<RealServer>], _: &Request) -> Option<usize> {
        least_loaded(real_servers.iter().enumerate(), expected_delay)
    }
}

/// The load that the new connection would find, including itself.
pub(super) fn expected_delay(server: &RealServer) -> u64 {
    server.active() + 1
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_new_connection_counts_itself() {
        let choice = |given: &[(u32, u32, u32)]| {
            let servers = testing::servers(given);
            testing::choice(&*testing::build(&ROW, &servers), &servers)
        };
        // Both idle: 1/1 against 1/2.
        assert_eq!(choice(&[(1, 0, 0), (2, 0, 0)]), Some(1));
        // 1/1 against 3/2: the lighter one is faster.
        assert_eq!(choice(&[(1, 0, 0), (2, 2, 0)]), Some(0));
        // A tie 1/1 = 2/2; inactive connections do not break it.
        assert_eq!(choice(&[(1, 0, 99), (2, 1, 0)]), Some(0));
    }
}
