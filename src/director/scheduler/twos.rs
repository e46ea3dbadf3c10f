//! `twos`, the power of two choices: of two real servers drawn at random by weight, the one that is less
//! loaded in proportion to its weight (ip_vs_twos.c).

use std::sync::Arc;

use super::common::product;
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s twos`.
pub const ROW: Row = Row {
    name: "twos",
    summary: "the less loaded of two, picked at random by weight",
    flags: &[],
    is_stateless: false,
    build,
};

struct PowerOfTwo;

fn build(_: &[Arc<RealServer>], _: &Options, _: Memory) -> Box<dyn Scheduler> {
    Box::new(PowerOfTwo)
}

impl Scheduler for PowerOfTwo {
    fn choose(&self, real_servers: &[Arc<RealServer>], request: &Request) -> Option<usize> {
        let eligible = || real_servers.iter().enumerate().filter(|(_, server)| server.is_eligible());
        let total: u64 = eligible().map(|(_, server)| u64::from(server.weight())).sum();
        // As in ip_vs_twos_schedule(), the draws are in 0 ..= total.
        let draw =
            |chance: u64| u64::try_from(product(chance & 0xffff_ffff, total + 1) >> 32).unwrap_or(total);
        let drawn = |draw: u64| {
            let mut left = draw;
            let reaches = |(_, server): &(usize, &Arc<RealServer>)| {
                let weight = u64::from(server.weight());
                let is_reached = left <= weight;
                left = left.saturating_sub(weight);
                is_reached
            };
            // Another worker may have filled one since the total was computed: then the last one left is
            // used.
            eligible().find(reaches).or_else(|| eligible().next_back())
        };
        let (first, server1) = drawn(draw(request.chance))?;
        let (second, server2) = drawn(draw(request.chance >> 32))?;
        let (weight1, weight2) = (u64::from(server1.weight()), u64::from(server2.weight()));
        let is_second_better = product(server1.overhead(), weight2) > product(server2.overhead(), weight1);
        Some(if is_second_better { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{build, flow, request, servers};
    use super::*;

    /// The two halves of the chance: 0 draws the first, all ones the last.
    const FIRST: u64 = 0;
    const LAST: u64 = 0xffff_ffff;

    fn choice(given: &[(u32, u32, u32)], first: u64, second: u64) -> Option<usize> {
        let servers = servers(given);
        let (twos, flow) = (build(&ROW, &servers), flow());
        twos.choose(&servers, &Request { chance: second << 32 | first, ..request(&flow) })
    }

    #[test]
    fn the_less_loaded_of_the_two_is_taken() {
        let load = [(1, 9, 0), (1, 0, 0), (1, 2, 0)];
        assert_eq!(choice(&load, FIRST, LAST), Some(2));
        assert_eq!(choice(&load, LAST, FIRST), Some(2));
        assert_eq!(choice(&load, FIRST, FIRST), Some(0), "drawn twice");
        assert_eq!(choice(&[(1, 2, 0), (1, 2, 0)], FIRST, LAST), Some(0), "a tie goes to the first draw");
    }

    #[test]
    fn draws_follow_weights() {
        let mut counts = [0u32; 2];
        for step in 0..1000u64 {
            let draw = step * (0xffff_ffff / 1000);
            counts[choice(&[(3, 0, 0), (1, 0, 0)], draw, draw).unwrap()] += 1;
        }
        // Draws 0 ..= 3 reach the first, 4 the second: 4/5.
        assert!((790..=810).contains(&counts[0]), "{counts:?}");
    }
}
