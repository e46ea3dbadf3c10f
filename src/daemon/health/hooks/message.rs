//! What a hook is notified about a change: an object in JSON, and the same in the environment. Both are described in
//! docs/hooks.md.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::director::cluster::{ClusterConfig, Ports, VirtualServiceConfig};
use crate::health::judge::Event;
use crate::health::view::{ServerView, ServiceView};
use crate::health::{State, View, When};

/// A change as the standard input of a hook shows it, without the fields that are not known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::daemon) struct Message {
    event: &'static str,
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

impl Message {
    /// The virtual service, and the real server if the change is one of it.
    pub(super) fn subject(&self) -> (&str, Option<IpAddr>) {
        (&self.virtual_service, self.rip)
    }

    /// `None`: no hook waits for it. `since_epoch` is the wall clock, in seconds.
    pub(in crate::daemon) fn of(
        event: &Event,
        config: &ClusterConfig,
        view: &View,
        since_epoch: f64,
    ) -> Option<(When, Message)> {
        let (when, server, why) = match event {
            Event::Up { real_server, rip, .. } => (When::RealServerUp, Some((real_server, *rip)), None),
            Event::Down { real_server, rip, why, .. } => {
                (When::RealServerDown, Some((real_server, *rip)), Some(why.clone()))
            }
            Event::QuorumGained { .. } => (When::QuorumGained, None, None),
            Event::QuorumLost { .. } => (When::QuorumLost, None, None),
            Event::FailOpen { .. }
            | Event::FailOpenOver { .. }
            | Event::Flapping { .. }
            | Event::Settled { .. } => return None,
        };
        let service = config.virtual_services.iter().find(|service| service.name == event.service());
        let first = service.and_then(|service| service.matchers.first());
        let found = service
            .zip(server)
            .and_then(|(service, (_, rip))| service.real_servers.iter().find(|server| server.rip == rip));
        let its_view = view.service(event.service());
        let (live, real_servers, live_weight) = service.map_or((0, 0, 0), |it| counts(it, its_view));
        let at = UNIX_EPOCH + Duration::try_from_secs_f64(since_epoch).unwrap_or_default();
        let message = Message {
            event: when.label(),
            at: humantime::format_rfc3339_seconds(at).to_string(),
            virtual_service: event.service().to_owned(),
            protocol: first.map(|matcher| matcher.protocol.name()),
            vip: first.map(|matcher| matcher.vip),
            port: first.map(|it| if it.ports == Ports::ALL { 0 } else { it.ports.first }),
            real_server: server.map(|(name, _)| name.clone()),
            rip: server.map(|(_, rip)| rip),
            why,
            weight: found.map(|server| server.weight),
            live,
            real_servers,
            live_weight,
            quorum: service.map_or(0, |service| service.health.quorum),
            has_quorum: its_view.is_none_or(|view| view.has_quorum),
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

    const RIPS: [IpAddr; 3] = [
        IpAddr::V4(std::net::Ipv4Addr::new(172, 25, 3, 2)),
        IpAddr::V4(std::net::Ipv4Addr::new(172, 25, 3, 3)),
        IpAddr::V4(std::net::Ipv4Addr::new(172, 25, 3, 4)),
    ];

    fn config() -> ClusterConfig {
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

    fn view() -> View {
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

    pub(in crate::daemon::health::hooks) fn down(why: &str) -> Message {
        let event = Event::Down {
            service: "web".to_owned(),
            real_server: "server2".to_owned(),
            rip: RIPS[0],
            why: why.to_owned(),
        };
        Message::of(&event, &config(), &view(), 1_767_355_200.7).unwrap().1
    }

    #[test]
    fn a_real_server_that_is_down_is_described_with_its_service() {
        let message = down("connection refused by 172.25.3.2, 3 of 3");
        let expected = concat!(
            r#"{"event":"real_server_down","at":"2026-01-02T12:00:00Z","virtual_service":"web","protocol":"tcp","#,
            r#""vip":"172.25.3.100","port":80,"real_server":"server2","rip":"172.25.3.2","#,
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
        let (when, message) = of(&Event::QuorumLost { service: "web".to_owned() }).unwrap();
        assert_eq!((when, message.title()), (When::QuorumLost, "quorum_lost of web".to_owned()));
        assert!(message.environment().iter().all(|(name, _)| *name != "LVS_TUND_RIP"));
        assert_eq!(of(&Event::FailOpen { service: "web".to_owned() }), None);
        let (_, gone) = of(&Event::QuorumGained { service: "gone".to_owned() }).unwrap();
        assert_eq!((gone.vip, gone.real_servers, gone.has_quorum), (None, 0, true));
    }
}
