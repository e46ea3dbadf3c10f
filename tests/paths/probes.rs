//! Reports of a narrower path that are forged, and those that a probe confirms.

use std::time::Duration;

use etherparse::{IpNumber, Ipv4Header};
use lvs_tund::director::path_errors::{Event, Handled, Outcome, report_about};
use lvs_tund::time::Moment;

use crate::bed::*;
use crate::support::packets::*;
use crate::support::world::World;

/// The 28 bytes that a forger needs: the addresses of a director and a real server.
fn forged() -> PathError {
    too_big(576, outer_of(&big())).quoting(28)
}

impl World {
    fn report(&mut self, message: &[u8], now: Moment) -> Handled {
        self.errors.handle_packet(message, now)
    }
}

fn probe_of(handled: &Handled) -> Vec<u8> {
    let (probe, to) = handled.probe.clone().expect("a probe");
    assert_eq!((handled.outcome, to), (Outcome::Unconfirmed, SERVER2.into()));
    assert!(handled.answer.is_none() && handled.event.is_none());
    assert!(handled.real_server.is_some(), "it is counted for the real server");
    probe
}

#[test]
fn a_forged_report_costs_one_probe_a_second_and_changes_nothing() {
    let mut world = world();
    let message = forged().bytes();
    let mut probes = 0;
    for ms in (0..10_000).step_by(10) {
        let handled = world.report(&message, NOW.after(Duration::from_millis(ms)));
        assert!(handled.answer.is_none() && handled.event.is_none(), "{handled:?}");
        probes += u32::from(handled.probe.is_some());
    }
    assert_eq!((probes, world.path_mtu(SERVER2, NOW)), (10, 1500));
}

#[test]
fn a_probe_is_a_ping_of_the_vip_through_the_tunnel_as_large_as_the_quoted_packet() {
    for (length, expected) in [(1500, 1500), (1400, 1400), (9000, 1500)] {
        let report = too_big(1300, outer_of(&big())).bytes();
        let message = changed(&report, |bytes| bytes[30..32].copy_from_slice(&u16::to_be_bytes(length)));
        let message = resummed(&message);
        let probe = probe_of(&world().report(&message, NOW));
        assert_eq!(probe.len(), expected, "about {length} bytes");
        let (outer, inner) = Ipv4Header::from_slice(&probe).unwrap();
        assert_eq!(outer.header_checksum, outer.calc_header_checksum());
        assert_eq!((outer.protocol, outer.dont_fragment), (IpNumber::IPV4, true));
        assert_eq!((outer.time_to_live, probe[28]), (64, 64));
        assert_eq!((outer.source, outer.destination), (DIRECTOR.octets(), SERVER2.octets()));
        let (inner, ping) = Ipv4Header::from_slice(inner).unwrap();
        assert_eq!((inner.source, inner.destination), (DIRECTOR.octets(), VIP.octets()));
        assert_eq!(inner.header_checksum, inner.calc_header_checksum());
        assert_eq!((ping[0], checksum(ping), ping.len() + 40), (8, 0, expected));
    }
}

/// Rewrites the checksums of a report whose quotation was changed.
fn resummed(report: &[u8]) -> Vec<u8> {
    changed(report, |bytes| {
        let sum = checksum(&[&bytes[20..22], &[0, 0], &bytes[24..]].concat());
        bytes[22..24].copy_from_slice(&sum.to_be_bytes());
    })
}

#[test]
fn a_report_about_the_probe_is_accepted_and_nothing_like_it() {
    let about_probe = |change: &dyn Fn(&mut [u8])| {
        let mut world = world();
        let report = forged().bytes();
        let mut probe = probe_of(&world.report(&report, NOW));
        change(&mut probe);
        let handled = world.report(&report_about(&probe, &report).unwrap(), NOW);
        (handled.outcome, handled.event, world.path_mtu(SERVER2, NOW))
    };
    let accepted = Some(Event::MtuLowered { rip: SERVER2, mtu: 576 });
    assert_eq!(about_probe(&|_| {}), (Outcome::Noted, accepted, 576));
    // A byte of either identification.
    for byte in [4, 5, 24, 25] {
        let handled = about_probe(&|probe| probe[byte] ^= 1);
        assert_eq!(handled, (Outcome::Unconfirmed, None, 1500), "byte {byte}");
    }
}

#[test]
fn a_report_of_what_the_link_takes_lowers_nothing() {
    let mut world = world();
    let report = too_big(1400, outer_of(&big())).bytes();
    let mut probe = probe_of(&world.report(&report, NOW));
    // A router that quotes a longer packet than was sent.
    probe[2..4].copy_from_slice(&9000u16.to_be_bytes());
    let message = changed(&report_about(&probe, &report).unwrap(), |bytes| {
        bytes[26..28].copy_from_slice(&1500u16.to_be_bytes());
    });
    let handled = world.report(&resummed(&message), NOW);
    assert_eq!(
        (handled.outcome, handled.event, world.path_mtu(SERVER2, NOW)),
        (Outcome::Ignored, None, 1500)
    );
}

#[test]
fn a_report_is_accepted_once_and_within_five_seconds() {
    for (ms, mtu) in [(0, 576), (4999, 576), (5000, 1500)] {
        let mut world = world();
        let report = forged().bytes();
        let probe = probe_of(&world.report(&report, NOW));
        let about = report_about(&probe, &report).unwrap();
        let later = NOW.after(Duration::from_millis(ms));
        world.report(&about, later);
        assert_eq!(world.path_mtu(SERVER2, later), mtu, "after {ms} ms");
        let again = world.report(&about, later.after(Duration::from_secs(1)));
        assert!(again.event.is_none(), "{again:?}");
    }
}

#[test]
fn the_sender_of_the_reported_packet_is_notified_when_the_probe_comes_back() {
    let mut world = world();
    let report = too_big(1400, outer_of(&big())).bytes();
    // The first report quotes too little of its packet, and the probe for it is in flight.
    let probe = probe_of(&world.report(&too_big(1400, outer_of(&big())).quoting(28).bytes(), NOW));
    assert!(world.report(&report, NOW).probe.is_none(), "one probe a second");
    let handled = world.report(&report_about(&probe, &report).unwrap(), NOW);
    assert_eq!(handled.outcome, Outcome::Relayed);
    let (answer, to) = handled.answer.expect("an error for the client");
    assert_eq!((to, told(&answer, &big())), (CLIENT.into(), fits(1380)));
    // The path is known: the next sender is notified without a probe.
    let handled = world.report(&report, NOW);
    assert!(handled.probe.is_none() && handled.answer.is_some());
}

#[test]
fn a_report_that_cannot_be_probed_is_not_accepted() {
    let mut world = world();
    // Quoted as too small for a ping inside it.
    let tiny = changed(&forged().bytes(), |bytes| {
        bytes[30..32].copy_from_slice(&[0, 47]);
        bytes[26..28].copy_from_slice(&[0, 40]);
    });
    let handled = world.report(&resummed(&tiny), NOW);
    assert_eq!((handled.outcome, handled.probe), (Outcome::Unconfirmed, None));
    assert!(report_about(&[0x45; 27], &forged().bytes()).is_none());
}
