//! `rr`, round robin: each eligible real server in turn, ignoring weights except 0 (ip_vs_rr.c).

use std::sync::{Arc, Mutex, PoisonError};

use super::{Memory, Options, Request, Row, Scheduler, position_behind};
use crate::director::real_server::RealServer;

/// `ipvsadm -s rr`.
pub const ROW: Row =
    Row { name: "rr", summary: "each real server in turn", flags: &[], is_stateless: false, build };

struct RoundRobin {
    round: Mutex<Round>,
}

struct Round {
    /// Index of the next candidate.
    next: usize,
    memory: Memory,
}

fn build(real_servers: &[Arc<RealServer>], _: &Options, memory: Memory) -> Box<dyn Scheduler> {
    let next = position_behind(real_servers, memory.last);
    Box::new(RoundRobin { round: Mutex::new(Round { next, memory }) })
}

impl Scheduler for RoundRobin {
    fn choose(&self, real_servers: &[Arc<RealServer>], _: &Request) -> Option<usize> {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        let count = real_servers.len();
        let index = (0..count)
            .map(|step| (round.next + step) % count)
            .find(|&index| real_servers[index].is_eligible())?;
        round.next = (index + 1) % count;
        round.memory.last = Some(real_servers[index].rip);
        Some(index)
    }

    fn memory(&self) -> Memory {
        self.round.lock().unwrap_or_else(PoisonError::into_inner).memory.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{sequence, servers};
    use super::*;

    #[test]
    fn each_in_turn_whatever_the_weight() {
        let servers = servers(&[(1, 0, 0), (0, 0, 0), (7, 9, 9), (1, 0, 0)]);
        let rr = build(&servers, &Options::default(), Memory::default());
        let round = [Some(0), Some(2), Some(3)];
        assert_eq!(sequence(&*rr, &servers, 6), [round, round].concat());
    }

    #[test]
    fn a_change_of_the_cluster_does_not_restart_the_round() {
        let all = servers(&[(1, 0, 0), (1, 0, 0), (1, 0, 0)]);
        let rr = build(&all, &Options::default(), Memory::default());
        sequence(&*rr, &all, 2);
        // The real server chosen last is removed: the one after it is next.
        let fewer = vec![all[0].clone(), all[2].clone()];
        let rr = build(&fewer, &Options::default(), rr.memory());
        assert_eq!(sequence(&*rr, &fewer, 2), [Some(1), Some(0)]);
    }
}
