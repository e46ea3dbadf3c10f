//! The addresses of a real server's host, followed for the guard.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::host::{broadcast_addresses, own_addresses};
use crate::realserver::guard::OwnAddresses;

pub(super) struct OwnAddressesFollower {
    vips: Vec<IpAddr>,
    latest: Arc<ArcSwap<OwnAddresses>>,
}

impl OwnAddressesFollower {
    pub(super) fn new(vips: &[IpAddr]) -> OwnAddressesFollower {
        OwnAddressesFollower { vips: vips.to_vec(), latest: Arc::new(ArcSwap::from_pointee(read(vips))) }
    }

    /// What the guard reads for each packet.
    pub(super) fn latest(&self) -> Arc<ArcSwap<OwnAddresses>> {
        self.latest.clone()
    }

    /// Call it after each change of the host.
    pub(super) fn refresh(&self) {
        let next = read(&self.vips);
        if **self.latest.load() != next {
            self.latest.store(Arc::new(next));
        }
    }
}

fn read(vips: &[IpAddr]) -> OwnAddresses {
    let unicast = own_addresses().into_iter().filter(|address| !vips.contains(address)).collect();
    OwnAddresses { unicast: Some(unicast), broadcast: broadcast_addresses().into_iter().collect() }
}
