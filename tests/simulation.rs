//! A seeded world against a plain model: clients, real servers that come and go, weights, floods, time.
//!
//! The model states the rules of IPVS for states and reuse (ip_vs_proto_tcp.c, ip_vs_core.c) in a `BTreeMap` and a few lines; after every
//! step the director must agree with it. `LVS_TUND_SEEDS` sets how many seeds are tried (default 256),
//! `LVS_TUND_SEED` replays one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use lvs_tund::director::cluster::grace::GRACE;
use lvs_tund::director::cluster::{Persistence, UnknownTcp};
use lvs_tund::director::real_server::Slot;
use lvs_tund::director::scheduler::SCHEDULERS;
use lvs_tund::director::verdict::{DropReason, Tracking, Verdict};
use lvs_tund::time::Moment;

mod support;

use support::clients::*;
use support::packets::*;
use support::world::World;

const STEPS: usize = 600;
const SERVERS_MAX: u8 = 6;
const CONNECTIONS_MAX: usize = 60;
const UPPER_THRESHOLD: u32 = 12;
const FLOOD_LIMIT: u32 = 5;
/// How long a flow is remembered without an entry.
const FLOOD_MEMORY: Duration = Duration::from_secs(10);
const PERSISTENCE: Duration = Duration::from_secs(100);

/// xorshift64*: chance that a seed repeats.
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    SynRecv,
    Established,
    FinWait,
    TimeWait,
    Close,
}

use State::{Close, Established, FinWait, SynRecv, TimeWait};

/// The reachable part of the one-way table, written down a second time.
fn next(state: Option<State>, flags: u8) -> State {
    let (rst, syn, fin) = (flags & RST != 0, flags & SYN != 0, flags & FIN != 0);
    match state {
        None if syn => SynRecv,
        None if fin => Close,
        None => Established,
        Some(SynRecv) if rst || syn => SynRecv,
        Some(_) if rst => Close,
        Some(Established) if syn => Established,
        Some(_) if syn => SynRecv,
        Some(SynRecv) if fin => TimeWait,
        Some(SynRecv) => Established,
        Some(Established) if fin => FinWait,
        Some(other) => other,
    }
}

fn timeout(state: State) -> Duration {
    Duration::from_secs(match state {
        SynRecv => 60,
        Established => 900,
        FinWait | TimeWait => 120,
        Close => 10,
    })
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    server: u8,
    state: State,
    deadline: Moment,
}

type Flow = (Ipv4Addr, u16);

/// What the world should be like.
#[derive(Default)]
struct Model {
    entries: BTreeMap<Flow, Entry>,
    /// Real server → weight.
    servers: BTreeMap<u8, u32>,
    /// Real servers that were removed, and until when their connections wait for them.
    awaited: BTreeMap<u8, Moment>,
    /// Client → where its last new connection went, and until when at least it goes there again.
    templates: BTreeMap<Ipv4Addr, (u8, Moment)>,
    /// Flows that a flood left without an entry: where they go, and until when that is remembered. A real server
    /// that left and came back is the same one if it has the same slot.
    flooded: BTreeMap<Flow, (u8, Slot, Moment)>,
    connections_total: u64,
}

impl Model {
    /// The live entry that a packet must follow.
    fn known(&self, flow: Flow, flags: u8, is_persistent: bool, now: Moment) -> Option<Entry> {
        let entry = *self.entries.get(&flow)?;
        let weight = *self.servers.get(&entry.server)?;
        let is_syn = flags & SYN != 0;
        let is_reuse = is_syn && !is_persistent && matches!(entry.state, FinWait | TimeWait);
        let is_quiesced_reuse = is_syn && weight == 0 && !matches!(entry.state, SynRecv | Established);
        (entry.deadline > now && !is_reuse && !is_quiesced_reuse).then_some(entry)
    }

    fn advance(&mut self, flow: Flow, server: u8, before: Option<Entry>, flags: u8, now: Moment) {
        let state = next(before.map(|entry| entry.state), flags);
        let mut deadline = now.after(timeout(state));
        if let Some(before) = before.filter(|_| flags & RST != 0) {
            deadline = deadline.min(before.deadline);
        }
        self.entries.insert(flow, Entry { server, state, deadline });
        self.connections_total += u64::from(before.is_none());
    }

    fn forget_expired(&mut self, now: Moment) {
        let servers = &self.servers;
        let awaited = &self.awaited;
        let waits = |server: &u8| awaited.get(server).is_some_and(|until| *until > now);
        self.entries.retain(|_, entry| {
            entry.deadline > now && (servers.contains_key(&entry.server) || waits(&entry.server))
        });
    }

    /// Whether a packet is dropped in silence, because the server of its connection may come back.
    fn waits(&self, flow: Flow, flags: u8, now: Moment) -> bool {
        let Some(entry) = self.entries.get(&flow).filter(|entry| entry.deadline > now) else { return false };
        let is_again = flags & SYN != 0 && entry.state != Established;
        !is_again && self.awaited.get(&entry.server).is_some_and(|until| *until > now)
    }

    fn counts(&self, server: u8) -> (u32, u32) {
        let of = |is_active| {
            let counted = |entry: &&Entry| {
                entry.server == server && matches!(entry.state, SynRecv | Established) == is_active
            };
            self.entries.values().filter(counted).count() as u32
        };
        (of(true), of(false))
    }

    /// The real server that a persistent client must get: its template is there, which lasts as long as any of its
    /// connections.
    fn server_of_client(&self, client: Ipv4Addr, now: Moment) -> Option<u8> {
        let (server, until) = self.templates.get(&client)?;
        let lives = self.entries.iter().any(|((other, _), entry)| *other == client && entry.deadline > now);
        ((*until > now || lives) && self.servers.contains_key(server)).then_some(*server)
    }
}

struct Simulation {
    world: World,
    model: Model,
    luck: Luck,
    is_persistent: bool,
    received: u64,
    fates: BTreeMap<&'static str, u64>,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut luck = Luck(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let row = &SCHEDULERS[luck.below(SCHEDULERS.len() as u64) as usize];
        let is_persistent = luck.one_in(3);
        let mut service = web(row.name, &[]);
        service.unknown_tcp = UnknownTcp::Rst;
        service.persistence = is_persistent.then(|| Persistence::new(PERSISTENCE));
        let mut simulation = Simulation {
            world: World::limited(vec![service], CONNECTIONS_MAX),
            model: Model::default(),
            luck,
            is_persistent,
            received: 0,
            fates: BTreeMap::new(),
        };
        if !is_persistent && simulation.luck.one_in(2) {
            simulation.world.change(|config| config.new_connections_per_second_max = FLOOD_LIMIT);
        }
        (0..3).for_each(|_| simulation.change_cluster());
        simulation
    }

    fn step(&mut self) {
        match self.luck.below(100) {
            0..80 => self.packet(),
            80..88 => {
                let secs = [1, 5, 30, 61, 121][self.luck.below(5) as usize];
                self.world.wait(secs);
            }
            88..92 => self.sweep(),
            92..97 => self.change_cluster(),
            _ => self.flood(),
        }
        assert!(self.world.tables.connections.len() <= CONNECTIONS_MAX);
    }

    fn packet(&mut self) {
        let flow = (client(self.luck.below(12) as u32), 1 + self.luck.below(6) as u16);
        let kinds = [SYN, SYN, SYN, ACK, ACK, ACK, ACK | PSH, FIN | ACK, RST, 0];
        let flags = kinds[self.luck.below(kinds.len() as u64) as usize];
        self.send(flow, flags);
    }

    /// Sends one packet and holds the verdict against the model.
    fn send(&mut self, flow: Flow, flags: u8) {
        let now = self.world.now;
        if self.model.waits(flow, flags, now) {
            let verdict = self.world.tcp(flow.0, flow.1, flags);
            self.count(&verdict);
            return assert_eq!(verdict, Verdict::Drop(DropReason::ConnectionWaits));
        }
        let known = self.model.known(flow, flags, self.is_persistent, now);
        if known.is_none() {
            self.model.entries.remove(&flow);
        }
        let expected_client = self.model.server_of_client(flow.0, now);
        let verdict = self.world.tcp(flow.0, flow.1, flags);
        self.count(&verdict);
        if let Some(entry) = known {
            assert_eq!(server_of(&verdict), Ok(entry.server), "a connection keeps its server");
            assert_eq!(tracking_of(&verdict), Tracking::Known);
            if flags != 0 {
                self.model.advance(flow, entry.server, Some(entry), flags, now);
            } else if let Some(entry) = self.model.entries.get_mut(&flow) {
                entry.deadline = now.after(timeout(entry.state));
            }
            return;
        }
        let recalled = self.model.flooded.get(&flow).copied();
        if flags & SYN == 0 && recalled.is_some_and(|(_, slot, until)| until > now && self.is_awaited(slot)) {
            return assert_eq!(verdict, Verdict::Drop(DropReason::ConnectionWaits));
        }
        let recalled =
            recalled.filter(|(server, slot, until)| *until > now && self.slot_of(*server) == Some(*slot));
        if let Some((server, ..)) = recalled.filter(|_| flags != 0) {
            return self.follow_flooded(flow, flags, server, &verdict);
        }
        if flags & SYN == 0 {
            let expected = if flags == 0 { DropReason::BadTcpFlags } else { DropReason::NoConnection };
            assert_eq!(reason_of(&verdict), Some(expected), "nothing begins without a SYN");
            return;
        }
        match server_of(&verdict) {
            Ok(server) => {
                let weight = self.model.servers.get(&server).copied();
                let last = self.model.templates.get(&flow.0).map(|(last, _)| *last);
                let is_by_template = self.is_persistent && last == Some(server);
                assert!(
                    is_by_template || weight.is_some_and(|weight| weight > 0),
                    "{server} may take nothing"
                );
                if let Some(expected) = expected_client.filter(|_| self.is_persistent) {
                    assert_eq!(server, expected, "a persistent client keeps its server");
                }
                match tracking_of(&verdict) {
                    Tracking::New => {
                        self.model.advance(flow, server, None, flags, now);
                        self.model.templates.insert(flow.0, (server, now.after(PERSISTENCE)));
                    }
                    Tracking::Flood => self.remember_flooded(flow, &verdict),
                    other => panic!("{other:?}: unknown_tcp is rst, so that even a hash needs an entry"),
                }
            }
            Err(Verdict::Drop(DropReason::TableFull)) => {
                assert_eq!(self.world.tables.connections.len(), CONNECTIONS_MAX);
            }
            Err(refused) => assert_eq!(reason_of(&refused), Some(DropReason::NoRealServer)),
        }
    }

    /// A flow without an entry keeps its server too, and gets an entry when the flood is over.
    fn follow_flooded(&mut self, flow: Flow, flags: u8, server: u8, verdict: &Verdict) {
        let now = self.world.now;
        match server_of(verdict) {
            Ok(found) => assert_eq!(found, server, "a flooded connection keeps its server"),
            Err(Verdict::Drop(DropReason::TableFull)) => return,
            Err(other) => panic!("{other:?}"),
        }
        match tracking_of(verdict) {
            Tracking::New => self.model.advance(flow, server, None, flags, now),
            Tracking::Flood => self.remember_flooded(flow, verdict),
            Tracking::None => assert_eq!(flags & RST, RST, "a reset begins nothing"),
            Tracking::Known => panic!("there was no entry"),
        }
    }

    fn remember_flooded(&mut self, flow: Flow, verdict: &Verdict) {
        let Verdict::Transmit(route) = verdict else { panic!("{verdict:?}") };
        let server = server_of(verdict).expect("it was transmitted");
        let until = self.world.now.after(FLOOD_MEMORY);
        self.model.flooded.insert(flow, (server, route.real_server, until));
    }

    /// The slot of a real server that is in the configuration.
    fn slot_of(&self, server: u8) -> Option<Slot> {
        let cluster = self.world.cluster.load();
        let service = cluster.virtual_services().next().expect("a service");
        service.real_servers.iter().find(|found| found.rip == rip(server)).map(|found| found.slot)
    }

    fn is_awaited(&self, slot: Slot) -> bool {
        self.world.cluster.load().awaited().contains(&slot)
    }

    fn count(&mut self, verdict: &Verdict) {
        self.received += 1;
        let fate = match verdict {
            Verdict::Transmit(_) => "transmitted",
            Verdict::Reply(_) => "replied",
            Verdict::Pass => "passed",
            Verdict::Hold => "held",
            Verdict::Drop(reason) => reason.label(),
        };
        *self.fates.entry(fate).or_default() += 1;
    }

    /// A real server comes, leaves, or gets another weight.
    fn change_cluster(&mut self) {
        let server = 1 + self.luck.below(SERVERS_MAX.into()) as u8;
        if self.model.servers.contains_key(&server) && self.luck.one_in(2) {
            self.model.servers.remove(&server);
            self.model.awaited.insert(server, self.world.now.after(GRACE));
        } else {
            self.model.awaited.remove(&server);
            let weight = self.luck.below(4) as u32;
            self.model.servers.insert(server, weight);
        }
        let servers = self.model.servers.clone();
        self.world.change(|config| {
            let mut configs = Vec::new();
            // Back to front: the order of the configuration must not matter.
            for (server, weight) in servers.iter().rev() {
                let mut config =
                    lvs_tund::director::cluster::RealServerConfig::new(rip(*server).into(), *weight);
                config.upper_threshold = if server % 2 == 0 { UPPER_THRESHOLD } else { 0 };
                configs.push(config);
            }
            config.virtual_services[0].real_servers = configs;
        });
        self.sweep();
    }

    /// Removes what has ended on both sides; then every count must agree.
    fn sweep(&mut self) {
        self.world.sweep();
        self.model.forget_expired(self.world.now);
        assert_eq!(self.world.tables.connections.len(), self.model.entries.len());
        let mut listed = 0;
        self.world.tables.connections.visit(self.world.now, |_| listed += 1);
        assert_eq!(listed, self.model.entries.len(), "the listing");
        assert_eq!(self.world.totals().0, self.model.connections_total);
        for server in self.model.servers.keys() {
            let (active, inactive, _) = self.world.counts(*server);
            assert_eq!((active, inactive), self.model.counts(*server), "server {server}");
            let is_by_template = self.is_persistent;
            // A flow that a flood left without an entry was given its server before the limit was reached.
            let has_floods = self.world.cluster.load().config().new_connections_per_second_max == FLOOD_LIMIT;
            let is_limited = server % 2 == 0 && !is_by_template && !has_floods;
            assert!(
                !is_limited || active + inactive <= UPPER_THRESHOLD,
                "server {server} above its threshold"
            );
        }
    }

    fn flood(&mut self) {
        for n in 0..40 {
            let stranger = client(1000 + self.luck.below(1000) as u32);
            self.send((stranger, n + 1), SYN);
        }
    }

    fn finish(mut self) {
        self.sweep();
        assert_eq!(self.received, self.fates.values().sum::<u64>(), "{:?}", self.fates);
        // The end of all things: nothing is left behind.
        self.world.wait(3600);
        self.sweep();
        let cluster = self.world.cluster.load();
        for service in cluster.virtual_services() {
            for server in &service.real_servers {
                assert_eq!(server.live.connections(), 0);
                assert_eq!(server.live.persistent(), 0);
            }
        }
    }
}

fn run(seed: u64) {
    let mut simulation = Simulation::new(seed);
    for _ in 0..STEPS {
        simulation.step();
    }
    simulation.finish();
}

#[test]
fn the_director_agrees_with_the_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("LVS_TUND_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LVS_TUND_SEEDS").unwrap_or(256),
    };
    for seed in seeds {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("seed {seed} fails; replay it with LVS_TUND_SEED={seed}");
        }
    }
}
