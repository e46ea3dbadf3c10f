//! The top of `director.toml`: the keys of the cluster, and the defaults for virtual services.

use crate::config::key::keys;
use crate::config::keys::service::{ON_REMOVED, UNKNOWN_TCP};
use crate::config::keys::timeouts;
use crate::config::keys::timeouts::HasTimeouts;
use crate::config::kinds::{Flag, Number, NumberOr, Optional, OuterTtl, Words};
use crate::config::types::ServiceDefaults;
use crate::director::cluster::{ClusterConfig, NoService, OnRemoved};
use crate::director::connection::Timeouts;
use crate::encapsulation::Ttl;

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
        ttl, ignores_df, decrements_ttl, new_connections_per_second_max, no_service
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
}

keys! {
    DEFAULT_KEYS of ServiceDefaults { unknown_tcp, on_removed, timeouts };

    /// What happens to a TCP segment that is not a SYN and belongs to no connection.
    file unknown_tcp "unknown_tcp" [] in unknown_tcp [], Optional(UNKNOWN_TCP), |_, _| None, Live;
    /// What happens to a connection whose real server was removed from the configuration.
    file on_removed "on_removed" [] in on_removed [], ON_REMOVED, |_, _| OnRemoved::Reschedule, Live;
    /// How long an idle connection is remembered.
    file timeouts "timeouts" [] in timeouts [], timeouts::TimeoutsTable, |_, _| Timeouts::default(), Live;
}

impl HasTimeouts for ServiceDefaults {
    fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
}
