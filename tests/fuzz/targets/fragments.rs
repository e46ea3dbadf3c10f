//! Fragments: what `packet::cut` cuts fits and makes the packet again, and `director::fragment` loses
//! none of those that wait, gives none out twice, and keeps their order.
//!
//! Input: one byte, even: an MTU and a packet to be cut; odd: operations on the memory of fragments.

use std::net::Ipv4Addr;
use std::time::Duration;

use lvs_tund::director::classify::classify;
use lvs_tund::director::fragment::{FragmentFate, Fragments, Waiting};
use lvs_tund::director::real_server::Slot;
use lvs_tund::packet::cut::split;
use lvs_tund::packet::ip::{FragmentId, FragmentKey};
use lvs_tund::packet::ipv4::Ipv4;
use lvs_tund::time::Moment;

use super::input::{Input, mended};

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte().is_multiple_of(2) { cut(&mut input) } else { remember(&mut input) }
}

fn cut(input: &mut Input) {
    let mtu = usize::from(input.word());
    let packet = mended(input.rest());
    // Only what is classified is ever cut.
    if classify(&packet).is_err() {
        return;
    }
    let whole = Ipv4::parse(&packet).expect("classified");
    let Some(fragments) = split(&whole, mtu) else {
        assert!(mtu < 60 + 8, "the longest header and eight bytes fit into {mtu}");
        return;
    };
    let (mut payload, begin) = (Vec::new(), whole.fragment_offset());
    for (index, bytes) in fragments.iter().enumerate() {
        let fragment = Ipv4::parse(bytes).expect("a sound header");
        fragment.check_options().expect("sound options");
        assert!(bytes.len() <= mtu);
        assert_eq!(fragment.fragment_offset(), begin + payload.len());
        assert_eq!(shared(&fragment), shared(&whole));
        let has_more = index + 1 < fragments.len() || whole.has_more_fragments();
        assert_eq!((fragment.has_more_fragments(), fragment.has_dont_fragment()), (has_more, false));
        assert!(index + 1 == fragments.len() || fragment.payload().len().is_multiple_of(8));
        payload.extend_from_slice(fragment.payload());
    }
    assert_eq!(payload, whole.payload());
}

/// The fields by which fragments are known to belong together (RFC 791 §3.2).
fn shared(packet: &Ipv4) -> (Ipv4Addr, Ipv4Addr, u8, u16) {
    (packet.source(), packet.destination(), packet.protocol(), packet.identification())
}

/// The packets that wait are numbers, counted up, so that each is known again.
fn remember(input: &mut Input) {
    let mut fragments = Fragments::new(7);
    let (mut now, mut next) = (Moment::from_secs(1), 0u32);
    let mut waiting: Vec<(FragmentKey, u32)> = Vec::new();
    while !input.is_empty() {
        let (operation, which) = (input.byte(), input.byte());
        let key = FragmentKey {
            source: [10, 0, 0, which & 3].into(),
            destination: [10, 0, 1, 1].into(),
            id: FragmentId { protocol: Some(17), identification: u32::from(which >> 2) },
        };
        match operation % 4 {
            0 => {
                if fragments.hold(key, &next.to_be_bytes(), now) {
                    waiting.push((key, next));
                    next += 1;
                }
            }
            1 => {
                let server = FragmentFate::RealServer(Slot::new(which.into(), 1));
                let released = fragments.learn(key, server, now);
                let expected = waiting.extract_if(.., |(waits_for, _)| *waits_for == key);
                let expected: Vec<_> = expected.map(|(_, number)| held(number)).collect();
                assert_eq!(released, expected, "those of the key, in the order of their arrival");
                assert_eq!(fragments.find(&key, now), Some(server));
            }
            2 => now = now.after(Duration::from_millis(u64::from(which) * 50)),
            _ => give_up(&mut fragments, &mut waiting, now),
        }
        assert_eq!(fragments.held(), waiting.len());
    }
    give_up(&mut fragments, &mut waiting, now.after(Duration::from_secs(1)));
    assert_eq!((fragments.held(), waiting.len()), (0, 0), "nothing waits for ever");
}

fn give_up(fragments: &mut Fragments, waiting: &mut Vec<(FragmentKey, u32)>, now: Moment) {
    while let Some(packet) = fragments.poll_expired(now) {
        let (_, oldest) = waiting.remove(0);
        assert_eq!(packet, held(oldest));
    }
}

fn held(number: u32) -> Waiting {
    Waiting { number: number.into(), packet: number.to_be_bytes().to_vec() }
}
