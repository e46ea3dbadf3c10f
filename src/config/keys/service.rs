//! `[[virtual_service]]`.

use super::matchers::Matchers;
use super::persistence::{self, Persistence};
use super::real_server::RealServerSpec;
use super::scheduler::{
    MhTableSize, SCHEDULER, SchedulerFlags, flags_of, mh_table_size_of, row, set_flags, set_mh_table_size,
};
use super::timeouts::{self, HasTimeouts, Timeouts, TimeoutsSpec};
use crate::config::json::{Matcher as JsonMatcher, OnRemoved as JsonOnRemoved, UnknownTcp as JsonUnknownTcp};
use crate::config::key::keys;
use crate::config::kinds::{Flag, Name, Words};
use crate::config::types::name_of;
use crate::director::cluster::{OnRemoved, UnknownTcp, VirtualServiceConfig};
use crate::director::connection;
use crate::director::scheduler;
use crate::packet::Protocol;

/// As words, here and for all services.
pub const UNKNOWN_TCP: Words<UnknownTcp, JsonUnknownTcp> =
    Words::new(&[("rst", UnknownTcp::Rst), ("drop", UnknownTcp::Drop), ("schedule", UnknownTcp::Schedule)]);
pub const ON_REMOVED: Words<OnRemoved, JsonOnRemoved> = Words::new(&[
    ("reschedule", OnRemoved::Reschedule),
    ("drop", OnRemoved::Drop),
    ("keep", OnRemoved::Keep),
]);

keys! {
    SERVICE_KEYS of VirtualServiceConfig {
        name, matchers, scheduler, scheduler_options, persistence, is_one_packet, unknown_tcp, on_removed, timeouts
    } aside { real_servers }
    asked "A virtual service to be; what is left out is as in a file that leaves it out."
        VirtualServiceSpec { real_servers: Vec<RealServerSpec> }
    edited "What is to change of a virtual service; what is left out stays." VirtualServiceEdit
    shown "Every key of a virtual service, as configured." VirtualServiceKeys;

    /// Label in metrics and logs; left out: protocol, VIP and port, as in "tcp-172.25.3.100-80".
    optional name "name" [String] in name [], Name, |service, _| default_name(service), Live;
    /// Which packets it is for; at least one.
    required matchers "match" [Vec<JsonMatcher>] in matchers [],
        Matchers, |service, _| service.matchers.clone(), Live;
    /// Chooses the real server of a new connection; left out: "wlc". Another scheduler begins without flags.
    optional scheduler "scheduler" [String] in scheduler [], SCHEDULER, |_, _| scheduler::DEFAULT.name, Live;
    /// What the scheduler also regards.
    plain scheduler_flags "scheduler_flags" [Vec<String>] in scheduler_options [flags_of, set_flags],
        SchedulerFlags, |_, _| Vec::new(), Live;
    /// Entries of the table of scheduler mh; others have none.
    known mh_table_size "mh_table_size" [u32] in scheduler_options [mh_table_size_of, set_mh_table_size],
        MhTableSize, |_, _| None, Live;
    /// A client's later connections go where its first one went; `null`: they need not.
    nullable persistence "persistence" [Persistence] in persistence [], persistence::Table, |_, _| None, Live;
    /// Each UDP datagram is scheduled by itself and leaves no entry.
    plain one_packet "one_packet" [bool] in is_one_packet [], Flag, |_, _| false, Live;
    /// What a TCP segment that is no SYN and belongs to no connection gets.
    optional unknown_tcp "unknown_tcp" [JsonUnknownTcp] in unknown_tcp [],
        UNKNOWN_TCP, |service, defaults| defaults.unknown_tcp.unwrap_or_else(|| suggested_unknown_tcp(service)), Live;
    /// What becomes of a connection whose real server has left the configuration.
    optional on_removed "on_removed" [JsonOnRemoved] in on_removed [],
        ON_REMOVED, |_, defaults| defaults.on_removed, Live;
    /// How long a connection is remembered without a packet.
    nested timeouts "timeouts" [TimeoutsSpec Timeouts] in timeouts [],
        timeouts::Table, |_, defaults| defaults.timeouts, Live;
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
    service.matchers.first().map(name_of).unwrap_or_default()
}

fn suggested_unknown_tcp(service: &VirtualServiceConfig) -> UnknownTcp {
    UnknownTcp::default_for(row(service))
}

/// What is wrong with keys that are right by themselves: the key, and a sentence.
///
/// # Errors
/// The first of them.
pub fn check(service: &VirtualServiceConfig) -> Result<(), (&'static str, String)> {
    if service.is_one_packet && !has_udp(service) {
        let message = "one_packet = true: one-packet scheduling is only for UDP; remove it";
        return Err(("one_packet", message.to_owned()));
    }
    Ok(())
}

fn has_udp(service: &VirtualServiceConfig) -> bool {
    service.matchers.iter().any(|matcher| matcher.protocol == Protocol::Udp)
}

/// Before another scheduler: what it suggested, and its options, go with it; what an operator said stays.
pub fn forget_scheduler(service: &mut VirtualServiceConfig, next: &'static str) {
    let has_suggested = service.unknown_tcp == suggested_unknown_tcp(service);
    service.scheduler = next;
    set_flags(service, Vec::new());
    set_mh_table_size(service, None);
    if has_suggested {
        service.unknown_tcp = suggested_unknown_tcp(service);
    }
}

/// Keys of the file, and others set by hand, may be impossible together: options are a scheduler's, and who takes
/// UDP away takes with it what one packet is for.
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
}
