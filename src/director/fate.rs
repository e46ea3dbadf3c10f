//! What happens to a choice that was made earlier: of a connection, a client's template, or a flow that a flood left
//! without an entry.
//!
//! | its real server | connection | SYN on the ports of an ended one | template | flow of a flood |
//! |---|---|---|---|---|
//! | serves | follow | follow | follow | follow |
//! | is quiesced | follow | discard | follow, or discard if `expires_quiesced` | follow |
//! | is down | by `on_down` | discard | discard | by `on_down` |
//! | was removed | by `on_removed` | by `on_removed` | discard | discard |
//! | was removed a moment ago | wait, where it would be discarded | discard | discard | wait |
//! | belongs to another service now | follow | follow | discard | discard |
//! | is in a later snapshot only | refuse | refuse | discard | discard |
//! | is in no snapshot | discard | discard | discard | discard |
//!
//! `on_down` stands for follow, discard, or discard for UDP only. While a real server is down, a SYN of a connection whose
//! handshake is not complete is scheduled again, too: nothing is lost, and the client need not wait.

use std::sync::Arc;

use super::cluster::{Cluster, OnRemoved, VirtualService};
use super::connection::{Entry, Event, State};
use super::real_server::{Presence, RealServer, Slot, SlotSet};
use crate::packet::protocol;
use crate::time::Moment;

/// What a worker does with a choice that was made earlier.
pub enum Fate<'a> {
    /// The packet goes to this real server, present or removed.
    Follow(&'a Arc<RealServer>),
    /// Its packets are dropped and it expires.
    Refuse,
    /// Its packets are dropped until the real server is back, or is no longer expected.
    Wait,
    /// It is forgotten, and the packet is handled like that of a new connection.
    GiveUp,
}

/// The fate of a connection when a packet arrives for it.
pub fn of_packet<'a>(cluster: &'a Cluster, entry: &Entry, event: Event, now: Moment) -> Fate<'a> {
    let is_syn = event == Event::Syn;
    // As in IPVS (`conn_reuse_mode`), a connection with a template keeps its entry, because its real server stays
    // the same anyway.
    let is_reuse = is_syn && entry.state.is_closing() && entry.template.is_none();
    if entry.is_expired(now) || is_reuse {
        return Fate::GiveUp;
    }
    let protocol = if event == Event::Datagram { protocol::UDP } else { protocol::TCP };
    match of_connection(cluster, entry.real_server, protocol) {
        Fate::Follow(server) if server.is_present() && server.on_down.is_some() => {
            let is_begun = entry.state == State::Established;
            if is_syn && !is_begun { Fate::GiveUp } else { Fate::Follow(server) }
        }
        // As in IPVS (`expire_nodest_conn` with `conn_reuse_mode`), a new connection on old ports does not go to a
        // quiesced real server; here only if the old connection has ended, because a forged SYN must not move a
        // living one.
        Fate::Follow(server) if server.is_present() && server.weight() == 0 => {
            if is_syn && !entry.state.is_active() { Fate::GiveUp } else { Fate::Follow(server) }
        }
        // Nothing is lost yet, so the client need not wait.
        Fate::Wait if is_syn && entry.state != State::Established => Fate::GiveUp,
        fate => fate,
    }
}

/// The fate of a connection of this protocol to this real server.
pub fn of_connection(cluster: &Cluster, slot: Slot, protocol: u8) -> Fate<'_> {
    let Some(server) = cluster.real_server(slot) else {
        return if cluster.is_later(slot) { Fate::Refuse } else { Fate::GiveUp };
    };
    if server.is_present() {
        return if server.keeps(protocol) { Fate::Follow(server) } else { Fate::GiveUp };
    }
    match on_removed(cluster, server) {
        OnRemoved::Reschedule if server.presence == Presence::Awaited => Fate::Wait,
        OnRemoved::Reschedule => Fate::GiveUp,
        OnRemoved::Drop => Fate::Refuse,
        OnRemoved::Keep => Fate::Follow(server),
    }
}

fn on_removed(cluster: &Cluster, server: &RealServer) -> OnRemoved {
    let service = cluster.virtual_service(server.virtual_service);
    service.map_or(OnRemoved::Reschedule, |service| service.config.on_removed)
}

/// The real server of a template of this service, unless the template is to be given up.
pub fn of_template<'a>(
    cluster: &'a Cluster,
    service: &VirtualService,
    slot: Slot,
) -> Option<&'a Arc<RealServer>> {
    let expires_quiesced = service.config.persistence.is_some_and(|persistence| persistence.expires_quiesced);
    let server = present(cluster, service, slot)?;
    (server.on_down.is_none() && (server.weight() > 0 || !expires_quiesced)).then_some(server)
}

/// The real server of a flow of this protocol that a flood left without an entry, unless it is to be chosen again: by a
/// SYN, too, while the real server is down.
pub fn of_flood<'a>(
    cluster: &'a Cluster,
    service: &VirtualService,
    slot: Slot,
    protocol: u8,
    is_syn: bool,
) -> Option<&'a Arc<RealServer>> {
    let is_kept = |server: &&Arc<RealServer>| server.keeps(protocol) && (server.on_down.is_none() || !is_syn);
    present(cluster, service, slot).filter(is_kept)
}

/// The real server with this slot, if the service has it.
fn present<'a>(cluster: &'a Cluster, service: &VirtualService, slot: Slot) -> Option<&'a Arc<RealServer>> {
    let server = cluster.real_server(slot)?;
    (server.is_present() && server.virtual_service == service.slot).then_some(server)
}

/// Whether a flow that a flood left without an entry waits for its real server.
pub fn flood_waits(cluster: &Cluster, slot: Slot) -> bool {
    matches!(of_connection(cluster, slot, protocol::TCP), Fate::Wait)
}

/// The real servers whose connections a sweep removes, whatever their protocol.
pub fn given_up(cluster: &Cluster) -> SlotSet {
    let gives_up = |slot, protocol| matches!(of_connection(cluster, slot, protocol), Fate::GiveUp);
    let is_given_up = |slot: &Slot| [protocol::TCP, protocol::UDP].iter().all(|of| gives_up(*slot, *of));
    cluster.referenced().into_iter().filter(is_given_up).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::director::cluster::{
        ClusterConfig, EffectiveConfig, EffectiveWeights, HostView, Persistence, RealServerConfig, Standing,
        VirtualServiceConfig,
    };
    use crate::director::connection::{State, TemplatePrefix};
    use crate::director::real_server::Activity;
    use crate::director::scheduler::rr;
    use crate::health::OnDown;
    use crate::packet::Protocol;

    const DEADLINE: Moment = Moment::from_secs(60);

    fn service(weights: &[u32]) -> VirtualServiceConfig {
        let vip = "172.25.3.100".parse().expect("an address");
        let server = |(n, weight): (u8, &u32)| RealServerConfig::new([172, 25, 3, n].into(), *weight);
        let real_servers = (1..).zip(weights).map(server).collect();
        VirtualServiceConfig {
            real_servers,
            ..VirtualServiceConfig::new("web", Protocol::Tcp, vip, 80, &rr::ROW)
        }
    }

    fn after(before: &Cluster, services: &[VirtualServiceConfig]) -> Cluster {
        let config = ClusterConfig { virtual_services: services.to_vec(), ..ClusterConfig::default() };
        before.succeed(config, HostView::default())
    }

    fn of(services: &[VirtualServiceConfig]) -> Cluster {
        after(&Cluster::new(ClusterConfig::default(), HostView::default()), services)
    }

    /// The same when nothing is expected back.
    fn without_grace(cluster: &Cluster) -> Cluster {
        cluster.end_grace(&cluster.awaited().iter().copied().collect())
    }

    /// The slot of the first real server, to which a connection points.
    fn busy(cluster: &Cluster) -> Slot {
        let server = &cluster.in_order()[0].real_servers[0];
        server.live.book_new(Activity::Active);
        server.slot
    }

    fn word(fate: Fate) -> &'static str {
        match fate {
            Fate::Follow(_) => "follow",
            Fate::Refuse => "refuse",
            Fate::Wait => "wait",
            Fate::GiveUp => "discard",
        }
    }

    fn entry(real_server: Slot, state: State) -> Entry {
        Entry { deadline: DEADLINE, virtual_service: 0, real_server, state, template: None }
    }

    /// By state of the connection, whether a SYN and another segment follow it.
    fn of_states(cluster: &Cluster, slot: Slot) -> Vec<[&'static str; 2]> {
        let states = [State::Established, State::SynRecv, State::FinWait, State::TimeWait, State::Close];
        let fate = |state, event| word(of_packet(cluster, &entry(slot, state), event, Moment::ZERO));
        states.iter().map(|state| [Event::Syn, Event::Ack].map(|event| fate(*state, event))).collect()
    }

    #[test]
    fn a_syn_on_a_closing_connection_is_a_new_connection() {
        let cluster = of(&[service(&[1])]);
        let slot = busy(&cluster);
        let (follow, again) = (["follow"; 2], ["discard", "follow"]);
        assert_eq!(of_states(&cluster, slot), [follow, follow, again, again, follow]);
        let templated = Entry { template: Some(TemplatePrefix::new(32)), ..entry(slot, State::FinWait) };
        assert_eq!(word(of_packet(&cluster, &templated, Event::Syn, Moment::ZERO)), "follow");
    }

    #[test]
    fn a_syn_on_an_ended_connection_of_a_quiesced_real_server_is_scheduled_again() {
        let cluster = of(&[service(&[0])]);
        let slot = busy(&cluster);
        let (follow, again) = (["follow"; 2], ["discard", "follow"]);
        assert_eq!(of_states(&cluster, slot), [follow, follow, again, again, again]);
        let templated = Entry { template: Some(TemplatePrefix::new(32)), ..entry(slot, State::Close) };
        assert_eq!(word(of_packet(&cluster, &templated, Event::Syn, Moment::ZERO)), "discard");
        assert_eq!(given_up(&cluster), SlotSet::default());
    }

    #[test]
    fn an_expired_connection_is_given_up() {
        let cluster = of(&[service(&[1])]);
        let entry = entry(busy(&cluster), State::Established);
        let fate = |now| word(of_packet(&cluster, &entry, Event::Ack, now));
        assert_eq!((fate(Moment::from_secs(59)), fate(DEADLINE)), ("follow", "discard"));
    }

    #[test]
    fn a_connection_of_a_removed_real_server_follows_the_setting_of_its_own_service() {
        let expected = [
            (OnRemoved::Reschedule, "discard", true),
            (OnRemoved::Drop, "refuse", false),
            (OnRemoved::Keep, "follow", false),
        ];
        for (on_removed, fate, is_swept) in expected {
            let before = of(&[VirtualServiceConfig { on_removed, ..service(&[1, 1]) }]);
            let slot = busy(&before);
            let mut left = service(&[1, 1]);
            left.real_servers.remove(0);
            let cluster = without_grace(&after(&before, &[VirtualServiceConfig { on_removed, ..left }]));
            assert_eq!(of_states(&cluster, slot)[0], [fate; 2], "{on_removed:?}");
            // A connection of a quiesced real server would be given up.
            let syn_on_closed =
                word(of_packet(&cluster, &entry(slot, State::Close), Event::Syn, Moment::ZERO));
            assert_eq!(syn_on_closed, fate);
            assert_eq!(given_up(&cluster).contains(slot), is_swept);
            assert!(of_flood(&cluster, &cluster.in_order()[0], slot, protocol::TCP, false).is_none());
            // Its service has been removed too.
            let cluster = without_grace(&after(&before, &[]));
            assert_eq!(word(of_connection(&cluster, slot, protocol::TCP)), "discard");
        }
    }

    #[test]
    fn a_connection_waits_for_a_real_server_that_was_removed_a_moment_ago_where_it_would_be_discarded() {
        for (on_removed, fate) in
            [(OnRemoved::Reschedule, "wait"), (OnRemoved::Drop, "refuse"), (OnRemoved::Keep, "follow")]
        {
            let before = of(&[VirtualServiceConfig { on_removed, ..service(&[1, 1]) }]);
            let slot = busy(&before);
            let mut left = VirtualServiceConfig { on_removed, ..service(&[1, 1]) };
            left.real_servers.remove(0);
            let cluster = after(&before, &[left]);
            assert_eq!(of_states(&cluster, slot)[0], [fate; 2], "{on_removed:?}");
            let half_open = if fate == "wait" { ["discard", "wait"] } else { [fate; 2] };
            assert_eq!(of_states(&cluster, slot)[1], half_open, "{on_removed:?}");
            assert!(given_up(&cluster) == SlotSet::default());
            assert_eq!(flood_waits(&cluster, slot), fate == "wait");
            let cluster = after(&before, &[]);
            assert_eq!(of_states(&cluster, slot)[0], ["wait"; 2], "the setting went with its service");
        }
    }

    #[test]
    fn a_removed_and_quiesced_real_server_keeps_its_ended_connections_if_its_service_does() {
        let on_removed = OnRemoved::Keep;
        let before = of(&[VirtualServiceConfig { on_removed, ..service(&[0, 1]) }]);
        let slot = busy(&before);
        let mut left = service(&[0, 1]);
        left.real_servers.remove(0);
        let cluster = after(&before, &[VirtualServiceConfig { on_removed, ..left }]);
        let ended = entry(slot, State::Close);
        assert_eq!(word(of_packet(&cluster, &ended, Event::Syn, Moment::ZERO)), "follow");
    }

    #[test]
    fn a_worker_refuses_what_a_later_snapshot_has_and_discards_what_none_has() {
        let early = of(&[]);
        let late = after(&early, &[service(&[1])]);
        let slot = busy(&late);
        assert_eq!(
            (word(of_connection(&early, slot, protocol::TCP)), given_up(&early)),
            ("refuse", SlotSet::default())
        );
        let gone = Slot::new(99, 1);
        assert_eq!(word(of_connection(&early, gone, protocol::TCP)), "discard");
        let service = &late.in_order()[0];
        assert!(
            of_flood(&early, service, slot, protocol::TCP, false).is_none()
                && of_flood(&late, service, gone, protocol::TCP, false).is_none()
        );
        assert_eq!(
            of_flood(&late, service, slot, protocol::TCP, false).map(|server| server.slot),
            Some(slot)
        );
    }

    #[test]
    fn a_template_of_a_quiesced_real_server_is_used_unless_the_service_gives_it_up() {
        for (weight, expires_quiesced, is_used) in
            [(1, false, true), (1, true, true), (0, false, true), (0, true, false)]
        {
            let persistence = Persistence { expires_quiesced, ..Persistence::new(Duration::from_secs(1)) };
            let cluster =
                of(&[VirtualServiceConfig { persistence: Some(persistence), ..service(&[weight]) }]);
            let used = of_template(&cluster, &cluster.in_order()[0], busy(&cluster));
            assert_eq!(used.is_some(), is_used, "weight {weight}, {expires_quiesced}");
        }
    }

    #[test]
    fn a_note_or_a_template_of_another_service_is_not_used() {
        let mut other = service(&[1]);
        (other.name, other.matchers[0].ports) = ("other".to_owned(), "81".parse().expect("a port"));
        let cluster = of(&[service(&[1]), other]);
        let (slot, other) = (busy(&cluster), &cluster.in_order()[1]);
        assert!(
            of_flood(&cluster, other, slot, protocol::TCP, false).is_none()
                && of_template(&cluster, other, slot).is_none()
        );
    }

    /// The first of two real servers is down, its connections have this fate.
    fn down(before: &Cluster, on_down: OnDown) -> Cluster {
        let rip = IpAddr::from([172, 25, 3, 1]);
        let standing = Some(Standing { weight: 0, on_down: Some(on_down) });
        let weights = EffectiveWeights::from([("web".to_owned(), BTreeMap::from([(rip, standing)]))]);
        let in_force = EffectiveConfig { config: before.config().clone(), weights };
        before.succeed(in_force, HostView::default())
    }

    #[test]
    fn what_a_down_real_server_keeps_follows_on_down_and_its_protocol() {
        let before = of(&[service(&[1, 1])]);
        let slot = busy(&before);
        for (on_down, tcp, udp, is_swept) in [
            (OnDown::Quiesce, "follow", "follow", false),
            (OnDown::Drain, "follow", "discard", false),
            (OnDown::Remove, "discard", "discard", true),
        ] {
            let cluster = down(&before, on_down);
            let fate = |protocol| word(of_connection(&cluster, slot, protocol));
            assert_eq!((fate(protocol::TCP), fate(protocol::UDP)), (tcp, udp), "{on_down:?}");
            let flow = entry(slot, State::Udp);
            assert_eq!(word(of_packet(&cluster, &flow, Event::Datagram, Moment::ZERO)), udp, "{on_down:?}");
            assert_eq!(given_up(&cluster).contains(slot), is_swept, "{on_down:?}");
            let noted =
                |protocol| of_flood(&cluster, &cluster.in_order()[0], slot, protocol, false).is_some();
            assert!(of_flood(&cluster, &cluster.in_order()[0], slot, protocol::TCP, true).is_none());
            assert_eq!((noted(protocol::TCP), noted(protocol::UDP)), (tcp == "follow", udp == "follow"));
            assert_eq!(cluster.serving().contains(slot), udp == "follow", "{on_down:?}");
            assert!(of_template(&cluster, &cluster.in_order()[0], slot).is_none(), "{on_down:?}");
            let up = cluster.succeed(before.config().clone(), HostView::default());
            assert_eq!(word(of_connection(&up, slot, protocol::UDP)), "follow", "it is up again");
        }
    }

    #[test]
    fn a_syn_leaves_a_down_real_server_unless_its_connection_is_established() {
        let before = of(&[service(&[1, 1])]);
        let slot = busy(&before);
        let (again, follow) = (["discard", "follow"], ["follow"; 2]);
        let expected = [follow, again, again, again, again];
        assert_eq!(of_states(&down(&before, OnDown::Quiesce), slot), expected);
        assert_eq!(of_states(&down(&before, OnDown::Drain), slot), expected);
        assert_eq!(of_states(&down(&before, OnDown::Remove), slot), [["discard"; 2]; 5]);
        let templated = Entry { template: Some(TemplatePrefix::new(32)), ..entry(slot, State::SynRecv) };
        let cluster = down(&before, OnDown::Quiesce);
        assert_eq!(word(of_packet(&cluster, &templated, Event::Syn, Moment::ZERO)), "discard");
    }

    #[test]
    fn a_down_real_server_that_is_removed_follows_on_removed() {
        let before = of(&[VirtualServiceConfig { on_removed: OnRemoved::Keep, ..service(&[1, 1]) }]);
        let slot = busy(&before);
        let cluster = down(&before, OnDown::Remove);
        let mut left = VirtualServiceConfig { on_removed: OnRemoved::Keep, ..service(&[1, 1]) };
        left.real_servers.remove(0);
        let cluster = without_grace(&after(&cluster, &[left]));
        assert_eq!(word(of_connection(&cluster, slot, protocol::TCP)), "follow");
    }

    /// What a lookup applies without asking is what would be decided anyway.
    #[test]
    fn a_packet_other_than_a_syn_follows_every_connection_of_a_serving_real_server() {
        for on_removed in [OnRemoved::Reschedule, OnRemoved::Drop, OnRemoved::Keep] {
            let before = of(&[VirtualServiceConfig { on_removed, ..service(&[1, 0, 1]) }]);
            let left = busy(&before);
            let mut next = VirtualServiceConfig { on_removed, ..service(&[1, 0, 1]) };
            next.real_servers.remove(0);
            let cluster = after(&before, &[next]);
            assert!(cluster.real_server(left).is_some() && !cluster.serving().contains(left));
            for server in &cluster.in_order()[0].real_servers {
                assert!(cluster.serving().contains(server.slot), "weight {}", server.weight());
                assert!(of_states(&cluster, server.slot).iter().all(|[_, other]| *other == "follow"));
            }
        }
    }
}
