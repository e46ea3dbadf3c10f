//! Capture files in the classic pcap format (draft-ietf-opsawg-pcap): 24 bytes of file header, then 16 bytes
//! before each packet. Supported are both byte orders, micro- and nanoseconds, and the link types raw IP,
//! IPv4, IPv6, Ethernet, Linux cooked (both versions) and loopback. Their headers are removed, VLAN tags
//! included.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::{Capture, Outgoing, Transmit};
use crate::packet::Frame;
use crate::packet::frame::PACKET_MAX;
use crate::time::Moment;

const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
/// Link types (draft-ietf-opsawg-pcaplinktype); raw IP also has other numbers on two BSDs.
const LINK_NULL: u32 = 0;
const LINK_ETHERNET: u32 = 1;
const LINK_RAW: [u32; 5] = [12, 14, 101, 228, 229];
const LINK_LOOP: u32 = 108;
const LINK_COOKED: u32 = 113;
const LINK_COOKED_2: u32 = 276;
/// The link type of files written here.
const LINK_RAW_WRITTEN: u32 = 101;
/// A packet record cannot be longer than a packet and its link header.
const RECORD_MAX: usize = PACKET_MAX + 64;

/// Packets of a capture file, one after the other.
pub struct Reader<R> {
    input: R,
    is_big_endian: bool,
    is_nanos: bool,
    link_header: LinkHeader,
    /// The time of the last packet read, since the epoch.
    pub moment: Moment,
}

/// The length before the IP packet, and the position of its EtherType, if there is one.
#[derive(Clone, Copy)]
struct LinkHeader {
    length: usize,
    ethertype_at: Option<usize>,
}

impl LinkHeader {
    fn of(link: u32) -> Option<LinkHeader> {
        let header = |length, ethertype_at| Some(LinkHeader { length, ethertype_at });
        match link {
            LINK_NULL | LINK_LOOP => header(4, None),
            LINK_ETHERNET => header(14, Some(12)),
            LINK_COOKED => header(16, Some(14)),
            LINK_COOKED_2 => header(20, Some(0)),
            link if LINK_RAW.contains(&link) => header(0, None),
            _ => None,
        }
    }

    /// The start of the IP packet; `None` for a frame of another protocol.
    fn ip_at(self, frame: &[u8]) -> Option<usize> {
        let Some(mut at) = self.ethertype_at else {
            return (frame.len() >= self.length).then_some(self.length);
        };
        let mut length = self.length;
        loop {
            match frame.get(at..at + 2)? {
                [0x08, 0x00] | [0x86, 0xdd] => return (frame.len() >= length).then_some(length),
                // IEEE 802.1Q and 802.1ad: four bytes per tag, only after an Ethernet header.
                [0x81, 0x00] | [0x88, 0xa8] if self.length == 14 => {
                    at += 4;
                    length += 4;
                }
                _ => return None,
            }
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read> Reader<R> {
    /// Reads the file header.
    ///
    /// # Errors
    /// `InvalidData` if this is not a pcap file, or has an unsupported link type.
    pub fn new(mut input: R) -> io::Result<Reader<R>> {
        let mut header = [0u8; 24];
        input.read_exact(&mut header).map_err(|_| invalid("not a pcap file: shorter than its header"))?;
        let magic = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let is_big_endian = matches!(magic, MAGIC_MICROS | MAGIC_NANOS);
        let magic = if is_big_endian { magic } else { magic.swap_bytes() };
        if !matches!(magic, MAGIC_MICROS | MAGIC_NANOS) {
            return Err(invalid("not a pcap file (convert pcapng with `editcap -F pcap IN OUT`)"));
        }
        let link = number(is_big_endian, &header[20..24]) & 0x0fff_ffff;
        let link_header = LinkHeader::of(link).ok_or_else(|| {
            invalid(&format!(
                "link type {link} is not supported; capture on another interface, such as `-i eth0`"
            ))
        })?;
        let is_nanos = magic == MAGIC_NANOS;
        Ok(Reader { input, is_big_endian, is_nanos, link_header, moment: Moment::ZERO })
    }

    /// The next IP packet; frames without IP are skipped. `None` at the end.
    ///
    /// # Errors
    /// `InvalidData` for a record that is truncated or too long.
    pub fn next_packet(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut record = [0u8; 16];
            match self.input.read(&mut record[..1])? {
                0 => return Ok(None),
                _ => self
                    .input
                    .read_exact(&mut record[1..])
                    .map_err(|_| invalid("the last record is truncated"))?,
            }
            let length = number(self.is_big_endian, &record[8..12]) as usize;
            if length > RECORD_MAX {
                return Err(invalid("a record is longer than any packet"));
            }
            let mut bytes = vec![0u8; length];
            self.input.read_exact(&mut bytes).map_err(|_| invalid("the last record is truncated"))?;
            let fraction = u64::from(number(self.is_big_endian, &record[4..8]));
            let nanos = if self.is_nanos { fraction } else { fraction * 1000 };
            let seconds = u64::from(number(self.is_big_endian, &record[0..4]));
            self.moment = Moment::from_nanos(seconds * 1_000_000_000 + nanos);
            if let Some(at) = self.link_header.ip_at(&bytes) {
                return Ok(Some(bytes.split_off(at)));
            }
        }
    }
}

fn number(is_big_endian: bool, bytes: &[u8]) -> u32 {
    let word = [bytes[0], bytes[1], bytes[2], bytes[3]];
    if is_big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}

impl<R: Read> Capture for Reader<R> {
    fn capture(&mut self, frames: &mut [Frame]) -> io::Result<usize> {
        for (index, frame) in frames.iter_mut().enumerate() {
            match self.next_packet()? {
                Some(packet) => frame.replace(&packet),
                None => return Ok(index),
            }
        }
        Ok(frames.len())
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Writes a capture file of raw IP packets with nanosecond times.
pub struct Writer<W> {
    output: W,
    /// The time of the next packets, since the epoch.
    pub moment: Moment,
}

impl<W: Write> Writer<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// An error of the output.
    pub fn new(mut output: W) -> io::Result<Writer<W>> {
        output.write_all(&MAGIC_NANOS.to_be_bytes())?;
        // Version 2.4, no time zone, no accuracy.
        output.write_all(&[0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0])?;
        output.write_all(&length_word(PACKET_MAX).to_be_bytes())?;
        output.write_all(&LINK_RAW_WRITTEN.to_be_bytes())?;
        Ok(Writer { output, moment: Moment::ZERO })
    }

    /// Appends one packet.
    ///
    /// # Errors
    /// An error of the output.
    pub fn write_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        let since_epoch = Duration::from_nanos(self.moment.as_nanos());
        // The field ends in the year 2106.
        let seconds = u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX);
        let length = length_word(packet.len());
        let words = [seconds, since_epoch.subsec_nanos(), length, length];
        for word in words {
            self.output.write_all(&word.to_be_bytes())?;
        }
        self.output.write_all(packet)
    }

    /// Flushes the output.
    ///
    /// # Errors
    /// An error of the output.
    pub fn finish(mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn length_word(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl<W: Write> Transmit for Writer<W> {
    fn transmit(
        &mut self,
        frames: &mut [Frame],
        outgoing: &[Outgoing],
        on_failure: &mut dyn FnMut(usize, io::Error),
    ) {
        for (position, packet) in outgoing.iter().enumerate() {
            if let Err(error) = self.write_packet(frames[packet.frame].packet()) {
                on_failure(position, error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file).unwrap();
        writer.moment = Moment::from_nanos(1_700_000_000_123_456_789);
        writer.write_packet(b"first").unwrap();
        writer.write_packet(b"second").unwrap();
        let mut reader = Reader::new(&file[..]).unwrap();
        assert_eq!(reader.next_packet().unwrap().unwrap(), b"first");
        assert_eq!(reader.moment, Moment::from_nanos(1_700_000_000_123_456_789));
        assert_eq!(reader.next_packet().unwrap().unwrap(), b"second");
        assert!(reader.next_packet().unwrap().is_none());
    }

    #[test]
    fn ethernet_headers_are_removed_and_arp_is_skipped() {
        let mut file =
            vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];
        for ethertype in [[0x08u8, 0x06], [0x08, 0x00]] {
            let mut packet = vec![0u8; 12];
            packet.extend(ethertype);
            packet.extend(b"ip");
            file.extend(1u32.to_le_bytes());
            file.extend(2u32.to_le_bytes());
            file.extend(u32::try_from(packet.len()).unwrap().to_le_bytes());
            file.extend(u32::try_from(packet.len()).unwrap().to_le_bytes());
            file.extend(packet);
        }
        let mut reader = Reader::new(&file[..]).unwrap();
        assert_eq!(reader.next_packet().unwrap().unwrap(), b"ip");
        assert_eq!(reader.moment, Moment::from_nanos(1_000_002_000));
        assert!(reader.next_packet().unwrap().is_none());
    }

    #[test]
    fn the_header_of_every_link_type_is_removed() {
        let rows: [(u32, Vec<u8>); 7] = [
            (101, Vec::new()),
            (12, Vec::new()),
            (0, vec![2, 0, 0, 0]),
            (1, [&[0; 12][..], &[0x08, 0x00]].concat()),
            (1, [&[0; 12][..], &[0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 9, 0x08, 0x00]].concat()),
            (113, [&[0; 14][..], &[0x08, 0x00]].concat()),
            (276, [&[0x08, 0x00][..], &[0; 18]].concat()),
        ];
        for (link, header) in rows {
            let frame = [&header[..], b"ip"].concat();
            let at = LinkHeader::of(link).and_then(|link| link.ip_at(&frame));
            assert_eq!(at, Some(header.len()), "link type {link}");
            // A truncated header gives no packet, and no panic.
            for length in 0..header.len() {
                LinkHeader::of(link).and_then(|link| link.ip_at(&frame[..length]));
            }
        }
        assert!(LinkHeader::of(105).is_none(), "802.11 is not known");
    }

    #[test]
    fn garbage_and_truncated_files_are_refused() {
        assert!(Reader::new(&b"not a capture, surely not"[..]).is_err());
        let mut file = Vec::new();
        Writer::new(&mut file).unwrap().write_packet(b"packet").unwrap();
        for cut in 25..file.len() {
            assert!(Reader::new(&file[..cut]).unwrap().next_packet().is_err(), "{cut}");
        }
    }
}
