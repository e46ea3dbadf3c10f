//! The keys of `[[virtual_service]]`.

use super::check::{self, Written as ChecksJson};
use super::health;
use super::matchers::Matchers;
use super::persistence::{self, Persistence};
use super::real_server::RealServerSpec;
use super::scheduler::{
    MhTableSize, SCHEDULER, SchedulerFlags, flags_of, mh_table_size_of, set_flags, set_mh_table_size,
};
use super::timeouts::{self, HasTimeouts, Timeouts, TimeoutsSpec};
use crate::config::json::{
    Agreement as JsonAgreement, Matcher as JsonMatcher, OnDown as JsonOnDown, OnRemoved as JsonOnRemoved,
    Seconds, UnknownTcp as JsonUnknownTcp,
};
use crate::config::key::keys;
use crate::config::kinds::{Flag, LABEL, Words};
use crate::config::types::{ServiceDefaults, default_service_name};
use crate::director::cluster::{OnRemoved, UnknownTcp, VirtualServiceConfig};
use crate::director::connection;
use crate::director::scheduler;
use crate::packet::Protocol;

/// The words of `unknown_tcp`, for one service and for all.
pub const UNKNOWN_TCP: Words<UnknownTcp, JsonUnknownTcp> =
    Words::new(&[("rst", UnknownTcp::Rst), ("drop", UnknownTcp::Drop), ("schedule", UnknownTcp::Schedule)]);
/// The words of `on_removed`, for one service and for all.
pub const ON_REMOVED: Words<OnRemoved, JsonOnRemoved> = Words::new(&[
    ("reschedule", OnRemoved::Reschedule),
    ("drop", OnRemoved::Drop),
    ("keep", OnRemoved::Keep),
]);

keys! {
    SERVICE_KEYS of VirtualServiceConfig {
        name, matchers, scheduler, scheduler_options, persistence, is_one_packet, unknown_tcp, on_removed, timeouts, health
    } aside { real_servers }
    spec "A new virtual service; absent keys have the same defaults as in a file."
        VirtualServiceSpec { real_servers: Vec<RealServerSpec> }
    edit "Changes to a virtual service; absent keys keep their values." VirtualServiceEdit
    view "Every key of a virtual service, as configured." VirtualServiceKeys;

    /// Label in metrics and logs; default: protocol, VIP and port, as in "tcp-172.25.3.100-80".
    optional name "name" [String] in name [], LABEL, |service, _| default_name(service), Live;
    /// The packets that it matches; at least one entry.
    required matchers "match" [Vec<JsonMatcher>] in matchers [],
        Matchers, |service, _| service.matchers.clone(), Live;
    /// Chooses the real server of a new connection; default: "wlc". Changing it clears the flags.
    optional scheduler "scheduler" [String] in scheduler [], SCHEDULER, |_, _| scheduler::DEFAULT, Live;
    /// Options of the scheduler.
    plain scheduler_flags "scheduler_flags" [Vec<String>] in scheduler_options [flags_of, set_flags],
        SchedulerFlags, |_, _| Vec::new(), Live;
    /// Table size of scheduler mh; other schedulers have none.
    known mh_table_size "mh_table_size" [u32] in scheduler_options [mh_table_size_of, set_mh_table_size],
        MhTableSize, |_, _| None, Live;
    /// Later connections of a client go to the real server of its first one; `null`: off.
    nullable persistence "persistence" [Persistence] in persistence [], persistence::PersistenceTable, |_, _| None, Live;
    /// Whether each UDP datagram is scheduled separately, without an entry.
    plain one_packet "one_packet" [bool] in is_one_packet [], Flag, |_, _| false, Live;
    /// What happens to a TCP segment that is not a SYN and belongs to no connection.
    optional unknown_tcp "unknown_tcp" [JsonUnknownTcp] in unknown_tcp [],
        UNKNOWN_TCP, |service, defaults| default_unknown_tcp(service, defaults), Live;
    /// What happens to a connection whose real server was removed from the configuration.
    optional on_removed "on_removed" [JsonOnRemoved] in on_removed [],
        ON_REMOVED, |_, defaults| defaults.on_removed, Live;
    /// How long an idle connection is remembered.
    nested timeouts "timeouts" [TimeoutsSpec Timeouts] in timeouts [],
        timeouts::TimeoutsTable, |_, defaults| defaults.timeouts, Live;
    /// How its real servers are checked, unless they have checks of their own; default: not at all.
    optional check "check" [ChecksJson] in health [.checks],
        check::Checks, |_, defaults| defaults.health.checks.clone(), Live;
    /// How many of several checks of a real server must succeed.
    optional check_agreement "check_agreement" [JsonAgreement] in health [.agreement],
        health::AGREEMENT, |_, defaults| defaults.health.agreement, Live;
    /// What happens to the connections of a real server that is down.
    optional on_down "on_down" [JsonOnDown] in health [.on_down],
        health::ON_DOWN, |_, defaults| defaults.health.on_down, Live;
    /// The sum of the weights of live real servers that it needs; 0: one live real server.
    optional quorum "quorum" [u32] in health [.quorum],
        health::WEIGHTS, |_, defaults| defaults.health.quorum, Live;
    /// Quorum is lost below `quorum` minus this, and gained at `quorum` plus this.
    optional hysteresis "hysteresis" [u32] in health [.hysteresis],
        health::WEIGHTS, |_, defaults| defaults.health.hysteresis, Live;
    /// With fewer live real servers than this, all count as up; 0: never.
    optional min_healthy "min_healthy" [u32] in health [.min_healthy],
        health::SERVERS, |_, defaults| defaults.health.min_healthy, Live;
    /// Seconds during which the weight of a real server rises after it came up; 0: at once.
    optional slow_start "slow_start" [Seconds] in health [.slow_start],
        health::SLOW_START, |_, defaults| defaults.health.slow_start, Live;
}

impl Default for VirtualServiceSpec {
    fn default() -> VirtualServiceSpec {
        VirtualServiceSpec::new()
    }
}

impl HasTimeouts for VirtualServiceConfig {
    fn timeouts(&self) -> &connection::Timeouts {
        &self.timeouts
    }
}

fn default_name(service: &VirtualServiceConfig) -> String {
    service.matchers.first().map(default_service_name).unwrap_or_default()
}

fn default_unknown_tcp(service: &VirtualServiceConfig, defaults: &ServiceDefaults) -> UnknownTcp {
    defaults.unknown_tcp.unwrap_or_else(|| suggested_unknown_tcp(service))
}

/// What suits the scheduler.
fn suggested_unknown_tcp(service: &VirtualServiceConfig) -> UnknownTcp {
    UnknownTcp::default_for(service.scheduler)
}

/// Checks keys that are valid on their own but may not fit together.
///
/// # Errors
/// The key, and a sentence.
pub fn check(service: &VirtualServiceConfig) -> Result<(), (&'static str, String)> {
    if service.is_one_packet && !has_udp(service) {
        let message = "one_packet = true: one-packet scheduling is only for UDP; remove it";
        return Err(("one_packet", message.to_owned()));
    }
    health::check(&service.health)
}

fn has_udp(service: &VirtualServiceConfig) -> bool {
    service.matchers.iter().any(|matcher| matcher.protocol == Protocol::Udp)
}

/// Changes the scheduler: the options of the old one, and the `unknown_tcp` that it suggested, are reset. Values that an
/// operator has set stay.
pub fn change_scheduler(service: &mut VirtualServiceConfig, next: &'static scheduler::Row) {
    let has_suggested = service.unknown_tcp == suggested_unknown_tcp(service);
    service.scheduler = next;
    set_flags(service, Vec::new());
    set_mh_table_size(service, None);
    if has_suggested {
        service.unknown_tcp = suggested_unknown_tcp(service);
    }
}

/// Keys from the file and keys set by command may not fit together: scheduler options stay with their scheduler, and
/// a service without UDP has no one-packet scheduling.
pub fn reconcile(
    base: &VirtualServiceConfig,
    file: &VirtualServiceConfig,
    before: &VirtualServiceConfig,
    next: &mut VirtualServiceConfig,
) {
    if base.scheduler != file.scheduler {
        next.scheduler_options = file.scheduler_options;
    } else if before.scheduler != file.scheduler {
        next.scheduler_options = before.scheduler_options;
    }
    next.is_one_packet &= has_udp(next);
    health::reconcile(&file.health, &mut next.health);
}
