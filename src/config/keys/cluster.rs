//! The top of `director.toml`: what concerns all virtual services, and what those begin with that say nothing else.

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

    /// TTL of the outer packets, or that of the client's packet.
    file outer_ttl "outer_ttl" [] in ttl [], OUTER_TTL, |_, _| Ttl::default(), Live;
    /// Outer packets never forbid fragments.
    file ignore_df "ignore_df" [] in ignores_df [], Flag, |_, _| false, Live;
    /// The director takes one off the TTL of a client's packet.
    file decrement_ttl "decrement_ttl" [] in decrements_ttl [], Flag, |_, _| false, Live;
    /// New connections per second and queue, from which on no entry is made for further ones.
    file new_connections_per_second_max "new_connections_per_second_max" [] in new_connections_per_second_max [],
        Optional(FLOOD), |_, _| None, Live;
    /// What a packet for a VIP gets where no virtual service is.
    file no_service "no_service" [] in no_service [], NO_SERVICE, |_, _| NoService::Reject, Live;
}

keys! {
    DEFAULT_KEYS of ServiceDefaults { unknown_tcp, on_removed, timeouts };

    /// What a TCP segment that is no SYN and belongs to no connection gets.
    file unknown_tcp "unknown_tcp" [] in unknown_tcp [], Optional(UNKNOWN_TCP), |_, _| None, Live;
    /// What becomes of a connection whose real server has left the configuration.
    file on_removed "on_removed" [] in on_removed [], ON_REMOVED, |_, _| OnRemoved::Reschedule, Live;
    /// How long a connection is remembered without a packet.
    file timeouts "timeouts" [] in timeouts [], timeouts::Table, |_, _| Timeouts::default(), Live;
}

impl HasTimeouts for ServiceDefaults {
    fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
}
