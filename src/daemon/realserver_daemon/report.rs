//! What a real server reports of itself: its status, and what its packets show to be wrong.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Lost;
use super::Settings;
use super::clock::Clock;
use super::handler::Seen;
use crate::config::plan::RealserverPlan;
use crate::control::model::{BoundVip, DirectorSeen, Loss, RealserverStatus, Refused, Role, ServedPort};
use crate::doctor::facts::Socket;
use crate::metrics::counters::RealserverCounters;
use crate::metrics::losses::LossCause;
use crate::metrics::recent::Grown;
use crate::metrics::sightings::Sighting;
use crate::packet::Protocol;
use crate::realserver::verdict::DropReason;
use crate::serve::Health;
use crate::survey;
use crate::time::Moment;
use crate::trouble::{Found, TroubleKind};

/// How long a packet shows that something is wrong at present.
const PRESENT_FOR: Duration = Duration::from_secs(10);

/// Strangers that are reported at once: anyone can send packets.
const STRANGERS_MAX: usize = 4;

/// Everything that the report is made of.
pub(super) struct Report {
    pub plan: RealserverPlan,
    pub clock: Clock,
    pub counters: Arc<RealserverCounters>,
    pub seen: Arc<Seen>,
    pub settings: Arc<Settings>,
    pub health: Arc<Health>,
    pub lost: Lost,
}

/// A port of a VIP for which packets came, or that the configuration names.
type Port = (usize, Protocol, u16);

impl Report {
    /// The answer to `/api/v1/status`.
    pub(super) fn status(&self) -> RealserverStatus {
        let now = self.clock.now();
        let age = |sighting: &Sighting| now.since(sighting.last).as_secs();
        let seen = |sighting: &Sighting| DirectorSeen {
            director: Seen::source(sighting.key).into(),
            packets: sighting.packets,
            age: age(sighting),
        };
        let refused = |sighting: &Sighting| {
            let (source, reason) = Seen::refusal(sighting.key);
            let reason = reason.label().to_owned();
            Refused { source: source.into(), reason, packets: sighting.packets, age: age(sighting) }
        };
        RealserverStatus {
            role: Role::Realserver,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: now.since(Moment::ZERO).as_secs(),
            tun: self.plan.tun.clone(),
            mss: self.settings.mss(),
            ready: self.health.is_ready(),
            troubles: self.health.list().iter().map(Into::into).collect(),
            vips: self.vips(&survey::waiting(), now),
            directors: self.plan.guard.directors.iter().map(shown).collect(),
            directors_seen: self.seen.directors.list().iter().map(seen).collect(),
            losses: self.lost.list().iter().map(|grown| loss(grown, now)).collect(),
            refused: self.seen.refused.list().iter().map(refused).collect(),
        }
    }

    /// What `/healthz` shows: whether encapsulated packets are unwrapped, and which VIPs are bound.
    pub(super) fn served(&self) -> Vec<(String, bool)> {
        let bound = self.settings.bound();
        let stops = |kind: TroubleKind| kind.stops_packets() && kind != TroubleKind::ChangeMissing;
        let unwraps = !self.health.list().iter().any(|(trouble, _)| stops(trouble.found.kind));
        let line = |is_so: bool, yes: &str, no: &str| if is_so { yes.to_owned() } else { no.to_owned() };
        let mut lines = vec![(line(unwraps, "unwraps: yes", "unwraps: no"), unwraps)];
        lines.extend(self.plan.guard.vips.iter().map(|vip| {
            let is_bound = bound.contains(vip);
            (format!("{vip}: {}", line(is_bound, "bound", "not bound")), is_bound)
        }));
        lines
    }

    fn vips(&self, sockets: &[Socket], now: Moment) -> Vec<BoundVip> {
        let seen = self.seen.ports.list();
        let bound = self.settings.bound();
        let of_vip = |(index, vip): (usize, &IpAddr)| {
            let service = |(_, protocol, port): &Port| {
                let sighting = seen.iter().find(|it| Seen::port(it.key) == (index, *protocol, *port));
                ServedPort {
                    protocol: (*protocol).into(),
                    port: *port,
                    listening: is_listening(sockets, *vip, *protocol, *port),
                    packets: sighting.map_or(0, |it| it.packets),
                    age: sighting.map(|it| now.since(it.last).as_secs()),
                }
            };
            let ports = self.ports(&seen).into_iter().filter(|(vip, ..)| *vip == index).collect::<Vec<_>>();
            let packets = self.counters.delivered.read(u32::try_from(index).unwrap_or(u32::MAX)).0;
            let services = ports.iter().map(service).collect();
            BoundVip { vip: *vip, bound: bound.contains(vip), packets, services }
        };
        self.plan.guard.vips.iter().enumerate().map(of_vip).collect()
    }

    /// Those of the configuration and those of packets, in order.
    fn ports(&self, seen: &[Sighting]) -> Vec<Port> {
        let guard = &self.plan.guard;
        let vips = 0..guard.vips.len();
        let configured =
            vips.flat_map(|vip| guard.services.iter().map(move |it| (vip, it.protocol, it.port)));
        let known = |(vip, protocol, port): Port| (vip, protocol.number(), port, protocol);
        let seen = seen.iter().map(|it| Seen::port(it.key));
        let ports: Vec<_> = configured.chain(seen).map(known).collect();
        let mut listed = BTreeSet::new();
        let mut ports: Vec<_> = ports.into_iter().filter(|it| listed.insert((it.0, it.1, it.2))).collect();
        ports.sort_by_key(|it| (it.0, it.1, it.2));
        ports.into_iter().map(|(vip, _, port, protocol)| (vip, protocol, port)).collect()
    }

    /// What the packets of the last seconds show.
    pub(super) fn troubles(&self) -> Vec<Found> {
        let now = self.clock.now();
        let is_present = |it: &Sighting| now.since(it.last) < PRESENT_FOR;
        let recent = |list: Vec<Sighting>| list.into_iter().filter(is_present).collect::<Vec<_>>();
        let refused = recent(self.seen.refused.list());
        let mut found = self.lost.troubles();
        found.extend(refusals(&self.plan, refused.iter().map(|it| Seen::refusal(it.key))));
        let ports = recent(self.seen.ports.list());
        if !ports.is_empty() {
            let ports = ports.iter().map(|it| Seen::port(it.key));
            found.extend(without_program(&self.plan, ports, &survey::waiting()));
        }
        found
    }
}

fn loss(grown: &Grown<(String, LossCause)>, now: Moment) -> Loss {
    let (device, cause) = &grown.label;
    let (cause, age) = (cause.label().to_owned(), now.since(grown.at).as_secs());
    Loss { device: device.clone(), cause, packets: grown.count, age }
}

fn shown(directors: &ipnet::IpNet) -> String {
    let is_address = directors.prefix_len() == directors.max_prefix_len();
    if is_address { directors.addr().to_string() } else { directors.to_string() }
}

fn is_listening(sockets: &[Socket], vip: IpAddr, protocol: Protocol, port: u16) -> bool {
    let IpAddr::V4(vip) = vip else { return false };
    sockets.iter().any(|socket| socket.serves(vip, protocol, port))
}

/// What refusals show about the configuration; what hostile clients cause is not included.
fn refusals(plan: &RealserverPlan, refused: impl Iterator<Item = (Ipv4Addr, DropReason)>) -> Vec<Found> {
    let is_director =
        |source: Ipv4Addr| plan.guard.directors.iter().any(|prefix| prefix.contains(&IpAddr::V4(source)));
    let (mut found, mut strangers) = (Vec::new(), 0);
    for (source, reason) in refused {
        let mut add = |kind, subject: String, text: String| found.push(Found { kind, subject, text });
        let subject = || format!("{source} {reason}");
        let refused = TroubleKind::PacketsRefused;
        match reason {
            DropReason::UnknownPeer if !is_director(source) => {
                strangers += 1;
                if strangers <= STRANGERS_MAX {
                    let text = format!(
                        "{source} sends encapsulated packets and is not in directors, so they are dropped; add it to \
                         directors, if it is a director"
                    );
                    add(TroubleKind::UnknownPeer, source.to_string(), text);
                }
            }
            DropReason::UnknownPeer => add(
                refused,
                subject(),
                format!(
                    "director {source} sends to an address that is not in rips; add that address to rips"
                ),
            ),
            DropReason::InnerNotVip => add(
                refused,
                subject(),
                format!(
                    "director {source} sends packets for an address that is not in vips; add its VIP to vips"
                ),
            ),
            DropReason::InnerNotServed => add(
                refused,
                subject(),
                format!(
                    "director {source} sends packets for a port that is not in services; add it to services"
                ),
            ),
            _ => {}
        }
    }
    found
}

/// The VIPs and ports of packets for which no program waits.
fn without_program(
    plan: &RealserverPlan,
    ports: impl Iterator<Item = Port>,
    sockets: &[Socket],
) -> Vec<Found> {
    let trouble = |(vip, protocol, port): Port| {
        let vip = *plan.guard.vips.get(vip)?;
        let name = protocol.name();
        let text = format!(
            "no program of this host listens on {name} {vip}:{port}, so clients are refused unless a rule hands their packets \
             on (DNAT); start the application on {vip} or on all addresses"
        );
        let found =
            Found { kind: TroubleKind::ApplicationDown, subject: format!("{name} {vip}:{port}"), text };
        (!is_listening(sockets, vip, protocol, port)).then_some(found)
    };
    ports.filter_map(trouble).collect()
}

/// What the task that follows the host hands to the report and to the metrics.
impl Settings {
    fn bound(&self) -> Vec<IpAddr> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The VIPs that are bound now.
pub(super) type Bound = Mutex<Vec<IpAddr>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, plan};

    const DIRECTOR: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 1);
    const STRANGER: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 99);

    fn plan() -> RealserverPlan {
        let text = "vips = [\"172.25.3.100\", \"172.25.3.101\"]\ndirectors = [\"172.25.3.1\", \"10.0.0.0/24\"]\n\
                    services = [\"tcp/80\"]\n";
        plan::realserver(&Source { name: "realserver.toml", text }, &[], &[], false).unwrap()
    }

    fn report() -> Report {
        let clock = Clock::start();
        Report {
            plan: plan(),
            clock,
            counters: Arc::default(),
            seen: Arc::default(),
            settings: Arc::default(),
            health: Arc::new(Health::new(move || clock.now())),
            lost: Lost::new(Arc::default(), clock),
        }
    }

    #[test]
    fn refusals_name_the_key_that_is_wrong_and_not_the_clients() {
        let kinds = |refused: &[(Ipv4Addr, DropReason)]| {
            let found = refusals(&plan(), refused.iter().copied());
            found.into_iter().map(|found| (found.kind, found.subject)).collect::<Vec<_>>()
        };
        let all: Vec<_> = DropReason::ALL.iter().map(|reason| (DIRECTOR, *reason)).collect();
        let refused = |reason: &str| (TroubleKind::PacketsRefused, format!("172.25.3.1 {reason}"));
        assert_eq!(kinds(&all), ["inner_not_served", "inner_not_vip", "unknown_peer"].map(refused));
        assert_eq!(
            kinds(&[(STRANGER, DropReason::UnknownPeer)]),
            [(TroubleKind::UnknownPeer, "172.25.3.99".to_owned())]
        );
        let many: Vec<_> = (0..9).map(|last| ([192, 0, 2, last].into(), DropReason::UnknownPeer)).collect();
        assert_eq!(kinds(&many).len(), STRANGERS_MAX);
        assert_eq!(kinds(&[([10, 0, 0, 7].into(), DropReason::UnknownPeer)]).len(), 1);
    }

    #[test]
    fn a_port_without_a_program_is_named() {
        let socket = |address, port| Socket { protocol: Protocol::Tcp, address, port };
        let ports =
            [(0, Protocol::Tcp, 80), (1, Protocol::Tcp, 80), (0, Protocol::Udp, 80), (9, Protocol::Tcp, 80)];
        let subjects = |sockets: &[Socket]| {
            let found = without_program(&plan(), ports.into_iter(), sockets);
            found.into_iter().map(|found| found.subject).collect::<Vec<_>>()
        };
        assert_eq!(subjects(&[]), ["tcp 172.25.3.100:80", "tcp 172.25.3.101:80", "udp 172.25.3.100:80"]);
        assert_eq!(subjects(&[socket(None, 80)]), ["udp 172.25.3.100:80"]);
        let vip = Some(Ipv4Addr::new(172, 25, 3, 100));
        assert_eq!(subjects(&[socket(vip, 80)]), ["tcp 172.25.3.101:80", "udp 172.25.3.100:80"]);
        assert_eq!(subjects(&[socket(None, 81)]).len(), 3);
    }

    #[test]
    fn the_status_lists_configured_and_seen_ports_once() {
        let report = report();
        let now = report.clock.now();
        report.seen.ports.note(Seen::of_port(0, Protocol::Tcp, 80), now);
        report.seen.ports.note(Seen::of_port(1, Protocol::Udp, 53), now);
        report.seen.directors.note(Seen::of_source(DIRECTOR), now);
        report.seen.refused.note(Seen::of_refusal(STRANGER, DropReason::UnknownPeer), now);
        *report.settings.bound.lock().unwrap() = vec![IpAddr::from([172, 25, 3, 101])];
        let status = report.status();
        let ports = |vip: usize| -> Vec<(u16, u64, bool)> {
            status.vips[vip].services.iter().map(|it| (it.port, it.packets, it.age.is_some())).collect()
        };
        assert_eq!(ports(0), [(80, 1, true)]);
        assert_eq!(ports(1), [(80, 0, false), (53, 1, true)]);
        assert_eq!((status.vips[0].bound, status.vips[1].bound), (false, true));
        assert_eq!(status.directors, ["172.25.3.1", "10.0.0.0/24"]);
        assert_eq!(
            (status.directors_seen[0].director, status.directors_seen[0].packets),
            (DIRECTOR.into(), 1)
        );
        assert_eq!(status.refused[0].reason, "unknown_peer");
        assert_eq!(report.troubles().len(), 1 + 2, "a stranger, and two ports without a program");
    }
}
