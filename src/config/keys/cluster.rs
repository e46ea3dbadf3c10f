//! The top of `director.toml`: the keys of the cluster, and the defaults for virtual services.

use std::sync::Arc;
use std::time::Duration;

use crate::config::key::keys;
use crate::config::keys::on_change::Hooks;
use crate::config::keys::service::{ON_REMOVED, UNKNOWN_TCP};
use crate::config::keys::timeouts;
use crate::config::keys::timeouts::HasTimeouts;
use crate::config::keys::{check, health};
use crate::config::kinds::{Flag, Number, NumberOr, Optional, OuterTtl, Words};
use crate::config::types::ServiceDefaults;
use crate::director::cluster::{ClusterConfig, NoService, OnRemoved};
use crate::director::connection::Timeouts;
use crate::encapsulation::Ttl;
use crate::health::{Agreement, OnDown};

const NO_SERVICE: Words<NoService> = Words::new(&[("reject", NoService::Reject), ("drop", NoService::Drop)]);

const OUTER_TTL: OuterTtl = NumberOr {
    range: 1..=255,
    words: &[("inherit", Ttl::Inherit)],
    number: |ttl| Ttl::Fixed(u8::try_from(ttl).unwrap_or(u8::MAX)),
    of: |ttl| match ttl {
        Ttl::Fixed(ttl) => Some(i64::from(*ttl)),
        Ttl::Inherit => None,
    },
    expected: "a number from FIRST to LAST or \"inherit\"",
};

const FLOOD: Number<u32> = Number::new(1..=u32::MAX as i64);

keys! {
    CLUSTER_KEYS of ClusterConfig {
        ttl, ignores_df, decrements_ttl, new_connections_per_second_max, no_service, on_change
    } aside { virtual_services };

    /// TTL of the outer packets: a number, or a copy of the client's.
    file outer_ttl "outer_ttl" [] in ttl [], OUTER_TTL, |_, _| Ttl::default(), Live;
    /// Whether outer packets may always be fragmented.
    file ignore_df "ignore_df" [] in ignores_df [], Flag, |_, _| false, Live;
    /// Whether the director decrements the TTL of a client's packet.
    file decrement_ttl "decrement_ttl" [] in decrements_ttl [], Flag, |_, _| false, Live;
    /// New connections per second and queue above which the director creates no entry for further ones.
    file new_connections_per_second_max "new_connections_per_second_max" [] in new_connections_per_second_max [],
        FLOOD, |_, _| ClusterConfig::NEW_CONNECTIONS_PER_SECOND_MAX, Live;
    /// What happens to a packet for a VIP on a port without a virtual service.
    file no_service "no_service" [] in no_service [], NO_SERVICE, |_, _| NoService::Reject, Live;
    /// Programs that are run when a real server goes up or down, or a virtual service loses or gains its quorum.
    file on_change "on_change" [] in on_change [], Hooks, |_, _| Arc::default(), Live;
}

keys! {
    DEFAULT_KEYS of ServiceDefaults { unknown_tcp, on_removed, timeouts, health };

    /// What happens to a TCP segment that is not a SYN and belongs to no connection.
    file unknown_tcp "unknown_tcp" [] in unknown_tcp [], Optional(UNKNOWN_TCP), |_, _| None, Live;
    /// What happens to a connection whose real server was removed from the configuration.
    file on_removed "on_removed" [] in on_removed [], ON_REMOVED, |_, _| OnRemoved::Reschedule, Live;
    /// How long an idle connection is remembered.
    file timeouts "timeouts" [] in timeouts [], timeouts::TimeoutsTable, |_, _| Timeouts::default(), Live;
    /// How all real servers are checked.
    file check "check" [] in health [.checks],
        check::Checks, |_, _| Arc::default(), Live;
    /// How many of several checks of a real server must succeed.
    file check_agreement "check_agreement" [] in health [.agreement],
        health::AGREEMENT, |_, _| Agreement::All, Live;
    /// What happens to the connections of a real server that is down.
    file on_down "on_down" [] in health [.on_down],
        health::ON_DOWN, |_, _| OnDown::Quiesce, Live;
    /// The sum of the weights of live real servers that it needs; 0: one live real server.
    file quorum "quorum" [] in health [.quorum],
        health::WEIGHTS, |_, _| 0, Live;
    /// Quorum is lost below `quorum` minus this, and gained at `quorum` plus this.
    file hysteresis "hysteresis" [] in health [.hysteresis],
        health::WEIGHTS, |_, _| 0, Live;
    /// With fewer live real servers than this, all count as up; 0: never.
    file min_healthy "min_healthy" [] in health [.min_healthy],
        health::SERVERS, |_, _| 0, Live;
    /// How long the weight of a real server rises after it came up.
    file slow_start "slow_start" [] in health [.slow_start],
        health::SLOW_START, |_, _| Duration::ZERO, Live;
}

impl HasTimeouts for ServiceDefaults {
    fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
}
