//! Passive signals: what the packets of clients show about a real server between two probes.

/// A sign that a real server may not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Its host answers encapsulated packets with "protocol unreachable" (RFC 792, type 3 code 2): nothing unwraps them. It
    /// counts as down until a probe contradicts.
    ProtocolUnreachable,
    /// A router reports that the host cannot be reached.
    HostUnreachable,
    /// Its address cannot be resolved to a link-layer address.
    NoNeighbour,
    /// Of the connections that began lately, many stay in SYN_RECV.
    HalfOpen(HalfOpen),
}

/// Connections of one real server and of the others of its virtual service that began in the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfOpen {
    /// Of this real server, those that are still in SYN_RECV.
    pub stuck: u32,
    /// Of this real server, all.
    pub samples: u32,
    /// Of the other real servers, those that are still in SYN_RECV.
    pub others_stuck: u32,
    /// Of the other real servers, all.
    pub others_samples: u32,
}

impl HalfOpen {
    /// Fewer connections than this prove nothing.
    pub const SAMPLES_MIN: u32 = 16;

    /// Whether most connections of this real server are stuck while those of the others are not: otherwise the clients or
    /// the path back to them are to blame.
    pub fn is_telling(&self) -> bool {
        let others_do_well = self.others_samples >= HalfOpen::SAMPLES_MIN
            && u64::from(self.others_stuck) * 4 <= u64::from(self.others_samples);
        others_do_well
            && self.samples >= HalfOpen::SAMPLES_MIN
            && u64::from(self.stuck) * 2 > u64::from(self.samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_open_connections_count_only_if_those_of_the_others_do_well() {
        let rows = [
            ("most are stuck, the others do well", (9, 16, 4, 16), true),
            ("half of them are stuck", (8, 16, 0, 16), false),
            ("too few samples", (15, 15, 0, 16), false),
            ("too few samples of the others", (16, 16, 0, 15), false),
            ("the others are stuck as well", (16, 16, 5, 16), false),
        ];
        for (name, (stuck, samples, others_stuck, others_samples), expected) in rows {
            let half_open = HalfOpen { stuck, samples, others_stuck, others_samples };
            assert_eq!(half_open.is_telling(), expected, "{name}");
        }
    }
}
