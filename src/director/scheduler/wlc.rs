//! `wlc`, weighted least connections: the real server with the least overhead in proportion to its weight
//! (ip_vs_wlc.c); the first in canonical order wins a tie.

use std::sync::Arc;

use super::common::least_loaded;
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s wlc`.
pub const ROW: Row = Row {
    name: "wlc",
    summary: "the one with the fewest connections relative to its weight",
    flags: &[],
    is_stateless: false,
    build,
};

struct WeightedLeastConnections;

fn build(_: &[Arc<RealServer>], _: &Options, _: Memory) -> Box<dyn Scheduler> {
    Box::new(WeightedLeastConnections)
}

impl Scheduler for WeightedLeastConnections {
    fn choose(&self, real_servers: &[Arc<RealServer>], _: &Request) -> Option<usize> {
        least_loaded(real_servers.iter().enumerate(), RealServer::overhead)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn choice(given: &[(u32, u32, u32)]) -> Option<usize> {
        let servers = testing::servers(given);
        testing::choice(&*testing::build(&ROW, &servers), &servers)
    }

    #[test]
    fn overhead_for_weight_decides() {
        // 10 × 256 / 1 against 30 × 256 / 4.
        assert_eq!(choice(&[(1, 10, 0), (4, 30, 0)]), Some(1));
        // One active connection outweighs 255 inactive ones.
        assert_eq!(choice(&[(1, 1, 0), (1, 0, 255)]), Some(1));
        assert_eq!(choice(&[(1, 1, 0), (1, 0, 257)]), Some(0));
    }

    #[test]
    fn the_first_wins_a_tie_and_weight_zero_never() {
        assert_eq!(choice(&[(1, 0, 0), (5, 0, 0)]), Some(0));
        assert_eq!(choice(&[(0, 0, 0), (1, 99, 0)]), Some(1));
        assert_eq!(choice(&[(0, 0, 0)]), None);
    }
}
