//! `wrr`, weighted round robin: the interleaved form of IPVS (ip_vs_wrr.c). Weights 4, 3, 2 give A·A B·A B
//! C·A B C.
//!
//! The list is walked repeatedly; a real server is chosen if its weight reaches the current weight, which
//! falls by the greatest common divisor at each end of the list and then starts again.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s wrr`.
pub const ROW: Row = Row {
    name: "wrr",
    summary: "each real server in turn, in proportion to weight",
    flags: &[],
    is_stateless: false,
    build,
};

struct WeightedRoundRobin {
    /// Greatest common divisor of the weights; the current weight falls by it.
    step: u32,
    /// Where the current weight starts: the largest weight minus (step − 1), so that the last pass has 1.
    top: u32,
    round: Mutex<Round>,
}

struct Round {
    /// Index of the next candidate; at the end of the list, its length.
    next: usize,
    memory: Memory,
}

fn build(real_servers: &[Arc<RealServer>], _: &Options, memory: Memory) -> Box<dyn Scheduler> {
    let weights = || real_servers.iter().map(|server| server.weight()).filter(|weight| *weight > 0);
    let step = weights().fold(0, gcd).max(1);
    let top = weights().max().unwrap_or(0).saturating_sub(step - 1);
    let mut memory = memory;
    // As in ip_vs_wrr_dest_changed(): the list is walked from its head again.
    if memory.current_weight > top || memory.current_weight == 0 {
        memory.current_weight = top;
    } else if step > 1 {
        memory.current_weight = memory.current_weight / step * step + 1;
    }
    Box::new(WeightedRoundRobin { step, top, round: Mutex::new(Round { next: 0, memory }) })
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Scheduler for WeightedRoundRobin {
    fn choose(&self, real_servers: &[Arc<RealServer>], _: &Request) -> Option<usize> {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let current = round.memory.current_weight;
            let rest = real_servers.get(round.next..).unwrap_or_default();
            let found = rest.iter().position(|server| server.weight() >= current && server.is_eligible());
            if let Some(offset) = found {
                let index = round.next + offset;
                round.next = index + 1;
                round.memory.last = Some(real_servers[index].rip);
                return Some(index);
            }
            // Evaluated again for every pass: another worker may just have filled the last one with room, and
            // then no pass would ever end.
            let eligible = real_servers.iter().filter(|server| server.is_eligible());
            let heaviest = eligible.map(|server| server.weight()).max()?;
            round.next = 0;
            round.memory.current_weight = self.lower(current, heaviest);
        }
    }

    fn memory(&self) -> Memory {
        self.round.lock().unwrap_or_else(PoisonError::into_inner).memory.clone()
    }
}

impl WeightedRoundRobin {
    /// The current weight of the next pass. Passes in which only real servers at their limit could be chosen
    /// are skipped in one step; otherwise up to 2^31 would be walked for nothing.
    fn lower(&self, current: u32, heaviest: u32) -> u32 {
        let next = match current.checked_sub(self.step) {
            Some(lower) if lower > 0 => lower,
            _ => self.top,
        };
        let vain_passes = next.saturating_sub(heaviest).div_ceil(self.step);
        next - vain_passes * self.step
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{sequence, servers};
    use super::*;

    fn letters(weights: &[u32], count: usize) -> String {
        let given: Vec<_> = weights.iter().map(|weight| (*weight, 0, 0)).collect();
        let servers = servers(&given);
        let wrr = build(&servers, &Options::default(), Memory::default());
        sequence(&*wrr, &servers, count)
            .into_iter()
            .map(|choice| choice.map_or('-', |index| char::from(b"ABCDEFGH"[index])))
            .collect()
    }

    #[test]
    fn weights_4_3_2_are_interleaved_as_in_ipvs() {
        assert_eq!(letters(&[4, 3, 2], 18), "AABABCABCAABABCABC");
    }

    #[test]
    fn a_common_divisor_shortens_the_round() {
        assert_eq!(letters(&[20, 10], 6), "AABAAB");
        assert_eq!(letters(&[1, 1, 1], 6), "ABCABC");
    }

    #[test]
    fn shares_follow_weights_over_a_whole_round() {
        let round = letters(&[5, 1, 3], 9);
        let count = |letter| round.chars().filter(|c| *c == letter).count();
        assert_eq!((count('A'), count('B'), count('C')), (5, 1, 3));
    }

    #[test]
    fn a_heavy_server_at_its_limit_does_not_cost_a_walk_per_weight() {
        use std::sync::atomic::Ordering;
        let servers = servers(&[(65535, 0, 0), (1, 0, 0), (2, 0, 0)]);
        servers[0].live.is_overloaded.store(true, Ordering::Relaxed);
        let wrr = build(&servers, &Options::default(), Memory::default());
        assert_eq!(sequence(&*wrr, &servers, 6), [2, 1, 2, 2, 1, 2].map(Some));
    }

    /// What IPVS does when the real servers are added one after the other (ip_vs_wrr_dest_changed()).
    #[test]
    fn a_changed_list_is_walked_from_its_head_with_the_weight_it_had() {
        let all = servers(&[(4, 0, 0), (3, 0, 0), (2, 0, 0)]);
        let mut wrr = build(&all[..1], &Options::default(), Memory::default());
        for count in 2..=3 {
            wrr = build(&all[..count], &Options::default(), wrr.memory());
        }
        let expected = [0, 1, 2, 0, 0, 1, 0, 1, 2, 0, 1, 2].map(Some);
        assert_eq!(sequence(&*wrr, &all, 12), expected, "current weight 1, then from 4 down");
    }

    /// Another worker fills the last server with room in the middle of a choice; if the choice waited for
    /// room, this test would not end.
    #[test]
    fn a_server_that_fills_up_during_the_choice_does_not_hold_the_choice_up() {
        use std::sync::atomic::{AtomicBool, Ordering};
        for _ in 0..50 {
            let servers = servers(&[(1, 0, 0), (1, 0, 0)]);
            let set_full = |index: usize, is| servers[index].live.is_overloaded.store(is, Ordering::Relaxed);
            set_full(1, true);
            let wrr = build(&servers, &Options::default(), Memory::default());
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    (0..=5000).for_each(|turn| set_full(0, turn % 2 == 0));
                    is_over.store(true, Ordering::Relaxed);
                });
                while !is_over.load(Ordering::Relaxed) {
                    sequence(&*wrr, &servers, 10);
                }
            });
            assert_eq!(sequence(&*wrr, &servers, 1), [None]);
        }
    }

    #[test]
    fn no_real_server_of_weight_zero_is_chosen() {
        assert_eq!(letters(&[0, 0], 2), "--");
        assert_eq!(letters(&[0, 65535], 2), "BB");
    }
}
