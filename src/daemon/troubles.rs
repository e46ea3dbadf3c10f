//! What a daemon reports of itself: on the board that the probes and `status` read, and in the log.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::worker::Workers;
use crate::serve::Health;
use crate::trouble::journal::{Journal, Line};
use crate::trouble::{Found, Source, Trouble, TroubleKind};

/// Between finding a trouble and reporting it.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(50);

/// Pause between two looks for troubles.
pub(super) const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Reports what the finders found.
pub(super) struct Watch {
    /// The role: the first word of each line of the log.
    role: &'static str,
    clock: Clock,
    health: Arc<Health>,
    journal: Journal,
}

impl Watch {
    pub(super) fn new(role: &'static str, clock: Clock) -> Watch {
        let health = Arc::new(Health::new(move || clock.now()));
        Watch { role, clock, health, journal: Journal::default() }
    }

    /// What the servers read.
    pub(super) fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Whether a report would contain something that has not been reported.
    pub(super) fn has_news(&self, source: Source, found: &[Found]) -> bool {
        self.health.troubles().has_news(source, found)
    }

    /// Everything that `source` found at present.
    pub(super) fn report(&self, source: Source, found: Vec<Found>) {
        self.health.troubles().report(source, found, self.clock.now());
    }

    /// Call it when every source has reported: logs what is new and what is over.
    pub(super) fn conclude(&mut self) {
        self.health.touch();
        let present = self.health.troubles().list();
        for line in self.journal.judge(&present, self.clock.now()) {
            log(self.role, &line);
        }
    }
}

/// The threads that have ended although the daemon still runs.
pub(super) fn of_workers(workers: &Workers) -> Vec<Found> {
    let trouble = |name: &str| Found {
        kind: TroubleKind::WorkersStopped,
        subject: name.to_owned(),
        text: format!("the thread {name} has ended, so packets wait; restart the daemon"),
    };
    workers.ended().map(trouble).collect()
}

fn log(role: &str, line: &Line) {
    match line {
        Line::Begun(trouble) => begun(role, trouble),
        Line::Over(trouble, lasted) => over(role, trouble, *lasted),
        Line::MoreBegun(kind, count) => {
            tracing::warn!(
                kind = kind.label(),
                count,
                "{role}: {count} more of this kind ({kind}); see: lvs-tund status"
            );
        }
        Line::MoreOver(kind, count) => {
            tracing::info!(kind = kind.label(), count, "{role}: {count} more of this kind are over ({kind})");
        }
    }
}

fn begun(role: &str, trouble: &Trouble) {
    let Subject { real_server, virtual_service, vip, device } = Subject::of(&trouble.found);
    let (kind, subject) = (trouble.found.kind.label(), &trouble.found.subject);
    let degraded = if trouble.source == Source::Host { "degraded: " } else { "" };
    let text = &trouble.found.text;
    tracing::warn!(kind, subject, real_server, virtual_service, vip, device, "{role}: {degraded}{text}");
}

fn over(role: &str, trouble: &Trouble, lasted: Duration) {
    let Subject { real_server, virtual_service, vip, device } = Subject::of(&trouble.found);
    let (kind, subject) = (trouble.found.kind.label(), &trouble.found.subject);
    let seconds = lasted.as_secs();
    let (words, lasted) = (trouble.found.words(), humantime::format_duration(Duration::from_secs(seconds)));
    tracing::info!(
        kind,
        subject,
        real_server,
        virtual_service,
        vip,
        device,
        seconds,
        "{role}: over after {lasted}: {words}"
    );
}

/// The subject of a trouble under the name of what it is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Subject<'a> {
    real_server: Option<&'a str>,
    virtual_service: Option<&'a str>,
    vip: Option<&'a str>,
    device: Option<&'a str>,
}

impl Subject<'_> {
    fn of(found: &Found) -> Subject<'_> {
        let subject = Some(found.subject.as_str());
        match found.kind {
            kind if kind.is_about_real_server() => Subject { real_server: subject, ..Subject::default() },
            TroubleKind::ServiceUnserved => Subject { virtual_service: subject, ..Subject::default() },
            TroubleKind::VipElsewhere | TroubleKind::VipClaimed => {
                Subject { vip: subject, ..Subject::default() }
            }
            TroubleKind::ApplicationDown => {
                let vip = found.subject.split([' ', ':']).nth(1);
                Subject { vip, ..Subject::default() }
            }
            TroubleKind::InterfaceMissing
            | TroubleKind::InterfaceDown
            | TroubleKind::DeviceMissing
            | TroubleKind::DeviceDown => Subject { device: subject, ..Subject::default() },
            TroubleKind::PacketsLost => {
                Subject { device: found.subject.split(' ').next(), ..Subject::default() }
            }
            TroubleKind::StrayPackets => {
                let mut words = found.subject.split(' ');
                Subject { device: words.next(), vip: words.next(), ..Subject::default() }
            }
            _ => Subject::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_subject_by_what_it_is() {
        let of = |kind, subject: &str| Found { kind, subject: subject.to_owned(), text: String::new() };
        let found = of(TroubleKind::NoRoute, "172.25.3.2");
        assert_eq!(Subject::of(&found).real_server, Some("172.25.3.2"));
        let found = of(TroubleKind::ServiceUnserved, "web");
        assert_eq!(Subject::of(&found).virtual_service, Some("web"));
        let found = of(TroubleKind::ApplicationDown, "tcp 172.25.3.100:80");
        assert_eq!(Subject::of(&found).vip, Some("172.25.3.100"));
        let found = of(TroubleKind::VipClaimed, "172.25.3.101");
        assert_eq!(Subject::of(&found).vip, Some("172.25.3.101"));
        let found = of(TroubleKind::DeviceDown, "lvsd0");
        assert_eq!(Subject::of(&found).device, Some("lvsd0"));
        let found = of(TroubleKind::PacketsLost, "lvsd0 transmit");
        assert_eq!(Subject::of(&found).device, Some("lvsd0"));
        let found = of(TroubleKind::StrayPackets, "eth1 172.25.3.100");
        let subject = Subject::of(&found);
        assert_eq!((subject.device, subject.vip), (Some("eth1"), Some("172.25.3.100")));
        let found = of(TroubleKind::NothingServed, "cluster");
        assert_eq!(Subject::of(&found), Subject::default());
    }
}
