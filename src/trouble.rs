//! What is wrong with a running daemon's set-up at present: values with a kind, and the board that lists them.
//!
//! A finder looks at everything of its source and reports it all with [`Troubles::report`]; the board finds out what
//! is new and what is over. Readers ([`Troubles::list`]) never wait for a finder for longer than one comparison.

pub mod journal;
mod kind;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

pub use kind::reasons;

use crate::label::labels;
use crate::time::Moment;

labels! {
    /// What kind of trouble it is; the label is the word in JSON and in the log's field `kind`.
    pub enum TroubleKind {
        /// The configured interface does not exist.
        InterfaceMissing = "interface_missing",
        /// The interface is not up, or its link has no carrier.
        InterfaceDown = "interface_down",
        /// The TUN device does not exist and could not be created again.
        DeviceMissing = "device_missing",
        /// The TUN device is not up and could not be set up.
        DeviceDown = "device_down",
        /// A change that the daemon depends on is not in place and could not be made again.
        ChangeMissing = "change_missing",
        /// The host could not be queried.
        HostUnknown = "host_unknown",
        /// A change without which packets still flow is not in place and could not be made again.
        SettingMissing = "setting_missing",
        /// No virtual service has a usable real server.
        NothingServed = "nothing_served",
        /// One virtual service has no usable real server, others have.
        ServiceUnserved = "service_unserved",
        /// The host has no route to a real server.
        NoRoute = "no_route",
        /// A real server's host answers that no program there receives encapsulated packets.
        ProtocolUnreachable = "protocol_unreachable",
        /// A router, or this host, reports that it cannot deliver packets to a real server.
        Unreachable = "unreachable",
        /// A router has reported a path MTU below that of the route.
        PathMtuLowered = "path_mtu_lowered",
        /// The kernel refuses to send packets to a real server.
        TransmitErrors = "transmit_errors",
        /// A worker has ended, and its packets wait.
        WorkersStopped = "workers_stopped",
        /// The task that follows the host and changes the configuration does not respond.
        ControlStuck = "control_stuck",
        /// The kernel drops packets on a device of the daemon.
        PacketsLost = "packets_lost",
        /// Clients' packets arrive for a VIP and port on which no program listens.
        ApplicationDown = "application_down",
        /// A host that is not in `directors` sends encapsulated packets.
        UnknownPeer = "unknown_peer",
        /// A director's packets are refused.
        PacketsRefused = "packets_refused",
        /// A VIP of a real server is an address of another device of its host.
        VipElsewhere = "vip_elsewhere",
        /// Another host announces a VIP for which the director's host answers ARP.
        VipClaimed = "vip_claimed",
        /// Packets for a virtual service arrive on an interface where nothing captures them.
        StrayPackets = "stray_packets",
        /// The kernel of a real server's host handles encapsulated packets, too.
        TunnelHandler = "tunnel_handler",
        /// The checks of a real server fail.
        RealServerDown = "real_server_down",
        /// A virtual service has too few live real servers.
        QuorumLost = "quorum_lost",
        /// So few real servers of a virtual service are up that all count as up.
        FailOpen = "fail_open",
        /// A check succeeds, and has found something that an operator should know.
        CheckWarning = "check_warning",
        /// A check of a real server cannot be made on this host.
        CheckImpossible = "check_impossible",
        /// Probes begin too late, because too many are due for as many as may run at once.
        ChecksLate = "checks_late",
    }
}

labels! {
    /// Who looks for the trouble; each source reports everything at once.
    pub enum Source {
        /// The host's settings: interface, device, changes.
        Host = "host",
        /// The configuration, and what is known of the paths to the real servers.
        Cluster = "cluster",
        /// The threads that handle packets.
        Workers = "workers",
        /// What the packets themselves show.
        Traffic = "traffic",
        /// What the checks have found.
        Health = "health",
        /// The checks of the real servers.
        Checks = "checks",
    }
}

/// Something that is wrong, as its finder sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Together with `subject` the identity of the trouble.
    pub kind: TroubleKind,
    /// What it is about: a device, a change.
    pub subject: String,
    /// One sentence without a full stop: what is wrong, and after "; " the remedy, if there is one.
    pub text: String,
}

impl Found {
    /// What it shares with the same trouble in other words.
    fn identity(&self) -> (&'static str, &str) {
        (self.kind.label(), &self.subject)
    }
}

/// Something that has been wrong since a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whose report it is from.
    pub source: Source,
    /// As found last; the text may change while the trouble is the same.
    pub found: Found,
    /// Of the daemon's clock.
    pub since: Moment,
}

/// The difference between two reports of one source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Was not in the report before.
    pub begun: Vec<Found>,
    /// Is no longer in the report.
    pub over: Vec<Trouble>,
}

/// The present troubles of a daemon.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<Arc<[Trouble]>>);

impl Troubles {
    /// Replaces everything that `source` reported before.
    pub fn report(&self, source: Source, found: Vec<Found>, now: Moment) -> News {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, others): (Vec<_>, Vec<_>) =
            list.iter().cloned().partition(|trouble| trouble.source == source);
        let mut news = News::default();
        let mut next = others;
        let by_identity: HashMap<_, _> = before.iter().map(|known| (known.found.identity(), known)).collect();
        for found in found {
            let known = by_identity.get(&found.identity());
            if known.is_none() {
                news.begun.push(found.clone());
            }
            next.push(Trouble { source, since: known.map_or(now, |known| known.since), found });
        }
        let left: HashSet<_> = next
            .iter()
            .filter(|trouble| trouble.source == source)
            .map(|trouble| trouble.found.identity())
            .collect();
        let is_over = |known: &&Trouble| !left.contains(&known.found.identity());
        news.over = before.iter().filter(is_over).cloned().collect();
        next.sort_by_key(|trouble| trouble.since);
        *list = next.into();
        news
    }

    /// Whether a report would contain something that has not been reported.
    pub fn has_news(&self, source: Source, found: &[Found]) -> bool {
        let list = self.list();
        let known = list.iter().filter(|known| known.source == source);
        let known: HashSet<_> = known.map(|known| known.found.identity()).collect();
        let is_known = |found: &Found| known.contains(&found.identity());
        !found.iter().all(is_known)
    }

    /// Everything that is wrong, the oldest first.
    pub fn list(&self) -> Arc<[Trouble]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether anything is wrong.
    pub fn is_degraded(&self) -> bool {
        !self.list().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: TroubleKind, text: &str) -> Found {
        Found { kind, subject: "eth0".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_trouble_keeps_its_beginning_until_it_is_over() {
        let troubles = Troubles::default();
        let at = Moment::from_secs;
        let down = found(TroubleKind::InterfaceDown, "eth0 is down");
        let missing = found(TroubleKind::InterfaceMissing, "eth0 is missing");
        assert!(
            troubles.has_news(Source::Host, std::slice::from_ref(&down))
                && !troubles.has_news(Source::Host, &[])
        );
        let news = troubles.report(Source::Host, vec![down.clone()], at(1));
        assert!(!troubles.has_news(Source::Host, std::slice::from_ref(&down)));
        assert!(troubles.has_news(Source::Host, &[down.clone(), missing.clone()]));
        assert_eq!(news, News { begun: vec![down.clone()], over: Vec::new() });
        let reworded = Found { text: "eth0 is still down".to_owned(), ..down };
        let news = troubles.report(Source::Host, vec![missing.clone(), reworded.clone()], at(5));
        assert_eq!(news.begun, std::slice::from_ref(&missing));
        let listed: Vec<_> =
            troubles.list().iter().map(|trouble| (trouble.found.clone(), trouble.since)).collect();
        assert_eq!(listed, [(reworded.clone(), at(1)), (missing.clone(), at(5))]);
        assert!(troubles.is_degraded());
        let news = troubles.report(Source::Host, vec![missing], at(6));
        let over = Trouble { source: Source::Host, found: reworded, since: at(1) };
        assert_eq!(news, News { begun: Vec::new(), over: vec![over] });
        troubles.report(Source::Host, Vec::new(), at(7));
        assert!(!troubles.is_degraded() && troubles.list().is_empty());
    }
}
