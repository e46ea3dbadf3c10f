//! `fo`, failover: the real server with the highest weight that is not overloaded (ip_vs_fo.c).

use std::sync::Arc;

use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s fo`.
pub const ROW: Row = Row {
    name: "fo",
    summary: "the one with the highest weight, until it is overloaded",
    flags: &[],
    is_stateless: false,
    build,
};

struct Failover;

fn build(_: &[Arc<RealServer>], _: &Options, _: Memory) -> Box<dyn Scheduler> {
    Box::new(Failover)
}

impl Scheduler for Failover {
    fn choose(&self, real_servers: &[Arc<RealServer>], _: &Request) -> Option<usize> {
        heaviest(real_servers, |server| server.is_eligible())
    }
}

/// The first of those with the highest weight that `may_take` accepts.
pub(super) fn heaviest(
    real_servers: &[Arc<RealServer>],
    may_take: impl Fn(&RealServer) -> bool,
) -> Option<usize> {
    let mut best: Option<(usize, u32)> = None;
    for (index, server) in real_servers.iter().enumerate().filter(|(_, server)| may_take(server)) {
        if best.is_none_or(|(_, weight)| server.weight() > weight) {
            best = Some((index, server.weight()));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::testing::{build, choice, servers};
    use super::*;

    #[test]
    fn the_next_heaviest_steps_in() {
        let servers = servers(&[(1, 0, 0), (9, 500, 0), (9, 0, 0), (5, 0, 0)]);
        let fo = build(&ROW, &servers);
        for expected in [1, 2, 3, 0] {
            assert_eq!(choice(&*fo, &servers), Some(expected));
            servers[expected].live.is_overloaded.store(true, Ordering::Relaxed);
        }
        assert_eq!(choice(&*fo, &servers), None);
    }
}
