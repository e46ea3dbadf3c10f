//! Real servers go down and come up at random, whatever is configured to happen with their connections: no count is ever
//! lost, and no new connection goes to one that is down.

use std::collections::BTreeMap;
use std::time::Duration;

use lvs_tund::director::cluster::{
    ClusterConfig, EffectiveConfig, EffectiveWeights, HostView, Matcher, Persistence, Ports,
    RealServerConfig, Standing, UnknownTcp, VirtualServiceConfig,
};
use lvs_tund::director::route::FoundBy;
use lvs_tund::director::scheduler::{SCHEDULERS, find};
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::{Tracking, Verdict};
use lvs_tund::health::OnDown;
use lvs_tund::packet::Protocol;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

mod support;

use support::clients::*;
use support::packets::*;
use support::world::World;

const SERVERS: u8 = 4;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Segment {
        client: u32,
        port: u16,
        flags: u8,
    },
    Datagram {
        client: u32,
        port: u16,
    },
    /// The standing of each real server; `None`: as configured.
    Stand(Vec<Option<Standing>>),
    Wait(u64),
    Sweep,
}

fn standing() -> impl Strategy<Value = Option<Standing>> {
    let on_down = select(&[OnDown::Quiesce, OnDown::Drain, OnDown::Remove][..]);
    prop_oneof![
        2 => Just(None),
        1 => (0u32..4).prop_map(|weight| Some(weight.into())),
        3 => on_down.prop_map(|on_down| Some(Standing { weight: 0, on_down: Some(on_down) })),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let flags = select(&[SYN, SYN, SYN, ACK, ACK, ACK | PSH, FIN | ACK, RST][..]);
    prop_oneof![
        12 => (0u32..6, 1u16..5, flags).prop_map(|(client, port, flags)| Step::Segment { client, port, flags }),
        6 => (0u32..6, 1u16..5).prop_map(|(client, port)| Step::Datagram { client, port }),
        3 => vec(standing(), SERVERS as usize).prop_map(Step::Stand),
        2 => select(&[1u64, 11, 61, 130, 1000][..]).prop_map(Step::Wait),
        2 => Just(Step::Sweep),
    ]
}

fn service(scheduler: &'static str, persistence: bool, unknown_tcp: UnknownTcp) -> VirtualServiceConfig {
    let matcher = |protocol| Matcher { protocol, vip: VIP.into(), ports: Ports::one(80) };
    let row = find(scheduler).expect("a scheduler");
    VirtualServiceConfig {
        matchers: vec![matcher(Protocol::Tcp), matcher(Protocol::Udp)],
        persistence: persistence.then(|| Persistence::new(Duration::from_secs(100))),
        unknown_tcp,
        real_servers: (1..=SERVERS).map(|n| RealServerConfig::new(rip(n).into(), 2)).collect(),
        ..VirtualServiceConfig::new("web", Protocol::Tcp, VIP.into(), 80, row)
    }
}

struct Played {
    world: World,
    standings: Vec<Option<Standing>>,
}

impl Played {
    fn on_down(&self, server: u8) -> Option<OnDown> {
        self.standings[usize::from(server) - 1].and_then(|standing| standing.on_down)
    }

    fn stand(&mut self, standings: Vec<Option<Standing>>) {
        let given = standings.iter().enumerate();
        let weights: BTreeMap<_, _> = given
            .filter_map(|(index, standing)| Some((rip(index as u8 + 1).into(), Some((*standing)?))))
            .collect();
        let weights = EffectiveWeights::from([("web".to_owned(), weights)]);
        let config = self.world.cluster.load().config().clone();
        self.standings = standings;
        self.world.succeed(EffectiveConfig { config, weights }, HostView::default());
    }

    /// The real server to which a packet went, if it went to one, fits what is configured for the down ones.
    fn judge(&self, verdict: &Verdict, is_udp: bool, is_begun: bool) {
        let Verdict::Transmit(route) = verdict else { return };
        let server = route.rip.octets()[3];
        // A flow that a flood left without an entry was there before.
        let is_old = route.tracking == Tracking::Known || route.found_by == FoundBy::FloodRecord;
        match self.on_down(server) {
            None => {}
            Some(OnDown::Quiesce) => assert!(is_old && is_begun, "{verdict:?}"),
            Some(OnDown::Drain) => assert!(is_old && is_begun && !is_udp, "{verdict:?}"),
            Some(OnDown::Remove) => panic!("{verdict:?} to real server {server}, which is down"),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Segment { client: number, port, flags } => {
                let flow_before = self.state(number, port);
                let verdict = self.world.tcp(client(number), port, flags);
                let is_established = flow_before.as_deref() == Some("ESTABLISHED");
                self.judge(&verdict, false, flags & SYN == 0 || is_established);
            }
            Step::Datagram { client: number, port } => {
                let verdict = self.world.send(&udp_between(client(number), port, 80, b"x"));
                self.judge(&verdict, true, true);
            }
            Step::Stand(standings) => self.stand(standings),
            Step::Wait(seconds) => self.world.wait(seconds),
            Step::Sweep => self.world.sweep(),
        }
    }

    /// The state of a TCP connection.
    fn state(&self, number: u32, port: u16) -> Option<String> {
        let mut found = None;
        self.world.tables.connections.visit(self.world.now, |connection| {
            let flow = connection.flow;
            if flow.protocol == 6 && flow.client == client(number) && flow.client_port == port {
                found = Some(connection.state.name().to_owned());
            }
        });
        found
    }

    /// Every entry and every template is counted once, with its real server.
    fn assert_counts(&self) {
        self.world.sweep();
        let mut expected: BTreeMap<_, (u32, u32)> = BTreeMap::new();
        self.world.tables.connections.visit(self.world.now, |connection| {
            let counts = expected.entry(connection.real_server).or_default();
            match connection.state.is_active() {
                true => counts.0 += 1,
                false => counts.1 += 1,
            }
        });
        let templates = &self.world.tables.templates;
        let mut pointing: BTreeMap<_, u32> = BTreeMap::new();
        for template in (0..templates.parts()).flat_map(|part| templates.part(part, self.world.now)) {
            *pointing.entry(template.real_server).or_default() += 1;
        }
        for server in self.world.cluster.load().real_servers() {
            let live = &server.live;
            let counts = expected.remove(&server.slot).unwrap_or_default();
            assert_eq!((live.active(), live.inactive()), counts, "{}", server.rip);
            assert_eq!(
                live.persistent(),
                pointing.remove(&server.slot).unwrap_or_default(),
                "{}",
                server.rip
            );
        }
        assert!(expected.is_empty() && pointing.is_empty(), "of no real server: {expected:?} {pointing:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_count_is_lost_and_nothing_new_goes_to_a_real_server_that_is_down(
        steps in vec(step(), 1..120),
        scheduler in select(SCHEDULERS.iter().map(|row| row.name).collect::<Vec<_>>()),
        persistence in any::<bool>(),
        unknown_tcp in select(&[UnknownTcp::Rst, UnknownTcp::Drop][..]),
        floods in any::<bool>(),
    ) {
        let mut world = World::with_tables(vec![service(scheduler, persistence, unknown_tcp)], Tables::new(2000, 7));
        if floods {
            world.change(|config: &mut ClusterConfig| config.new_connections_per_second_max = 2);
        }
        let mut played = Played { world, standings: vec![None; SERVERS.into()] };
        for step in steps {
            played.step(step);
            played.assert_counts();
        }
        played.world.wait(3600);
        played.assert_counts();
        assert!(played.world.tables.connections.is_empty());
    }
}
