//! Socket filters in classic BPF (the kernel's Documentation/networking/filter.rst): which packets a raw socket
//! keeps. The filter of a raw socket sees the packet from its IP header on.

use std::collections::BTreeSet;

use socket2::SockFilter;

const LOAD_X_HEADER_LENGTH: u16 = 0xb1;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_BYTE_AT_X: u16 = 0x50;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Behind the IP header: the destination port of UDP, the type of ICMP and the header that it quotes.
const UDP_DESTINATION: u32 = 2;
const ICMP_TYPE: u32 = 0;
const QUOTED_PROTOCOL: u32 = 8 + 9;

const KEEP: SockFilter = SockFilter::new(RETURN, 0, 0, u32::MAX);
const DROP: SockFilter = SockFilter::new(RETURN, 0, 0, 0);

/// Accepts no byte.
pub(super) const KEEP_NOTHING: [SockFilter; 1] = [DROP];

/// UDP datagrams to this port.
pub(super) const fn datagrams_to(port: u16) -> [SockFilter; 5] {
    [
        SockFilter::new(LOAD_X_HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_HALF_AT_X, 0, 0, UDP_DESTINATION),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, port as u32),
        KEEP,
        DROP,
    ]
}

/// ICMP errors (destination unreachable, time exceeded, parameter problem) that quote a packet of one of these
/// protocols.
pub(super) fn errors_about(protocols: &BTreeSet<u8>) -> Vec<SockFilter> {
    // The list is short: one protocol for each encapsulation.
    let count = u8::try_from(protocols.len()).unwrap_or(u8::MAX).min(u8::MAX - 1);
    let mut program = vec![
        SockFilter::new(LOAD_X_HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_BYTE_AT_X, 0, 0, ICMP_TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 2, 0, 3),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, 11),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1 + count, 12),
        SockFilter::new(LOAD_BYTE_AT_X, 0, 0, QUOTED_PROTOCOL),
    ];
    // Each jumps over those behind it and the refusal.
    let comparisons = protocols.iter().zip((1..=count).rev());
    program
        .extend(comparisons.map(|(number, skip)| SockFilter::new(JUMP_IF_EQUAL, skip, 0, (*number).into())));
    program.extend([DROP, KEEP]);
    program
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// Which of these packets the kernel keeps: a filter works alike on every kind of socket.
    fn kept<const N: usize>(filter: &[SockFilter], packets: [Vec<u8>; N]) -> [bool; N] {
        let (sender, receiver) = Socket::pair(Domain::UNIX, Type::DGRAM.nonblocking(), None).unwrap();
        receiver.attach_filter(filter).unwrap();
        packets.map(|packet| {
            sender.send(&packet).unwrap();
            receiver.recv(&mut [MaybeUninit::uninit(); 100]).is_ok()
        })
    }

    /// An IPv4 header of `words` 32-bit words, with this protocol.
    fn header(words: u8, protocol: u8) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(words) * 4];
        (bytes[0], bytes[9]) = (0x40 | words, protocol);
        bytes
    }

    fn error(words: u8, kind: u8, quoted: u8) -> Vec<u8> {
        [header(words, 1), vec![kind, 0, 0, 0, 0, 0, 0, 0], header(5, quoted)].concat()
    }

    #[test]
    fn errors_about_the_carriers_are_kept_and_nothing_else() {
        let one = errors_about(&[4].into());
        let types = [3, 11, 12, 0, 4, 5, 8].map(|kind| error(5, kind, 4));
        assert_eq!(kept(&one, types), [true, true, true, false, false, false, false]);
        assert_eq!(kept(&one, [4, 17, 47].map(|number| error(5, 3, number))), [true, false, false]);
        assert_eq!(kept(&one, [error(6, 3, 4), error(6, 3, 17)]), [true, false], "behind options");
        let three = errors_about(&[4, 17, 47].into());
        for kind in [3, 11, 12] {
            let about = [4, 17, 47, 1, 6, 41].map(|number| error(5, kind, number));
            assert_eq!(kept(&three, about), [true, true, true, false, false, false], "{kind}");
        }
        assert_eq!(kept(&three, [0, 8].map(|kind| error(5, kind, 17))), [false, false]);
        assert_eq!(kept(&errors_about(&BTreeSet::new()), [error(5, 3, 4)]), [false]);
    }

    #[test]
    fn datagrams_to_the_port_are_kept_and_nothing_else() {
        let to = |words, port: u16| [header(words, 17), vec![0x17, 0xc0], port.to_be_bytes().into()].concat();
        let packets = [to(5, 6080), to(6, 6080), to(5, 6081), to(6, 6081), to(5, 6080)[..23].to_vec()];
        assert_eq!(kept(&datagrams_to(6080), packets), [true, true, false, false, false]);
        assert_eq!(kept(&KEEP_NOTHING, [to(5, 6080)]), [false]);
    }
}
