//! What share of the table one client may have: a stranger must not be able to fill it alone.
//!
//! Clients are counted in parts by a keyed hash, so that nobody knows with whom he shares one. The limit is far
//! above what a part holds by chance.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::quality::SeedableRandomState;

/// Counts of a table of a million entries, 256 KiB; a smaller one has fewer, down to the least.
const PARTS_MAX: usize = 1 << 16;
const PARTS_MIN: usize = 64;
/// Entries of a full table for each part.
const ENTRIES_PER_PART: usize = 16;

/// One client has an eighth of the table by default, but no less than the ports of one address: many people may be
/// behind it.
const SHARE: usize = 8;
const ENTRIES_MIN: usize = 1 << 16;

/// Entries of one client in a table of at most `connections_max`, if nobody says otherwise.
pub fn share_of(connections_max: usize) -> u32 {
    (connections_max / SHARE).max(ENTRIES_MIN).min(u32::MAX as usize) as u32
}

pub(super) struct Shares {
    hasher: SeedableRandomState,
    counts: Box<[AtomicU32]>,
    entries_max: u32,
}

impl Shares {
    pub(super) fn new(connections_max: usize, hasher: SeedableRandomState) -> Shares {
        let parts = (connections_max / ENTRIES_PER_PART).clamp(PARTS_MIN, PARTS_MAX);
        let counts = (0..parts).map(|_| AtomicU32::new(0)).collect();
        Shares { hasher, counts, entries_max: share_of(connections_max) }
    }

    pub(super) fn limit(&mut self, entries_max: u32) {
        self.entries_max = entries_max;
    }

    /// One more entry of this client; false, and nothing is counted, if he has too many.
    pub(super) fn claim(&self, client: IpAddr) -> bool {
        let count = self.count(client);
        let is_free = count.fetch_add(1, Ordering::Relaxed) < self.entries_max;
        if !is_free {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        is_free
    }

    /// One entry less.
    pub(super) fn release(&self, client: IpAddr) {
        self.count(client).fetch_sub(1, Ordering::Relaxed);
    }

    /// A client of IPv6 has a whole /64 (RFC 4291 §2.5.4).
    fn count(&self, client: IpAddr) -> &AtomicU32 {
        let bits = match client {
            IpAddr::V4(v4) => u64::from(u32::from(v4)),
            IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
        };
        &self.counts[self.hasher.hash_one(bits) as usize % self.counts.len()]
    }
}
