//! Packets in and out of the program, in batches: one file per datapath.
//!
//! The only room with `unsafe`. It reads lengths and virtio headers and does not look at the packets
//! themselves.

#![allow(unsafe_code)]

pub mod both;
pub mod descriptors;
pub mod memory;
pub mod namespace;
pub mod pcap;
pub mod raw_socket;
pub mod tun;

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::packet::Frame;

/// Frames that a worker handles before it turns to its other duties: a TUN read returns one packet, and a
/// batch of 32 to 128 in one sendmmsg(2) is enough to make the system call cheap.
pub const BATCH: usize = 64;

/// The source of packets.
pub trait Capture {
    /// Fills frames from the front and returns their number; 0 if no packet is waiting. Never
    /// waits.
    ///
    /// # Errors
    /// Only errors after which no capture is possible, such as a deleted device.
    fn capture(&mut self, frames: &mut [Frame]) -> io::Result<usize>;

    /// The descriptor to wait on; `None` if no packet can follow.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;

    /// Whether a device that was deleted may be there again later, on the same descriptor.
    fn may_return(&self) -> bool {
        false
    }
}

/// A frame of a batch that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Index into the batch's frames.
    pub frame: usize,
    /// Where the packet leaves.
    pub exit: Exit,
}

/// Where a packet leaves the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Into the network; the next IP destination.
    Network(IpAddr),
    /// To the host's own stack, with what the device that captured it reported about it.
    Host,
}

/// The destination of packets.
pub trait Transmit {
    /// Sends each of `outgoing`, in order; one that fails does not stop the others. `on_failure` gets the
    /// position in `outgoing` and the error.
    fn transmit(
        &mut self,
        frames: &mut [Frame],
        outgoing: &[Outgoing],
        on_failure: &mut dyn FnMut(usize, io::Error),
    );
}

/// A batch of frames, each large enough for the largest packet. Their buffers are offset by an odd number of
/// cache lines, so that the headers do not all fall into the same cache set.
pub fn frames(count: usize) -> Vec<Frame> {
    const CACHE_LINE: usize = 64;
    (0..count)
        .map(|index| Frame::with_capacity(crate::packet::frame::PACKET_MAX + 1 + CACHE_LINE * (index % 16)))
        .collect()
}
