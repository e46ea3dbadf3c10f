//! Which other hosts have a VIP while this host answers for it, and since when.
//!
//! While VRRP moves a VIP, both hosts announce it for a moment. So a claim counts only if this host has answered for the VIP
//! for some time before, and still does some time after.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::host::{Claim, Mac};
use crate::time::Moment;
use crate::trouble::{Found, TroubleKind};

/// Several advertisements of VRRP, which sends one in a second.
const SETTLED: Duration = Duration::from_secs(4);

/// How long a claim counts as present: each VIP is probed three times meanwhile.
const PRESENT_FOR: Duration = Duration::from_secs(60);

/// Hosts remembered for each VIP; forged messages may have any number of addresses.
const OWNERS_MAX: usize = 4;

/// Claims that counted, by VIP; VIPs without any are not in it.
#[derive(Debug, Default)]
pub(super) struct Totals(Mutex<BTreeMap<Ipv4Addr, u64>>);

impl Totals {
    pub(super) fn read(&self) -> BTreeMap<Ipv4Addr, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, vip: Ipv4Addr, count: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(vip).or_default() += count;
    }
}

/// The VIPs for which this host answers, with their other owners.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    vips: HashMap<Ipv4Addr, Answered>,
    totals: Arc<Totals>,
}

#[derive(Debug)]
struct Answered {
    since: Moment,
    owners: Vec<Owner>,
}

#[derive(Debug)]
struct Owner {
    mac: Mac,
    device: String,
    first: Moment,
    last: Moment,
    /// Messages that are not in the totals yet.
    uncounted: u64,
}

impl Owner {
    fn is_settled(&self, now: Moment) -> bool {
        now.since(self.first) >= SETTLED
    }
}

impl Claimed {
    pub(super) fn totals(&self) -> Arc<Totals> {
        self.totals.clone()
    }

    /// `answered` are all VIPs for which this host answers now, `claims` what has arrived since the last call.
    pub(super) fn look(&mut self, answered: impl Iterator<Item = Ipv4Addr>, claims: Vec<Claim>, now: Moment) {
        let mut before = std::mem::take(&mut self.vips);
        for vip in answered {
            let known = before.remove(&vip);
            self.vips.insert(vip, known.unwrap_or(Answered { since: now, owners: Vec::new() }));
        }
        for claim in claims {
            if let Some(vip) = self.vips.get_mut(&claim.vip).filter(|vip| now.since(vip.since) >= SETTLED) {
                vip.note(claim, now);
            }
        }
    }

    /// The VIPs that have another owner; counts what has proved to be a claim.
    pub(super) fn troubles(&mut self, now: Moment) -> Vec<Found> {
        for (vip, answered) in &mut self.vips {
            answered.owners.retain(|owner| now.since(owner.last) < PRESENT_FOR);
            for owner in answered.owners.iter_mut().filter(|owner| owner.is_settled(now)) {
                let count = std::mem::take(&mut owner.uncounted);
                if count > 0 {
                    self.totals.add(*vip, count);
                }
            }
        }
        let mut found: Vec<Found> =
            self.vips.iter().filter_map(|(vip, answered)| trouble(*vip, &answered.owners, now)).collect();
        found.sort_by(|a, b| a.subject.cmp(&b.subject));
        found
    }
}

impl Answered {
    fn note(&mut self, claim: Claim, now: Moment) {
        let Claim { mac, device, .. } = claim;
        if let Some(owner) = self.owners.iter_mut().find(|owner| owner.mac == mac) {
            (owner.device, owner.last) = (device, now);
            owner.uncounted += 1;
        } else if self.owners.len() < OWNERS_MAX {
            self.owners.push(Owner { mac, device, first: now, last: now, uncounted: 1 });
        } else if let Some(first) = self.owners.first_mut() {
            first.uncounted += 1;
        }
    }
}

fn trouble(vip: Ipv4Addr, owners: &[Owner], now: Moment) -> Option<Found> {
    let settled = owners.iter().filter(|owner| owner.is_settled(now));
    let names: Vec<String> = settled.map(|owner| format!("{} on {}", owner.mac, owner.device)).collect();
    let (what, addresses) = match names.len() {
        0 => return None,
        1 => ("another host announces", "Ethernet address"),
        _ => ("other hosts announce", "Ethernet addresses"),
    };
    let remedy = "clients' packets go to either host; remove the VIP there, or set announce = \"local\" on both hosts of a \
                  VRRP pair";
    let text = format!("{what} VIP {vip}: {addresses} {}; {remedy}", names.join(" and "));
    Some(Found { kind: TroubleKind::VipClaimed, subject: vip.to_string(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 100);
    const OTHER: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 101);

    fn claim(vip: Ipv4Addr, last: u8) -> Claim {
        Claim { vip, mac: Mac([2, 0, 0, 0, 0, last]), device: "eth0".to_owned() }
    }

    /// What happens at each second: whether the VIP is answered, and the last bytes of the claims' addresses. Returns
    /// the seconds in which the trouble is there, and the total at the end.
    fn played(
        seconds: u64,
        answered: impl Fn(u64) -> bool,
        claims: impl Fn(u64) -> Vec<u8>,
    ) -> (Vec<u64>, u64) {
        let mut claimed = Claimed::default();
        let mut troubled = Vec::new();
        for second in 0..seconds {
            let now = Moment::from_secs(1000 + second);
            let seen = claims(second).into_iter().map(|mac| claim(VIP, mac)).collect();
            claimed.look(answered(second).then_some(VIP).into_iter(), seen, now);
            if !claimed.troubles(now).is_empty() {
                troubled.push(second);
            }
        }
        (troubled, claimed.totals().read().get(&VIP).copied().unwrap_or(0))
    }

    fn at(moments: &'static [u64]) -> impl Fn(u64) -> Vec<u8> {
        move |second| moments.iter().filter(|at| **at == second).map(|_| 9).collect()
    }

    #[test]
    fn a_claim_is_a_trouble_from_four_seconds_after_it_until_a_minute_after_the_last() {
        let (troubled, total) = played(100, |_| true, at(&[10]));
        assert_eq!((troubled, total), ((14..70).collect(), 1));
        let (troubled, total) = played(100, |_| true, at(&[10, 12, 30]));
        assert_eq!((troubled, total), ((14..90).collect(), 3));
    }

    #[test]
    fn a_claim_while_vrrp_moves_the_vip_is_no_trouble() {
        let nothing = (Vec::new(), 0);
        assert_eq!(played(30, |second| second < 12, at(&[9, 10, 11, 12, 20])), nothing, "it leaves");
        assert_eq!(played(30, |second| second >= 10, at(&[5, 10, 13])), nothing, "it comes");
        assert_eq!(played(30, |second| second != 12, at(&[10])), nothing, "it leaves and comes");
        assert_eq!(played(30, |_| true, at(&[0, 3])), nothing, "the director starts");
        assert_eq!(played(30, |_| false, at(&[9, 20])), nothing, "a backup");
        assert_eq!(
            played(20, |second| second >= 10, at(&[14])),
            ((18..20).collect(), 1),
            "another master stays"
        );
    }

    #[test]
    fn a_trouble_is_over_when_the_vip_leaves() {
        assert_eq!(played(30, |second| second < 20, at(&[10])), ((14..20).collect(), 1));
    }

    #[test]
    fn the_trouble_names_vip_address_and_device() {
        let mut claimed = Claimed::default();
        let vips = || [VIP, OTHER].into_iter();
        let at = Moment::from_secs;
        claimed.look(vips(), Vec::new(), at(0));
        claimed.look(vips(), vec![claim(OTHER, 9)], at(10));
        claimed.look(vips(), Vec::new(), at(14));
        let found = claimed.troubles(at(14));
        assert_eq!((found.len(), found[0].kind), (1, TroubleKind::VipClaimed));
        assert_eq!(found[0].subject, "172.25.3.101");
        assert_eq!(
            found[0].words(),
            "another host announces VIP 172.25.3.101: Ethernet address 02:00:00:00:00:09 on eth0"
        );
        claimed.look(vips(), vec![claim(OTHER, 10), claim(VIP, 9)], at(15));
        let found = claimed.troubles(at(19));
        assert_eq!(
            found.iter().map(|found| found.subject.as_str()).collect::<Vec<_>>(),
            ["172.25.3.100", "172.25.3.101"]
        );
        assert_eq!(
            found[1].words(),
            "other hosts announce VIP 172.25.3.101: Ethernet addresses 02:00:00:00:00:09 on eth0 and \
             02:00:00:00:00:0a on eth0"
        );
    }

    #[test]
    fn forged_claims_of_many_addresses_are_all_counted_and_few_of_them_named() {
        let mut claimed = Claimed::default();
        let at = Moment::from_secs;
        claimed.look([VIP].into_iter(), Vec::new(), at(0));
        claimed.look([VIP].into_iter(), (0..200).map(|mac| claim(VIP, mac)).collect(), at(10));
        claimed.look([VIP].into_iter(), Vec::new(), at(20));
        assert_eq!(claimed.troubles(at(20))[0].text.matches(" on eth0").count(), OWNERS_MAX);
        assert_eq!(claimed.totals().read(), BTreeMap::from([(VIP, 200)]));
    }
}
