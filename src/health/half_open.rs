//! Finds real servers whose connections stay half open while those of the others do not. The director sees only the
//! clients' packets: a client that gets no SYN-ACK sends no ACK.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::judge::{HalfOpen, Signal};
use crate::time::Moment;

/// Connections are compared over this time; much longer than a handshake takes.
pub const WINDOW: Duration = Duration::from_secs(5);

/// The TCP connections of a real server in one virtual service, since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Those that a SYN began.
    pub begun: u64,
    /// Those whose client has acknowledged the SYN-ACK.
    pub completed: u64,
}

/// The name of a virtual service, and a RIP.
pub type ServerKey = (String, IpAddr);

/// Compares the real servers of each virtual service, window by window.
#[derive(Debug, Default)]
pub struct HalfOpenWatch {
    /// When the window began, and the totals at that time.
    window: Option<(Moment, HashMap<ServerKey, Handshakes>)>,
}

impl HalfOpenWatch {
    /// Whether a window is over, so that [`HalfOpenWatch::look`] has something to compare.
    pub fn is_due(&self, now: Moment) -> bool {
        self.window.as_ref().is_none_or(|(begun, _)| now.since(*begun) >= WINDOW)
    }

    /// Takes the present totals, begins the next window, and returns what the last one shows.
    pub fn look(&mut self, totals: HashMap<ServerKey, Handshakes>, now: Moment) -> Vec<(IpAddr, Signal)> {
        let Some((_, before)) = self.window.replace((now, totals)) else { return Vec::new() };
        let totals = self.window.iter().flat_map(|(_, totals)| totals);
        let mut services: HashMap<&str, Vec<(IpAddr, u32, u32)>> = HashMap::new();
        for (key, total) in totals {
            // One that has just been added is not compared.
            let Some(before) = before.get(key) else { continue };
            let (stuck, samples) = grown(before, total);
            services.entry(key.0.as_str()).or_default().push((key.1, stuck, samples));
        }
        services.into_values().flat_map(telling).collect()
    }
}

/// Of the connections that began, how many were not completed, and all. Those that completed may have begun earlier.
fn grown(before: &Handshakes, after: &Handshakes) -> (u32, u32) {
    let begun = after.begun.saturating_sub(before.begun);
    let completed = after.completed.saturating_sub(before.completed);
    let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    (number(begun.saturating_sub(completed)), number(begun))
}

fn telling(servers: Vec<(IpAddr, u32, u32)>) -> Vec<(IpAddr, Signal)> {
    let sum = |of: fn(&(IpAddr, u32, u32)) -> u32| servers.iter().map(of).fold(0, u32::saturating_add);
    let (all_stuck, all_samples) = (sum(|it| it.1), sum(|it| it.2));
    let compared = servers.iter().map(|&(rip, stuck, samples)| {
        let others_stuck = all_stuck.saturating_sub(stuck);
        let others_samples = all_samples.saturating_sub(samples);
        (rip, HalfOpen { stuck, samples, others_stuck, others_samples })
    });
    compared
        .filter(|(_, found)| found.is_telling())
        .map(|(rip, found)| (rip, Signal::HalfOpen(found)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(rows: &[(&str, u8, u64, u64)]) -> HashMap<ServerKey, Handshakes> {
        let row = |&(service, last, begun, completed): &(&str, u8, u64, u64)| {
            ((service.to_owned(), [10, 0, 0, last].into()), Handshakes { begun, completed })
        };
        rows.iter().map(row).collect()
    }

    fn suspects(rows: &[(&str, u8, u64, u64)], next: &[(&str, u8, u64, u64)]) -> Vec<IpAddr> {
        let mut watch = HalfOpenWatch::default();
        assert!(watch.look(totals(rows), Moment::ZERO).is_empty());
        let found = watch.look(totals(next), Moment::from_secs(5));
        found.into_iter().map(|(rip, _)| rip).collect()
    }

    #[test]
    fn a_real_server_is_suspect_if_its_handshakes_stay_incomplete_and_those_of_the_others_do_not() {
        let before = [("web", 1, 1000, 1000), ("web", 2, 1000, 1000), ("web", 3, 10, 10)];
        let first: Vec<IpAddr> = vec![[10, 0, 0, 1].into()];
        let after = [("web", 1, 1020, 1000), ("web", 2, 1020, 1019), ("web", 3, 30, 30)];
        assert_eq!(suspects(&before, &after), first);
        let slow_clients = [("web", 1, 1020, 1000), ("web", 2, 1020, 1005), ("web", 3, 30, 15)];
        assert!(suspects(&before, &slow_clients).is_empty());
        let half = [("web", 1, 1020, 1010), ("web", 2, 1020, 1020), ("web", 3, 30, 30)];
        assert!(suspects(&before, &half).is_empty());
        let few = [("web", 1, 1015, 1000), ("web", 2, 1020, 1020), ("web", 3, 30, 30)];
        assert!(suspects(&before, &few).is_empty());
    }

    #[test]
    fn virtual_services_and_windows_are_compared_apart() {
        let before = [("web", 1, 0, 0), ("web", 2, 0, 0), ("api", 1, 0, 0), ("api", 2, 0, 0)];
        let after = [("web", 1, 20, 20), ("web", 2, 0, 0), ("api", 1, 20, 0), ("api", 2, 20, 20)];
        assert_eq!(suspects(&before, &after), [IpAddr::from([10, 0, 0, 1])]);
        let alone = [("web", 1, 20, 20), ("web", 2, 0, 0), ("api", 1, 20, 0), ("api", 2, 0, 0)];
        assert!(suspects(&before, &alone).is_empty(), "the other virtual service is no witness");
        assert!(suspects(&[], &after).is_empty(), "one that has just been added");
        let mut watch = HalfOpenWatch::default();
        assert!(watch.is_due(Moment::ZERO));
        for (secs, expected) in [(5, 1), (10, 0)] {
            watch.look(totals(&before), Moment::from_secs(secs - 5));
            assert!(!watch.is_due(Moment::from_secs(secs - 1)) && watch.is_due(Moment::from_secs(secs)));
            let next = if expected == 1 { &after } else { &before };
            assert_eq!(watch.look(totals(next), Moment::from_secs(secs)).len(), expected);
        }
    }

    #[test]
    fn totals_that_begin_again_are_no_handshakes() {
        let before = [("web", 1, 1000, 1000), ("web", 2, 1000, 1000)];
        assert!(suspects(&before, &[("web", 1, 0, 0), ("web", 2, 1020, 1020)]).is_empty());
    }
}
