//! Properties of all schedulers, with weights, loads and orders that no one chose by hand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use lvs_tund::director::cluster::VirtualServiceConfig;
use lvs_tund::director::scheduler::SCHEDULERS;
use proptest::prelude::*;

mod support;

use support::clients::*;
use support::packets::SYN;
use support::world::World;

/// One to eight real servers, some of weight 0.
fn weights(most: u32) -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(prop_oneof![1 => Just(0), 4 => 1..=most], 1..=8)
}

/// Where `count` clients' connections go, by the last byte of the RIP; 0 for nowhere.
fn choices(service: VirtualServiceConfig, count: u32) -> Vec<u8> {
    let mut world = World::of(vec![service]);
    (0..count).map(|n| server_of(&world.tcp(client(n), 1, SYN)).unwrap_or(0)).collect()
}

fn shares(choices: &[u8]) -> BTreeMap<u8, usize> {
    let mut shares = BTreeMap::new();
    for choice in choices {
        *shares.entry(*choice).or_default() += 1;
    }
    shares
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn weight_zero_is_never_chosen_and_any_usable_server_suffices(weights in weights(5)) {
        let usable: Vec<u8> = (1..=8).filter(|n| weights.get(usize::from(*n) - 1).is_some_and(|w| *w > 0)).collect();
        for row in SCHEDULERS {
            // ovf gives no server more connections than weight: few enough for all.
            for choice in choices(web(row.name, &weights), 1) {
                prop_assert!(usable.contains(&choice) || usable.is_empty() && choice == 0, "{}: {choice}", row.name);
            }
            for choice in choices(web(row.name, &weights), 100) {
                prop_assert!(choice == 0 || usable.contains(&choice), "{}: {choice}", row.name);
            }
        }
    }

    /// A whole round of `wrr` is exact; `wlc` and `sed` are off by at most one connection each while no client leaves.
    #[test]
    fn shares_follow_weights(weights in weights(9)) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        for (name, off) in [("wrr", 0.0), ("wlc", 1.0), ("sed", 1.0)] {
            let shares = shares(&choices(web(name, &weights), total * 6));
            for (index, weight) in weights.iter().enumerate() {
                let found = shares.get(&(index as u8 + 1)).copied().unwrap_or(0) as f64;
                let expected = f64::from(weight * 6);
                prop_assert!((found - expected).abs() <= off, "{name} {weights:?}[{index}]: {found}");
            }
        }
    }

    /// Hash schedulers: four standard deviations of a fair draw, and 1/16 for `sh`'s cut round.
    #[test]
    fn hashed_shares_follow_weights_too(weights in weights(4)) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        const CLIENTS: u32 = 4000;
        for (name, cut) in [("mh", 0.01), ("sh", 1.0 / 16.0)] {
            let shares = shares(&choices(web(name, &weights), CLIENTS));
            for (index, weight) in weights.iter().enumerate() {
                let fair = f64::from(*weight) / f64::from(total);
                let found = shares.get(&(index as u8 + 1)).copied().unwrap_or(0) as f64 / f64::from(CLIENTS);
                let bound = 4.0 * (fair * (1.0 - fair) / f64::from(CLIENTS)).sqrt() + cut;
                prop_assert!((found - fair).abs() <= bound, "{name} {weights:?}[{index}]: {found} {fair}");
            }
        }
    }

    #[test]
    fn the_order_of_the_configuration_does_not_matter(
        weights in weights(5),
        order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        for row in SCHEDULERS {
            let straight = web(row.name, &weights);
            let mut shuffled = straight.clone();
            let in_order = order.iter().filter_map(|index| straight.real_servers.get(*index).cloned());
            shuffled.real_servers = in_order.collect();
            prop_assert_eq!(choices(straight, 60), choices(shuffled, 60), "{}", row.name);
        }
    }

    /// The same key and the same client: the same server, in whatever order clients come, from whatever port. Another
    /// key: another order. Fifty clients keep their servers by chance once in ten million times.
    #[test]
    fn a_hash_depends_on_key_and_client_alone(weights in weights(5), key in any::<[u8; 16]>(), first in 0u32..1000) {
        for row in SCHEDULERS.iter().filter(|row| row.is_stateless) {
            let world = |key| {
                let mut service = web(row.name, &weights);
                service.scheduler_options.hash_key = key;
                World::of(vec![service])
            };
            let (mut forwards, mut backwards, mut other) = (world(key), world(key), world(key.map(|byte| !byte)));
            let to = |world: &mut World, n, port| server_of(&world.tcp(client(n), port, SYN)).unwrap_or(0);
            let clients = first..first + 50;
            let one: BTreeMap<Ipv4Addr, u8> = clients.clone().map(|n| (client(n), to(&mut forwards, n, 1))).collect();
            let same: BTreeMap<Ipv4Addr, u8> =
                clients.clone().rev().map(|n| (client(n), to(&mut backwards, n, 2))).collect();
            prop_assert_eq!(&one, &same, "{}", row.name);
            if weights.iter().filter(|weight| **weight > 0).count() > 1 {
                let another: BTreeMap<Ipv4Addr, u8> = clients.map(|n| (client(n), to(&mut other, n, 1))).collect();
                prop_assert_ne!(&one, &another, "{}: another key", row.name);
            }
        }
    }
}
