//! Packets for virtual services that were seen where nothing captures them, by interface.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The counts since the daemon started.
#[derive(Debug, Default)]
pub struct StrayPackets(Mutex<BTreeMap<String, u64>>);

impl StrayPackets {
    /// Counts one packet that arrived on this interface.
    pub fn count(&self, interface: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(interface.to_owned()).or_default() += 1;
    }

    /// Every interface on which one was seen.
    pub fn read(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(interface, packets)| (interface.clone(), *packets)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_has_a_count_of_its_own() {
        let strays = StrayPackets::default();
        assert_eq!(strays.read(), []);
        ["eth2", "eth1", "eth2"].iter().for_each(|interface| strays.count(interface));
        assert_eq!(strays.read(), [("eth1".to_owned(), 1), ("eth2".to_owned(), 2)]);
    }
}
