//! Packets in and out of the program, in batches: one file per datapath, one row in [`DATAPATHS`].
//!
//! The only room with `unsafe`. Reads lengths and virtio headers, nothing else: what a packet says is
//! not looked at here.

#![allow(unsafe_code)]

pub mod memory;
pub mod pcap;
pub mod raw_socket;
pub mod tun;

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::packet::Frame;

/// Frames a worker handles between two looks at its other duties. datapath.md §3.7: the TUN queue must
/// be drained before sleeping, and DT-5: 32 to 128 per sendmmsg pay.
pub const BATCH: usize = 64;

/// Where packets come from.
pub trait Capture {
    /// Fills frames from the front and says how many; 0 means there is nothing at the moment. Never waits.
    ///
    /// # Errors
    /// Only what makes further capture useless, such as a deleted device.
    fn capture(&mut self, frames: &mut [Frame]) -> io::Result<usize>;

    /// What to wait on when there is nothing; `None` if more can never come.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;
}

/// A frame of a batch that is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Index into the batch's frames.
    pub frame: usize,
    /// Next IP destination of the packet in it.
    pub to: IpAddr,
}

/// Where packets go.
pub trait Transmit {
    /// Sends each of `outgoing`, in order; one that fails does not stop those behind it. `on_failure` is
    /// told the position in `outgoing` and the cause.
    fn transmit(
        &mut self,
        frames: &mut [Frame],
        outgoing: &[Outgoing],
        on_failure: &mut dyn FnMut(usize, io::Error),
    );
}

/// A member of the family.
pub struct Row {
    pub name: &'static str,
    pub can_capture: bool,
    pub can_transmit: bool,
    pub summary: &'static str,
}

pub const DATAPATHS: &[Row] = &[memory::ROW, pcap::ROW, raw_socket::ROW, tun::ROW];

/// A batch of frames, each able to hold the largest packet. Their buffers lie apart from each other by
/// an odd number of cache lines, so that headers do not all fall into the same cache set.
pub fn frames(count: usize) -> Vec<Frame> {
    const CACHE_LINE: usize = 64;
    (0..count)
        .map(|index| Frame::with_capacity(crate::packet::frame::PACKET_MAX + 1 + CACHE_LINE * (index % 16)))
        .collect()
}
