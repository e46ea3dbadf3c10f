//! `lc`, least connections: the real server with the least overhead, ignoring weights except 0 (ip_vs_lc.c).
//! One active connection counts as much as 256 inactive ones (ip_vs_dest_conn_overhead()).

use std::sync::Arc;

use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s lc`.
pub const ROW: Row = Row {
    name: "lc",
    summary: "the one with the fewest connections, whatever its weight",
    flags: &[],
    is_stateless: false,
    build,
};

struct LeastConnections;

fn build(_: &[Arc<RealServer>], _: &Options, _: Memory) -> Box<dyn Scheduler> {
    Box::new(LeastConnections)
}

impl Scheduler for LeastConnections {
    fn choose(&self, real_servers: &[Arc<RealServer>], _: &Request) -> Option<usize> {
        let eligible = real_servers.iter().enumerate().filter(|(_, server)| server.is_eligible());
        eligible.min_by_key(|(_, server)| server.overhead()).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn weights_do_not_count_and_the_first_wins_a_tie() {
        let choice = |given: &[(u32, u32, u32)]| {
            let servers = testing::servers(given);
            testing::choice(&*testing::build(&ROW, &servers), &servers)
        };
        assert_eq!(choice(&[(1, 10, 0), (100, 11, 0)]), Some(0));
        assert_eq!(choice(&[(1, 1, 1), (1, 0, 256), (1, 0, 255)]), Some(2));
        assert_eq!(choice(&[(3, 2, 2), (9, 2, 2)]), Some(0));
        assert_eq!(choice(&[(0, 0, 0), (1, 5, 0)]), Some(1));
    }
}
