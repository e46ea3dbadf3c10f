//! Code shared by several schedulers: the least loaded real server, buckets found by a keyed hash, and the
//! record of destinations for `lblc` and `lblcr`.

use std::collections::HashMap;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::{Options, Request};
use crate::director::real_server::RealServer;
use crate::packet::Flow;
use crate::time::Moment;

/// The eligible real server with the least `load` in proportion to its weight; the first in canonical order
/// wins a tie.
pub(super) fn least_loaded<'a>(
    real_servers: impl IntoIterator<Item = (usize, &'a Arc<RealServer>)>,
    load: impl Fn(&RealServer) -> u64,
) -> Option<usize> {
    let mut best: Option<(usize, u64, u64)> = None;
    for (index, server) in real_servers {
        if !server.is_eligible() {
            continue;
        }
        let (load, weight) = (load(server), u64::from(server.weight()));
        if best.is_none_or(|(_, least, of)| product(least, weight) > product(load, of)) {
            best = Some((index, load, weight));
        }
    }
    best.map(|(index, ..)| index)
}

/// Loads in proportion to weights are compared without division. A load has up to 40 bits and a weight 31.
pub(super) fn product(load: u64, weight: u64) -> u128 {
    u128::from(load) * u128::from(weight)
}

/// SipHash-1-3 of several fields, each of fixed length or alone. The fields are hashed one after the other:
/// IPVS adds port and address, and folds IPv6 addresses, so that clients can aim at one real server.
#[derive(Clone, Copy)]
pub(super) struct KeyedHash {
    hasher: SipHasher13,
}

impl KeyedHash {
    pub(super) fn new(key: &[u8; 16]) -> KeyedHash {
        KeyedHash { hasher: SipHasher13::new_with_key(key) }
    }

    pub(super) fn of(&self, fields: &[&[u8]]) -> u64 {
        let mut hasher = self.hasher;
        for field in fields {
            hasher.write(field);
        }
        hasher.finish()
    }

    /// The hash of an address, and of a port if one is given; `try_number` distinguishes repeated tries.
    pub(super) fn of_client(&self, address: IpAddr, port: Option<u16>, try_number: u32) -> u64 {
        let port = port.unwrap_or(0).to_be_bytes();
        let try_number = try_number.to_be_bytes();
        match address {
            IpAddr::V4(v4) => self.of(&[&v4.octets(), &port, &try_number]),
            IpAddr::V6(v6) => self.of(&[&v6.octets(), &port, &try_number]),
        }
    }
}

/// A table of buckets, each with the index of a real server; empty if no real server may have one.
pub(super) struct Buckets {
    pub(super) table: Vec<u32>,
    pub(super) hash: KeyedHash,
    pub(super) options: Options,
}

/// Tries of a scheduler with fallback before it walks the table: as many as ip_vs_sh_get_fallback() of IPVS
/// makes.
const FALLBACK_TRIES: u32 = 256;

impl Buckets {
    /// The real server of the client's bucket. With fallback, further buckets are tried if that one may
    /// accept nothing.
    pub(super) fn choose_for_client(
        &self,
        real_servers: &[Arc<RealServer>],
        request: &Request,
    ) -> Option<usize> {
        let Flow { client, client_port, .. } = *request.flow;
        self.choose(real_servers, client, self.options.has_port.then_some(client_port), request.is_new)
    }

    pub(super) fn choose(
        &self,
        real_servers: &[Arc<RealServer>],
        address: IpAddr,
        port: Option<u16>,
        is_new: bool,
    ) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let tries = if self.options.has_fallback { FALLBACK_TRIES } else { 1 };
        let bucket_of = |number| {
            let hash = self.hash.of_client(address, port, number);
            usize::try_from(hash % self.table.len() as u64).unwrap_or_default()
        };
        let taker = |bucket: usize| {
            let index = self.table[bucket] as usize;
            // A real server with a bucket has weight.
            real_servers.get(index).filter(|server| !is_new || server.is_eligible()).map(|_| index)
        };
        let found = (0..tries).find_map(|number| taker(bucket_of(number)));
        // All these tries may miss the only real server that is left.
        let is_anybody_left = || real_servers.iter().any(|server| server.is_eligible());
        if found.is_some() || !self.options.has_fallback || !is_anybody_left() {
            return found;
        }
        let first = bucket_of(0);
        (0..self.table.len()).find_map(|step| taker((first + step) % self.table.len()))
    }

    /// Equal on two directors exactly if key, flags, real servers and weights are.
    pub(super) fn fingerprint(&self, real_servers: &[Arc<RealServer>]) -> u64 {
        let mut hasher = self.hash.hasher;
        hasher.write(&[u8::from(self.options.has_port), u8::from(self.options.has_fallback)]);
        for bucket in &self.table {
            match real_servers.get(*bucket as usize) {
                Some(server) => hasher.write(&server.rip.octets()),
                None => hasher.write(&[0; 4]),
            }
        }
        hasher.finish()
    }
}

/// `lblc` and `lblcr`: how long a destination is remembered without a packet (IPVS: `lblc_expiration`,
/// `lblcr_expiration`).
pub(super) const DESTINATION_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// 16 × 1024, as in ip_vs_lblc.c.
const DESTINATIONS_MAX: usize = 16_384;

/// The destinations of `lblc` and `lblcr`; they outlive changes of the cluster.
#[derive(Default)]
pub(super) struct Destinations {
    by_vip: Mutex<HashMap<IpAddr, Destination>>,
}

/// The real servers of one VIP, by RIP.
pub(super) struct Destination {
    pub(super) rips: Vec<Ipv4Addr>,
    pub(super) changed: Moment,
    used: Moment,
}

impl Destinations {
    /// Calls `choose` for a known VIP, and `first` for an unknown one.
    pub(super) fn choose(
        &self,
        vip: IpAddr,
        now: Moment,
        first: impl FnOnce() -> Option<Ipv4Addr>,
        choose: impl FnOnce(&mut Destination) -> Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        let is_fresh = |destination: &Destination| now.since(destination.used) < DESTINATION_TIMEOUT;
        let mut by_vip = self.by_vip.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(destination) = by_vip.get_mut(&vip).filter(|destination| is_fresh(destination)) {
            destination.used = now;
            return choose(destination);
        }
        let rip = first()?;
        if by_vip.len() >= DESTINATIONS_MAX {
            by_vip.retain(|_, destination| is_fresh(destination));
        }
        if by_vip.len() < DESTINATIONS_MAX {
            by_vip.insert(vip, Destination { rips: vec![rip], changed: now, used: now });
        }
        Some(rip)
    }
}

/// The index of a real server, by its RIP.
pub(super) fn index_of(real_servers: &[Arc<RealServer>], rip: Ipv4Addr) -> Option<usize> {
    real_servers.binary_search_by_key(&rip, |server| server.rip).ok()
}

/// `lblc` and `lblcr` leave a real server whose active connections exceed its weight, if those of another one
/// are less than half of its own weight.
pub(super) fn is_overloaded(server: &RealServer, real_servers: &[Arc<RealServer>]) -> bool {
    let is_idle = |other: &Arc<RealServer>| other.active() * 2 < u64::from(other.weight());
    server.active() > u64::from(server.weight()) && real_servers.iter().any(is_idle)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::atomic::Ordering;

    use super::super::testing::{build, flow, request, sequence, servers};
    use super::super::{Memory, Row, mh, sh};
    use super::*;

    /// The schedulers that share [`Buckets::choose_for_client`].
    const BY_CLIENT: [&Row; 2] = [&sh::ROW, &mh::ROW];

    #[test]
    fn a_client_keeps_its_server_and_its_port_counts_only_with_the_flag() {
        let servers = servers(&[(1, 0, 0); 5]);
        for row in BY_CLIENT {
            let choices = |options: &Options| -> Vec<_> {
                let scheduler = (row.build)(&servers, options, Memory::default());
                let of_port =
                    |client_port| scheduler.choose(&servers, &request(&Flow { client_port, ..flow() }));
                (1..200).map(of_port).collect()
            };
            let without = choices(&Options::default());
            assert!(without.iter().all(|choice| *choice == without[0]), "{}", row.name);
            let with = choices(&Options { has_port: true, ..Options::default() });
            assert!((0..5).all(|server| with.contains(&Some(server))), "{}", row.name);
        }
    }

    #[test]
    fn only_with_fallback_does_an_overloaded_servers_client_find_another() {
        for row in BY_CLIENT {
            let servers = servers(&[(1, 0, 0), (1, 0, 0)]);
            let strict = build(row, &servers);
            let options = Options { has_fallback: true, ..Options::default() };
            let fallback = (row.build)(&servers, &options, Memory::default());
            let before = sequence(&*strict, &servers, 100);
            assert_eq!(sequence(&*fallback, &servers, 100), before, "{}", row.name);
            servers[0].live.is_overloaded.store(true, Ordering::Relaxed);
            let only_the_other = before.iter().map(|choice| choice.filter(|choice| *choice == 1));
            assert!(sequence(&*strict, &servers, 100).into_iter().eq(only_the_other), "{}", row.name);
            assert_eq!(sequence(&*fallback, &servers, 100), [Some(1); 100], "{}", row.name);
        }
    }

    /// Each of the sixteen bytes spreads clients. IPVS folds the address to 32 bits.
    #[test]
    fn an_ipv6_clients_whole_address_counts() {
        let servers = servers(&[(1, 0, 0); 5]);
        for (row, position) in BY_CLIENT.into_iter().flat_map(|row| (0..16).map(move |byte| (row, byte))) {
            let scheduler = build(row, &servers);
            let of_byte = |byte| {
                let mut octets = [0x20; 16];
                octets[position] = byte;
                let client = Ipv6Addr::from(octets).into();
                scheduler.choose(&servers, &request(&Flow { client, ..flow() }))
            };
            let choices: Vec<_> = (0..=255).map(of_byte).collect();
            assert!((0..5).all(|server| choices.contains(&Some(server))), "{} byte {position}", row.name);
        }
    }
}
