//! `mh`, Maglev hashing (NSDI 2016): a table in which real servers take turns by their own preference lists,
//! so that a removed one moves hardly any of the other real servers' clients.
//!
//! Better than ip_vs_mh.c on purpose: canonical order, so that directors agree; a table without weight 0; a
//! secret key, with each field hashed by itself; whole IPv6 addresses. Weights are spread evenly over the
//! rounds instead of several turns in a row.

use std::sync::Arc;

use super::common::{Buckets, KeyedHash};
use super::{Memory, Options, Request, Row, Scheduler};
use crate::director::real_server::RealServer;

/// `ipvsadm -s mh`.
pub const ROW: Row = Row {
    name: "mh",
    summary: "by a hash of the client's address (Maglev): few clients move when a real server is added or removed",
    flags: &["mh-fallback", "mh-port"],
    is_stateless: true,
    build,
};

/// Primes, from the kernel (`primes` in ip_vs_mh.c) and from the paper: with a prime every preference list is
/// complete. More than 100 entries per real server keep shares within 1 %.
pub const TABLE_SIZES: &[u32] =
    &[251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 65_537, 131_071, 655_373];

/// As in the paper and in Katran.
pub const TABLE_SIZE_DEFAULT: u32 = 65_537;

const FREE: u32 = u32::MAX;

struct Maglev {
    buckets: Buckets,
    fingerprint: u64,
}

fn build(real_servers: &[Arc<RealServer>], options: &Options, _: Memory) -> Box<dyn Scheduler> {
    let hash = KeyedHash::new(&options.hash_key);
    let table = fill(real_servers, options.mh_table_size, &hash);
    let buckets = Buckets { table, hash, options: *options };
    let fingerprint = buckets.fingerprint(real_servers);
    Box::new(Maglev { buckets, fingerprint })
}

/// One real server's way through the table: `next`, then always `skip` further.
struct Preference {
    index: u32,
    next: u32,
    skip: u32,
    weight: u64,
    /// Saved weight; a turn costs the weight of the heaviest real server.
    saved: u64,
}

fn fill(real_servers: &[Arc<RealServer>], size: u32, hash: &KeyedHash) -> Vec<u32> {
    let mut preferences: Vec<Preference> = (0..)
        .zip(real_servers)
        .filter(|(_, server)| server.weight() > 0)
        .map(|(index, server)| preference(index, server, size, hash))
        .collect();
    let Some(heaviest) = preferences.iter().map(|preference| preference.weight).max() else {
        return Vec::new();
    };
    let mut table = vec![FREE; size as usize];
    let mut filled = 0;
    loop {
        for preference in &mut preferences {
            preference.saved += preference.weight;
            if preference.saved < heaviest {
                continue;
            }
            preference.saved -= heaviest;
            while table[preference.next as usize] != FREE {
                preference.step(size);
            }
            table[preference.next as usize] = preference.index;
            filled += 1;
            if filled == size {
                return table;
            }
        }
    }
}

fn preference(index: u32, server: &RealServer, size: u32, hash: &KeyedHash) -> Preference {
    let rip = server.rip.octets();
    let next = remainder(hash.of(&[b"offset", &rip]), size);
    let skip = remainder(hash.of(&[b"skip", &rip]), size - 1) + 1;
    let weight = u64::from(server.weight());
    Preference { index, next, skip, weight, saved: 0 }
}

fn remainder(hash: u64, divisor: u32) -> u32 {
    u32::try_from(hash % u64::from(divisor)).unwrap_or_default()
}

impl Preference {
    fn step(&mut self, size: u32) {
        self.next += self.skip;
        if self.next >= size {
            self.next -= size;
        }
    }
}

impl Scheduler for Maglev {
    fn choose(&self, real_servers: &[Arc<RealServer>], request: &Request) -> Option<usize> {
        self.buckets.choose_for_client(real_servers, request)
    }

    fn fingerprint(&self) -> Option<u64> {
        Some(self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{build, servers};
    use super::*;

    fn table(servers: &[Arc<RealServer>]) -> Vec<u32> {
        fill(servers, TABLE_SIZE_DEFAULT, &KeyedHash::new(&[7; 16]))
    }

    #[test]
    fn table_sizes_are_primes() {
        for size in TABLE_SIZES {
            let is_prime = (2..*size).take_while(|divisor| divisor * divisor <= *size).all(|d| size % d != 0);
            assert!(is_prime, "{size}");
        }
        assert!(TABLE_SIZES.contains(&TABLE_SIZE_DEFAULT));
    }

    #[test]
    fn shares_are_even_and_follow_weights() {
        for weights in [vec![1; 100], vec![1, 2, 3, 0, 4], vec![65535, 1]] {
            let given: Vec<_> = weights.iter().map(|weight| (*weight, 0, 0)).collect();
            let table = table(&servers(&given));
            let total: u32 = weights.iter().sum();
            for (index, weight) in (0..).zip(&weights) {
                let count = table.iter().filter(|bucket| **bucket == index).count() as f64;
                let expected = table.len() as f64 * f64::from(*weight) / f64::from(total);
                assert!(
                    (count - expected).abs() <= expected * 0.01 + 1.0,
                    "{weights:?}[{index}]: {count} {expected}"
                );
            }
        }
    }

    /// The most entries of surviving real servers that may move when one of N is removed.
    #[test]
    fn few_clients_move_when_one_real_server_leaves() {
        for (count, most) in [(3, 0.0005), (10, 0.005), (100, 0.008)] {
            let all = servers(&vec![(1, 0, 0); count]);
            let before = table(&all);
            let mut moved = 0;
            let leavers = count.min(10);
            for leaver in (0..).take(leavers) {
                let rest: Vec<_> =
                    all.iter().filter(|server| server.slot.index() != leaver).cloned().collect();
                let after = table(&rest);
                moved += before
                    .iter()
                    .zip(&after)
                    .filter(|(old, new)| **old != leaver && **old != rest[**new as usize].slot.index())
                    .count();
            }
            let share = moved as f64 / (before.len() * leavers) as f64;
            assert!(share <= most, "{count}: {share}");
        }
    }

    #[test]
    fn the_fingerprint_differs_between_weights_and_members() {
        let of = |given: &[(u32, u32, u32)]| build(&ROW, &servers(given)).fingerprint();
        assert_eq!(of(&[(1, 0, 0), (2, 5, 5)]), of(&[(1, 9, 9), (2, 0, 0)]));
        assert_ne!(of(&[(1, 0, 0), (2, 0, 0)]), of(&[(2, 0, 0), (1, 0, 0)]));
        assert_ne!(of(&[(1, 0, 0), (1, 0, 0)]), of(&[(1, 0, 0)]));
    }
}
