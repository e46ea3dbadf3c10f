//! Operations at random, of few enough services and real servers that they meet.

use std::net::{IpAddr, Ipv4Addr};

use lvs_tund::control::model::{
    AfterDrain, Matcher, OnRemoved, Operation, Persistence, Port, Protocol, RealServerEdit, RealServerSpec,
    Seconds, ServiceRef, TimeoutsSpec, UnknownTcp, VirtualServiceEdit, VirtualServiceSpec,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let vip = prop_oneof![40 => (1u8..3).prop_map(vip), 1 => Just("2001:db8::1".parse().unwrap())];
    // The last two overlap without one inside the other.
    let port = prop_oneof![6 => Just("80"), 3 => Just("443"), 3 => Just("all"), 1 => Just("80-90"), 1 => Just("85-95")];
    (select(&[Protocol::Tcp, Protocol::Udp][..]), vip, port).prop_map(|(protocol, vip, port)| Matcher {
        protocol,
        vip,
        port: Port(port.parse().unwrap()),
    })
}

fn vip(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn rip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        30 => (1u8..5).prop_map(|last| Ipv4Addr::new(10, 0, 0, last).into()),
        1 => Just(vip(1)),
        1 => Just("2001:db8::2".parse().unwrap()),
    ]
}

fn service() -> impl Strategy<Value = ServiceRef> {
    let name = prop_oneof![6 => word(SERVICE_NAMES), 1 => word(&["tcp-192.0.2.1-80", "udp-192.0.2.2-all"])];
    prop_oneof![1 => matcher().prop_map(ServiceRef::Matcher), 2 => name.prop_map(ServiceRef::Name)]
}

/// A RIP, or the name that an edit may have given.
fn real_server() -> impl Strategy<Value = String> {
    prop_oneof![4 => rip().prop_map(|rip| rip.to_string()), 1 => word(SERVER_NAMES)]
}

const SERVICE_NAMES: &[&str] = &["web", "api", "www"];
const SERVER_NAMES: &[&str] = &["server1", "server2"];
const SCHEDULERS: &[&str] = &["rr", "wlc", "mh", "sh", "mh", "sh", "mh", "sh", "nosuch"];

fn scheduler_flags() -> impl Strategy<Value = Vec<String>> {
    vec(word(&["mh-port", "mh-fallback", "sh-port", "sh-fallback"]), 0..3)
}

fn table_size() -> impl Strategy<Value = u32> {
    select(&[251u32, 509, 65_537, 500][..])
}

fn persistence() -> impl Strategy<Value = Persistence> {
    let timeout = select(&[1u64, 300, 600, 900, 1200, 0][..]).prop_map(Seconds::new);
    (timeout, select(&[1u8, 8, 16, 24, 32, 33][..]), any::<bool>())
        .prop_map(|(timeout, prefix, expire_quiesced)| Persistence { timeout, prefix, expire_quiesced })
}

fn timeouts() -> impl Strategy<Value = TimeoutsSpec> {
    let timeout = || option::weighted(0.2, prop_oneof![20 => 1u64..100, 1 => Just(0), 1 => Just(2_678_401)]);
    (timeout(), timeout(), timeout()).prop_map(|(tcp, tcp_fin, udp)| TimeoutsSpec {
        tcp: tcp.map(Seconds::new),
        tcp_fin: tcp_fin.map(Seconds::new),
        udp: udp.map(Seconds::new),
    })
}

fn unknown_tcp() -> impl Strategy<Value = UnknownTcp> {
    select(&[UnknownTcp::Rst, UnknownTcp::Drop, UnknownTcp::Schedule][..])
}

fn on_removed() -> impl Strategy<Value = OnRemoved> {
    select(&[OnRemoved::Reschedule, OnRemoved::Drop, OnRemoved::Keep][..])
}

/// Each field is set now and then.
fn edit() -> impl Strategy<Value = VirtualServiceEdit> {
    let first = (
        option::weighted(0.2, word(SERVICE_NAMES)),
        option::weighted(0.15, vec(matcher(), 0..3)),
        option::weighted(0.25, word(SCHEDULERS)),
        option::weighted(0.1, scheduler_flags()),
        option::weighted(0.1, table_size()),
        option::weighted(0.15, option::of(persistence())),
    );
    let rest = (
        option::weighted(0.1, any::<bool>()),
        option::weighted(0.2, unknown_tcp()),
        option::weighted(0.2, on_removed()),
        timeouts(),
    );
    (first, rest).prop_map(|(first, rest)| {
        let (name, matchers, scheduler, scheduler_flags, mh_table_size, persistence) = first;
        let (one_packet, unknown_tcp, on_removed, timeouts) = rest;
        VirtualServiceEdit {
            name,
            matchers,
            scheduler,
            scheduler_flags,
            mh_table_size,
            persistence,
            one_packet,
            unknown_tcp,
            on_removed,
            timeouts,
            ..VirtualServiceEdit::default()
        }
    })
}

fn spec() -> impl Strategy<Value = VirtualServiceSpec> {
    // More is omitted than in an edit, so that most of them are good.
    let matchers = prop_oneof![6 => vec(matcher(), 1), 2 => vec(matcher(), 2), 1 => vec(matcher(), 0)];
    let sparse = prop_oneof![2 => Just(VirtualServiceEdit::default()), 1 => edit()];
    (option::of(word(SERVICE_NAMES)), matchers, sparse, vec(real_server_spec(), 0..3)).prop_map(
        |(name, matchers, edit, real_servers)| VirtualServiceSpec {
            name,
            matchers,
            scheduler: edit.scheduler,
            scheduler_flags: edit.scheduler_flags.unwrap_or_default(),
            mh_table_size: edit.mh_table_size,
            persistence: edit.persistence.flatten(),
            one_packet: edit.one_packet.unwrap_or_default(),
            unknown_tcp: edit.unknown_tcp,
            on_removed: edit.on_removed,
            timeouts: edit.timeouts,
            real_servers,
            ..VirtualServiceSpec::default()
        },
    )
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![10 => 0u32..10, 1 => Just(65_535), 1 => Just(65_536)]
}

fn server_edit() -> impl Strategy<Value = RealServerEdit> {
    (
        option::weighted(0.3, word(SERVER_NAMES)),
        option::weighted(0.2, weight()),
        option::weighted(0.3, 0u32..20),
        option::weighted(0.2, 0u32..10),
        option::weighted(0.3, option::of(select(&[88u16, 1400, 65_535, 87][..]))),
        option::weighted(0.1, word(&["ipip", "ipip", "nosuch"])),
    )
        .prop_map(|(name, weight, upper_threshold, lower_threshold, path_mtu, encapsulation)| {
            let edit = RealServerEdit::default();
            RealServerEdit { name, weight, upper_threshold, lower_threshold, path_mtu, encapsulation, ..edit }
        })
}

fn real_server_spec() -> impl Strategy<Value = RealServerSpec> {
    let sparse = prop_oneof![2 => Just(RealServerEdit::default()), 1 => server_edit()];
    (rip(), sparse).prop_map(|(rip, edit)| RealServerSpec {
        rip,
        name: edit.name,
        weight: edit.weight,
        upper_threshold: edit.upper_threshold,
        lower_threshold: edit.lower_threshold,
        path_mtu: edit.path_mtu.flatten(),
        encapsulation: edit.encapsulation,
        check: None,
        sorry: false,
    })
}

pub fn operation() -> impl Strategy<Value = Operation> {
    let anywhere = || option::of(service());
    let then = select(&[AfterDrain::Remove, AfterDrain::Keep][..]);
    let deadline = option::of((1u64..100).prop_map(Seconds::new));
    prop_oneof![
        8 => spec().prop_map(|virtual_service| Operation::AddVirtualService { virtual_service }),
        8 => (service(), edit())
            .prop_map(|(virtual_service, set)| Operation::EditVirtualService { virtual_service, set }),
        1 => service().prop_map(|virtual_service| Operation::RemoveVirtualService { virtual_service }),
        6 => (service(), real_server_spec()).prop_map(|(virtual_service, real_server)| {
            Operation::AddRealServer { virtual_service, real_server }
        }),
        2 => (service(), real_server()).prop_map(|(virtual_service, real_server)| {
            Operation::RemoveRealServer { virtual_service, real_server }
        }),
        4 => (service(), real_server(), server_edit()).prop_map(|(virtual_service, real_server, set)| {
            Operation::EditRealServer { virtual_service, real_server, set }
        }),
        3 => (anywhere(), real_server(), weight()).prop_map(|(virtual_service, real_server, weight)| {
            Operation::SetWeight { virtual_service, real_server, weight }
        }),
        5 => (anywhere(), real_server(), deadline, then).prop_map(
            |(virtual_service, real_server, timeout, then)| {
                Operation::Drain { virtual_service, real_server, timeout, then }
            }
        ),
        2 => (anywhere(), real_server()).prop_map(|(virtual_service, real_server)| {
            Operation::Undrain { virtual_service, real_server }
        }),
        2 => (anywhere(), real_server()).prop_map(|(virtual_service, real_server)| {
            Operation::Disable { virtual_service, real_server }
        }),
        2 => (anywhere(), real_server()).prop_map(|(virtual_service, real_server)| {
            Operation::Enable { virtual_service, real_server }
        }),
        2 => timeouts().prop_map(|timeouts| Operation::SetTimeouts { timeouts }),
        3 => anywhere().prop_map(|virtual_service| Operation::Zero { virtual_service }),
        1 => Just(Operation::Flush {}),
    ]
}

pub fn operations(count: usize) -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), 0..count)
}
