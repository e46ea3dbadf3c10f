//! `sh`, source hashing: a client's address (and port, with `sh-port`) always leads to the same real server.
//!
//! Better than ip_vs_sh.c on purpose: the hash is keyed and takes each field by itself; weight 0 has no
//! bucket; the table grows with the weights, so that none is cut off; its order is canonical, so that
//! directors agree.

use std::sync::Arc;

use super::common::{Buckets, KeyedHash};
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s sh`.
pub const ROW: Row = Row {
    name: "sh",
    summary: "by a hash of the client's address",
    flags: &["sh-fallback", "sh-port"],
    is_stateless: true,
    build,
};

/// The table size of IPVS (CONFIG_IP_VS_SH_TAB_BITS = 8); this one is never smaller.
const BUCKETS_MIN: u64 = 256;
/// The largest table of IPVS (2^20).
const BUCKETS_MAX: u64 = 1 << 20;
/// Buckets per unit of weight: the last, incomplete round is then at most 1/16 of the table.
const ROUNDS: u64 = 16;

struct SourceHashing {
    buckets: Buckets,
    fingerprint: u64,
}

fn build(real_servers: &[Arc<RealServer>], options: &Options, _: Memory) -> Box<dyn Scheduler> {
    let hash = KeyedHash::new(&options.hash_key);
    let buckets = Buckets { table: fill(real_servers), hash, options: *options };
    let fingerprint = buckets.fingerprint(real_servers);
    Box::new(SourceHashing { buckets, fingerprint })
}

/// Each real server in turn gets as many buckets as its weight, round after round.
fn fill(real_servers: &[Arc<RealServer>]) -> Vec<u32> {
    let weighted: Vec<(u32, u32)> = (0..)
        .zip(real_servers)
        .filter(|(_, server)| server.weight() > 0)
        .map(|(index, server)| (index, server.weight()))
        .collect();
    let divisor = weighted.iter().fold(0, |divisor, (_, weight)| gcd(divisor, *weight)).max(1);
    let total: u64 = weighted.iter().map(|(_, weight)| u64::from(weight / divisor)).sum();
    if total == 0 {
        return Vec::new();
    }
    let size = (total * ROUNDS).next_power_of_two().clamp(BUCKETS_MIN, BUCKETS_MAX);
    // If even the largest table cannot hold so many rounds, weights are scaled down in proportion, to at
    // least 1.
    let share = |weight: u32| u64::from(weight / divisor) * total.min(BUCKETS_MAX / ROUNDS) / total;
    let round = weighted.iter().flat_map(|(index, weight)| {
        std::iter::repeat_n(*index, share(*weight).clamp(1, BUCKETS_MAX) as usize)
    });
    round.collect::<Vec<_>>().into_iter().cycle().take(size as usize).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Scheduler for SourceHashing {
    fn choose(&self, real_servers: &[Arc<RealServer>], request: &Request) -> Option<usize> {
        self.buckets.choose_for_client(real_servers, request)
    }

    fn fingerprint(&self) -> Option<u64> {
        Some(self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{sequence, servers};
    use super::*;

    #[test]
    fn buckets_follow_weights_and_weight_zero_has_none() {
        for weights in [vec![1, 2, 0, 3], vec![100, 100, 100], vec![65535, 1, 30000]] {
            let given: Vec<_> = weights.iter().map(|weight| (*weight, 0, 0)).collect();
            let table = fill(&servers(&given));
            let total: u32 = weights.iter().sum();
            for (index, weight) in (0..).zip(&weights) {
                let buckets = table.iter().filter(|bucket| **bucket == index).count();
                let share = buckets as f64 / table.len() as f64 - f64::from(*weight) / f64::from(total);
                assert!(share.abs() <= 1.0 / 16.0, "{weights:?}[{index}]: {buckets} of {}", table.len());
                assert_eq!(buckets == 0, *weight == 0, "{weights:?}[{index}]");
            }
        }
    }

    #[test]
    fn large_weights_without_a_common_divisor_do_not_favour_the_first() {
        let given: Vec<_> = (0..11).map(|index| (65_535 - index % 2, 0, 0)).collect();
        let table = fill(&servers(&given));
        for index in 0..11 {
            let buckets = table.iter().filter(|bucket| **bucket == index).count() as f64;
            let of_fair_share = buckets * 11.0 / table.len() as f64;
            assert!((0.9..=1.1).contains(&of_fair_share), "{index}: {of_fair_share}");
        }
    }

    #[test]
    fn another_key_is_another_table() {
        let servers = servers(&[(1, 0, 0); 5]);
        let with_key = |byte| {
            let options = Options { hash_key: [byte; 16], ..Options::default() };
            let sh = (ROW.build)(&servers, &options, Memory::default());
            (sequence(&*sh, &servers, 100), sh.fingerprint())
        };
        assert_eq!(with_key(1), with_key(1));
        assert_ne!(with_key(1).0, with_key(2).0);
        assert_ne!(with_key(1).1, with_key(2).1);
    }
}
