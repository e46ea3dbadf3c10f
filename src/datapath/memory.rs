//! Packets from a list and into a list: for tests, benchmarks and `explain`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use super::{Capture, Exit, Outgoing, Transmit};
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

/// Keeps what is sent, except through unreachable exits.
#[derive(Debug, Default)]
pub struct Sink {
    /// Exit and bytes, in the order of sending.
    pub packets: Vec<(Exit, Vec<u8>)>,
    /// Exits through which sending fails with "host unreachable".
    pub unreachable: Vec<Exit>,
}

impl Transmit for Sink {
    fn transmit(
        &mut self,
        frames: &mut [Frame],
        outgoing: &[Outgoing],
        on_failure: &mut dyn FnMut(usize, io::Error),
    ) {
        for (position, packet) in outgoing.iter().enumerate() {
            if self.unreachable.contains(&packet.exit) {
                on_failure(position, io::ErrorKind::HostUnreachable.into());
            } else {
                self.packets.push((packet.exit, frames[packet.frame].packet().to_vec()));
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
        let to = |last: u8| Exit::Network([10, 0, 0, last].into());
        let outgoing: Vec<_> =
            (0..3).map(|frame| Outgoing { frame, exit: to(frame.try_into().unwrap()) }).collect();
        let mut sink = Sink { unreachable: vec![to(1)], ..Sink::default() };
        let mut failed = Vec::new();
        sink.transmit(&mut frames, &outgoing, &mut |position, _| failed.push(position));
        assert_eq!(failed, [1]);
        assert_eq!(sink.packets, [(to(0), b"a".to_vec()), (to(2), b"c".to_vec())]);
    }
}
