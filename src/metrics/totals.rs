//! The three numbers that listings show of a virtual service or a real server.

/// Connections, packets and bytes; or as many per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Scheduled ones, not the current ones.
    pub connections: u64,
    /// Forwarded to a real server.
    pub packets: u64,
    /// IP length without the outer header.
    pub bytes: u64,
}

impl Totals {
    /// The difference to an earlier reading of the same counters.
    pub fn since(&self, earlier: &Totals) -> Totals {
        Totals {
            connections: self.connections.wrapping_sub(earlier.connections),
            packets: self.packets.wrapping_sub(earlier.packets),
            bytes: self.bytes.wrapping_sub(earlier.bytes),
        }
    }

    /// The sum of two holders.
    pub fn plus(&self, other: &Totals) -> Totals {
        Totals {
            connections: self.connections + other.connections,
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
        }
    }

    #[cfg(test)]
    pub(crate) fn times(&self, factor: u64) -> Totals {
        Totals {
            connections: self.connections * factor,
            packets: self.packets * factor,
            bytes: self.bytes * factor,
        }
    }
}
