//! Packets from a list and into a list: for tests, benchmarks and `explain`.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::{Capture, Outgoing, Transmit};
use crate::packet::Frame;

/// Yields the given packets once.
#[derive(Debug, Default)]
pub struct Source {
    /// The next packet is at the front.
    pub packets: VecDeque<Vec<u8>>,
}

impl Capture for Source {
    fn capture(&mut self, frames: &mut [Frame]) -> io::Result<usize> {
        let count = frames.len().min(self.packets.len());
        for (frame, packet) in frames.iter_mut().zip(self.packets.drain(..count)) {
            frame.replace(&packet);
        }
        Ok(count)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Keeps what is sent, except to unreachable destinations.
#[derive(Debug, Default)]
pub struct Sink {
    /// Next IP destination and bytes, in the order of sending.
    pub packets: Vec<(IpAddr, Vec<u8>)>,
    /// Destinations to which sending fails with "host unreachable".
    pub unreachable: Vec<IpAddr>,
}

impl Transmit for Sink {
    fn transmit(
        &mut self,
        frames: &mut [Frame],
        outgoing: &[Outgoing],
        on_failure: &mut dyn FnMut(usize, io::Error),
    ) {
        for (position, packet) in outgoing.iter().enumerate() {
            if self.unreachable.contains(&packet.to) {
                on_failure(position, io::ErrorKind::HostUnreachable.into());
            } else {
                self.packets.push((packet.to, frames[packet.frame].packet().to_vec()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_does_not_stop_the_rest() {
        let mut frames = [Frame::from_packet(b"a"), Frame::from_packet(b"b"), Frame::from_packet(b"c")];
        let to = |last: u8| IpAddr::from([10, 0, 0, last]);
        let outgoing: Vec<_> =
            (0..3).map(|frame| Outgoing { frame, to: to(frame.try_into().unwrap()) }).collect();
        let mut sink = Sink { unreachable: vec![to(1)], ..Sink::default() };
        let mut failed = Vec::new();
        sink.transmit(&mut frames, &outgoing, &mut |position, _| failed.push(position));
        assert_eq!(failed, [1]);
        assert_eq!(sink.packets, [(to(0), b"a".to_vec()), (to(2), b"c".to_vec())]);
    }
}
