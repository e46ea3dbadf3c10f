//! What a hook is notified about a change: an object in JSON, and the same in the environment. Both are described in
//! docs/hooks.md.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::director::cluster::{ClusterConfig, Ports, VirtualServiceConfig};
use crate::health::judge::Event;
use crate::health::view::{ServerView, ServiceView};
use crate::health::{Cause, State, View, When};

/// A change as the standard input of a hook shows it, without the fields that are not known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::daemon) struct Message {
    event: &'static str,
    /// Why it is reported now.
    cause: &'static str,
    /// RFC 3339, UTC.
    at: String,
    virtual_service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vip: Option<IpAddr>,
    /// The first one; 0: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    real_server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rip: Option<IpAddr>,
    /// Why the real server is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The configured weight of the real server.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    /// Real servers of the virtual service that are up or have no check, without sorry servers.
    live: usize,
    /// All its real servers, without sorry servers.
    real_servers: usize,
    /// The sum of the configured weights of the live ones.
    live_weight: u64,
    /// The configured quorum.
    quorum: u32,
    has_quorum: bool,
}

/// What an event is to the hooks.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub when: When,
    /// Its name and its RIP, if the change is one of a real server.
    pub real_server: Option<(&'a str, IpAddr)>,
    why: Option<&'a str>,
    cause: Cause,
}

impl About<'_> {
    /// `None`: no hook waits for such an event.
    pub(super) fn of(event: &Event) -> Option<About<'_>> {
        let about = |when, real_server, cause| About { when, real_server, why: None, cause };
        match event {
            Event::Up { real_server, rip, cause, .. } => {
                Some(about(When::RealServerUp, Some((real_server, *rip)), *cause))
            }
            Event::Down { real_server, rip, why, cause, .. } => {
                let down = about(When::RealServerDown, Some((real_server, *rip)), *cause);
                Some(About { why: Some(why), ..down })
            }
            Event::QuorumGained { cause, .. } => Some(about(When::QuorumGained, None, *cause)),
            Event::QuorumLost { cause, .. } => Some(about(When::QuorumLost, None, *cause)),
            Event::FailOpen { .. }
            | Event::FailOpenOver { .. }
            | Event::Flapping { .. }
            | Event::Settled { .. } => None,
        }
    }
}

impl Message {
    /// The virtual service, and the real server if the change is one of it.
    pub(super) fn subject(&self) -> (&str, Option<IpAddr>) {
        (&self.virtual_service, self.rip)
    }

    /// Whether it is the first state of its subject.
    pub(super) fn is_first(&self) -> bool {
        self.cause == Cause::Start.label()
    }

    /// Whether both are about the same state of the same subject.
    pub(super) fn is_same_state(&self, other: &Message) -> bool {
        (self.event, self.subject()) == (other.event, other.subject())
    }

    /// `None`: no hook waits for it. `since_epoch` is the wall clock, in seconds.
    pub(super) fn of(
        event: &Event,
        config: &ClusterConfig,
        view: &View,
        since_epoch: f64,
    ) -> Option<(When, Message)> {
        let About { when, real_server, why, cause } = About::of(event)?;
        let service = config.virtual_services.iter().find(|service| service.name == event.service());
        let first = service.and_then(|service| service.matchers.first());
        let found = service
            .zip(real_server)
            .and_then(|(service, (_, rip))| service.real_servers.iter().find(|server| server.rip == rip));
        // At its end, the director serves nothing any more.
        let stops = cause == Cause::Stop;
        let its_view = view.service(event.service());
        let (live, real_servers, live_weight) = service.map_or((0, 0, 0), |it| counts(it, its_view));
        let at = UNIX_EPOCH + Duration::try_from_secs_f64(since_epoch).unwrap_or_default();
        let message = Message {
            event: when.label(),
            cause: cause.label(),
            at: humantime::format_rfc3339_seconds(at).to_string(),
            virtual_service: event.service().to_owned(),
            protocol: first.map(|matcher| matcher.protocol.name()),
            vip: first.map(|matcher| matcher.vip),
            port: first.map(|it| if it.ports == Ports::ALL { 0 } else { it.ports.first }),
            real_server: real_server.map(|(name, _)| name.to_owned()),
            rip: real_server.map(|(_, rip)| rip),
            why: why.map(str::to_owned),
            weight: found.map(|server| server.weight),
            live: if stops { 0 } else { live },
            real_servers,
            live_weight: if stops { 0 } else { live_weight },
            quorum: service.map_or(0, |service| service.health.quorum),
            has_quorum: !stops && its_view.is_none_or(|view| view.has_quorum),
        };
        Some((when, message))
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// The same as variables; what is not known is absent.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let known = [
            ("LVS_TUND_EVENT", Some(self.event.to_owned())),
            ("LVS_TUND_CAUSE", Some(self.cause.to_owned())),
            ("LVS_TUND_AT", Some(self.at.clone())),
            ("LVS_TUND_VIRTUAL_SERVICE", Some(self.virtual_service.clone())),
            ("LVS_TUND_PROTOCOL", self.protocol.map(str::to_owned)),
            ("LVS_TUND_VIP", self.vip.map(|vip| vip.to_string())),
            ("LVS_TUND_PORT", self.port.map(|port| port.to_string())),
            ("LVS_TUND_REAL_SERVER", self.real_server.clone()),
            ("LVS_TUND_RIP", self.rip.map(|rip| rip.to_string())),
            ("LVS_TUND_WHY", self.why.clone()),
            ("LVS_TUND_WEIGHT", self.weight.map(|weight| weight.to_string())),
            ("LVS_TUND_LIVE", Some(self.live.to_string())),
            ("LVS_TUND_REAL_SERVERS", Some(self.real_servers.to_string())),
            ("LVS_TUND_LIVE_WEIGHT", Some(self.live_weight.to_string())),
            ("LVS_TUND_QUORUM", Some(self.quorum.to_string())),
            ("LVS_TUND_HAS_QUORUM", Some(self.has_quorum.to_string())),
        ];
        // A NUL ends a variable, and exec refuses it.
        let usable = |value: String| value.replace('\0', "");
        known.into_iter().filter_map(|(name, value)| Some((name, usable(value?)))).collect()
    }

    /// For a line of the log: "real_server_down of web 172.25.3.2".
    pub(super) fn title(&self) -> String {
        match self.rip {
            Some(rip) => format!("{} of {} {rip}", self.event, self.virtual_service),
            None => format!("{} of {}", self.event, self.virtual_service),
        }
    }
}

/// The live real servers, all of them, and the weights of the live ones.
fn counts(service: &VirtualServiceConfig, view: Option<&ServiceView>) -> (usize, usize, u64) {
    let is_live = |rip: IpAddr| {
        let server: Option<&ServerView> = view.and_then(|view| view.real_servers.get(&rip));
        server.is_none_or(|server| server.state != State::Down)
    };
    let usual = || service.real_servers.iter().filter(|server| !server.is_sorry);
    let live = || usual().filter(|server| is_live(server.rip));
    (live().count(), usual().count(), live().map(|server| u64::from(server.weight)).sum())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::director::cluster::RealServerConfig;
    use crate::director::scheduler::rr;
    use crate::packet::Protocol;
    use crate::time::Moment;

    pub(in crate::daemon::health::hooks) const RIPS: [IpAddr; 3] = [
        IpAddr::V4(std::net::Ipv4Addr::new(172, 25, 3, 2)),
        IpAddr::V4(std::net::Ipv4Addr::new(172, 25, 3, 3)),
        IpAddr::V4(std::net::Ipv4Addr::new(172, 25, 3, 4)),
    ];

    pub(in crate::daemon::health::hooks) fn config() -> ClusterConfig {
        let vip = [172, 25, 3, 100].into();
        let mut service = VirtualServiceConfig::new("web", Protocol::Tcp, vip, 80, &rr::ROW);
        service.health.quorum = 4;
        service.real_servers = vec![
            RealServerConfig::new(RIPS[0], 3),
            RealServerConfig::new(RIPS[1], 2),
            RealServerConfig { is_sorry: true, ..RealServerConfig::new(RIPS[2], 9) },
        ];
        ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() }
    }

    pub(in crate::daemon::health::hooks) fn view() -> View {
        let down = ServerView {
            state: State::Down,
            is_enabled: true,
            since: Moment::ZERO,
            weight: None,
            share: 1000,
            checks: Vec::new(),
        };
        let service = ServiceView { real_servers: [(RIPS[0], down)].into(), ..ServiceView::default() };
        View { services: [("web".to_owned(), service)].into(), ..View::default() }
    }

    pub(in crate::daemon::health::hooks) fn quorum(service: &str, when: When) -> Message {
        of_quorum(service, when, Cause::Change)
    }

    pub(in crate::daemon::health::hooks) fn of_quorum(service: &str, when: When, cause: Cause) -> Message {
        let service = service.to_owned();
        let event = match when {
            When::QuorumGained => Event::QuorumGained { service, cause },
            _ => Event::QuorumLost { service, cause },
        };
        Message::of(&event, &config(), &view(), 0.0).unwrap().1
    }

    pub(in crate::daemon::health::hooks) fn down(why: &str) -> Message {
        let event = Event::Down {
            service: "web".to_owned(),
            real_server: "server2".to_owned(),
            rip: RIPS[0],
            why: why.to_owned(),
            cause: Cause::Change,
        };
        Message::of(&event, &config(), &view(), 1_767_355_200.7).unwrap().1
    }

    #[test]
    fn a_real_server_that_is_down_is_described_with_its_service() {
        let message = down("connection refused by 172.25.3.2, 3 of 3");
        let expected = concat!(
            r#"{"event":"real_server_down","cause":"change","at":"2026-01-02T12:00:00Z","virtual_service":"web","#,
            r#""protocol":"tcp","vip":"172.25.3.100","port":80,"real_server":"server2","rip":"172.25.3.2","#,
            r#""why":"connection refused by 172.25.3.2, 3 of 3","weight":3,"live":1,"real_servers":2,"live_weight":2,"#,
            r#""quorum":4,"has_quorum":false}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(message.json()).unwrap(), expected);
        assert_eq!(message.title(), "real_server_down of web 172.25.3.2");
    }

    #[test]
    fn the_environment_and_the_json_have_the_same_fields() {
        let message = down("a\0b");
        let fields: serde_json::Value = serde_json::from_slice(&message.json()).unwrap();
        let environment = message.environment();
        assert_eq!(environment.len(), fields.as_object().unwrap().len());
        for (name, value) in environment {
            let field = name.strip_prefix("LVS_TUND_").unwrap().to_lowercase();
            let expected = match &fields[&field] {
                serde_json::Value::String(text) => text.replace('\0', ""),
                other => other.to_string(),
            };
            assert_eq!(value, expected, "{name}");
        }
    }

    #[test]
    fn a_change_of_quorum_names_no_real_server_and_other_events_are_for_no_hook() {
        let of = |event: &Event| Message::of(event, &config(), &view(), 0.0);
        let (when, message) =
            of(&Event::QuorumLost { service: "web".to_owned(), cause: Cause::Start }).unwrap();
        assert_eq!((when, message.title()), (When::QuorumLost, "quorum_lost of web".to_owned()));
        assert!(message.environment().iter().all(|(name, _)| *name != "LVS_TUND_RIP"));
        assert_eq!(of(&Event::FailOpen { service: "web".to_owned() }), None);
        let (_, gone) = of(&Event::QuorumGained { service: "gone".to_owned(), cause: Cause::Start }).unwrap();
        assert_eq!((gone.vip, gone.real_servers, gone.has_quorum), (None, 0, true));
    }

    #[test]
    fn at_the_end_nothing_is_live() {
        let event = Event::QuorumLost { service: "web".to_owned(), cause: Cause::Stop };
        let (_, message) = Message::of(&event, &config(), &View::default(), 0.0).unwrap();
        let counts = (message.cause, message.live, message.real_servers, message.live_weight);
        assert_eq!((counts, message.has_quorum), (("stop", 0, 2, 0), false));
        let event = Event::QuorumLost { service: "web".to_owned(), cause: Cause::Start };
        let (_, message) = Message::of(&event, &config(), &View::default(), 0.0).unwrap();
        assert_eq!((message.cause, message.live, message.live_weight), ("start", 2, 5));
    }
}
