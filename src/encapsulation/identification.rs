//! The identifications of the outer packets on one path (RFC 791 §3.2).

use std::sync::atomic::{AtomicU16, Ordering};

/// Counts up, for all packets and workers of a path. Drawn only where DF is clear, because each draw is a write
/// that all workers share.
#[derive(Debug, Default)]
pub struct Identifications(AtomicU16);

impl Identifications {
    /// `first` is the first identification.
    pub fn new(first: u16) -> Identifications {
        Identifications(AtomicU16::new(first))
    }

    /// The next identification: it repeats after 65,535 packets (RFC 6864 §4.3: as late as possible).
    /// Never 0, because the kernel would replace it with a different one in each fragment of a packet.
    pub fn draw(&self) -> u16 {
        loop {
            let next = self.0.fetch_add(1, Ordering::Relaxed);
            if next != 0 {
                return next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifications_count_up_and_are_never_zero() {
        let identifications = Identifications::new(65_534);
        let drawn: Vec<u16> = (0..4).map(|_| identifications.draw()).collect();
        assert_eq!(drawn, [65_534, 65_535, 1, 2]);
    }
}
