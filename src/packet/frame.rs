//! A frame: one packet in its own buffer, with headroom before it, so that an outer header can be written
//! without moving the packet.
//!
//! ```text
//! 0            start                     end            capacity
//! ├─ headroom ──┼──────── packet ─────────┼─── tailroom ────┤
//! ```
//!
//! A frame may be a super-packet of up to 64 KiB that is segmented on its way out, because virtio_net_hdr
//! cannot describe segments inside IP-in-IP; [`Offload`] contains what the device reported about it.

use super::field::U16;
use super::{Malformed, checksum};

/// Room for the largest outer header written here (IPv6 40 + UDP 8 + GUE 4, IPv6 6in6 40) and for a virtio
/// header before the packet, rounded up to a cache line.
pub const HEADROOM: usize = 128;

/// RFC 791 §3.1: total length is 16 bits wide.
pub const PACKET_MAX: usize = 65_535;

/// What a device reports about a packet in addition to its bytes (virtio_net_hdr, decoded).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum contains only the pseudo-header sum and must still be completed.
    pub checksum: Option<PartialChecksum>,
    /// The packet represents several segments.
    pub segments: Option<Segments>,
}

/// Where the sum of a partial checksum starts and where its field is, counted from the packet's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// First byte that the sum includes: the transport header's (csum_start).
    pub start: u16,
    /// csum_start + csum_offset of virtio_net_hdr.
    pub field: u16,
}

/// A super-packet: `size` payload bytes per segment after `header_length` bytes of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Decides which transport fields differ between the segments.
    pub kind: SegmentKind,
    /// gso_size of virtio_net_hdr; the last segment may be shorter.
    pub size: u16,
    /// hdr_len of virtio_net_hdr: IP and transport header together.
    pub header_length: u16,
}

/// The types of virtio_net_hdr's gso_type, without VIRTIO_NET_HDR_GSO_ECN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// VIRTIO_NET_HDR_GSO_TCPV4.
    TcpV4,
    /// VIRTIO_NET_HDR_GSO_TCPV6.
    TcpV6,
    /// VIRTIO_NET_HDR_GSO_UDP_L4: datagrams of equal size, each with its own header.
    Udp,
}

/// One packet with headroom.
#[derive(Clone, Debug)]
pub struct Frame {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// [`Frame::replace`] and [`Frame::filled`] set it; changes of the packet's bounds leave it as it is.
    pub offload: Offload,
}

impl Frame {
    /// An empty frame that can hold `capacity` bytes of packet after the headroom.
    pub fn with_capacity(capacity: usize) -> Frame {
        Frame {
            buffer: vec![0; HEADROOM + capacity].into_boxed_slice(),
            start: HEADROOM,
            end: HEADROOM,
            offload: Offload::default(),
        }
    }

    /// A frame with a copy of `packet`.
    pub fn from_packet(packet: &[u8]) -> Frame {
        let mut frame = Frame::with_capacity(packet.len());
        frame.replace(packet);
        frame
    }

    /// Without headroom and tailroom.
    pub fn packet(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The packet's bytes, to change in place: the length stays.
    pub fn packet_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Bytes of the packet.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// True for a new frame, or after everything has been stripped.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Everything after the headroom, for a device to write a packet into; report the length with
    /// [`Frame::filled`].
    pub fn space(&mut self) -> &mut [u8] {
        self.space_behind(0)
    }

    /// Like [`Frame::space`], but starts `lead` bytes inside the headroom, for a device that writes its own
    /// header before the packet. `lead` is at most [`HEADROOM`].
    pub fn space_behind(&mut self, lead: usize) -> &mut [u8] {
        &mut self.buffer[HEADROOM - lead..]
    }

    /// Declares that a packet of `length` bytes starts after the headroom.
    pub fn filled(&mut self, length: usize, offload: Offload) {
        self.start = HEADROOM;
        self.end = (HEADROOM + length).min(self.buffer.len());
        self.offload = offload;
    }

    /// Replaces the packet by a copy of `packet`. Allocates only if that does not fit.
    pub fn replace(&mut self, packet: &[u8]) {
        if packet.len() > self.buffer.len() - HEADROOM {
            *self = Frame::with_capacity(packet.len());
        }
        self.buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
        self.filled(packet.len(), Offload::default());
    }

    /// Extends the packet by `length` bytes at its front and returns the whole packet; the new bytes are
    /// undefined. `None` if the headroom is used up.
    pub fn prepend(&mut self, length: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(length)?;
        Some(self.packet_mut())
    }

    /// Removes bytes from the front. More than there are leaves an empty packet.
    pub fn strip_front(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
    }

    /// Shortens the packet to its first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    /// Completes a partial transport checksum in place, as every sender without checksum offload must.
    ///
    /// # Errors
    /// `Checksum` if the offload's positions are outside the packet.
    pub fn complete_checksum(&mut self) -> Result<(), Malformed> {
        let Some(PartialChecksum { start, field }) = self.offload.checksum.take() else { return Ok(()) };
        let (start, field) = (usize::from(start), U16(field.into()));
        let packet = self.packet_mut();
        if start > packet.len() || field.0 < start || !field.is_inside(packet) {
            return Err(Malformed::Checksum);
        }
        let sum = checksum::checksum(&packet[start..]);
        field.write(packet, checksum::never_zero(sum));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepending_keeps_the_packet_and_runs_out_of_headroom() {
        let mut frame = Frame::from_packet(b"packet");
        frame.prepend(2).unwrap()[..2].copy_from_slice(b"<<");
        assert_eq!(frame.packet(), b"<<packet");
        frame.strip_front(2);
        assert_eq!(frame.packet(), b"packet");
        assert!(frame.prepend(HEADROOM + 1).is_none());
    }

    #[test]
    fn cutting_more_than_there_is_leaves_nothing() {
        let mut frame = Frame::from_packet(b"packet");
        frame.truncate(3);
        assert_eq!(frame.packet(), b"pac");
        frame.strip_front(10);
        assert!(frame.is_empty());
    }

    #[test]
    fn a_udp_checksum_of_zero_is_completed_as_all_ones() {
        // Searches for the payload whose checksum is zero; it must be sent as ffff (RFC 768).
        let mut frame = Frame::from_packet(&[0u8; 8]);
        frame.packet_mut()[0] = 0xff;
        frame.packet_mut()[1] = 0xff;
        frame.offload.checksum = Some(PartialChecksum { start: 0, field: 6 });
        frame.complete_checksum().unwrap();
        assert_eq!(U16(6).read(frame.packet()), 0xffff);
    }

    #[test]
    fn positions_outside_the_packet_are_refused() {
        for (start, field) in [(9, 10), (0, 7), (4, 2), (65535, 65535)] {
            let mut frame = Frame::from_packet(&[0u8; 8]);
            frame.offload.checksum = Some(PartialChecksum { start, field });
            assert_eq!(frame.complete_checksum(), Err(Malformed::Checksum), "{start} {field}");
        }
    }
}
